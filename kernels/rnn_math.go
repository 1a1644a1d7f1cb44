package kernels

import "math"

// The constants of tanh32: tanh(x) = x + x^3*(c0 + c1*x^2 + ... + c4*x^8) for |x| < 0.625, fitted by least maximal relative
// error (7e-9 before rounding).
const (
	tanhC0    = float32(-0.3333328068256378)
	tanhC1    = float32(0.13331420719623566)
	tanhC2    = float32(-0.05373779311776161)
	tanhC3    = float32(0.020632537081837654)
	tanhC4    = float32(-0.005697375163435936)
	tanhLimit = float32(0.625)
)

// tanh32 is tanh(x) within 3e-7 of it, relatively: for |x| by a polynomial where that is small, else as 1 - 2/(1+exp32(2|x|)),
// with x's sign.
func tanh32(x float32) float32 {
	sign := math.Float32bits(x) & (1 << 31)
	a := math.Float32frombits(math.Float32bits(x) ^ sign)
	v := 1 - 2/(1+exp32(a+a))
	if a < tanhLimit {
		z := float32(a * a)
		p := fma32(tanhC4, z, tanhC3)
		p = fma32(p, z, tanhC2)
		p = fma32(p, z, tanhC1)
		p = fma32(p, z, tanhC0)
		v = fma32(float32(a*z), p, a)
	}
	return math.Float32frombits(math.Float32bits(v) ^ sign)
}

// sigmoid32 is 1/(1+exp(-x)), within 2e-7 of it, relatively.
func sigmoid32(x float32) float32 { return 1 / (1 + exp32(-x)) }

// Sigmoid replaces each x by 1/(1+exp32(-x)).
func Sigmoid(x []float32) {
	for from := 0; from < len(x); from += stretch {
		part := x[from:min(from+stretch, len(x))]
		for i := sigmoidFast(part); i < len(part); i++ {
			part[i] = sigmoid32(part[i])
		}
		safepoint()
	}
}

// Tanh replaces each x by its hyperbolic tangent.
func Tanh(x []float32) {
	for from := 0; from < len(x); from += stretch {
		part := x[from:min(from+stretch, len(x))]
		for i := tanhFast(part); i < len(part); i++ {
			part[i] = tanh32(part[i])
		}
		safepoint()
	}
}
