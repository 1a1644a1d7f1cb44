package kernels

import "math"

// The constants of exp32. exp(x) = 2^n * exp(r) with n = round(x*log2(e)) and |r| <= ln(2)/2; exp(r) is
// 1 + r + r*r*(1/2 + r*(c3 + r*(c4 + r*(c5 + r*c6)))) with c3 to c6 fitted by least maximal relative error (3.6e-9
// before rounding). ln2Hi has 12 bits, so that n*ln2Hi is exact.
const (
	expLog2E = float32(1.4426950408889634)
	expMagic = float32(3 << 22) // added to |v| < 2^22, it leaves round-to-even(v) in the low bits
	expLn2Hi = float32(0x1.62ep-1)
	expLn2Lo = float32(0x1.0bfbe8e7bcd5ep-15)
	expC3    = float32(0.1666653380253785)
	expC4    = float32(0.04166723877257511)
	expC5    = float32(0.008367509246614849)
	expC6    = float32(0.0013863756965035445)
	expLow   = float32(-87)   // below it exp32 is zero; 2^n stays a normal number
	expHigh  = float32(88.37) // above it exp32 is exp32(88.37), so that 2^n stays finite
)

// exp32 is exp(x) to about one unit in the last place, by operations that every implementation does in this order
// with one rounding each. Below -87 it is zero; exp32(0) is exactly 1; NaN gives NaN.
func exp32(x float32) float32 {
	if expHigh < x {
		x = expHigh
	}
	if x < expLow {
		return 0
	}
	t := fma32(x, expLog2E, expMagic)
	n := t - expMagic
	r := fma32(n, -expLn2Hi, x)
	r = fma32(n, -expLn2Lo, r)
	p := fma32(r, expC6, expC5)
	p = fma32(p, r, expC4)
	p = fma32(p, r, expC3)
	p = fma32(p, r, 0.5)
	p = fma32(p, r, 1)
	p = fma32(p, r, 1)
	return float32(p * math.Float32frombits(math.Float32bits(t)<<23+127<<23))
}
