//go:build (!amd64 && !arm64) || purego

package kernels

import (
	"encoding/binary"
	"math"
)

// packColumns and packRows fill a panel from a matrix by columns and one by rows.
func packColumns(panel []byte, b []float32, ld, rows, cols int) {
	for k := range cols {
		for r, v := range b[k*ld : k*ld+rows] {
			binary.LittleEndian.PutUint32(panel[4*(k*panelRows+r):], math.Float32bits(v))
		}
	}
}

func packRows(panel []byte, b []float32, ld, rows, cols int) {
	for r := range rows {
		for k, v := range b[r*ld : r*ld+cols] {
			binary.LittleEndian.PutUint32(panel[4*(k*panelRows+r):], math.Float32bits(v))
		}
	}
}
