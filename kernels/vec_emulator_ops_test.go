package kernels

import (
	"encoding/binary"
	"math"
)

// emulatorOps says what instructions do. Operands stand in Go's order: sources from last to first, then the destination.
var emulatorOps = map[string]func(e *emulator, ins *asmIns){
	"MOVQ": func(e *emulator, ins *asmIns) { e.reg[ins.args[1].n] = e.integer(ins.args[0]) },
	"LEAQ": func(e *emulator, ins *asmIns) { e.reg[ins.args[1].n] = e.address(ins.args[0]) },
	"ADDQ": func(e *emulator, ins *asmIns) {
		e.reg[ins.args[1].n] += e.integer(ins.args[0])
		e.compare(e.reg[ins.args[1].n], 0)
	},
	"SUBQ": func(e *emulator, ins *asmIns) {
		e.reg[ins.args[1].n] -= e.integer(ins.args[0])
		e.compare(e.reg[ins.args[1].n], 0)
	},
	"DECQ":  func(e *emulator, ins *asmIns) { e.reg[ins.args[0].n]--; e.compare(e.reg[ins.args[0].n], 0) },
	"CMPQ":  func(e *emulator, ins *asmIns) { e.compare(e.integer(ins.args[0]), e.integer(ins.args[1])) },
	"TESTQ": func(e *emulator, ins *asmIns) { e.compare(e.integer(ins.args[0])&e.integer(ins.args[1]), 0) },

	"VZEROUPPER": func(*emulator, *asmIns) {},
	"VMOVUPS":    move,
	"VMOVSS": func(e *emulator, ins *asmIns) {
		e.set(ins.args[1], 1, e.words(ins.args[0], 1, false))
	},
	"VBROADCASTSS": func(e *emulator, ins *asmIns) {
		w := e.words(ins.args[0], 1, false)
		for i := range w {
			w[i] = w[0]
		}
		e.set(ins.args[1], lanesOf(ins.args[1]), w)
	},
	"VEXTRACTF128": func(e *emulator, ins *asmIns) {
		var w [16]uint32
		copy(w[:4], e.vec[ins.args[1].n][4*ins.args[0].disp:])
		e.set(ins.args[2], 4, w)
	},
	"VEXTRACTF64X4": func(e *emulator, ins *asmIns) {
		var w [16]uint32
		copy(w[:8], e.vec[ins.args[1].n][8*ins.args[0].disp:])
		e.set(ins.args[2], 8, w)
	},
	"VPERMILPS": func(e *emulator, ins *asmIns) {
		from, n := e.words(ins.args[1], 0, false), lanesOf(ins.args[2])
		var w [16]uint32
		for i := range n {
			w[i] = from[i&^3+ins.args[0].disp>>(2*(i&3))&3]
		}
		e.set(ins.args[2], n, w)
	},
	"VMOVSLDUP": func(e *emulator, ins *asmIns) {
		w, n := e.words(ins.args[0], 0, false), lanesOf(ins.args[1])
		for i := 1; i < n; i += 2 {
			w[i] = w[i-1]
		}
		e.set(ins.args[1], n, w)
	},
	"VPMOVZXDQ": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[1])
		from := e.words(ins.args[0], n/2, false)
		var w [16]uint32
		for i := range n / 2 {
			w[2*i] = from[i]
		}
		e.set(ins.args[1], n, w)
	},
	"VCVTPH2PS": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[1])
		var w [16]uint32
		for i := range n {
			w[i] = math.Float32bits(f16(binary.LittleEndian.Uint16(e.at(ins.args[0], 2*n)[2*i:])))
		}
		e.set(ins.args[1], n, w)
	},
	"VCVTPS2PH": func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[1])
		w := e.words(ins.args[1], n, false)
		for i := range n {
			binary.LittleEndian.PutUint16(e.at(ins.args[2], 2*n)[2*i:], toHalf(math.Float32frombits(w[i])))
		}
	},
	"VCMPPS": func(e *emulator, ins *asmIns) {
		if ins.args[0].disp != 0x15 {
			e.fail("unknown comparison")
		}
		n := lanesOf(ins.args[2])
		b, a := e.words(ins.args[1], n, false), e.words(ins.args[2], n, false)
		var w [16]uint32
		for i := range n {
			if !(math.Float32frombits(a[i]) < math.Float32frombits(b[i])) { // not less, or unordered
				w[i] = math.MaxUint32
			}
		}
		if d := ins.args[3]; d.kind == 'K' {
			e.mask[d.n] = 0
			for i := range n {
				e.mask[d.n] |= uint64(w[i]&1) << i
			}
			return
		}
		e.set(ins.args[3], n, w)
	},
	"VMAXSS": func(e *emulator, ins *asmIns) {
		w := e.words(ins.args[1], 4, false)
		w[0] = floats(func(a, b float32) float32 { return larger(a, b) })(w[0], e.words(ins.args[0], 1, false)[0])
		e.set(ins.args[2], 4, w)
	},

	"VADDPS": lanewise(floats(func(a, b float32) float32 { return a + b })),
	"VSUBPS": lanewise(floats(func(a, b float32) float32 { return a - b })),
	"VMULPS": lanewise(floats(func(a, b float32) float32 { return a * b })),
	"VDIVPS": lanewise(floats(func(a, b float32) float32 { return a / b })),
	"VMAXPS": lanewise(floats(func(a, b float32) float32 { return larger(a, b) })), // b if either is NaN
	"VMINPS": lanewise(floats(func(a, b float32) float32 {
		if a < b {
			return a
		}
		return b
	})),
	"VXORPS": lanewise(func(a, b uint32) uint32 { return a ^ b }),
	"VPXORD": lanewise(func(a, b uint32) uint32 { return a ^ b }),
	"VANDPS": lanewise(func(a, b uint32) uint32 { return a & b }),
	"VPADDD": lanewise(func(a, b uint32) uint32 { return a + b }),
	// With source operands x (first) and y, and destination d:
	"VFMADD231PS": fused(func(x, y, d float32, _ int) float32 { return fma32(y, x, d) }),
	"VFMADD213PS": fused(func(x, y, d float32, _ int) float32 { return fma32(y, d, x) }),
	"VFMSUB213PS": fused(func(x, y, d float32, _ int) float32 { return fma32(y, d, -x) }),
	"VFMADDSUB213PS": fused(func(x, y, d float32, i int) float32 {
		if i%2 == 0 {
			x = -x
		}
		return fma32(y, d, x)
	}),
}

