package kernels

import "math"

// fma32 returns a*b+c with one rounding, as the FMA instructions of CPUs do.
//
// The product of two float32 is exact in float64. Rounding the sum to float64 and then to float32
// rounds twice, which is wrong when the float64 falls on the middle between two float32 (or near the
// subnormal range): then the sum is first rounded to odd, after which the second rounding is right
// (S. Boldo and G. Melquiond, "Emulation of a FMA and correctly rounded sums: proved algorithms using
// rounding to odd", IEEE Trans. Comp. 57(4), 2008).
func fma32(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	s := p + float64(c)
	u := math.Float64bits(s)
	// Not the middle of two float32, and far from subnormal: the first rounding cannot mislead.
	if u&0x1fffffff != 0x10000000 && u>>52&0x7ff > 1023-120 {
		return float32(s)
	}
	return fmaOdd(p, float64(c), s)
}

// fmaOdd rounds the exact p+c, of which s is the nearest float64, to odd and then to float32.
func fmaOdd(p, c, s float64) float32 {
	t := s - p
	e := (p - (s - t)) + (c - t) // what s lacks, exactly (Knuth's TwoSum)
	u := math.Float64bits(s)
	if e == 0 || e != e || u&1 == 1 {
		return float32(s)
	}
	if (e > 0) == (s > 0) {
		u++
	} else {
		u--
	}
	return float32(math.Float64frombits(u))
}
