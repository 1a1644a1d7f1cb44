package kernels

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestGeluMul(t *testing.T) { eachImpl(t, testGeluMul) }

func testGeluMul(t *testing.T) {
	var gate, up []float32
	var want []float64
	for x := -12.0; x < 12; x += 0.0137 {
		g := float64(float32(x))
		gate, up = append(gate, float32(x)), append(up, 2)
		want = append(want, g*(1+math.Tanh(math.Sqrt(2/math.Pi)*(g+0.044715*g*g*g))))
	}
	GeluMul(gate, gate, up)
	near(t, "GeluMul", gate, want, 1e-7)
}

func TestGELU(t *testing.T) { eachImpl(t, testGELU) }

func testGELU(t *testing.T) {
	for x := -12.0; x < 12; x += 0.0137 {
		v := []float32{float32(x)}
		v = append(v, make([]float32, 31)...) // long enough for assembly
		GELU(v)
		g := float64(float32(x))
		if want := g * (1 + math.Erf(g/math.Sqrt2)) / 2; math.Abs(float64(v[0])-want) > 2e-7*max(1, math.Abs(g)) {
			t.Fatalf("gelu(%g) is %g, want %g", x, v[0], want)
		}
	}
}

func TestLayerNorm(t *testing.T) { eachImpl(t, testLayerNorm) }

func testLayerNorm(t *testing.T) {
	const rows, cols = 3, 77
	x, w, b := normals(1, rows*cols), normals(2, cols), normals(3, cols)
	want := make([]float64, len(x))
	for r := range rows {
		mean, variance := 0.0, 0.0
		for _, v := range x[r*cols : (r+1)*cols] {
			mean += float64(v) / cols
		}
		for _, v := range x[r*cols : (r+1)*cols] {
			variance += (float64(v) - mean) * (float64(v) - mean) / cols
		}
		for i, v := range x[r*cols : (r+1)*cols] {
			want[r*cols+i] = (float64(v)-mean)/math.Sqrt(variance+1e-5)*float64(w[i]) + float64(b[i])
		}
	}
	LayerNorm(x, x, w, b, rows, cols, 1e-5)
	near(t, "LayerNorm", x, want, 1e-6)
}

func TestSoftCap(t *testing.T) { eachImpl(t, testSoftCap) }

func testSoftCap(t *testing.T) {
	for _, top := range []float32{1, 30, 50} {
		var x []float32
		var want []float64
		for v := -9.0; v < 9; v += 0.0137 {
			x = append(x, float32(v)*top)
			want = append(want, float64(top)*math.Tanh(float64(float32(v)*top)/float64(top)))
		}
		x = append(x, 0, float32(math.Inf(1)), float32(math.Inf(-1)))
		want = append(want, 0, float64(top), -float64(top))
		SoftCap(x, top)
		near(t, "SoftCap", x, want, 2e-7)
	}
}

func TestGeluLevels(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(rt *rapid.T) {
			n := rapid.IntRange(0, 200).Draw(rt, "n")
			x, y := values(rt, "x", n), values(rt, "y", n)
			asGeneric(rt, "GeluMul", func() []float32 {
				out := make([]float32, n)
				GeluMul(out, x, y)
				return out
			})
			asGeneric(rt, "GELU", func() []float32 {
				out := slices.Clone(x)
				GELU(out)
				return out
			})
			asGeneric(rt, "LayerNorm", func() []float32 {
				out := make([]float32, n)
				LayerNorm(out, x, y, x, 1, n, 1e-5)
				return out
			})
			asGeneric(rt, "ClampedGLU", func() []float32 {
				out := make([]float32, n)
				ClampedGLU(out, x, y, 1.702, 7)
				return out
			})
			asGeneric(rt, "SoftCap", func() []float32 {
				out := slices.Clone(x)
				SoftCap(out, 30)
				return out
			})
			asGeneric(rt, "AddScaled", func() []float32 {
				out := slices.Clone(y)
				AddScaled(out, slices.Clone(x), 0.3)
				return out
			})
		})
	})
}

