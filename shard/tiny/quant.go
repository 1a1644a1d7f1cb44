package tiny

import (
	"encoding/binary"
	"fmt"
	"math"

	"lamina/kernels"
)

// Quantize encodes w as GGUF data of a type: plainly rounded, without the searches for better scales
// that real converters make. len(w) must be a multiple of the type's block; it panics otherwise, and on
// a type it does not know.
func Quantize(t kernels.Type, w []float32) []byte {
	n := t.Block()
	if len(w)%n != 0 {
		panic(fmt.Sprintf("tiny: %d values are no multiple of the %d of a %v block", len(w), n, t))
	}
	out := make([]byte, 0, len(w)/n*t.BlockBytes())
	for ; len(w) > 0; w = w[n:] {
		out = appendBlock(out, t, w[:n])
	}
	return out
}

func appendBlock(b []byte, t kernels.Type, w []float32) []byte {
	switch t {
	case kernels.F32:
		return binary.LittleEndian.AppendUint32(b, math.Float32bits(w[0]))
	case kernels.F16:
		return appendHalf(b, w[0])
	case kernels.BF16:
		bits := math.Float32bits(w[0])
		return binary.LittleEndian.AppendUint16(b, uint16((bits+0x7fff+bits>>16&1)>>16))
	case kernels.Q8_0:
		q, d := symmetric(w, 127)
		b = appendHalf(b, d)
		for _, x := range q {
			b = append(b, byte(x))
		}
		return b
	case kernels.Q4_0, kernels.Q5_0:
		top := 7
		if t == kernels.Q5_0 {
			top = 15
		}
		q, d := symmetric(w, top)
		for i := range q {
			q[i] += top + 1
		}
		return appendNibbles(appendHalf(b, d), q, t == kernels.Q5_0)
	case kernels.Q4_1, kernels.Q5_1:
		top := 15
		if t == kernels.Q5_1 {
			top = 31
		}
		q, d, m := asymmetric(w, top)
		return appendNibbles(appendHalf(appendHalf(b, d), m), q, t == kernels.Q5_1)
	case kernels.Q4_K, kernels.Q5_K:
		return appendK45(b, w, t == kernels.Q5_K)
	case kernels.Q6_K:
		return appendK6(b, w)
	case kernels.Q2_K:
		return appendK2(b, w)
	case kernels.Q3_K:
		return appendK3(b, w)
	case kernels.IQ4_NL:
		return appendIQ4NL(b, w)
	case kernels.IQ4_XS:
		return appendIQ4XS(b, w)
	case kernels.MXFP4:
		return appendMX4(b, w)
	}
	panic(fmt.Sprintf("tiny: no quantiser for %v", t))
}

// symmetric rounds w to integers in [-top, top] times d.
func symmetric(w []float32, top int) (q []int, d float32) {
	peak := float32(0)
	for _, x := range w {
		peak = max(peak, float32(math.Abs(float64(x))))
	}
	d = peak / float32(top)
	q = make([]int, len(w))
	for i, x := range w {
		if d > 0 {
			q[i] = int(math.RoundToEven(float64(x / d)))
		}
	}
	return q, d
}

// asymmetric rounds w to integers in [0, top] times d plus m, m at most zero.
func asymmetric(w []float32, top int) (q []int, d, m float32) {
	lo, hi := float32(0), float32(0)
	for _, x := range w {
		lo, hi = min(lo, x), max(hi, x)
	}
	d = (hi - lo) / float32(top)
	q = make([]int, len(w))
	for i, x := range w {
		if d > 0 {
			q[i] = min(top, int(math.RoundToEven(float64((x-lo)/d))))
		}
	}
	return q, d, lo
}

// appendNibbles writes 32 numbers: their fifth bits, if wanted, then the low four bits with the second
// half in the high nibbles.
func appendNibbles(b []byte, q []int, fifth bool) []byte {
	if fifth {
		h := uint32(0)
		for i, x := range q {
			h |= uint32(x>>4) << i
		}
		b = binary.LittleEndian.AppendUint32(b, h)
	}
	for i := range 16 {
		b = append(b, byte(q[i]&15|q[i+16]&15<<4))
	}
	return b
}

