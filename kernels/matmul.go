package kernels

import "fmt"

// quantImpl is one implementation of the products.
type quantImpl struct {
	tile     int // most rows of activations in a tile
	quantize func(x []float32, q []int8, f []float32, n, h []int32, rows int)
	// panel multiplies one panel with one tile: y[r*stride+i] for the tile's row r and the panel's row i.
	panel func(m *Matrix, w []byte, a *tile, y []float32, stride int)
}

// tile is what a kernel reads of Acts: the quantised blocks for quantised weights, x for others.
type tile struct {
	rows, cols int
	q          []int8
	f          []float32
	n, h       []int32
	x          []float32 // rows x cols
}

// product is a MatMul under way.
type product struct {
	y     [][]float32
	ms    []*Matrix
	chunk []int // panels in a part, of each matrix
	run   func(part int)
}

// MatMul multiplies the activations with each of several matrices: y[i] gets (rows of a) x ms[i].Rows
// products, row-major. All matrices have as many columns as the activations. The work is split over
// the workers by output rows, never along columns; the bits of the result do not depend on how. It
// panics when shapes do not fit.
func MatMul(w *Workers, y [][]float32, a *Acts, ms ...*Matrix) {
	if len(y) != len(ms) {
		panic(fmt.Sprintf("kernels: %d results for %d matrices", len(y), len(ms)))
	}
	for i, m := range ms {
		if m.Cols != a.cols || len(y[i]) < a.rows*m.Rows {
			panic(fmt.Sprintf("kernels: %d x %d matrix, %d activation rows of %d, result of %d",
				m.Rows, m.Cols, a.rows, a.cols, len(y[i])))
		}
	}
	if a.rows == 0 {
		return
	}
	a.tile = active.quant().tile
	p := &a.mm
	p.y, p.ms = y, ms
	parts := p.split(a, w.N())
	if p.run == nil {
		p.run = a.part
	}
	w.Do(parts, p.run)
	p.y, p.ms = nil, nil
}

// split sets the number of panels in a part for each matrix and returns the number of parts.
func (p *product) split(a *Acts, workers int) int {
	const cache = 128 << 10 // bytes of weights that stay in the second-level cache beside a tile
	total := 0
	for _, m := range p.ms {
		total += panels(m.Rows)
	}
	parts := 0
	p.chunk = p.chunk[:0]
	for _, m := range p.ms {
		c := max(1, total/(8*workers))
		if a.tiles() > 1 {
			c = max(1, min(c, cache/formOf(m.Type).panelBytes(m.Cols)))
		}
		p.chunk = append(p.chunk, c)
		parts += (panels(m.Rows) + c - 1) / c
	}
	return parts
}

// part computes one part of the product: some panels with all tiles. A tile meets all panels of the
// part before the next tile, so that both stay in cache.
func (a *Acts) part(i int) {
	p := &a.mm
	k := 0
	for ; ; k++ {
		n := (panels(p.ms[k].Rows) + p.chunk[k] - 1) / p.chunk[k]
		if i < n {
			break
		}
		i -= n
	}
	m, y := p.ms[k], p.y[k]
	first := i * p.chunk[k]
	last := min(first+p.chunk[k], panels(m.Rows))
	for t := range a.tiles() {
		a.tilePanels(m, y, t, first, last)
	}
}

// tilePanels multiplies tile t with the panels from first to last.
func (a *Acts) tilePanels(m *Matrix, y []float32, t, first, last int) {
	f := formOf(m.Type)
	row, rows := a.tileRows(t)
	in := tile{rows: rows, cols: a.cols, x: a.x[row*a.cols : (row+rows)*a.cols]}
	if f.quantised() {
		b := a.cols / 32
		in.q, in.f = a.q[row*a.cols:(row+rows)*a.cols], a.f[2*row*b:2*(row+rows)*b]
		in.n, in.h = a.n[row*b:(row+rows)*b], a.h[2*row*b:2*(row+rows)*b]
	}
	panel := active.quant().panel
	for p := first; p < last; p++ {
		at := row*m.Rows + p*panelRows
		if (p+1)*panelRows <= m.Rows {
			panel(m, m.panel(f, p), &in, y[at:], m.Rows)
		} else {
			a.lastPanel(panel, m, &in, y[at:])
		}
		safepoint()
	}
}

// lastPanel multiplies a tile with a panel that is only partly filled.
func (a *Acts) lastPanel(panel func(*Matrix, []byte, *tile, []float32, int), m *Matrix, in *tile, y []float32) {
	var full [maxTile * panelRows]float32
	last := panels(m.Rows) - 1
	panel(m, m.panel(formOf(m.Type), last), in, full[:], panelRows)
	n := m.Rows - last*panelRows
	for r := range in.rows {
		copy(y[r*m.Rows:r*m.Rows+n], full[r*panelRows:])
	}
}
