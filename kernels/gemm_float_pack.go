package kernels

import "fmt"

// PackFloats packs rows x cols float32 as a matrix of F32 for GEMM and MatMul. Element [n][k] of the matrix is b[n*ld+k], or
// b[k*ld+n] if byColumn is set (a right operand as ONNX's MatMul has it). The matrix is dst with its memory used again, or a
// new one if dst is nil; w may be nil. It panics when b is too short.
func PackFloats(w *Workers, dst *Matrix, b []float32, ld, rows, cols int, byColumn bool) *Matrix {
	width, height := cols, rows
	if byColumn {
		width, height = rows, cols
	}
	if rows <= 0 || cols <= 0 || max(rows, cols) > maxDim || ld < width || len(b) < (height-1)*ld+width {
		panic(fmt.Sprintf("kernels: %d floats in rows of %d are no %d x %d matrix", len(b), ld, rows, cols))
	}
	n, size := panels(rows), 4*panelRows*cols
	if dst == nil {
		dst = new(Matrix)
	}
	if cap(dst.Data) < n*size {
		dst.Data = make([]byte, n*size)
	}
	*dst = Matrix{Type: F32, Rows: rows, Cols: cols, Data: dst.Data[:n*size]}
	pack := func(part, parts int) {
		for p := n * part / parts; p < n*(part+1)/parts; p++ {
			packPanel(dst.Data[p*size:(p+1)*size], b, ld, p*panelRows, min(rows-p*panelRows, panelRows), cols, byColumn)
			safepoint()
		}
	}
	if parts := n * size >> 16; w != nil && parts > 1 { // 64 KiB take some 10 us
		parts = min(parts, 4*w.N(), n)
		w.Do(parts, func(part int) { pack(part, parts) })
		return dst
	}
	pack(0, 1)
	return dst
}

// packPanel packs a panel whose first row is first and which has some rows, the others becoming zero.
func packPanel(panel []byte, b []float32, ld, first, rows, cols int, byColumn bool) {
	if rows < panelRows {
		clear(panel)
	}
	if byColumn {
		packColumns(panel, b[first:], ld, rows, cols)
		return
	}
	packRows(panel, b[first*ld:], ld, rows, cols)
}
