package kernels

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// emulatedLevels are the endings of the names of kernels that this CPU may not have, and the rows of their
// largest tiles.
var emulatedLevels = map[string]int{"AVX512": 12, "AVX512BW": 8, "VNNI": 4}

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

// TestEmulatedProducts compares the kernels of AVX-512 and AVX-VNNI, as text, with generic Go for each
// type and number of rows. The slices are as long as what may be read and written, which the emulator
// checks.
func TestEmulatedProducts(t *testing.T) {
	e := newEmulator(t, "quant_amd64.s")
	for level, most := range emulatedLevels {
		for _, typ := range allTypes {
			f := formOf(typ)
			if !f.quantised() && level != "AVX512" {
				continue
			}
			rng := rand.New(rand.NewPCG(2, uint64(typ)))
			for rows := 1; rows <= most; rows++ {
				cols := max(32, f.block) * (1 + rows%2)
				if !f.quantised() {
					cols += rows % 4
				}
				m, _ := randomMatrix(t, rng, typ, panelRows, cols)
				e.compare16(t, level, m, emulatedTile(randomActs(rng, rows*cols), rows, cols))
				if rows == most {
					x := edgeActs(rng, 11, max(64, cols))
					e.compare16(t, level, m, emulatedTile(slices.Clone(x[max(0, len(x)-rows*cols):]), min(rows, len(x)/cols), cols))
				}
			}
		}
	}
}

// compare16 multiplies a panel with a tile by an emulated kernel, and compares with generic Go.
func (e *emulator) compare16(t *testing.T, level string, m *Matrix, a *tile) {
	t.Helper()
	const stride = panelRows + 3
	n := (a.rows-1)*stride + panelRows
	got, want := make([]float32, n), make([]float32, n)
	panelGeneric(m.Type, m.Data, a, want, stride)
	f, sums := formOf(m.Type), a.n
	if f.half {
		sums = a.h
	}
	fn := fmt.Sprintf("mul%sx%d%s", strings.ReplaceAll(m.Type.String(), "_", ""), a.rows, level)
	if f.quantised() && level == "AVX512BW" {
		a = e.requantized(t, a)
		sums = a.n
		if f.half {
			sums = a.h
		}
	}
	if f.quantised() {
		e.call(t, fn, m.Data, a.q, a.f, sums, got, 4*stride, a.cols/f.block)
	} else {
		e.call(t, fn, m.Data, a.x, 4*a.cols, got, 4*stride, a.cols)
	}
	if i := differ(got, want); i >= 0 {
		t.Fatalf("%s: row %d output %d is %v, want %v", fn, i/stride, i%stride, got[i], want[i])
	}
}

// requantized is a tile with the sums that AVX2 stores, by the text of its quantising.
func (e *emulator) requantized(t *testing.T, a *tile) *tile {
	b := emulatedTile(a.x, a.rows, a.cols)
	for r := range a.rows {
		row := slices.Clip(a.x[r*a.cols : (r+1)*a.cols])
		e.call(t, "quantizeRow2", row, b.q[32*r:], b.f[r:], b.n[r:], b.h[r:], a.rows, a.cols/32)
	}
	if !slices.Equal(a.q, b.q) || differ(a.f, b.f) >= 0 {
		t.Fatal("quantizeRow2: codes or scales differ from generic Go's")
	}
	return b
}

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