func (e *emulator) integer(a asmArg) uint64 {
	switch a.kind {
	case 'r':
		return e.reg[a.n]
	case '$':
		return uint64(a.disp)
	}
	return binary.LittleEndian.Uint64(e.at(a, 8))
}

func (e *emulator) compare(a, b uint64) { e.zero, e.less = a == b, int64(a) < int64(b) }

func move(e *emulator, ins *asmIns) {
	n := max(lanesOf(ins.args[0]), lanesOf(ins.args[1]))
	e.set(ins.args[1], n, e.words(ins.args[0], n, false))
}

func floats(f func(a, b float32) float32) func(a, b uint32) uint32 {
	return func(a, b uint32) uint32 {
		return math.Float32bits(f(math.Float32frombits(a), math.Float32frombits(b)))
	}
}

// lanewise is an instruction "OP b, a, dst" or, with a mask that zeroes, "OP b, a, K, dst".
func lanewise(f func(a, b uint32) uint32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		dst := ins.args[len(ins.args)-1]
		n := lanesOf(dst)
		b, a := e.words(ins.args[0], n, ins.bcst), e.words(ins.args[1], n, false)
		var w [16]uint32
		for i := range n {
			if len(ins.args) < 4 || e.mask[ins.args[2].n]>>i&1 != 0 {
				w[i] = f(a[i], b[i])
			}
		}
		e.set(dst, n, w)
	}
}

func fused(f func(x, y, d float32, lane int) float32) func(e *emulator, ins *asmIns) {
	return func(e *emulator, ins *asmIns) {
		n := lanesOf(ins.args[2])
		x, y, d := e.words(ins.args[0], n, ins.bcst), e.words(ins.args[1], n, false), e.vec[ins.args[2].n]
		for i := range n {
			d[i] = math.Float32bits(f(math.Float32frombits(x[i]), math.Float32frombits(y[i]), math.Float32frombits(d[i]), i))
		}
		e.set(ins.args[2], n, d)
	}
}
