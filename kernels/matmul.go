package kernels

import (
	"fmt"
	"sync"
)

// quantImpl is one implementation of the products.
type quantImpl struct {
	tile     int // most rows of activations in a tile
	quantize func(x []float32, q []int8, f []float32, n, h []int32, rows int)
	// panel multiplies one panel with one tile: y[r*stride+i] for the tile's row r and the panel's row i.
	panel panelFunc
	// wide, if there is one, is for many rows of activations.
	wide *wideImpl
}

// wideImpl unpacks a panel of weights once, to a form that is then multiplied with many tiles.
type wideImpl struct {
	rows  int                            // from how many rows of activations on it pays
	tile  int                            // most rows of activations in a tile
	takes func(f *form) bool             // which types it is for
	bytes func(f *form) int              // of 32 columns of an unpacked panel
	widen func(t Type, dst, w []byte)    // unpacks a panel
	pair  func(q []int8, rows, cols int) // if there is one, rearranges a quantised tile for panel
	panel panelFunc                      // multiplies an unpacked panel with a tile
}

type panelFunc func(t Type, w []byte, a *tile, y []float32, stride int)

// forRows returns what is in use for so many rows of activations: wide or, if not, nil.
func (q *quantImpl) forRows(rows int) *wideImpl {
	if q.wide != nil && rows >= q.wide.rows {
		return q.wide
	}
	return nil
}

// tileFor is the most rows in a tile of so many rows of activations.
func (q *quantImpl) tileFor(rows int) int {
	if w := q.forRows(rows); w != nil {
		return w.tile
	}
	return q.tile
}

// tile is what a kernel reads of Acts: the quantised blocks for quantised weights, x for others.
type tile struct {
	first      int // row of Acts
	rows, cols int
	q          []int8
	f          []float32
	n, h       []int32
	x          []float32 // rows x cols
}

// product is a MatMul under way, with all that it needs, so that a step of a model makes no garbage.
type product struct {
	y     [][]float32
	ms    []*Matrix
	chunk []int  // panels in a part, of each matrix
	tiles []tile // of the activations
	last  []fullPanel
	run   func(part int)
	wide  sync.Pool // of *[]byte: unpacked panels
}

// fullPanel takes the results of a matrix's last panel when that is only partly filled.
type fullPanel [maxTile * panelRows]float32

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
	a.tile = active.quant().tileFor(a.rows)
	p := &a.mm
	p.y, p.ms = y, ms
	p.cut(a)
	parts := p.split(a, w.N())
	if p.run == nil {
		p.run = a.part
	}
	w.Do(parts, p.run)
	p.y, p.ms = nil, nil
}

// cut describes the tiles, and makes room for the last panels.
func (p *product) cut(a *Acts) {
	p.tiles = p.tiles[:0]
	for t := range a.tiles() {
		row, rows := a.tileRows(t)
		in := tile{first: row, rows: rows, cols: a.cols, x: a.x[row*a.cols : (row+rows)*a.cols]}
		if b := a.cols / 32; a.cols%32 == 0 {
			in.q, in.f = a.q[row*a.cols:(row+rows)*a.cols], a.f[2*row*b:2*(row+rows)*b]
			in.n, in.h = a.n[row*b:(row+rows)*b], a.h[2*row*b:2*(row+rows)*b]
		}
		p.tiles = append(p.tiles, in)
	}
	for len(p.last) < len(p.ms) {
		p.last = append(p.last, fullPanel{})
	}
}

// split sets the number of panels in a part for each matrix and returns the number of parts: some for
// each worker, so that one which is held up does not hold up all, but none so small that handing it out
// costs more than it is worth. With several tiles, the panels of a part fit the second-level cache.
func (p *product) split(a *Acts, workers int) int {
	const (
		grain = 8 << 10   // bytes of weights times rows: a quarter of a microsecond or more
		cache = 192 << 10 // bytes of weights
	)
	work := 0
	for _, m := range p.ms {
		work += len(m.Data) * a.rows
	}
	share := max(1, work/max(grain, work/(8*workers))) // parts
	parts := 0
	p.chunk = p.chunk[:0]
	for _, m := range p.ms {
		n, size := panels(m.Rows), len(m.Data)/panels(m.Rows)
		c := max(1, work/share/(size*a.rows))
		if a.tiles() > 1 {
			c = max(1, min(c, cache/a.panelSize(m)))
		}
		p.chunk = append(p.chunk, c)
		parts += (n + c - 1) / c
	}
	return parts
}

// widened returns what the panels of m are unpacked by before they are multiplied, or nil.
func (a *Acts) widened(m *Matrix) *wideImpl {
	f := formOf(m.Type)
	if w := active.quant().forRows(a.rows); w != nil && f.quantised() && w.takes(f) {
		return w
	}
	return nil
}

// panelSize is the bytes of a panel of m as it is multiplied.
func (a *Acts) panelSize(m *Matrix) int {
	if w := a.widened(m); w != nil {
		return m.Cols / 32 * w.bytes(formOf(m.Type))
	}
	return formOf(m.Type).panelBytes(m.Cols)
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
	m := p.ms[k]
	s := strip{m: m, y: p.y[k], first: i * p.chunk[k], size: a.panelSize(m), panel: active.quant().panel}
	s.last = min(s.first+p.chunk[k], panels(m.Rows))
	if w := a.widened(m); w != nil {
		buf := p.widen(&s, w)
		defer p.wide.Put(buf)
	} else {
		s.w = m.Data[s.first*s.size : s.last*s.size]
	}
	for t := range p.tiles {
		s.multiply(&p.tiles[t], &p.last[k])
	}
}

// strip is some consecutive panels of a matrix, on their way through all tiles.
type strip struct {
	m           *Matrix
	y           []float32
	first, last int    // panels
	w           []byte // their bytes
	size        int    // of one of them
	panel       panelFunc
}

// widen unpacks the panels of a strip into a buffer, which it returns.
func (p *product) widen(s *strip, by *wideImpl) *[]byte {
	buf, _ := p.wide.Get().(*[]byte)
	if n := (s.last - s.first) * s.size; buf == nil || cap(*buf) < n {
		buf = new([]byte)
		*buf = make([]byte, n)
	}
	s.w, s.panel = (*buf)[:cap(*buf)], by.panel
	packed := formOf(s.m.Type).panelBytes(s.m.Cols)
	for i := range s.last - s.first {
		o := (s.first + i) * packed
		by.widen(s.m.Type, s.w[i*s.size:(i+1)*s.size], s.m.Data[o:o+packed])
		safepoint()
	}
	return buf
}

// multiply multiplies a strip with a tile.
func (s *strip) multiply(in *tile, last *fullPanel) {
	rows := s.m.Rows
	for p := s.first; p < s.last; p++ {
		w := s.w[(p-s.first)*s.size : (p-s.first+1)*s.size]
		y := s.y[in.first*rows+p*panelRows:]
		if (p+1)*panelRows <= rows {
			s.panel(s.m.Type, w, in, y, rows)
		} else {
			s.panel(s.m.Type, w, in, last[:], panelRows)
			for r := range in.rows {
				copy(y[r*rows:r*rows+rows%panelRows], last[r*panelRows:])
			}
		}
		safepoint()
	}
}
