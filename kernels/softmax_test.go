package kernels

import (
	"math"
	"testing"
)

func TestSoftmax(t *testing.T) { eachImpl(t, testSoftmax) }

func testSoftmax(t *testing.T) {
	for _, n := range []int{1, 5, 16, 100, 1024, 5000} {
		x := normals(11, n)
		want, sum, m := make([]float64, n), 0.0, math.Inf(-1)
		for i := range x {
			x[i] *= 6
			m = max(m, float64(x[i]))
		}
		for i, v := range x {
			want[i] = math.Exp(float64(v) - m)
			sum += want[i]
		}
		for i := range want {
			want[i] /= sum
		}
		if got, lse := float64(LogSumExp(x)), m+math.Log(sum); math.Abs(got-lse) > 1e-6*math.Abs(lse) {
			t.Errorf("LogSumExp of %d: %g, want %g", n, got, lse)
		}
		Softmax(x)
		near(t, "Softmax", x, want, 5e-7)
	}
	Softmax(nil)
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		x    []float32
		want float32
	}{{nil, -inf}, {[]float32{-inf, -inf}, -inf}, {[]float32{1, inf}, inf}, {[]float32{1e30}, 1e30}, {[]float32{-inf, 2}, 2}} {
		if got := LogSumExp(c.x); got != c.want {
			t.Errorf("LogSumExp(%v) is %g, want %g", c.x, got, c.want)
		}
	}
}

func TestArgmax(t *testing.T) { eachImpl(t, testArgmax) }

func testArgmax(t *testing.T) {
	nan := float32(math.NaN())
	for _, c := range []struct {
		x    []float32
		want int
	}{{nil, -1}, {[]float32{3}, 0}, {[]float32{1, 5, 5, 2}, 1}, {[]float32{nan, 1, nan}, 1}, {[]float32{nan, nan}, 0}, {[]float32{float32(math.Inf(-1)), nan}, 0}} {
		if got := Argmax(c.x); got != c.want {
			t.Errorf("Argmax(%v) is %d, want %d", c.x, got, c.want)
		}
	}
	x := normals(12, 5000)
	x[4321] = 100
	if got := Argmax(x); got != 4321 {
		t.Errorf("Argmax is %d, want 4321", got)
	}
}
