package kernels

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Each family of kernels has one property: on anything that is drawn, every level that this CPU has gives
// the bits of generic Go, and generic Go is within a stated bound of arithmetic in float64. go test tries some draws,
// go test -fuzz searches.

// property makes a fuzz target and, in its seeds, a test of a property.
func property(f *testing.F, prop func(t *rapid.T)) {
	rng := rand.New(rand.NewPCG(31, 1))
	for range 8 {
		seed := make([]byte, 1024)
		for i := range seed {
			seed[i] = byte(rng.Uint32())
		}
		f.Add(seed)
	}
	f.Fuzz(rapid.MakeFuzz(prop))
}

// atLevels runs f with generic Go and returns what it gives, after comparing all other levels with it.
func atLevels(t failer, what string, f func() []float32) []float32 {
	t.Helper()
	old := active
	defer func() { active = old }()
	active = generic
	want := f()
	for l := generic + 1; l < levels; l++ {
		if l.runs(bestLevel()) {
			active = l
			sameBits(t, what+" by "+l.String(), f(), want)
		}
	}
	return want
}

// withinEach fails unless got is within the bound of want, element by element.
func withinEach(t failer, what string, got []float32, want, bound []float64) {
	t.Helper()
	for i, g := range got {
		if !(math.Abs(float64(g)-want[i]) <= bound[i]) {
			t.Fatalf("%s: element %d of %d is %g, want %g within %g", what, i, len(got), g, want[i], bound[i])
		}
	}
}

// eps is what one rounding to float32 may change, relatively; small what it may change below the normal numbers.
const eps, small = 0x1p-24, 0x1p-149

func drawRand(t *rapid.T) *rand.Rand { return rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 7)) }

// drawTeam draws a team of 1 to 8, mostly of one: a large one is slow on a busy machine.
func drawTeam(t *rapid.T) *Workers {
	if rapid.IntRange(0, 7).Draw(t, "a team") > 0 {
		return NewWorkers(1)
	}
	return NewWorkers(rapid.IntRange(2, 8).Draw(t, "workers"))
}

// drawActs draws activations of all magnitudes, with blocks that are zero or extreme among them.
func drawActs(t *rapid.T, rng *rand.Rand, rows, cols int) []float32 {
	x := randomActs(rng, rows*cols)
	scale := float32(math.Exp2(float64(rapid.IntRange(-40, 40).Draw(t, "magnitude"))))
	for i := range x {
		x[i] *= scale
	}
	for range rapid.IntRange(0, 4).Draw(t, "odd blocks") {
		from := rng.IntN(len(x))
		part := x[from:min(len(x), from+32)]
		kind := rng.IntN(4)
		for i := range part {
			part[i] = [4]float32{0, scale, -scale, scale * float32(1-i%2*2)}[kind]
		}
	}
	return x
}

// propMatMul: a product of any type, shape, batch and team. In float64, from the codes, scales and quantised
// activations, it is within n+3 roundings of the sum of magnitudes, n being the number of FMAs.
func propMatMul(t *rapid.T) {
	typ := rapid.SampledFrom(allTypes).Draw(t, "type")
	f := formOf(typ)
	rng := drawRand(t)
	rows, out := rapid.IntRange(1, 33).Draw(t, "rows"), rapid.IntRange(1, 20).Draw(t, "outputs")
	cols := f.block * rapid.IntRange(1, max(2, 256/f.block)).Draw(t, "blocks")
	var src []byte
	if f.quantised() && rapid.IntRange(0, 9).Draw(t, "kind") == 0 {
		src = extremes(typ, byte(rng.Uint32()), out, cols)
	} else {
		src = randomRows(rng, typ, out, cols)
	}
	size, _ := PackedSize(typ, out, cols)
	m := &Matrix{Type: typ, Rows: out, Cols: cols, Data: make([]byte, size)}
	if err := Pack(m.Data, src, typ, out, cols); err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	x := drawActs(t, rng, rows, cols)
	w := drawTeam(t)
	defer w.Close()
	got := atLevels(t, "product of "+typ.String(), func() []float32 { return multiply(w, x, rows, m) })
	want, bound := make([]float64, rows*out), make([]float64, rows*out)
	for r := range rows {
		row := x[r*cols : (r+1)*cols]
		if f.quantised() {
			oracleRow(f, src, row, want[r*out:(r+1)*out], bound[r*out:(r+1)*out])
		} else {
			oracleFloats(f, src, row, want[r*out:(r+1)*out], bound[r*out:(r+1)*out])
		}
	}
	withinEach(t, "product of "+typ.String(), got, want, bound)
}

