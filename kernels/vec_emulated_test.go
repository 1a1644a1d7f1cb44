package kernels

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// emulated runs f for the assembly of both levels, with Go's own code at the generic level to compare with.
func emulated(t *testing.T, f func(t *rapid.T, e *emulator, level string)) {
	old := active
	defer func() { active = old }()
	active = generic
	e := newEmulator(t, "vec_amd64.s")
	for _, level := range []string{"AVX2", "AVX512"} {
		t.Run(level, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) { f(t, e, level) })
		})
	}
}

// exact is values whose slice has no room beyond its end, so that the emulator sees every access outside.
func exact(t *rapid.T, name string, n int) []float32 { return slices.Clip(values(t, name, n)) }

func TestEmulatedVectors(t *testing.T) {
	emulated(t, func(t *rapid.T, e *emulator, level string) {
		steps := rapid.IntRange(1, 5).Draw(t, "steps")
		n := steps * lanes
		x, y, z := exact(t, "x", n), exact(t, "y", n), exact(t, "z", n)
		s := values(t, "s", 1)[0]
		check := func(name string, want []float32, args ...any) {
			t.Helper()
			got := args[0].([]float32)
			e.call(t, name+level, append(args, steps)...)
			sameBits(t, name+level, got, want)
		}
		acc := func() *[lanes]float32 { return (*[lanes]float32)(slices.Clone(z[:lanes])) }

		want := acc()
		for i, v := range x {
			want[i%lanes] = fma32(v, v, want[i%lanes])
		}
		check("squares", want[:], acc()[:], x)
		want, high := acc(), acc()
		for i := range want {
			want[i], high[i] = 0, 0
		}
		for i, v := range x {
			want[i%lanes] = larger(v, want[i%lanes])
		}
		sameNumbers(t, e, "maxima"+level, want[:], high[:], x, steps)
		out := slices.Clone(y)
		add(out, x)
		check("add", out, slices.Clone(y), x)
		out = make([]float32, n)
		scaleInto(out, x, s)
		check("scale", out, make([]float32, n), x, s)
		for i := range out {
			out[i] = float32(x[i]*s) * y[i]
		}
		check("scaleMul", out, make([]float32, n), x, y, s)
		siluMul(out, x, y)
		check("siluMul", out, make([]float32, n), x, y)

		m := maxOf(x)
		want, sum, exps := acc(), acc(), make([]float32, n)
		for i, v := range x {
			out[i] = exp32(v - m)
			want[i%lanes] += out[i]
		}
		check("expSums", want[:], sum[:], exps, x, m)
		sameBits(t, "the exponentials", exps, out)

		half, wantHalf := make([]uint16, n), make([]uint16, n)
		toHalves(wantHalf, x)
		e.call(t, "halves"+level, half, x, steps)
		if !slices.Equal(half, wantHalf) {
			t.Fatalf("halves%s: %#x, want %#x", level, half, wantHalf)
		}
	})
}

// sameNumbers is for the maxima, where zeros of both signs are equal.
func sameNumbers(t *rapid.T, e *emulator, name string, want, got, x []float32, steps int) {
	e.call(t, name, got, x, steps)
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("%s: lane %d is %g, want %g", name, i, got[i], want[i])
		}
	}
}

func TestEmulatedRopes(t *testing.T) {
	emulated(t, func(t *rapid.T, e *emulator, level string) {
		steps := rapid.IntRange(1, 4).Draw(t, "steps")
		n := steps * lanes
		x, y, cos, sin := exact(t, "x", n), exact(t, "y", n), exact(t, "cos", n), exact(t, "sin", n)
		a, b := slices.Clone(x), slices.Clone(y)
		ropeHalves(a, b, cos, sin)
		gotA, gotB := slices.Clone(x), slices.Clone(y)
		e.call(t, "ropeHalves"+level, gotA, gotB, cos, sin, steps)
		sameBits(t, "ropeHalves"+level, append(gotA, gotB...), append(a, b...))
		ropePairs(x, cos[:n/2], sin[:n/2])
		got := slices.Clone(y)
		ropePairs(y, cos[:n/2], sin[:n/2])
		e.call(t, "ropePairs"+level, got, cos[:n/2:n/2], sin[:n/2:n/2], steps)
		sameBits(t, "ropePairs"+level, got, y)
	})
}

