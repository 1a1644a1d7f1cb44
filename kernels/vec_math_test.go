package kernels

import (
	"math"
	"testing"
)

func TestMath64(t *testing.T) {
	check := func(name string, x, got, want, tol float64) {
		if !(math.Abs(got-want) <= tol*max(1, math.Abs(want))) {
			t.Errorf("%s(%v) is %v, want %v", name, x, got, want)
		}
	}
	for x := 1e-5; x < 1e7; x *= 1.0137 {
		check("ln64", x, ln64(x), math.Log(x), 5e-16)
		sin, cos := sincos64(x)
		check("sin", x, sin, math.Sin(x), 5e-16)
		check("cos", x, cos, math.Cos(x), 5e-16)
	}
	for x := -30.0; x < 30; x += 0.137 {
		got := exp64(x)
		check("exp64", x, got/math.Exp(x), 1, 1e-15)
	}
	for _, x := range []float64{math.NaN(), math.Inf(1), 0, -1} {
		ln64(x)
		sincos64(x)
		exp64(x)
	}
}
