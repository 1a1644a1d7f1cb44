package kernels

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exactFMA is a*b+c in exact arithmetic, rounded once.
func exactFMA(a, b, c float32) float32 {
	var p, s big.Float
	p.SetPrec(600).SetFloat64(float64(a))
	p.Mul(&p, new(big.Float).SetPrec(600).SetFloat64(float64(b)))
	s.SetPrec(600).Add(&p, new(big.Float).SetPrec(600).SetFloat64(float64(c)))
	f, _ := s.Float32()
	return f
}

func checkFMA(t *testing.T, a, b, c float32) {
	t.Helper()
	// A zero result has a sign that exact arithmetic does not know.
	if got, want := fma32(a, b, c), exactFMA(a, b, c); got != want {
		t.Fatalf("%x * %x + %x = %x, want %x", a, b, c, got, want)
	}
}

// TestFMA tries the cases in which rounding twice is wrong: sums that lie next to the middle between
// two float32, and results in the subnormal range; and many random ones.
func TestFMA(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bits := func() float32 {
		for {
			if v := math.Float32frombits(rng.Uint32()); !math.IsNaN(float64(v)) && !math.IsInf(float64(v), 0) {
				return v
			}
		}
	}
	wrong := 0
	for range 200000 {
		a, b := 1+float32(rng.IntN(1<<23))*0x1p-23, 1+float32(rng.IntN(1<<12))*0x1p-12
		// c is tiny against the product, which is put on or near a middle by its low bits.
		c := float32(math.Ldexp(rng.Float64()-0.5, -20-rng.IntN(50)))
		checkFMA(t, a, b, c)
		if float32(float64(a)*float64(b)+float64(c)) != exactFMA(a, b, c) {
			wrong++
		}
		checkFMA(t, a*0x1p-70, b*0x1p-75, c*0x1p-70)
		checkFMA(t, bits(), bits(), bits())
		v := bits()
		checkFMA(t, v, 1+0x1p-23, -v)
	}
	if wrong == 0 {
		t.Error("no case in which rounding twice is wrong: the test tests nothing")
	}
}

func TestFMASpecial(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, c := range [][4]float32{
		{inf, 1, 1, inf}, {inf, 0, 1, nan}, {inf, 1, -inf, nan}, {nan, 1, 1, nan}, {1, 1, nan, nan},
		{math.MaxFloat32, 2, 0, inf}, {math.MaxFloat32, 2, -math.MaxFloat32, math.MaxFloat32},
		{0, 1, 0, 0}, {1, -1, 1, 0},
	} {
		got := fma32(c[0], c[1], c[2])
		if differ([]float32{got}, c[3:]) >= 0 {
			t.Errorf("%v * %v + %v = %v, want %v", c[0], c[1], c[2], got, c[3])
		}
	}
	if negative := float32(math.Copysign(0, -1)); !math.Signbit(float64(fma32(negative, 1, negative))) {
		t.Error("-0 * 1 + -0 is not -0")
	}
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x3f800001), uint32(0x3f800001), uint32(0x00000001))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		x, y, z := math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c)
		for _, v := range []float32{x, y, z} {
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return
			}
		}
		checkFMA(t, x, y, z)
	})
}
