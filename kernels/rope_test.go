package kernels

import (
	"math"
	"sync"
	"testing"
)

// turned is what Apply has to give, in float64.
func turned(x []float32, heads, headDim, pos int, style RopeStyle, freq []float64, mag float64) []float64 {
	want := make([]float64, len(x))
	for i, v := range x {
		want[i] = float64(v)
	}
	for h := range heads {
		for i, f := range freq {
			a, b := h*headDim+2*i, h*headDim+2*i+1
			if style == Halves {
				a, b = h*headDim+i, h*headDim+i+len(freq)
			}
			sin, cos := math.Sincos(float64(pos) * f)
			want[a] = (float64(x[a])*cos - float64(x[b])*sin) * mag
			want[b] = (float64(x[b])*cos + float64(x[a])*sin) * mag
		}
	}
	return want
}

func freqs(dim int, base float64, f func(i int, freq float64) float64) []float64 {
	out := make([]float64, dim/2)
	for i := range out {
		out[i] = f(i, math.Pow(base, -float64(2*i)/float64(dim)))
	}
	return out
}

func TestRope(t *testing.T) { eachImpl(t, testRope) }

func testRope(t *testing.T) {
	same := func(_ int, f float64) float64 { return f }
	factors := []float32{1, 2, 4, 8}
	llama := func(_ int, f float64) float64 {
		length := 2 * math.Pi / f
		switch {
		case length < 8192.0/4:
			return f
		case length > 8192.0/1:
			return f / 32
		}
		smooth := (8192/length - 1) / (4 - 1)
		return (1-smooth)*f/32 + smooth*f
	}
	for _, c := range []struct {
		name         string
		dim, headDim int
		base         float64
		scaling      RopeScaling
		freq         func(i int, f float64) float64
		mag          float64
	}{
		{"plain", 64, 64, 10000, RopeScaling{}, same, 1},
		{"part of a head", 24, 40, 1e6, RopeScaling{}, same, 1},
		{"linear", 32, 32, 100000, RopeScaling{Kind: RopeLinear, Factor: 4}, func(_ int, f float64) float64 { return f / 4 }, 1},
		{"factors", 16, 16, 10000, RopeScaling{Factors: factors}, func(i int, f float64) float64 {
			if i < len(factors) {
				f /= float64(factors[i])
			}
			return f
		}, 1},
		{"llama3", 64, 64, 500000, RopeScaling{Kind: RopeLlama3, Factor: 32, Original: 8192, Low: 1, High: 4}, llama, 1},
	} {
		table := NewRopeTable(c.dim, c.base, c.scaling)
		for _, pos := range []int{0, 1, 63, 64, 8191, 100003, 1 << 21} {
			for _, style := range []RopeStyle{Interleaved, Halves} {
				x := normals(uint64(pos), 3*c.headDim)
				want := turned(x, 3, c.headDim, pos, style, freqs(c.dim, c.base, c.freq), c.mag)
				table.Apply(x, 3, c.headDim, pos, style)
				near(t, c.name, x, want, 2e-7)
			}
		}
	}
}

func TestRopeYarn(t *testing.T) {
	table := NewRopeTable(128, 1e6, RopeScaling{Kind: RopeYarn, Factor: 4, Original: 32768})
	if want := 1 + 0.1*math.Log(4); math.Abs(table.mag-want) > 1e-12 {
		t.Errorf("magnitude %g, want %g", table.mag, want)
	}
	for i, f := range freqs(128, 1e6, func(_ int, f float64) float64 { return f }) {
		turns := 32768 * f / (2 * math.Pi)
		got := table.freq[i] / f
		if turns > 40 && math.Abs(got-1) > 1e-9 || turns < 0.8 && math.Abs(got-0.25) > 1e-9 || got > 1+1e-9 || got < 0.25-1e-9 {
			t.Errorf("frequency %d (%.3g turns) is scaled by %g", i, turns, got)
		}
	}
}

// Any scaling that a hostile model file may ask for gives a table, if a useless one.
func TestRopeNonsense(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, v := range []float64{0, -1, nan, inf, -inf, 1e-300, 1e300} {
		for kind := RopeNone; kind <= RopeYarn+1; kind++ {
			table := NewRopeTable(9, v, RopeScaling{Kind: kind, Factor: v, Original: -1, Low: v, High: v, BetaFast: v, BetaSlow: v, Attn: v, Factors: []float32{float32(v)}})
			x := normals(1, 32)
			table.Apply(x, 2, 16, 70, Interleaved)
			table.Apply(x, 2, 16, -5, Halves)
		}
	}
	NewRopeTable(-3, 10000, RopeScaling{}).Apply(nil, 0, 0, 0, Halves)
}

func TestRopeTogether(t *testing.T) {
	table := NewRopeTable(32, 10000, RopeScaling{})
	alone := NewRopeTable(32, 10000, RopeScaling{})
	var wg sync.WaitGroup
	out := make([][]float32, 8)
	for g := range out {
		wg.Go(func() {
			for pos := range 300 {
				x := normals(9, 64)
				table.Apply(x, 2, 32, pos*(g+1), Interleaved)
				out[g] = append(out[g], x...)
			}
		})
	}
	wg.Wait()
	for g := range out {
		for pos := range 300 {
			x := normals(9, 64)
			alone.Apply(x, 2, 32, pos*(g+1), Interleaved)
			sameBits(t, "a table used by several goroutines", out[g][pos*64:(pos+1)*64], x)
		}
	}
}