// oracleRow multiplies the quantised activations of a row with the rows of a matrix in float64.
func oracleRow(f *form, src []byte, x []float32, want, bound []float64) {
	blocks := len(x) / 32
	q, d := make([]int8, len(x)), make([]float32, 2*blocks)
	quantizeRow(x, q, d, make([]int32, blocks), make([]int32, 2*blocks), 1)
	rb := len(x) / f.block * f.bytes
	var b sub
	for o := range want {
		sum := 0.0
		for k := range blocks {
			f.read(&b, src[o*rb+k/f.subs()*f.bytes:], k%f.subs())
			var dot, codes [2]float64
			for i, v := range b.w {
				c := float64(q[32*k+i])
				dot[i/16] += float64(v) * c
				codes[i/16] += c
			}
			for h := range 2 {
				y, low := dot[h]*float64(b.scale[h])*float64(d[2*k]), codes[h]*float64(b.min[h])*float64(d[2*k])
				want[o] += y + low
				sum += math.Abs(y) + math.Abs(low)
			}
		}
		// Halves may cancel, in integers, before the first rounding: the bound is the larger for that.
		bound[o] = float64(4*blocks+3)*(eps*sum+small) + small
	}
}

// oracleFloats does the same for float weights, of which nothing is quantised.
func oracleFloats(f *form, src []byte, x []float32, want, bound []float64) {
	for o := range want {
		sum := 0.0
		for k, v := range x {
			y := float64(f.float(src[o*len(x)*f.bytes:], k)) * float64(v)
			want[o] += y
			sum += math.Abs(y)
		}
		bound[o] = float64(len(x)) * (eps*sum + small)
	}
}

func TestMatMulProperty(t *testing.T) { rapid.Check(t, propMatMul) }
func FuzzMatMul(f *testing.F)         { property(f, propMatMul) }

// propQuantize: codes are within half a step of the values, and a little; sums are exact.
func propQuantize(t *rapid.T) {
	rng := drawRand(t)
	rows, blocks := rapid.IntRange(1, maxTile).Draw(t, "rows"), rapid.IntRange(1, 4).Draw(t, "blocks")
	cols := 32 * blocks
	x := drawActs(t, rng, rows, cols)
	for range rapid.IntRange(0, 3).Draw(t, "awkward") {
		x[rng.IntN(len(x))] = rapid.SampledFrom(awkward).Draw(t, "value")
	}
	q, n, h := make([]int8, len(x)), make([]int32, rows*blocks), make([]int32, 2*rows*blocks)
	f := atLevels(t, "scales and codes", func() []float32 {
		f := make([]float32, 2*rows*blocks)
		for r := range rows {
			active.quant().quantize(x[r*cols:(r+1)*cols], q[32*r:], f[r:], n[r:], h[r:], rows)
		}
		for _, v := range q {
			f = append(f, float32(v))
		}
		return f
	})
	for b := range blocks {
		for r := range rows {
			d, at := float64(f[2*b*rows+r]), 32*(b*rows+r)
			sum := 0.0
			for i, v := range x[r*cols+32*b:][:32] {
				c := float64(f[2*rows*blocks+at+i])
				sum += c
				if e := math.Abs(float64(v) - c*d); d == d && !(e <= 0.50001*d+0x1p-100) {
					t.Fatalf("row %d block %d: %v became %g * %g", r, b, v, c, d)
				}
			}
			if s := float64(f[(2*b+1)*rows+r]); d == d && s != float64(float32(d*sum)) {
				t.Fatalf("row %d block %d: the sum is %g, want %g", r, b, s, d*sum)
			}
		}
	}
}

func TestQuantizeProperty(t *testing.T) { rapid.Check(t, propQuantize) }
func FuzzQuantize(f *testing.F)         { property(f, propQuantize) }

