package kernels

import (
	"fmt"
	"math"
)

// maxTile is the most rows of activations that any kernel multiplies at once.
const maxTile = 12

// Acts holds rows of activations in the form that the products with quantised weights read. Rows are
// cut into tiles of at most as many rows as the kernels take at once. In a tile, the values of block b
// (32 columns) of all its rows stand together, so that a kernel walks one stream:
//
//	q: int8    [tile][block][row][32]  round-to-even of x * 127/max|x| (NEON with i8mm: rows paired)
//	f: float32 [tile][block][2][row]   scale d = max|x|/127, and d * sum(q)
//	n: int32   [tile][block][row]      -sum(q)
//	h: int32   [tile][block][2][row]   -sum(q) of the first and the second 16 columns
//
// The zero value is ready for use. An Acts is scratch for one goroutine at a time: it keeps its memory
// and is filled again by each Quantize.
type Acts struct {
	rows, cols int
	x          []float32
	tile       int // rows in a full tile
	q          []int8
	f          []float32
	n, h       []int32
	parts      int // of the quantising under way
	run        func(part int)
	mm         product
}

// Quantize takes rows x cols activations (row-major) as the next operand of MatMul. It keeps x, which
// must not change until the products are made. Columns that are no multiple of 32 fit float weights
// only. A block that holds an infinity or a NaN gives NaN in every result of its row; one whose values
// are all under 2^-100 counts as zero. It panics when len(x) < rows*cols.
func (a *Acts) Quantize(w *Workers, x []float32, rows, cols int) {
	if rows < 0 || cols <= 0 || len(x) < rows*cols {
		panic(fmt.Sprintf("kernels: %d activations are not %d rows of %d", len(x), rows, cols))
	}
	a.rows, a.cols, a.x = rows, cols, x[:rows*cols]
	if cols%32 != 0 || rows == 0 {
		return
	}
	a.reserve()
	a.parts = 1
	if rows*cols >= 1<<15 { // under some 10 us of work a dispatch costs more than it gains
		a.parts = min(a.tiles(), 4*w.N())
	}
	if a.run == nil {
		a.run = a.quantizePart
	}
	w.Do(a.parts, a.run)
}

// quantizePart fills the tiles of one part.
func (a *Acts) quantizePart(p int) {
	tiles := a.tiles()
	for t := p * tiles / a.parts; t < (p+1)*tiles/a.parts; t++ {
		a.quantizeTile(t)
	}
}

// reserve sizes the buffers for the current shape.
func (a *Acts) reserve() {
	a.tile = active.quant().tileFor(a.rows)
	n := a.rows * a.cols
	if cap(a.q) < n {
		a.q = make([]int8, n)
		a.f = make([]float32, n/32*2)
		a.n = make([]int32, n/32)
		a.h = make([]int32, n/32*2)
	}
	a.q, a.f, a.n, a.h = a.q[:n], a.f[:n/32*2], a.n[:n/32], a.h[:n/32*2]
}

// tiles is the number of tiles that the rows are cut into.
func (a *Acts) tiles() int { return (a.rows + a.tile - 1) / a.tile }

// tileRows returns the first row of tile t and the number of its rows; rows are spread evenly.
func (a *Acts) tileRows(t int) (first, n int) {
	tiles := a.tiles()
	first = t * a.rows / tiles
	return first, (t+1)*a.rows/tiles - first
}

// quantizeTile fills tile t.
func (a *Acts) quantizeTile(t int) {
	first, rows := a.tileRows(t)
	blocks := a.cols / 32
	o := first * blocks
	quantize := active.quant().quantize
	for r := range rows {
		row := (first + r) * a.cols
		quantize(a.x[row:row+a.cols], a.q[32*(o+r):], a.f[2*o+r:], a.n[o+r:], a.h[2*o+r:], rows)
		safepoint()
	}
	if w := active.quant().forRows(a.rows); w != nil && w.pair != nil {
		w.pair(a.q[32*o:32*(o+rows*blocks)], rows, a.cols)
		safepoint()
	}
}

// quantizeRow is the generic form of quantising one row of a tile of the given number of rows. The
// slices start at the row's first element; those of the next block are rows (times 32, 2, 1, 2) on.
func quantizeRow(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	for b := range len(x) / 32 {
		xb := (*[32]float32)(x[32*b:])
		d, inv := blockScale(xb)
		var sum [2]int32
		qb := (*[32]int8)(q[32*b*rows:])
		for k, v := range xb {
			qb[k] = 0
			if inv != 0 {
				qb[k] = int8(math.RoundToEven(float64(float32(v * inv))))
			}
			sum[k/16] += int32(qb[k])
		}
		all := sum[0] + sum[1]
		f[2*b*rows], f[(2*b+1)*rows] = d, float32(d*float32(all))
		n[b*rows] = -all
		h[2*b*rows], h[(2*b+1)*rows] = -sum[0], -sum[1]
	}
}

// blockScale returns the scale of a block of activations, and what a value is multiplied with to be
// quantised: 0 for a block that counts as zero or holds what is not finite.
func blockScale(x *[32]float32) (d, inv float32) {
	const (
		tiny = 27 << 23 // bits of 2^-100
		inf  = 0x7f800000
		nan  = 0x7fc00000
	)
	var top uint32 // of positive floats the bits order as integers; NaN comes last
	for _, v := range x {
		top = max(top, math.Float32bits(v)&0x7fffffff)
	}
	switch {
	case top >= inf:
		return math.Float32frombits(nan), 0
	case top < tiny:
		return 0, 0
	}
	m := math.Float32frombits(top)
	return m * (1.0 / 127), 127 / m
}
