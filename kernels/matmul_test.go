package kernels

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// allTypes are all weight types.
var allTypes = []Type{F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K, Q2_K, Q3_K,
	IQ4_NL, IQ4_XS, MXFP4}

// eachImpl runs a test at every level that this CPU has.
func eachImpl(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	best, old := bestLevel(), active
	defer func() { active = old }()
	for l := range levels {
		if l.runs(best) {
			active = l
			t.Run(l.String(), f)
		}
	}
}

// randomRows makes GGUF rows with random codes and scales of the size that real models have.
func randomRows(rng *rand.Rand, t Type, rows, cols int) []byte {
	n, err := RowBytes(t, cols)
	if err != nil {
		panic(err)
	}
	b := make([]byte, rows*n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	f := formOf(t)
	for o := 0; o < len(b); o += f.bytes {
		blk := b[o : o+f.bytes]
		scale := func(at int) {
			binary.LittleEndian.PutUint16(blk[at:], uint16(rng.Uint32()&0x83ff|(8+rng.Uint32()%4)<<10))
		}
		switch {
		case t == F32:
			binary.LittleEndian.PutUint32(blk, math.Float32bits(float32(rng.NormFloat64())))
		case t == BF16:
			binary.LittleEndian.PutUint16(blk, uint16(math.Float32bits(float32(rng.NormFloat64()))>>16))
		case t == F16:
			scale(0)
		case f.exp:
			blk[0] = byte(112 + rng.Uint32()%8)
		default:
			for _, at := range scalesAt(t) {
				scale(at)
			}
		}
	}
	return b
}

// scalesAt are the places of the f16 scales in a GGUF block of a quantised type.
func scalesAt(t Type) []int {
	switch t {
	case Q6_K:
		return []int{208}
	case Q2_K:
		return []int{80, 82}
	case Q3_K:
		return []int{108}
	case Q4_1, Q5_1, Q4_K, Q5_K:
		return []int{0, 2}
	}
	return []int{0}
}

// randomMatrix packs random rows, and returns them dequantised as well.
func randomMatrix(tb testing.TB, rng *rand.Rand, t Type, rows, cols int) (*Matrix, []float32) {
	tb.Helper()
	src := randomRows(rng, t, rows, cols)
	m := packed(tb, t, rows, cols, src)
	rb, _ := RowBytes(t, cols)
	plain := make([]float32, rows*cols)
	for r := range rows {
		if err := Dequantize(plain[r*cols:(r+1)*cols], t, src[r*rb:(r+1)*rb]); err != nil {
			tb.Fatal(err)
		}
	}
	return m, plain
}

func packed(tb testing.TB, t Type, rows, cols int, src []byte) *Matrix {
	tb.Helper()
	size, err := PackedSize(t, rows, cols)
	if err != nil {
		tb.Fatal(err)
	}
	dst := make([]byte, size)
	if err := Pack(dst, src, t, rows, cols); err != nil {
		tb.Fatal(err)
	}
	m, err := NewMatrix(t, rows, cols, dst)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func randomActs(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// multiply is MatMul of one matrix into a new result.
func multiply(w *Workers, x []float32, rows int, m *Matrix) []float32 {
	var a Acts
	a.Quantize(w, x, rows, m.Cols)
	y := make([]float32, rows*m.Rows)
	MatMul(w, [][]float32{y}, &a, m)
	return y
}

// nmse is the squared error of y relative to the squared want.
func nmse(y []float32, want []float64) float64 {
	var e, s float64
	for i := range y {
		d := float64(y[i]) - want[i]
		e += d * d
		s += want[i] * want[i]
	}
	return e / s
}

// TestMatMulOracle compares with float64 arithmetic on the dequantised weights: what remains is the
// error of eight-bit activations, none for float weights.
func TestMatMulOracle(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		w := NewWorkers(1)
		for _, typ := range allTypes {
			rng := rand.New(rand.NewPCG(1, uint64(typ)))
			const rows, out, cols = 5, 37, 768
			m, plain := randomMatrix(t, rng, typ, out, cols)
			x := randomActs(rng, rows*cols)
			want := make([]float64, rows*out)
			for r := range rows {
				for o := range out {
					for k := range cols {
						want[r*out+o] += float64(x[r*cols+k]) * float64(plain[o*cols+k])
					}
				}
			}
			limit := 1e-4
			if !formOf(typ).quantised() {
				limit = 1e-12
			}
			if e := nmse(multiply(w, x, rows, m), want); !(e < limit) {
				t.Errorf("%s: relative squared error %.2e, limit %.0e", typ, e, limit)
			}
		}
	})
}

// TestRow checks that an embedding look-up gives the bits of Dequantize.
func TestRow(t *testing.T) {
	for _, typ := range allTypes {
		rng := rand.New(rand.NewPCG(2, uint64(typ)))
		m, plain := randomMatrix(t, rng, typ, 19, 512)
		row := make([]float32, 512)
		for r := range m.Rows {
			m.Row(row, r)
			if i := differ(row, plain[r*512:(r+1)*512]); i >= 0 {
				t.Fatalf("%s row %d column %d: %v, want %v", typ, r, i, row[i], plain[r*512+i])
			}
		}
	}
}

// differ returns the first index at which the bits of two slices differ, or -1. All NaN are one.
func differ(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) && !(a[i] != a[i] && b[i] != b[i]) {
			return i
		}
	}
	return -1
}

