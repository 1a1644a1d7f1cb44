package kernels

import (
	"encoding/binary"
	"math"
	"strconv"
	"strings"
)

// quantEmulatorOps says what the instructions do that only the products and the quantising use.
var quantEmulatorOps = map[string]func(e *emulator, ins *asmIns){
	"MOVL": moveLong,
	"XORL": func(e *emulator, ins *asmIns) { e.reg[ins.args[1].n] = 0 }, // of a register with itself
	"SHLQ": func(e *emulator, ins *asmIns) { e.reg[ins.args[1].n] <<= ins.args[0].disp },
	"CMPL": func(e *emulator, ins *asmIns) {
		e.compare(uint64(int32(e.integer(ins.args[0]))), uint64(int32(e.integer(ins.args[1]))))
	},
	"VMOVD": moveLong,
	"VPBROADCASTD": func(e *emulator, ins *asmIns) {
		var w [16]uint32
		for i := range w {
			w[i] = e.long(ins.args[0])
		}
		e.set(ins.args[1], lanesOf(ins.args[1]), w)
	},
	"VMOVDQU":   move,
	"VMOVDQU64": move,
	"VPXOR":     lanewise(func(a, b uint32) uint32 { return a ^ b }),
	"VPAND":     lanewise(func(a, b uint32) uint32 { return a & b }),
	"VPANDD":    lanewise(func(a, b uint32) uint32 { return a & b }),
	"VPSUBD":    lanewise(func(a, b uint32) uint32 { return a - b }),
	"VPMAXSD":   lanewise(func(a, b uint32) uint32 { return uint32(max(int32(a), int32(b))) }),
	"VPADDW": lanewise(func(a, b uint32) uint32 {
		return a&0xffff0000 + b&0xffff0000 | (a+b)&0xffff
	}),
	"VPSUBW": lanewise(func(a, b uint32) uint32 {
		return a&0xffff0000 - b&0xffff0000 | (a-b)&0xffff
	}),
	"VPMADDWD": lanewise(func(a, b uint32) uint32 {
		return uint32(int32(int16(a))*int32(int16(b)) + int32(a)>>16*(int32(b)>>16))
	}),
	// Unsigned bytes of a times signed bytes of b, pairs added with saturation.
	"VPMADDUBSW": lanewise(func(a, b uint32) uint32 {
		pair := func(s int) uint32 {
			sum := int32(a>>s&255)*int32(int8(b>>s)) + int32(a>>(s+8)&255)*int32(int8(b>>(s+8)))
			return uint32(uint16(max(math.MinInt16, min(math.MaxInt16, sum))))
		}
		return pair(0) | pair(16)<<16
	}),
	"VPSLLD": shift(func(v uint32, n int) uint32 { return v << n }),
	"VPSRLD": shift(func(v uint32, n int) uint32 { return v >> n }),
	"VPSLLW": shift(func(v uint32, n int) uint32 { return v<<n&0xffff0000&-(1<<n<<16) | v&0xffff<<n&0xffff }),
	"VPSRLW": shift(func(v uint32, n int) uint32 { return v>>n&(0xffff>>n<<16) | v&0xffff>>n }),

	"VPMOVB2M": func(e *emulator, ins *asmIns) {
		v, n := e.vec[ins.args[0].n], lanesOf(ins.args[0])
		m := &e.mask[ins.args[1].n]
		*m = 0
		for i := range 4 * n {
			*m |= uint64(v[i/4]>>(i%4*8+7)&1) << i
		}
	},
	// Bytes of a less those of b where the mask is set; the others stay what they are.
	"VPSUBB": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[3])
		b, a, d := e.words(ins.args[0], n, false), e.words(ins.args[1], n, false), e.vec[ins.args[3].n]
		for i := range 4 * n {
			if s := i % 4 * 8; e.mask[ins.args[2].n]>>i&1 != 0 {
				d[i/4] = d[i/4]&^(255<<s) | uint32(uint8(a[i/4]>>s)-uint8(b[i/4]>>s))<<s
			}
		}
		e.set(ins.args[3], n, d)
	},
	"VPABSB": eachLane(func(v uint32) uint32 {
		var w uint32
		for s := 0; s < 32; s += 8 {
			b := int8(v >> s)
			w |= uint32(uint8(max(b, -b))) << s // that of -128 is 128
		}
		return w
	}),
	// Four unsigned bytes of y times four signed bytes of x, added to d.
	"VPDPBUSD": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		x, y, d := e.words(ins.args[0], n, ins.bcst), e.words(ins.args[1], n, false), e.vec[ins.args[2].n]
		for i := range n {
			for s := 0; s < 32; s += 8 {
				d[i] += uint32(int32(y[i]>>s&255) * int32(int8(x[i]>>s)))
			}
		}
		e.set(ins.args[2], n, d)
	},
	// Two signed words of y times two of x, added to d.
	"VPDPWSSD": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		x, y, d := e.words(ins.args[0], n, ins.bcst), e.words(ins.args[1], n, false), e.vec[ins.args[2].n]
		for i := range n {
			d[i] += uint32(int32(int16(y[i]))*int32(int16(x[i])) + int32(y[i])>>16*(int32(x[i])>>16))
		}
		e.set(ins.args[2], n, d)
	},
	// Bytes of a, chosen within 16 by the low four bits of those of b; zero where bit 7 is set.
	"VPSHUFB": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		b, a := e.words(ins.args[0], n, false), e.words(ins.args[1], n, false)
		var w [16]uint32
		for i := range 4 * n {
			if at := b[i/4] >> (i % 4 * 8) & 255; at < 128 {
				from := i&^15 + int(at&15)
				w[i/4] |= a[from/4] >> (from % 4 * 8) & 255 << (i % 4 * 8)
			}
		}
		e.set(ins.args[2], n, w)
	},
	"VBROADCASTI32X4": func(e *emulator, ins *asmIns) {
		w := e.words(ins.args[0], 4, false)
		for i := range w {
			w[i] = w[i%4]
		}
		e.set(ins.args[1], lanesOf(ins.args[1]), w)
	},
	"ANDQ": func(e *emulator, ins *asmIns) { e.reg[ins.args[1].n] &= uint64(ins.args[0].disp) },
	"VPTERNLOGD": func(e *emulator, ins *asmIns) {
		table := ins.args[0].disp
		if table != 0xf8 && table != 0xd8 {
			e.fail("unknown truth table")
		}
		n := lanesOf(ins.args[3])
		c, b, a := e.words(ins.args[1], n, false), e.words(ins.args[2], n, false), e.vec[ins.args[3].n]
		for i := range n {
			if table == 0xd8 {
				a[i] &^= c[i]
			}
			a[i] |= b[i] & c[i]
		}
		e.set(ins.args[3], n, a)
	},
	"VPMOVZXWD": widenEach(2, func(b []byte) uint32 { return uint32(binary.LittleEndian.Uint16(b)) }),
	"VPMOVZXBD": widenEach(1, func(b []byte) uint32 { return uint32(b[0]) }),
	"VPMOVSXBD": widenEach(1, func(b []byte) uint32 { return uint32(int8(b[0])) }),
	"VCVTDQ2PS": eachLane(func(v uint32) uint32 { return math.Float32bits(float32(int32(v))) }),
	"VCVTPS2DQ": eachLane(func(v uint32) uint32 {
		return uint32(int32(math.RoundToEven(float64(math.Float32frombits(v)))))
	}),

	"VPSHUFD": func(e *emulator, ins *asmIns) {
		from, n := e.words(ins.args[1], 0, false), lanesOf(ins.args[2])
		var w [16]uint32
		for i := range n {
			w[i] = from[i&^3+ins.args[0].disp>>(2*(i&3))&3]
		}
		e.set(ins.args[2], n, w)
	},
	"VBROADCASTI128": func(e *emulator, ins *asmIns) {
		w := e.words(ins.args[0], 4, false)
		copy(w[4:8], w[:4])
		e.set(ins.args[1], 8, w)
	},
	"PREFETCHT0": func(*emulator, *asmIns) {},
	"VMOVDQA":    move,
	"VPOR":       lanewise(func(a, b uint32) uint32 { return a | b }),
	"VPSRAW": shift(func(v uint32, n int) uint32 {
		return uint32(int32(v)>>n)&0xffff0000 | uint32(uint16(int16(v)>>n))
	}),
	"VPERMD": func(e *emulator, ins *asmIns) {
		from, at, n := e.words(ins.args[0], 8, false), e.words(ins.args[1], 8, false), lanesOf(ins.args[2])
		var w [16]uint32
		for i := range n {
			w[i] = from[at[i]&7]
		}
		e.set(ins.args[2], n, w)
	},
	"VEXTRACTI128": func(e *emulator, ins *asmIns) {
		var w [16]uint32
		copy(w[:4], e.vec[ins.args[1].n][4*ins.args[0].disp:])
		e.set(ins.args[2], 4, w)
	},
	"VPACKSSDW":    pack(16),
	"VPACKSSWB":    pack(8),
	"VFNMADD231PS": fused(func(x, y, d float32, _ int) float32 { return fma32(-y, x, d) }),

	"VMULSS": scalar(func(a, b float32) float32 { return a * b }),
	"VDIVSS": scalar(func(a, b float32) float32 { return a / b }),
}

