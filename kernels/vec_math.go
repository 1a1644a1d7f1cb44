package kernels

import "math"

// The functions here are accurate to about 1e-15 and give the same bits on every CPU: every operation is rounded by
// itself or is a math.FMA. Go's math package does not promise that: it has assembly for some CPUs, and on others the
// compiler may fuse its products and sums.

const (
	ln2Hi  = 0x1.62e42fefap-1 // 33 bits of ln 2, so that a product with an exponent is exact
	ln2Lo  = math.Ln2 - ln2Hi
	pio2Hi = 0x1.921fb544p0 // 31 bits of pi/2
	pio2Md = 0x1.0b4611a4p-34
	pio2Lo = math.Pi/2 - pio2Hi - pio2Md
)

// ln64 is the natural logarithm of a positive finite x, by the series of artanh((m-1)/(m+1)) with m within sqrt(2)
// of 1.
func ln64(x float64) float64 {
	m, e := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m, e = 2*m, e-1
	}
	z := (m - 1) / (m + 1)
	zz := float64(z * z)
	sum := 0.0
	for k := 23.0; k > 1; k -= 2 {
		sum = math.FMA(sum, zz, 1/k)
	}
	sum = math.FMA(float64(sum*zz), z, z)
	n := float64(e)
	return math.FMA(n, ln2Hi, math.FMA(n, ln2Lo, 2*sum))
}

// exp64 is e to the x for |x| < 700, by Taylor's series after taking out powers of two.
func exp64(x float64) float64 {
	n := math.RoundToEven(float64(x * math.Log2E))
	r := math.FMA(-n, ln2Lo, math.FMA(-n, ln2Hi, x))
	sum := 1.0
	for k := 14.0; k > 0; k-- {
		sum = math.FMA(sum, float64(r/k), 1)
	}
	return math.Ldexp(sum, int(n))
}

// sincos64 is the sine and cosine of 0 <= x < 2^30, by Taylor's series after taking out quarter turns.
func sincos64(x float64) (sin, cos float64) {
	n := math.RoundToEven(float64(x * (2 / math.Pi)))
	r := math.FMA(-n, pio2Hi, x)
	r = math.FMA(-n, pio2Md, r)
	r = math.FMA(-n, pio2Lo, r)
	rr := float64(r * r)
	s, c := 1.0, 1.0
	for k := 18.0; k > 0; k -= 2 {
		s = math.FMA(s, float64(-rr/float64(k*(k+1))), 1)
		c = math.FMA(c, float64(-rr/float64(k*(k-1))), 1)
	}
	s = float64(s * r)
	switch int64(n) & 3 {
	case 1:
		return c, -s
	case 2:
		return -s, -c
	case 3:
		return -c, s
	}
	return s, c
}