// TestMatMulSameBits checks that each result has the same bits in every batch and for every team, and
// those of generic Go.
func TestMatMulSameBits(t *testing.T) {
	for _, typ := range allTypes {
		rng := rand.New(rand.NewPCG(3, uint64(typ)))
		const rows, out = 33, 45
		cols := 256 * (1 + int(typ)%3)
		m, _ := randomMatrix(t, rng, typ, out, cols)
		x := edgeActs(rng, rows, cols)
		old := active
		active = generic
		want := multiply(NewWorkers(1), x, rows, m)
		active = old
		eachImpl(t, func(t *testing.T) {
			teams := []int{1, 2, 3}
			if testing.Short() {
				teams = teams[1:2]
			}
			for _, n := range teams {
				w := NewWorkers(n)
				defer w.Close()
				for batch := 1; batch <= rows; batch++ {
					first := batch * 7 % (rows - batch + 1)
					y := multiply(w, x[first*cols:(first+batch)*cols], batch, m)
					if i := differ(y, want[first*out:(first+batch)*out]); i >= 0 {
						t.Fatalf("%s, %d workers, rows %d to %d: row %d output %d is %v, want %v", typ, n,
							first, first+batch, first+i/out, i%out, y[i], want[first*out+i])
					}
				}
			}
		})
	}
}

// edgeActs makes activations among which are zeros, huge and tiny ones, and what is not finite.
func edgeActs(rng *rand.Rand, rows, cols int) []float32 {
	x := randomActs(rng, rows*cols)
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for r := range rows {
		row := x[r*cols : (r+1)*cols]
		switch r {
		case 3:
			clear(row)
		case 4:
			clear(row[32:64])
		case 5:
			for i := range row {
				row[i] = float32(1 - i%2*2)
			}
		case 6:
			row[7] = nan
		case 7:
			row[40] = -inf
		case 8:
			for i := range row {
				row[i] *= 1e-38
			}
		case 9:
			row[1], row[cols-1] = 3e36, -3e36
		case 10:
			for i := range row {
				row[i] = float32(i%255) - 127
			}
		}
	}
	return x
}

func ExampleMatMul() {
	src := make([]byte, 2*4) // one output row of two float32 weights
	binary.LittleEndian.PutUint32(src, math.Float32bits(3))
	binary.LittleEndian.PutUint32(src[4:], math.Float32bits(4))
	size, _ := PackedSize(F32, 1, 2)
	data := make([]byte, size)
	_ = Pack(data, src, F32, 1, 2)
	m, _ := NewMatrix(F32, 1, 2, data)

	w := NewWorkers(1)
	defer w.Close()
	var a Acts
	a.Quantize(w, []float32{10, 1}, 1, 2)
	y := make([]float32, 1)
	MatMul(w, [][]float32{y}, &a, m)
	fmt.Println(y)
	// Output: [34]
}

// TestMatMulSeveral multiplies matrices of all types with the same activations at once.
func TestMatMulSeveral(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		w := NewWorkers(2)
		defer w.Close()
		rng := rand.New(rand.NewPCG(4, 4))
		const rows, cols = 11, 512
		x := randomActs(rng, rows*cols)
		var ms []*Matrix
		var y, want [][]float32
		for i, typ := range allTypes {
			m, _ := randomMatrix(t, rng, typ, 100+7*i, cols)
			ms = append(ms, m)
			want = append(want, multiply(w, x, rows, m))
			y = append(y, make([]float32, rows*m.Rows))
		}
		var a Acts
		a.Quantize(w, x, rows, cols)
		MatMul(w, y, &a, ms...)
		for i := range y {
			if k := differ(y[i], want[i]); k >= 0 {
				t.Errorf("%s: element %d is %v, want %v", ms[i].Type, k, y[i][k], want[i][k])
			}
		}
	})
}

// TestMatMulOddColumns: float weights need no whole blocks.
func TestMatMulOddColumns(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		for cols := 1; cols < 9; cols++ {
			rng := rand.New(rand.NewPCG(4, uint64(cols)))
			m, plain := randomMatrix(t, rng, F32, 3, cols)
			x := randomActs(rng, 2*cols)
			y := multiply(NewWorkers(1), x, 2, m)
			for i, v := range y {
				var want float32
				for k := range cols {
					want = fma32(plain[i%3*cols+k], x[i/3*cols+k], want)
				}
				if v != want {
					t.Fatalf("%d columns, element %d: %v, want %v", cols, i, v, want)
				}
			}
		}
	})
}

// TestMatMulMisfit: shapes that do not fit are the caller's mistake.
func TestMatMulMisfit(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 5))
	m, _ := randomMatrix(t, rng, Q8_0, 4, 64)
	w := NewWorkers(1)
	var a Acts
	for name, f := range map[string]func(){
		"too few activations": func() { a.Quantize(w, make([]float32, 63), 1, 64) },
		"other columns":       func() { a.Quantize(w, make([]float32, 32), 1, 32); MatMul(w, [][]float32{make([]float32, 4)}, &a, m) },
		"result too short":    func() { a.Quantize(w, make([]float32, 64), 1, 64); MatMul(w, [][]float32{make([]float32, 3)}, &a, m) },
		"no result":           func() { a.Quantize(w, make([]float32, 64), 1, 64); MatMul(w, nil, &a, m) },
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			f()
		})
	}
	a.Quantize(w, nil, 0, 64)
	MatMul(w, [][]float32{nil}, &a, m) // no rows, no work
}
