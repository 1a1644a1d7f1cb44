package kernels

import (
	"encoding/binary"
	"math"
	"testing"
)

// extremes are GGUF rows whose every byte is fill, but for the f16 scales: what the integer sums of a
// kernel must have room for.
func extremes(t Type, fill byte, rows, cols int) []byte {
	n, _ := RowBytes(t, cols)
	b := make([]byte, rows*n)
	for i := range b {
		b[i] = fill
	}
	f := formOf(t)
	for o := 0; o < len(b); o += f.bytes {
		if f.exp {
			b[o] = 120
			continue
		}
		for _, at := range scalesAt(t) {
			binary.LittleEndian.PutUint16(b[o+at:], 0x2c01)
		}
	}
	return b
}

// extremeActs are rows of 1, of -1, of both in turn, and of 1 in the first half of a block alone.
func extremeActs(rows, cols int) []float32 {
	x := make([]float32, rows*cols)
	for i := range x {
		k := i % cols
		switch i / cols % 4 {
		case 0:
			x[i] = 1
		case 1:
			x[i] = -1
		case 2:
			x[i] = float32(1 - k%2*2)
		case 3:
			x[i] = float32(1 - k/16%2)
		}
	}
	return x
}

// TestMatMulExtremes: the largest sums that there can be are right at every level, in decode and in
// prefill, compared with generic Go and with float64.
func TestMatMulExtremes(t *testing.T) {
	const rows, cols = 13, 512
	x := extremeActs(rows, cols)
	w := NewWorkers(1)
	for _, typ := range allTypes {
		if !formOf(typ).quantised() {
			continue
		}
		for _, fill := range []byte{0x00, 0xff, 0x88, 0x77, 0x80, 0x7f} {
			src := extremes(typ, fill, panelRows, cols)
			m := packed(t, typ, panelRows, cols, src)
			want := exactProduct(t, typ, src, x, rows, cols)
			eachImpl(t, func(t *testing.T) {
				all := multiply(w, x, rows, m)
				for i, v := range all {
					if e := math.Abs(float64(v) - want[i]); e > 1e-5*math.Abs(want[i])+1e-2 {
						t.Fatalf("%s of %#02x: row %d output %d is %v, want %v", typ, fill, i/panelRows, i%panelRows, v, want[i])
					}
				}
				for r := range rows {
					one := multiply(w, x[r*cols:(r+1)*cols], 1, m)
					if i := differ(one, all[r*panelRows:(r+1)*panelRows]); i >= 0 {
						t.Fatalf("%s of %#02x: row %d alone gives %v, want %v", typ, fill, r, one[i], all[r*panelRows+i])
					}
				}
			})
		}
	}
}

// exactProduct multiplies a matrix of 16 rows in float64.
func exactProduct(t *testing.T, typ Type, src []byte, x []float32, rows, cols int) []float64 {
	plain := make([]float32, cols)
	y := make([]float64, rows*panelRows)
	rb, _ := RowBytes(typ, cols)
	for o := range panelRows {
		if err := Dequantize(plain, typ, src[o*rb:(o+1)*rb]); err != nil {
			t.Fatal(err)
		}
		for r := range rows {
			for k, v := range plain {
				y[r*panelRows+o] += float64(v) * float64(x[r*cols+k])
			}
		}
	}
	return y
}

// TestEmulatedExtremes does the same with the text of kernels for four rows.
func TestEmulatedExtremes(t *testing.T) {
	e := newEmulator(t, "quant_amd64.s")
	const rows, cols = 4, 256
	a := emulatedTile(extremeActs(rows, cols), rows, cols)
	for level := range emulatedLevels {
		for _, typ := range allTypes {
			if !formOf(typ).quantised() {
				continue
			}
			for _, fill := range []byte{0x00, 0xff, 0x88, 0x77} {
				e.compare16(t, level, packed(t, typ, panelRows, cols, extremes(typ, fill, panelRows, cols)), a)
			}
		}
	}
}