// parseBytes reads the one instruction that is written as bytes: VPDPBUSD of ymm registers with a VEX
// prefix of three bytes (Intel's manual, volume 2, section 2.3), VEX.256.66.0F38.W0 50 /r.
func parseBytes(line string) asmIns {
	var b [5]byte
	n := 0
	for f := range strings.SplitSeq(line, ";") {
		v, err := strconv.ParseUint(strings.TrimPrefix(strings.TrimSpace(f), "BYTE $"), 0, 8)
		if err != nil || n == len(b) {
			return asmIns{text: line, name: "BYTE"}
		}
		b[n] = byte(v)
		n++
	}
	if b[0] != 0xc4 || b[1]&0x5f != 0x42 || b[2]&0x87 != 0x05 || b[3] != 0x50 || b[4]>>6 != 3 {
		return asmIns{text: line, name: "BYTE"}
	}
	reg := func(high, low byte) asmArg { return asmArg{kind: 'Y', n: int((high^1)<<3 | low)} }
	d, x := reg(b[1]>>7, b[4]>>3&7), reg(b[1]>>5&1, b[4]&7)
	y := asmArg{kind: 'Y', n: int(b[2]>>3&15 ^ 15)}
	return asmIns{text: line, name: "VPDPBUSD", args: []asmArg{x, y, d}}
}

