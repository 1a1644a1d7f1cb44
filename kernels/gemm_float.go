package kernels

import (
	"fmt"
	"math"
	"sync"
)

// Fuse says what a product of float weights does besides multiplying. The zero value does nothing.
type Fuse struct {
	Bias      []float32 // one for each column of the result, or nil
	Add       bool      // sums start from what the result holds, plus the bias
	Clip      bool      // results are brought within Low and High: ReLU is 0 and +Inf, ReLU6 0 and 6. NaN stays NaN
	Low, High float32
}

// GEMM multiplies rows rows of x with a float matrix (F32, F16 or BF16): element n of row r of y is
//
//	start + x[r*ldx]*m[n][0] + x[r*ldx+1]*m[n][1] + ...
//
// one FMA for each column in order, from start: zero or the bias, or with Add the bias added to what y holds. Rows of y are
// ldy floats apart; y must not overlap x. The work is split over the workers by rows and columns of the result, never along a
// sum, and the bits do not depend on how. It panics when shapes do not fit.
func GEMM(w *Workers, y []float32, ldy int, x []float32, ldx, rows int, m *Matrix, fuse Fuse) {
	if rows == 0 {
		return
	}
	if f := formOf(m.Type); f == nil || f.quantised() {
		panic(fmt.Sprintf("kernels: GEMM takes float weights, not %s", m.Type))
	}
	if rows < 0 || ldx < m.Cols || ldy < m.Rows || len(x) < (rows-1)*ldx+m.Cols || len(y) < (rows-1)*ldy+m.Rows ||
		fuse.Bias != nil && len(fuse.Bias) < m.Rows {
		panic(fmt.Sprintf("kernels: %d x %d matrix, %d rows of %d floats %d apart, result of %d floats, rows %d apart, bias of %d",
			m.Rows, m.Cols, rows, len(x), ldx, len(y), ldy, len(fuse.Bias)))
	}
	p := floatProduct{x: x, ldx: ldx, zero: x, y: y, ldy: ldy, rows: rows, m: m, taps: 1, k: m.Cols, fuse: fuse}
	p.run(w)
}

// floatProduct is a product under way: of a matrix (taps is 1, rows are ldx apart) or a convolution.
type floatProduct struct {
	x, zero []float32
	ldx     int
	conv    *convInput // where rows are, if not ldx apart
	room    *sync.Pool // of *[]int, for conv
	y       []float32
	ldy     int
	rows    int
	m       *Matrix
	taps, k int // m.Cols is their product
	fuse    Fuse

	tile           int // rows of a full tile
	blocks, chunks int // parts along the rows and along the columns
	segments       []floatSegment
}

// floatSegment is a stretch of columns that a tile multiplies without leaving the first-level cache: taps t0 to t1-1, of each
// the columns k0 to k1-1; whole taps, or a part of one.
type floatSegment struct{ t0, t1, k0, k1 int }

const (
	floatStretch = 1024      // columns of a segment, at most
	floatTiles   = 32        // tiles of a part, at most
	floatBlock   = 192 << 10 // bytes of their columns of a segment, at most: they stay in the second-level cache with a panel
	floatGrain   = 200 << 10 // multiply-adds of a part, at least: 4 us or more
)

// run splits the product and has the parts done.
func (p *floatProduct) run(w *Workers) {
	p.cut()
	p.split(w.N())
	w.Do(p.blocks*p.chunks, p.part)
}

// cut sets the segments: as few as possible, of much the same length. A product of few rows has no use for more than one.
func (p *floatProduct) cut() {
	p.tile = floatRows()
	most := floatStretch / floatPanels(p.tile)
	if p.rows <= p.tile {
		most = 1 << 12
	}
	if p.k > most {
		n := (p.k + most - 1) / most
		for t := range p.taps {
			for i := range n {
				p.segments = append(p.segments, floatSegment{t, t + 1, p.k * i / n, p.k * (i + 1) / n})
			}
		}
		return
	}
	unit := 1 // taps that stay together
	if p.conv != nil && p.conv.merged > 0 {
		unit = p.conv.merged
	}
	units := p.taps / unit
	n := min(units, (p.taps*p.k+most-1)/most)
	for i := range n {
		p.segments = append(p.segments, floatSegment{unit * (units * i / n), unit * (units * (i + 1) / n), 0, p.k})
	}
}

