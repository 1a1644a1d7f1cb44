package kernels

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// asGeneric runs f at the generic level and at the level under test, and compares what it returns bit for bit.
func asGeneric(t failer, what string, f func() []float32) {
	t.Helper()
	level := active
	active = generic
	want := f()
	active = level
	sameBits(t, what, f(), want)
}

// awkward are values at which implementations tend to part: signs of zero, the ends of the range, halfway cases of
// exp32's rounding, subnormals, infinities and NaN.
var awkward = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 1e-45, -1e-45, 1.17549435e-38, 3.4e38, -3.4e38, -87, -87.00001, -86.99999, -88, -104,
	88.37, 88.38, 88.36999, 0.34657359, -0.34657359, 1.0397208, 65504, 65519.996, 65520, 5.9604645e-8, 2.9802322e-8, 6.1e-5,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
}

// values draws n floats of all magnitudes, here and there an awkward one.
func values(t *rapid.T, name string, n int) []float32 {
	x := normals(rapid.Uint64().Draw(t, name), n)
	scale := float32(math.Exp2(float64(rapid.IntRange(-20, 20).Draw(t, name+" scale"))))
	for i := range x {
		x[i] *= scale
	}
	for range rapid.IntRange(0, 2).Draw(t, name+" awkward") {
		if n > 0 {
			x[rapid.IntRange(0, n-1).Draw(t, "at")] = rapid.SampledFrom(awkward).Draw(t, "value")
		}
	}
	return x
}

// Every operation on vectors of any length, aligned or not, is the same at every level.
func TestVectorLevels(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			n := rapid.IntRange(0, 200).Draw(rt, "n")
			shift := rapid.IntRange(0, 3).Draw(rt, "shift")
			n += shift
			x, y, z := values(rt, "x", n)[shift:], values(rt, "y", n)[shift:], values(rt, "z", n)[shift:]
			n -= shift
			vectorLevels(rt, n, x, y, z)
		})
	})
}

func vectorLevels(t failer, n int, x, y, z []float32) {
	asGeneric(t, "RMSNorm", func() []float32 {
		out := make([]float32, n)
		RMSNorm(out, x, y, 1, n, 1e-5)
		return out
	})
	asGeneric(t, "Add", func() []float32 {
		out := slices.Clone(y)
		Add(out, x)
		return out
	})
	asGeneric(t, "SiluMul", func() []float32 {
		out := make([]float32, n)
		SiluMul(out, x, y)
		return out
	})
	asGeneric(t, "Softmax", func() []float32 {
		out := slices.Clone(x)
		Softmax(out)
		return out
	})
	asGeneric(t, "LogSumExp and Argmax", func() []float32 { return []float32{LogSumExp(x), float32(Argmax(x))} })
	asGeneric(t, "ropeHalves", func() []float32 {
		a, b := slices.Clone(x), slices.Clone(y)
		ropeHalves(a, b, z, y)
		return append(a, b...)
	})
	asGeneric(t, "ropePairs", func() []float32 {
		a := append(slices.Clone(x), y...)
		ropePairs(a, z, y)
		return a
	})
	asGeneric(t, "toHalves", func() []float32 {
		h := make([]uint16, n)
		toHalves(h, x)
		out := make([]float32, n)
		for i, v := range h {
			out[i] = f16(v)
		}
		return out
	})
}

// The exponential is the same at every level over the range where it is not constant, at a fine pitch.
func TestExpLevels(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		x := make([]float32, 0, 1<<18)
		for v := float32(-90); v < 90; v += 0.0007 {
			x = append(x, -v)
		}
		x = append(x, awkward...)
		one := make([]float32, len(x))
		for i := range one {
			one[i] = 1
		}
		vectorLevels(t, len(x), x, one, one)
	})
}

// Attention of any shape, any number of rows and positions, is the same at every level.
func TestAttentionLevels(t *testing.T) {
	w := NewWorkers(1)
	defer w.Close()
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			kvHeads, group := rapid.IntRange(1, 3).Draw(rt, "kv heads"), rapid.IntRange(1, 8).Draw(rt, "group")
			dim, n := rapid.IntRange(1, 140).Draw(rt, "dim"), rapid.IntRange(1, 150).Draw(rt, "positions")
			rows := rapid.IntRange(1, min(n, 20)).Draw(rt, "rows")
			heads := kvHeads * group
			q := values(rt, "q", rows*heads*dim)
			k, v := values(rt, "k", n*kvHeads*dim), values(rt, "v", n*kvHeads*dim)
			asGeneric(rt, "Attention", func() []float32 {
				kv := newKV(kvHeads, dim, n)
				kv.Append(k, v, n)
				out := make([]float32, len(q))
				Attention(w, out, q, []AttnSeq{{kv, n - rows, rows}}, heads, dim, 0.25)
				return out
			})
		})
	})
}
