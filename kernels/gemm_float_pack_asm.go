//go:build (amd64 || arm64) && !purego

package kernels

import "unsafe"

// floatsOf is a panel as the floats that it holds: both architectures are little endian, and load floats from any address.
func floatsOf(panel []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(&panel[0])), len(panel)/4)
}

// packColumns and packRows fill a panel from a matrix by columns and one by rows.
func packColumns(panel []byte, b []float32, ld, rows, cols int) {
	f := floatsOf(panel)
	for k := range cols {
		to, from := f[k*panelRows:(k+1)*panelRows], b[k*ld:k*ld+rows]
		if rows == panelRows {
			*(*[panelRows]float32)(to) = *(*[panelRows]float32)(from)
		} else {
			copy(to, from)
		}
	}
}

func packRows(panel []byte, b []float32, ld, rows, cols int) {
	transpose(floatsOf(panel), panelRows, b, ld, rows, cols)
}
