package kernels

import "fmt"

// Part returns rows rows of m from first on, as a matrix that shares m's bytes: an expert of a stack, or one of
// several matrices that a file has in one. Both numbers are multiples of 16, the rows of a panel, except that the last
// part may end with m. It panics otherwise.
func (m *Matrix) Part(first, rows int) Matrix {
	end := first + rows
	if first < 0 || rows <= 0 || end > m.Rows || first%panelRows != 0 || end%panelRows != 0 && end != m.Rows {
		panic(fmt.Sprintf("kernels: rows %d to %d are no part of a matrix of %d", first, end, m.Rows))
	}
	n := formOf(m.Type).panelBytes(m.Cols)
	from, to := first/panelRows*n, (end+panelRows-1)/panelRows*n
	return Matrix{Type: m.Type, Rows: rows, Cols: m.Cols, Data: m.Data[from:to:to]}
}