func TestEmulatedGelu(t *testing.T) {
	old := active
	defer func() { active = old }()
	active = generic
	e := newEmulator(t, "gelu_amd64.s")
	for _, level := range []string{"AVX2", "AVX512"} {
		t.Run(level, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				steps := rapid.IntRange(1, 5).Draw(t, "steps")
				n := steps * lanes
				x, y := exact(t, "x", n), exact(t, "y", n)
				want, got := make([]float32, n), make([]float32, n)
				geluMul(want, x, y)
				e.call(t, "geluMul"+level, got, x, y, steps)
				sameBits(t, "geluMul"+level, got, want)
				want, got = slices.Clone(x), slices.Clone(x)
				geluErf(want)
				e.call(t, "geluErf"+level, got, steps)
				sameBits(t, "geluErf"+level, got, want)
				want, got = slices.Clone(x), slices.Clone(x)
				softCap(want, 30)
				e.call(t, "softCap"+level, got, []float32{30, float32(2) / 30, 60}, steps)
				sameBits(t, "softCap"+level, got, want)
				want, got = make([]float32, n), make([]float32, n)
				clampedGLU(want, x, y, 1.702, 7)
				e.call(t, "clampedGLU"+level, got, x, y, float32(1.702), float32(7), steps)
				sameBits(t, "clampedGLU"+level, got, want)
				for i, v := range x {
					want[i] = v - 0.3
				}
				e.call(t, "less"+level, got, x, float32(0.3), steps)
				sameBits(t, "less"+level, got, want)
				var sum [lanes]float32
				for i, v := range x {
					sum[i%lanes] += v
				}
				got = make([]float32, lanes)
				e.call(t, "sums"+level, got, x, steps)
				sameBits(t, "sums"+level, got, sum[:])
			})
		})
	}
}

// The bits are written down, as in TestVectorBits.
func TestGeluBits(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		x := exactly(1, 999, 12)
		GeluMul(x, x, exactly(2, 999, 3))
		y := exactly(3, 999, 90)
		SoftCap(y, 30)
		z := exactly(4, 999, 6)
		GELU(z)
		n := exactly(5, 999, 6)
		LayerNorm(n, n, exactly(6, 333, 2), exactly(7, 333, 2), 3, 333, 1e-5)
		c := exactly(8, 999, 12)
		ClampedGLU(c, c, exactly(9, 999, 12), 1.702, 7)
		for name, c := range map[string]struct {
			x    []float32
			want uint64
		}{"ClampedGLU": {c, 0x98b7335db1a0b0cf}, "GeluMul": {x, 0x16de6bf04f49fad1}, "SoftCap": {y, 0x71897a0683eb6de8}, "GELU": {z, 0xfa17643b4580d549}, "LayerNorm": {n, 0x228eae9c3ff05c93}} {
			if got := bitsOf(c.x); got != c.want {
				t.Errorf("%s: bits %#x, want %#x", name, got, c.want)
			}
		}
	})
}

func TestMatrixPart(t *testing.T) {
	const rows, cols = 70, 32
	w := normals(5, rows*cols)
	src := make([]byte, 0, 4*len(w))
	for _, v := range w {
		b := math.Float32bits(v)
		src = append(src, byte(b), byte(b>>8), byte(b>>16), byte(b>>24))
	}
	size, err := PackedSize(F32, rows, cols)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]byte, size)
	if err := Pack(dst, src, F32, rows, cols); err != nil {
		t.Fatal(err)
	}
	m, err := NewMatrix(F32, rows, cols, dst)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]int{{0, 16}, {16, 32}, {48, 22}, {0, 70}} {
		part := m.Part(c[0], c[1])
		got := make([]float32, cols)
		for r := range c[1] {
			part.Row(got, r)
			sameBits(t, "row of a part", got, w[(c[0]+r)*cols:][:cols])
		}
	}
	for _, c := range [][2]int{{8, 16}, {0, 8}, {64, 16}, {-16, 16}, {16, 0}} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("rows %v: no panic", c)
				}
			}()
			m.Part(c[0], c[1])
		}()
	}
}

func TestClampedGLU(t *testing.T) { eachImpl(t, testClampedGLU) }

func testClampedGLU(t *testing.T) {
	var gate, up []float32
	var want []float64
	for x := -20.0; x < 20; x += 0.37 {
		gate, up = append(gate, float32(x)), append(up, float32(-x/2))
		g, u := min(float64(float32(x)), 7), max(min(float64(float32(-x/2)), 7), -7)
		want = append(want, g/(1+math.Exp(-float64(float32(1.702))*g))*(u+1))
	}
	ClampedGLU(gate, gate, up, 1.702, 7)
	near(t, "ClampedGLU", gate, want, 2e-7)
}