// propPack: a packed matrix holds what its rows hold.
func propPack(t *rapid.T) {
	typ := rapid.SampledFrom(allTypes).Draw(t, "type")
	f := formOf(typ)
	rows, cols := rapid.IntRange(1, 40).Draw(t, "rows"), f.block*rapid.IntRange(1, 4).Draw(t, "blocks")
	src := randomRows(drawRand(t), typ, rows, cols)
	size, _ := PackedSize(typ, rows, cols)
	m := &Matrix{Type: typ, Rows: rows, Cols: cols, Data: make([]byte, size)}
	if err := Pack(m.Data, src, typ, rows, cols); err != nil {
		t.Fatalf("%s: %v", typ, err)
	}
	got, plain := make([]float32, cols), make([]float32, cols)
	rb := cols / f.block * f.bytes
	var b sub
	for r := range rows {
		m.Row(got, r)
		if err := Dequantize(plain, typ, src[r*rb:(r+1)*rb]); err != nil {
			t.Fatalf("%s: %v", typ, err)
		}
		sameBits(t, "a row of "+typ.String(), got, plain)
		for k := 0; f.quantised() && k < cols; k++ {
			f.read(&b, src[r*rb+k/f.block*f.bytes:], k%f.block/32)
			h := k % 32 / 16
			want := float64(b.scale[h])*float64(b.w[k%32]) + float64(b.min[h])
			if e := math.Abs(float64(got[k]) - want); e > eps*math.Abs(want)+small {
				t.Fatalf("%s: row %d column %d is %g, want %g", typ, r, k, got[k], want)
			}
		}
	}
}

func TestPackProperty(t *testing.T) { rapid.Check(t, propPack) }
func FuzzPackRows(f *testing.F)     { property(f, propPack) }

// drawFloats draws bit patterns, so also what is not finite.
func drawFloats(t *rapid.T, name string, n int) []float32 {
	if rapid.Bool().Draw(t, name+" of any bits") {
		rng := drawRand(t)
		x := make([]float32, n)
		for i := range x {
			x[i] = math.Float32frombits(rng.Uint32())
		}
		return x
	}
	return values(t, name, n)
}

// tame says whether the values are such that a bound in float64 holds: none so large or small that a result or a
// step on the way leaves the normal numbers.
func tame(x ...[]float32) bool {
	for _, v := range slices.Concat(x...) {
		if a := math.Abs(float64(v)); !(a < 1e9) || a != 0 && a < 1e-9 {
			return false
		}
	}
	return true
}

// oracle compares an operation on elements with float64.
func oracle(t failer, what string, got []float32, want, bound func(i int) float64) {
	t.Helper()
	for i, g := range got {
		if w := want(i); !(math.Abs(float64(g)-w) <= bound(i)) {
			t.Fatalf("%s: element %d of %d is %g, want %g within %g", what, i, len(got), g, w, bound(i))
		}
	}
}

// vectorOps are the operations on elements x and y, what they are in float64, and how far from that a result may be:
// by rel of itself, by abs, by size of x, and by unit of x*y (what is left where the exponential stops at 2^127.5).
var vectorOps = []struct {
	name                 string
	do                   func(out, x, y []float32)
	want                 func(x, y float64) float64
	rel, abs, size, unit float64
}{
	{"Add", func(out, _, y []float32) { Add(out, y) }, func(x, y float64) float64 { return x + y }, eps, 0, 0, 0},
	{"Scale", func(out, _, _ []float32) { Scale(out, 0.25) }, func(x, _ float64) float64 { return x * 0.25 }, 0, 0, 0, 0},
	{"AddScaled", func(out, x, y []float32) { copy(out, y); AddScaled(out, slices.Clone(x), 0.25) },
		func(x, y float64) float64 { return x*0.25 + y }, eps, 0, 0, 0},
	{"SiluMul", SiluMul, func(x, y float64) float64 { return x / (1 + math.Exp(-x)) * y }, 5e-7, 0, 0, 1e-38},
	// The argument of the exponential is rounded, and is up to 88.
	{"GeluMul", GeluMul, func(x, y float64) float64 {
		return x / (1 + math.Exp(-math.Sqrt(8/math.Pi)*(x+0.044715*x*x*x))) * y
	}, 88 * 5 * eps, 0, 0, 1e-38},
	{"ClampedGLU", func(out, x, y []float32) { ClampedGLU(out, x, y, 1.5, 7) }, func(x, y float64) float64 {
		g, u := min(x, 7), max(min(y, 7), -7)
		return g / (1 + math.Exp(-1.5*g)) * (u + 1)
	}, 88 * 5 * eps, 1e-28, 0, 0},
	{"GELU", func(out, _, _ []float32) { GELU(out) },
		func(x, _ float64) float64 { return x * (1 + math.Erf(x/math.Sqrt2)) / 2 }, 0, 0, 3.1e-7, 0},
	{"SoftCap", func(out, _, _ []float32) { SoftCap(out, 30) },
		func(x, _ float64) float64 { return 30 * math.Tanh(x/30) }, 0, 30 * 2e-7, 0, 0},
}

