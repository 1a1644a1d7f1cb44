package kernels

import "math"

// toHalves rounds x to float16. y is as long as x.
func toHalves(y []uint16, x []float32) {
	for i := halvesFast(y, x); i < len(x); i++ {
		y[i] = toHalf(x[i])
	}
}

// toHalf rounds to float16, to nearest with ties to even, as VCVTPS2PH and FCVTN do: too large becomes infinity, NaN
// stays a quiet NaN.
func toHalf(f float32) uint16 {
	b := math.Float32bits(f)
	sign := uint16(b>>16) & 0x8000
	b &= 0x7fffffff
	switch {
	case b > 0x7f800000:
		return sign | 0x7e00 | uint16(b>>13)&0x3ff
	case b >= 0x47800000: // 2^16 and infinity
		return sign | 0x7c00
	case b >= 0x38800000: // 2^-14, the smallest normal float16; the carry may reach infinity
		b -= 0x38000000
		return sign | uint16((b+0xfff+b>>13&1)>>13)
	case b <= 0x33000000: // 2^-25 is halfway to the smallest float16 and goes to even, zero
		return sign
	}
	shift := 126 - b>>23 // 14 to 24: the float16 counts units of 2^-24
	m := b&0x7fffff | 0x800000
	h := m >> shift
	rest, half := m&(1<<shift-1), uint32(1)<<(shift-1)
	if rest > half || rest == half && h&1 == 1 {
		h++
	}
	return sign | uint16(h)
}
