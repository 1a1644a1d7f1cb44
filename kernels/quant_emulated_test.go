package kernels

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// TestEmulatedQuantize compares the AVX-512 quantising, as text, with generic Go.
func TestEmulatedQuantize(t *testing.T) {
	e := newEmulator(t, "quant_amd64.s")
	const rows, blocks = 11, 3
	rng := rand.New(rand.NewPCG(2, 2))
	x := edgeActs(rng, rows, 32*blocks)
	var got, want Acts
	for _, a := range []*Acts{&got, &want} {
		a.q, a.f = make([]int8, 32*rows*blocks), make([]float32, 2*rows*blocks)
		a.n, a.h = make([]int32, rows*blocks), make([]int32, 2*rows*blocks)
	}
	for r := range rows {
		row := x[32*blocks*r : 32*blocks*(r+1) : 32*blocks*(r+1)]
		e.call(t, "quantizeRow512", row, got.q[32*r:], got.f[r:], got.n[r:], got.h[r:], rows, blocks)
		quantizeRow(row, want.q[32*r:], want.f[r:], want.n[r:], want.h[r:], rows)
	}
	if !slices.Equal(got.q, want.q) || !slices.Equal(got.n, want.n) || !slices.Equal(got.h, want.h) {
		t.Error("codes or sums differ from generic Go's")
	}
	if i := differ(got.f, want.f); i >= 0 {
		t.Errorf("scale %d is %v, want %v", i, got.f[i], want.f[i])
	}
}

// TestEmulatedProducts compares the AVX-512 kernels, as text, with generic Go for each type and number
// of rows. The slices are as long as what may be read and written, which the emulator checks.
func TestEmulatedProducts(t *testing.T) {
	e := newEmulator(t, "quant_amd64.s")
	for _, typ := range allTypes {
		f := formOf(typ)
		name := kernelName(typ)
		rng := rand.New(rand.NewPCG(2, uint64(typ)))
		for rows := 1; rows <= 12; rows++ {
			cols := max(32, f.block) * (1 + rows%2)
			if !f.quantised() {
				cols += rows % 4
			}
			m, _ := randomMatrix(t, rng, typ, panelRows, cols)
			a := emulatedTile(randomActs(rng, rows*cols), rows, cols)
			const stride = panelRows + 3
			got, want := make([]float32, (rows-1)*stride+panelRows), make([]float32, (rows-1)*stride+panelRows)
			panelGeneric(typ, m.Data, a, want, stride)
			fn := "mul" + name + "x" + string(rune('0'+rows)) + "AVX512"
			if rows > 9 {
				fn = "mul" + name + "x1" + string(rune('0'+rows-10)) + "AVX512"
			}
			sums := a.n
			if f.half {
				sums = a.h
			}
			if f.quantised() {
				e.call(t, fn, m.Data, a.q, a.f, sums, got, 4*stride, cols/f.block)
			} else {
				e.call(t, fn, m.Data, a.x, 4*cols, got, 4*stride, cols)
			}
			if i := differ(got, want); i >= 0 {
				t.Fatalf("%s: row %d output %d is %v, want %v", fn, i/stride, i%stride, got[i], want[i])
			}
		}
	}
}

// kernelName is the name of a type in those of its kernels.
func kernelName(t Type) string { return strings.ReplaceAll(t.String(), "_", "") }

// emulatedTile quantises activations with generic Go as one tile, its slices clipped.
func emulatedTile(x []float32, rows, cols int) *tile {
	b := cols / 32
	a := &tile{rows: rows, cols: cols, x: slices.Clip(x), q: make([]int8, rows*32*b), f: make([]float32, 2*rows*b),
		n: make([]int32, rows*b), h: make([]int32, 2*rows*b)}
	for r := range rows {
		quantizeRow(x[r*cols:r*cols+32*b], a.q[32*r:], a.f[r:], a.n[r:], a.h[r:], rows)
	}
	return a
}
