package kernels

import (
	"math"
	"math/rand/v2"
	"testing"
)

// TestQuantizeSameBits compares the codes and scales of every implementation with generic Go. (The sums
// differ in form; the products' bits show whether they are right.)
func TestQuantizeSameBits(t *testing.T) {
	const rows, cols = 13, 7 * 32
	rng := rand.New(rand.NewPCG(1, 3))
	x := edgeActs(rng, rows, cols)
	for i := range 32 { // values that lie in the middle between two codes
		x[i] = float32(i) - 15.5
	}
	x[0] = 127
	eachImpl(t, func(t *testing.T) {
		q, f := make([]int8, 32*rows), make([]float32, 2*rows)
		wq, wf := make([]int8, 32*rows), make([]float32, 2*rows)
		n, h := make([]int32, rows), make([]int32, 2*rows)
		for b := range cols / 32 {
			for r := range rows {
				row := x[r*cols+32*b : r*cols+32*b+32]
				quantizeRow(row, wq[32*r:], wf[r:], n[r:], h[r:], rows)
				active.quant().quantize(row, q[32*r:], f[r:], n[r:], h[r:], rows)
			}
			for i := range q {
				if q[i] != wq[i] {
					t.Fatalf("row %d code %d of block %d: %d, want %d", i/32, i%32, b, q[i], wq[i])
				}
			}
			if i := differ(f, wf); i >= 0 {
				t.Fatalf("scale or sum of row %d block %d: %v, want %v", i%rows, b, f[i], wf[i])
			}
		}
	})
}

// TestQuantizeError bounds what a value loses: half a step of its block.
func TestQuantizeError(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 4))
	for range 1000 {
		var x [32]float32
		size := math.Ldexp(1, rng.IntN(180)-90)
		for i := range x {
			x[i] = float32(rng.NormFloat64() * size)
		}
		var q [32]int8
		var f [2]float32
		quantizeRow(x[:], q[:], f[:], make([]int32, 1), make([]int32, 2), 1)
		for i, v := range x {
			if e := math.Abs(float64(v) - float64(f[0])*float64(q[i])); e > 0.50001*float64(f[0]) {
				t.Fatalf("%v became %d * %v", v, q[i], f[0])
			}
		}
	}
}

// TestQuantizeOutOfRange: what is not finite spoils its own row and no other, what is tiny is zero.
func TestQuantizeOutOfRange(t *testing.T) {
	eachImpl(t, func(t *testing.T) {
		w := NewWorkers(1)
		rng := rand.New(rand.NewPCG(1, 5))
		for _, typ := range allTypes {
			if !formOf(typ).quantised() {
				continue
			}
			m, _ := randomMatrix(t, rng, typ, 16, 256)
			x := randomActs(rng, 4*256)
			x[256+200] = float32(math.NaN())
			x[2*256+3] = float32(math.Inf(-1))
			for i := range 256 {
				x[3*256+i] *= 1e-38
			}
			y := multiply(w, x, 4, m)
			for i, v := range y {
				switch r := i / 16; {
				case r == 0 && !(math.Abs(float64(v)) < 1e6),
					(r == 1 || r == 2) && v == v,
					r == 3 && v != 0:
					t.Fatalf("%s: row %d is %v", typ, r, v)
				}
			}
		}
	})
}
