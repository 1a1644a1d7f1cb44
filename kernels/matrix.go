package kernels

import "fmt"

// Matrix is a packed weight matrix: Rows output rows of Cols weights each. It is never changed, and
// may be used by any number of goroutines.
type Matrix struct {
	Type       Type
	Rows, Cols int
	Data       []byte // as Pack writes it
}

// NewMatrix checks that packed has the size of a packed rows x cols matrix and wraps it. The matrix
// keeps packed, which must stay unchanged (it may be a read-only mapping); alignment to 64 bytes is
// faster but not needed. It fails with ErrType or ErrShape.
func NewMatrix(t Type, rows, cols int, packed []byte) (*Matrix, error) {
	size, err := PackedSize(t, rows, cols)
	if err != nil {
		return nil, err
	}
	if int64(len(packed)) != size {
		return nil, fmt.Errorf("%w: a packed %d x %d matrix of %s has %d bytes, not %d",
			ErrShape, rows, cols, t, size, len(packed))
	}
	return &Matrix{Type: t, Rows: rows, Cols: cols, Data: packed}, nil
}

// panel returns the bytes of panel p.
func (m *Matrix) panel(f *form, p int) []byte {
	n := f.panelBytes(m.Cols)
	return m.Data[p*n : (p+1)*n : (p+1)*n]
}

// Row writes row row as float32 (an embedding look-up), the same bits as Dequantize gives. len(dst)
// is Cols; 0 <= row < Rows.
func (m *Matrix) Row(dst []float32, row int) {
	f := formOf(m.Type)
	p, r := m.panel(f, row/panelRows), row%panelRows
	dst = dst[:m.Cols]
	if !f.quantised() {
		for k := range dst {
			dst[k] = f.float(p, k*panelRows+r)
		}
		return
	}
	var b sub
	for i := 0; i < m.Cols; i += 32 {
		n := i / f.block * f.panelBlock()
		f.readPanel(&b, p[n:n+f.panelBlock()], i%f.block/32, r)
		b.value(dst[i : i+32])
	}
}