// propVector: the operations on vectors, of any length.
func propVector(t *rapid.T) {
	n := rapid.IntRange(1, 200).Draw(t, "n")
	x, y := drawFloats(t, "x", n), drawFloats(t, "y", n)
	for _, op := range vectorOps {
		got := atLevels(t, op.name, func() []float32 {
			out := slices.Clone(x)
			op.do(out, x, y)
			return out
		})
		if !tame(x, y) {
			continue
		}
		want := func(i int) float64 { return op.want(float64(x[i]), float64(y[i])) }
		oracle(t, op.name, got, want, func(i int) float64 {
			return op.rel*math.Abs(want(i)) + op.abs + op.size*math.Abs(float64(x[i])) + op.unit*math.Abs(float64(x[i])*float64(y[i]))
		})
	}
	norms(t, x, y)
}

// norms are the operations on rows: n/16 and 8 roundings at most add up in a sum.
func norms(t *rapid.T, x, y []float32) {
	n := len(x)
	on := func(what string, f func(out []float32)) []float32 {
		return atLevels(t, what, func() []float32 {
			out := make([]float32, n)
			f(out)
			return out
		})
	}
	rms := on("RMSNorm", func(out []float32) { RMSNorm(out, x, y, 1, n, 1e-5) })
	layer := on("LayerNorm", func(out []float32) { LayerNorm(out, x, y, x, 1, n, 1e-5) })
	if !tame(x, y) {
		return
	}
	var mean, size, squares, variance float64
	for _, v := range x {
		mean += float64(v) / float64(n)
		size += math.Abs(float64(v)) / float64(n)
		squares += float64(v) * float64(v) / float64(n)
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / float64(n)
	}
	steps := float64(n/16+8) * eps
	want := func(i int) float64 { return float64(x[i]) / math.Sqrt(squares+1e-5) * float64(y[i]) }
	oracle(t, "RMSNorm", rms, want, func(i int) float64 { return 2 * steps * math.Abs(want(i)) })

	// What the mean is off by, every element is: against the deviation it may be much, so only where it is not.
	dev := math.Sqrt(variance + 1e-5)
	off := steps * size / dev
	if off > 1e-2 {
		return
	}
	want = func(i int) float64 { return (float64(x[i])-mean)/dev*float64(y[i]) + float64(x[i]) }
	oracle(t, "LayerNorm", layer, want, func(i int) float64 {
		z := math.Abs((float64(x[i]) - mean) / dev)
		return ((2*steps+2*off+eps*math.Abs(float64(x[i]))/dev)*(z+1))*math.Abs(float64(y[i])) + 2*eps*math.Abs(float64(x[i]))
	})
}

func TestVectorProperty(t *testing.T) { rapid.Check(t, propVector) }
func FuzzVector(f *testing.F)         { property(f, propVector) }

// propSoftmax: over any length, each share within 5e-7 of itself and what the rounding of x-max, up to 88, shows
// in its exponential.
func propSoftmax(t *rapid.T) {
	n := rapid.IntRange(1, 3000).Draw(t, "n")
	x := drawFloats(t, "x", n)
	got := atLevels(t, "Softmax", func() []float32 {
		out := slices.Clone(x)
		Softmax(out)
		return out
	})
	last := atLevels(t, "LogSumExp and Argmax", func() []float32 { return []float32{LogSumExp(x), float32(Argmax(x))} })
	first := 0
	for i, v := range x {
		if v > x[first] || x[first] != x[first] {
			first = i
		}
	}
	if x[first] == x[first] && x[first] != x[int(last[1])] || int(last[1]) > first {
		t.Fatalf("Argmax is %g, want %d", last[1], first)
	}
	if !tame(x) {
		return
	}
	m, sum := float64(x[first]), 0.0
	for _, v := range x {
		sum += math.Exp(float64(v) - m)
	}
	// What x-max loses in rounding shows in the exponential.
	share := func(i int) float64 { return math.Exp(float64(x[i])-m) / sum }
	oracle(t, "Softmax", got, share, func(i int) float64 { return (5e-7+88*eps)*share(i) + 1e-37 })
	whole := m + math.Log(sum)
	oracle(t, "LogSumExp", last[:1], func(int) float64 { return whole }, func(int) float64 { return 2*eps*math.Abs(whole) + 88*eps })
}

