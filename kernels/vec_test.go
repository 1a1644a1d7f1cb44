package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// normals returns n values of a normal distribution, the same for the same seed.
func normals(seed uint64, n int) []float32 {
	r := rand.New(rand.NewPCG(seed, 1))
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// failer is what a check needs of testing.T or rapid.T.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// sameBits fails unless a and b are equal bit for bit; NaNs are equal whatever their payload.
func sameBits(t failer, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d values, want %d", what, len(got), len(want))
	}
	for i, g := range got {
		if math.Float32bits(g) != math.Float32bits(want[i]) && (g == g || want[i] == want[i]) {
			t.Fatalf("%s: element %d of %d is %g (%#x), want %g (%#x)", what, i, len(got), g, math.Float32bits(g), want[i], math.Float32bits(want[i]))
		}
	}
}

// near fails unless got is within tol of want, relative to the largest of want.
func near(t *testing.T, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	scale := 1e-30
	for _, v := range want {
		scale = max(scale, math.Abs(v))
	}
	for i, g := range got {
		if !(math.Abs(float64(g)-want[i]) <= tol*scale) {
			t.Fatalf("%s: element %d of %d is %g, want %g within %g of %g", what, i, len(got), g, want[i], tol, scale)
		}
	}
}

func TestExp32(t *testing.T) {
	worst := 0.0
	for x := float32(-87); x < 88.3; x += 0.00371 {
		want := math.Exp(float64(x))
		worst = max(worst, math.Abs(float64(exp32(x))-want)/want)
	}
	if worst > 1e-7 {
		t.Errorf("relative error %.3g, want <= 1e-7", worst)
	}
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range []struct{ x, want float32 }{{0, 1}, {float32(math.Copysign(0, -1)), 1}, {-inf, 0}, {-88, 0}, {inf, exp32(88.37)}, {1000, exp32(88.37)}, {nan, nan}} {
		sameBits(t, "exp32", []float32{exp32(c.x)}, []float32{c.want})
	}
	if v := exp32(inf); math.IsInf(float64(v), 0) || v < 2e38 {
		t.Errorf("exp32(+Inf) is %g, want the largest finite result", v)
	}
}

func TestRMSNorm(t *testing.T) { eachImpl(t, testRMSNorm) }

func testRMSNorm(t *testing.T) {
	for _, cols := range []int{1, 7, 16, 31, 64, 576, 896, 1000} {
		x, w := normals(1, 3*cols), normals(2, cols)
		want := make([]float64, 3*cols)
		for r := range 3 {
			ss := 0.0
			for _, v := range x[r*cols : (r+1)*cols] {
				ss += float64(v) * float64(v)
			}
			for i := range cols {
				want[r*cols+i] = float64(x[r*cols+i]) / math.Sqrt(ss/float64(cols)+1e-5) * float64(w[i])
			}
		}
		y := make([]float32, 3*cols)
		RMSNorm(y, x, w, 3, cols, 1e-5)
		near(t, "RMSNorm", y, want, 1e-6)
		one := make([]float32, cols)
		RMSNorm(one, x[cols:], w, 1, cols, 1e-5)
		sameBits(t, "a row alone", one, y[cols:2*cols])
		RMSNorm(x, x, w, 3, cols, 1e-5)
		sameBits(t, "in place", x, y)
	}
}

func TestSiluMul(t *testing.T) { eachImpl(t, testSiluMul) }

func testSiluMul(t *testing.T) {
	for _, n := range []int{1, 15, 16, 33, 1536} {
		gate, up := normals(3, n), normals(4, n)
		want := make([]float64, n)
		for i, g := range gate {
			gate[i] = g * 10
			want[i] = float64(gate[i]) / (1 + math.Exp(-float64(gate[i]))) * float64(up[i])
		}
		y := make([]float32, n)
		SiluMul(y, gate, up)
		near(t, "SiluMul", y, want, 3e-7)
		SiluMul(gate, gate, up)
		sameBits(t, "in place", gate, y)
	}
}

func TestAddBias(t *testing.T) { eachImpl(t, testAddBias) }

func testAddBias(t *testing.T) {
	y, bias := normals(5, 3*37), normals(6, 37)
	want := make([]float32, len(y))
	for i := range y {
		want[i] = y[i] + bias[i%37]
	}
	AddBias(y, bias, 3)
	sameBits(t, "AddBias", y, want)
}