// long reads 32 bits of any operand.
func (e *emulator) long(a asmArg) uint32 {
	switch a.kind {
	case 'r', '$':
		return uint32(e.integer(a))
	}
	return e.words(a, 1, false)[0]
}

// moveLong moves 32 bits between registers of any kind and memory.
func moveLong(e *emulator, ins *asmIns) {
	v, to := e.long(ins.args[0]), ins.args[1]
	if to.kind == 'r' {
		e.reg[to.n] = uint64(v)
		return
	}
	e.set(to, 1, [16]uint32{v})
}

// shift is "OP $n, a, dst" on words of 32 bits, which f may see as halves.
func shift(f func(v uint32, n int) uint32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		w := e.words(ins.args[1], n, ins.bcst)
		for i := range n {
			w[i] = f(w[i], ins.args[0].disp)
		}
		e.set(ins.args[2], n, w)
	}
}

// eachLane is "OP a, dst".
func eachLane(f func(v uint32) uint32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[1])
		w := e.words(ins.args[0], n, false)
		for i := range n {
			w[i] = f(w[i])
		}
		e.set(ins.args[1], n, w)
	}
}

// widenEach turns small integers in memory into lanes.
func widenEach(size int, f func(b []byte) uint32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[1])
		b := e.at(ins.args[0], n*size)
		var w [16]uint32
		for i := range n {
			w[i] = f(b[i*size:])
		}
		e.set(ins.args[1], n, w)
	}
}

// pack narrows "OP b, a, dst" with saturation, in each 128 bits: those of a come first. A result of 32
// bits is made of the next words of the source, 2 for elements of 16 bits and 4 halves for 8 bits.
func pack(bits int) func(e *emulator, ins *asmIns) {
	element := func(w []uint32, i int) uint32 {
		if bits == 16 {
			return uint32(uint16(clamp(int32(w[i]), 1<<15)))
		}
		return uint32(uint8(clamp(int32(int16(w[i/2]>>(i%2*16))), 1<<7)))
	}
	return func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		b, a := e.words(ins.args[0], n, false), e.words(ins.args[1], n, false)
		var w [16]uint32
		for q := 0; q < n; q += 4 {
			for half, from := range [][16]uint32{a, b} {
				for i := range 64 / bits {
					w[q+2*half+i*bits/32] |= element(from[q:q+4], i) << (i * bits % 32)
				}
			}
		}
		e.set(ins.args[2], n, w)
	}
}

func clamp(v, limit int32) int32 { return max(-limit, min(limit-1, v)) }

// scalar is "OP b, a, dst" on the lowest lane; the others are those of a.
func scalar(f func(a, b float32) float32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		w := e.words(ins.args[1], 4, false)
		w[0] = floats(f)(w[0], e.words(ins.args[0], 1, false)[0])
		e.set(ins.args[2], 4, w)
	}
}