func TestSoftmaxProperty(t *testing.T) { rapid.Check(t, propSoftmax) }
func FuzzSoftmax(f *testing.F)         { property(f, propSoftmax) }

// propRope: heads of any size at any position, within 3e-7 of the longer of each pair.
func propRope(t *rapid.T) {
	half, heads := rapid.IntRange(1, 70).Draw(t, "pairs"), rapid.IntRange(1, 3).Draw(t, "heads")
	headDim := 2*half + rapid.IntRange(0, 20).Draw(t, "not rotated")
	pos := rapid.IntRange(0, 1<<20).Draw(t, "position")
	style := rapid.SampledFrom([]RopeStyle{Interleaved, Halves}).Draw(t, "style")
	x := drawFloats(t, "x", heads*headDim)
	base := rapid.SampledFrom([]float64{1e4, 5e5, 1e6}).Draw(t, "base")
	table := NewRopeTable(2*half, base, RopeScaling{})
	got := atLevels(t, "rope", func() []float32 {
		out := slices.Clone(x)
		table.Apply(out, heads, headDim, pos, style)
		return out
	})
	if !tame(x) {
		return
	}
	want := turned(x, heads, headDim, pos, style, freqs(2*half, base, func(_ int, f float64) float64 { return f }), 1)
	bound := make([]float64, len(x))
	for h := range heads {
		for i := range 2 * half {
			other := i ^ 1
			if style == Halves {
				other = (i + half) % (2 * half)
			}
			at := h * headDim
			bound[at+i] = 3e-7 * (math.Abs(float64(x[at+i])) + math.Abs(float64(x[at+other])))
		}
	}
	withinEach(t, "rope", got, want, bound)
}

func TestRopeProperty(t *testing.T) { rapid.Check(t, propRope) }
func FuzzRope(f *testing.F)         { property(f, propRope) }

// propAttention: any heads, positions, chunks, teams and options, within 5e-6 of the largest value.
func propAttention(t *rapid.T) {
	kvHeads, group := rapid.IntRange(1, 2).Draw(t, "kv heads"), rapid.IntRange(1, 8).Draw(t, "group")
	heads, positions := kvHeads*group, rapid.IntRange(1, 80).Draw(t, "positions")
	dim := rapid.IntRange(1, 96/heads).Draw(t, "dim")
	c := newAttnCase(rapid.Uint64Range(0, 1<<20).Draw(t, "seed"), heads, kvHeads, dim, positions)
	o := AttnOptions{Scale: c.scale(), Full: rapid.Bool().Draw(t, "full")}
	if rapid.Bool().Draw(t, "windowed") && !o.Full {
		o.Window = rapid.IntRange(1, 90).Draw(t, "window")
	}
	if rapid.Bool().Draw(t, "capped") {
		o.Cap = float32(rapid.IntRange(1, 50).Draw(t, "cap"))
	}
	if rapid.Bool().Draw(t, "with sinks") {
		o.Sinks = normals(3, c.heads)
	}
	chunk := rapid.IntRange((positions+7)/8, positions).Draw(t, "chunk")
	w := drawTeam(t)
	defer w.Close()
	got := atLevels(t, "attention", func() []float32 { return c.with(w, chunk, o) })
	want, bound := c.exact(o), make([]float64, len(got))
	for i := range bound {
		bound[i] = 5e-6 * 5 // values are normal: some 5 at most
	}
	withinEach(t, "attention", got, want, bound)
}

func TestAttentionProperty(t *testing.T) { rapid.Check(t, propAttention) }
func FuzzAttention(f *testing.F)         { property(f, propAttention) }