func TestEmulatedAttention(t *testing.T) {
	emulated(t, func(t *rapid.T, e *emulator, level string) {
		var a attnTile
		a.setDim(rapid.SampledFrom([]int{1, 7, 16, 33, 64, 80, 100}).Draw(t, "dim"))
		a.rows = rapid.SampledFrom([]int{1, 2, 3, 4, 5, 6}).Draw(t, "rows")
		n := rapid.IntRange(0, pageLen).Draw(t, "n")
		keys, vals := make([]uint16, a.dim*pageLen), make([]uint16, n*a.width)
		toHalves(keys, values(t, "keys", len(keys)))
		toHalves(vals, values(t, "values", len(vals)))
		for r := range a.rows {
			a.seen[r] = pageLen
			a.begin(r, values(t, "q", a.dim), 0.25)
			copy(a.row(r), values(t, "sums so far", a.width))
			if rapid.Bool().Draw(t, "not the first page") {
				a.high[r] = values(t, "high", 1)[0]
			}
		}
		b := a
		score := func(t *attnTile) []float32 {
			flat := make([]float32, 0, tileRows*pageLen)
			for r := range t.rows {
				flat = append(flat, t.score[r][:]...)
			}
			return slices.Clip(flat)
		}

		got := score(&b)
		e.call(t, "attnScores"+level, slices.Clip(b.q[:b.dim*b.rows]), keys, got, b.rows, b.dim)
		a.scores(keys)
		sameBits(t, "attnScores"+level, got, score(&a))
		weighEmulated(t, e, level, &a, &b)
		got, out := score(&a), slices.Clip(slices.Clone(a.out[:a.rows*a.width]))
		alpha := slices.Clip(slices.Clone(a.alpha[:a.rows]))
		e.call(t, "attnMix"+level, got, vals, out, alpha, a.rows, a.width, n)
		a.mix(vals, 0, a.rows, 0, n)
		sameBits(t, "attnMix"+level, out, a.out[:a.rows*a.width])
	})
}

// weighEmulated compares the step of the softmax; b is a copy of a but for its scores.
func weighEmulated(t *rapid.T, e *emulator, level string, a, b *attnTile) {
	var score, sum []float32
	bad := false // a NaN may show in other numbers of its row, but makes the whole row NaN
	for r := range a.rows {
		for _, v := range a.score[r] {
			bad = bad || v != v
		}
		score, sum = append(score, a.score[r][:]...), append(sum, a.sum[r][:]...)
	}
	high, alpha := slices.Clip(slices.Clone(b.high[:b.rows])), make([]float32, b.rows)
	score, sum = slices.Clip(score), slices.Clip(sum)
	e.call(t, "attnWeigh"+level, score, sum, high, alpha, b.rows)
	a.weigh(0, a.rows, 0, pageLen)
	for r := range a.rows {
		s := sum[r*lanes : (r+1)*lanes]
		if bad || math.IsNaN(float64(laneSum((*[lanes]float32)(s)))) {
			continue
		}
		sameBits(t, "sums of attnWeigh"+level, s, a.sum[r][:])
		sameBits(t, "weights of attnWeigh"+level, score[r*pageLen:(r+1)*pageLen], a.score[r][:])
		if high[r] != a.high[r] || alpha[r] != a.alpha[r] {
			t.Fatalf("row %d: high %g alpha %g, want %g %g", r, high[r], alpha[r], a.high[r], a.alpha[r])
		}
	}
}