// split sets the size of the parts: some for each worker, none too small, and as many tiles for a panel as stay in the
// second-level cache with their columns of a segment.
func (p *floatProduct) split(workers int) {
	tiles := (p.rows + p.tile - 1) / p.tile
	n := panels(p.m.Rows)
	work := p.rows * n * panelRows * p.m.Cols
	parts := 1
	if workers > 1 {
		parts = max(1, min(4*workers, work/floatGrain))
	}
	segment := 0 // columns of the longest
	for _, g := range p.segments {
		segment = max(segment, (g.t1-g.t0)*(g.k1-g.k0))
	}
	block := max(1, min(floatTiles, floatBlock/(4*p.tile*segment)))
	p.blocks = (tiles + block - 1) / block
	p.chunks = 1
	if p.blocks < parts { // rather by columns: each panel is then read once
		p.chunks = min(n, (parts+p.blocks-1)/p.blocks)
	}
	if p.blocks*p.chunks < parts {
		p.blocks = min(tiles, (parts+p.chunks-1)/p.chunks)
	}
}

// part computes one part: some tiles with some panels.
func (p *floatProduct) part(i int) {
	var s floatStrip
	s.p = p
	block, chunk := i%p.blocks, i/p.blocks
	tiles := (p.rows + p.tile - 1) / p.tile
	n := panels(p.m.Rows)
	s.first, s.end = n*chunk/p.chunks, n*(chunk+1)/p.chunks
	from, to := tiles*block/p.blocks, tiles*(block+1)/p.blocks
	if s.at = s.atRoom[:]; p.conv != nil {
		room := p.placesFor((to - from) * p.tile * p.taps)
		defer p.room.Put(room)
		s.at = *room
	}
	s.locate(from, to, tiles)
	for i := range p.segments {
		s.segment(i)
	}
}

// placesFor returns room for the places of the rows of a convolution.
func (p *floatProduct) placesFor(n int) *[]int {
	room, _ := p.room.Get().(*[]int)
	if room == nil || len(*room) < n {
		room = new([]int)
		*room = make([]int, n)
	}
	return room
}

// floatStrip is a part on its way through the segments.
type floatStrip struct {
	p          *floatProduct
	first, end int // panels
	runs       []floatRun
	at         []int
	from       []float32 // what sums start from
	call       floatCall

	// Room for these, so that most parts make no garbage.
	runRoom  [8]floatRun
	atRoom   [512]int
	fromRoom [maxFloatPanels * panelRows]float32
	edge     [maxFloatRows * panelRows]float32 // results of a panel that is partly filled
}

// floatRun is some tiles of as many rows each, one after the other, all located in the same way: at has their offsets, of as
// many places each as a tile has rows and taps, and merged taps are one piece.
type floatRun struct {
	first, rows, tiles, merged int
	at                         []int
}

// locate finds the rows of tiles from to to-1, of all tiles; the first ones have one row more than the others if not all
// have as many.
func (s *floatStrip) locate(from, to, all int) {
	p := s.p
	few, more := p.rows/all, p.rows%all
	s.runs = s.runRoom[:0]
	at := s.at
	var cursor convCursor
	if p.conv != nil {
		cursor = p.conv.cursor(from*few + min(from, more))
	}
	for t := from; t < to; t++ {
		first, rows, merged := t*few+min(t, more), few, 1
		if t < more {
			rows++
		}
		if p.conv != nil {
			merged = p.conv.locate(at, &cursor, rows)
		} else {
			for r := range rows {
				at[r] = 4 * (first + r) * p.ldx
			}
		}
		if n := len(s.runs); n == 0 || s.runs[n-1].rows != rows || s.runs[n-1].merged != merged {
			s.runs = append(s.runs, floatRun{first: first, rows: rows, merged: merged, at: at})
		}
		s.runs[len(s.runs)-1].tiles++
		at = at[rows*p.taps:]
	}
}