// appendK45 writes a Q4_K or Q5_K block: eight runs of 32 with six-bit scales and minima.
func appendK45(b []byte, w []float32, fifth bool) []byte {
	var d, m [8]float32
	var q [256]int
	top := 15
	if fifth {
		top = 31
	}
	var dTop, mTop float32
	for i := range 8 {
		_, d[i], m[i] = asymmetric(w[32*i:32*i+32], top)
		dTop, mTop = max(dTop, d[i]), max(mTop, -m[i])
	}
	dAll, mAll := dTop/63, mTop/63
	var sc, mn [8]int
	for i := range 8 {
		sc[i], mn[i] = ratio(d[i], dAll), ratio(-m[i], mAll)
		for j := range 32 {
			step := dAll * float32(sc[i])
			if step > 0 {
				v := math.RoundToEven(float64((w[32*i+j] + mAll*float32(mn[i])) / step))
				q[32*i+j] = max(0, min(top, int(v)))
			}
		}
	}
	b = appendHalf(appendHalf(b, dAll), mAll)
	b = appendScales(b, sc, mn)
	if fifth {
		for l := range 32 {
			h := 0
			for i := range 8 {
				h |= q[32*i+l] >> 4 << i
			}
			b = append(b, byte(h))
		}
	}
	for j := range 4 {
		for l := range 32 {
			b = append(b, byte(q[64*j+l]&15|q[64*j+32+l]&15<<4))
		}
	}
	return b
}

func ratio(x, unit float32) int {
	if unit == 0 {
		return 0
	}
	return min(63, int(math.RoundToEven(float64(x/unit))))
}

// appendScales packs eight six-bit scales and minima into twelve bytes: the first four whole, the upper
// two bits of their bytes lent to the last four.
func appendScales(b []byte, sc, mn [8]int) []byte {
	for i := range 4 {
		b = append(b, byte(sc[i]|sc[i+4]>>4<<6))
	}
	for i := range 4 {
		b = append(b, byte(mn[i]|mn[i+4]>>4<<6))
	}
	for i := 4; i < 8; i++ {
		b = append(b, byte(sc[i]&15|mn[i]&15<<4))
	}
	return b
}

// appendK6 writes a Q6_K block: sixteen runs of 16 with eight-bit scales.
func appendK6(b []byte, w []float32) []byte {
	var d [16]float32
	top := float32(0)
	for i := range d {
		_, d[i] = symmetric(w[16*i:16*i+16], 31)
		top = max(top, d[i])
	}
	all := top / 127
	var q [256]int
	var sc [16]byte
	for i := range sc {
		s := 0
		if all > 0 {
			s = int(math.RoundToEven(float64(d[i] / all)))
		}
		sc[i] = byte(s)
		for j := range 16 {
			v := 0
			if s > 0 {
				v = int(math.RoundToEven(float64(w[16*i+j] / (all * float32(s)))))
			}
			q[16*i+j] = max(-32, min(31, v)) + 32
		}
	}
	for n := range 2 {
		for l := range 64 {
			b = append(b, byte(q[128*n+l]&15|q[128*n+64+l]&15<<4))
		}
	}
	for n := range 2 {
		for l := range 32 {
			p := q[128*n+l:]
			b = append(b, byte(p[0]>>4|p[32]>>4<<2|p[64]>>4<<4|p[96]>>4<<6))
		}
	}
	return appendHalf(append(b, sc[:]...), all)
}

// appendHalf writes x as a float16, rounded to even; weights' scales are neither infinite nor NaN.
func appendHalf(b []byte, x float32) []byte {
	bits := math.Float32bits(x)
	sign := uint16(bits >> 16 & 0x8000)
	mag := math.Abs(float64(x))
	var h uint16
	switch {
	case mag < math.Ldexp(1, -14): // subnormal: a count of 2^-24
		h = uint16(math.RoundToEven(math.Ldexp(mag, 24)))
	case mag >= 65520:
		h = 0x7c00
	default:
		bits &= 0x7fffffff
		h = uint16((bits + 0xfff + bits>>13&1 - 112<<23) >> 13)
	}
	return binary.LittleEndian.AppendUint16(b, sign|h)
}