// segment adds the columns of a segment to all results of the part.
func (s *floatStrip) segment(i int) {
	p, c := s.p, &s.call
	g := p.segments[i]
	size := panelRows * formOf(p.m.Type).bytes
	c.typ, c.step, c.x, c.zero = p.m.Type, p.m.Cols*size, p.x[g.k0:], p.zero[g.k0:]
	c.clip, c.low, c.high = p.fuse.Clip && i == len(p.segments)-1, p.fuse.Low, p.fuse.High
	c.add = p.fuse.Add || i > 0
	group := 1
	for j := range s.runs {
		group = max(group, floatPanels(s.runs[j].rows))
	}
	whole := p.m.Rows / panelRows // panels that are full
	for n := s.first; n < s.end; n += group {
		if group = min(group, s.end-n); n < whole {
			group = min(group, whole-n)
		}
		s.start(n, group, i > 0)
		for j := range s.runs {
			s.multiply(&s.runs[j], g, n, group)
		}
	}
}

// start sets what the sums of some panels from n on start from: the bias, zero, or -0, which changes nothing that it is
// added to.
func (s *floatStrip) start(n, group int, going bool) {
	bias := s.p.fuse.Bias
	if bias != nil && !going {
		s.from = bias[n*panelRows:]
		if len(s.from) < group*panelRows {
			clear(s.fromRoom[copy(s.fromRoom[:], s.from):])
			s.from = s.fromRoom[:]
		}
		return
	}
	v := float32(0)
	if s.call.add {
		v = float32(math.Copysign(0, -1))
	}
	for i := range s.fromRoom {
		s.fromRoom[i] = v
	}
	s.from = s.fromRoom[:]
}

// multiply multiplies the tiles of a run with some panels from n on.
func (s *floatStrip) multiply(t *floatRun, g floatSegment, n, group int) {
	p, c := s.p, &s.call
	c.rows, c.tiles, c.every = t.rows, t.tiles, t.rows*p.taps
	c.taps, c.k, c.at = (g.t1-g.t0)/t.merged, (g.k1-g.k0)*t.merged, t.at[g.t0/t.merged*t.rows:]
	size := panelRows * formOf(p.m.Type).bytes
	most := floatPanels(t.rows)
	for from := 0; from < group; from += c.panels {
		if c.panels = most; from+most > group {
			c.panels = 1
		}
		at := n + from
		c.w = p.m.Data[at*c.step+(g.t0*p.k+g.k0)*size : (at+c.panels)*c.step]
		c.bias = s.from[from*panelRows:]
		c.y, c.stride = p.y[t.first*p.ldy+at*panelRows:], p.ldy
		if (at+c.panels)*panelRows <= p.m.Rows {
			c.run()
			safepoint()
		} else {
			s.last(t, p.m.Rows-at*panelRows)
		}
	}
}

// last does a run with a panel of which only some columns exist, tile by tile.
func (s *floatStrip) last(t *floatRun, cols int) {
	c := &s.call
	y, ld := c.y, s.p.ldy
	c.y, c.stride, c.tiles = s.edge[:], panelRows, 1
	for i := range t.tiles {
		for r := range t.rows {
			copy(c.y[r*panelRows:], y[r*ld:r*ld+cols])
		}
		c.run()
		for r := range t.rows {
			copy(y[r*ld:r*ld+cols], c.y[r*panelRows:])
		}
		if i < t.tiles-1 {
			y, c.at = y[t.rows*ld:], c.at[c.every:]
		}
		safepoint()
	}
}
