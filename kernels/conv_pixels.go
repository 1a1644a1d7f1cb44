package kernels

import "math"

// pixelOp is what is done with the taps of each channel by itself.
type pixelOp uint8

const (
	opDepth pixelOp = iota // depthwise convolution
	opMax
	opMean
)

// pixelJob is a depthwise convolution or a pooling under way.
type pixelJob struct {
	op       pixelOp
	v        *convInput
	x, y     []float32
	channels int
	rows     int // pixels of the result
	parts    int
	w        []float32 // depthwise: [blocks][taps][16], see packDepth
	bias     []float32 // depthwise: of each channel in w, [blocks][16]
	fuse     Fuse
	countPad bool // the mean counts taps in the padding
	after    [3]int
}

// pixelCall is one call of a kernel: some rows with some blocks of 16 channels. See pixelParams of gen.
type pixelCall struct {
	op        pixelOp
	x, zero   []float32
	at        []int
	taps      int
	y         []float32
	stride    int
	rows      int
	blocks    int
	w, bias   []float32
	how       int
	low, high float32
	count     []float32
}

const (
	pixelRows  = 6       // most rows of a call
	pixelWork  = 1 << 14 // most taps times rows times blocks of a call, some 20 us
	pixelGrain = 1 << 15 // the same of a part, at least
)

// run does a job.
func (j *pixelJob) run(w *Workers) {
	j.v.merged = 0 // a tap is a pixel
	tiles := (j.rows + pixelRows - 1) / pixelRows
	work := j.rows * len(j.v.taps) * ((j.channels + lanes - 1) / lanes)
	j.parts = max(1, min(tiles, 4*w.N(), work/pixelGrain))
	w.Do(j.parts, j.part)
}

// part does the tiles of a part.
func (j *pixelJob) part(part int) {
	var s pixelStrip
	s.j = j
	s.outside()
	taps := len(j.v.taps)
	var room [64 * pixelRows]int
	at := room[:]
	if taps*pixelRows > len(at) {
		at = make([]int, taps*pixelRows)
	}
	s.room = at
	if j.lineShape() >= 0 {
		lines := j.rows / j.v.out[2]
		s.lines(lines*part/j.parts, lines*(part+1)/j.parts)
		return
	}
	s.span(j.rows*part/j.parts, j.rows*(part+1)/j.parts)
}

// span does the result pixels from from to to-1.
func (s *pixelStrip) span(from, to int) {
	if from >= to {
		return
	}
	s.stride = s.j.channels
	cursor := s.j.v.cursor(from)
	tiles := (to - from + pixelRows - 1) / pixelRows
	for t := range tiles {
		first := from + (to-from)*t/tiles
		s.rows = from + (to-from)*(t+1)/tiles - first
		s.at = s.room[:s.rows*len(s.j.v.taps)]
		s.j.v.locate(s.at, &cursor, s.rows)
		s.tile(first)
		safepoint()
	}
}

// pixelStrip is what a part needs while it is done.
type pixelStrip struct {
	j      *pixelJob
	room   []int
	at     []int // of the rows under way
	rows   int
	stride int // floats between their results
	zero   [lanes]float32
	count  [pixelRows]float32
}

// outside sets what lies outside of the input.
func (s *pixelStrip) outside() {
	if s.j.op == opMax {
		for i := range s.zero {
			s.zero[i] = float32(math.Inf(-1))
		}
	}
}

// tile does some rows from first on: whole blocks of channels, then what is left of them. That is done as the last 16
// channels, some of which are done twice, or apart where there are no 16 or doing it twice would show.
func (s *pixelStrip) tile(first int) {
	j := s.j
	taps := len(j.v.taps)
	if j.op == opMean {
		j.counts(s.count[:s.rows], s.at, first)
	}
	if taps > pixelWork {
		s.longTile(first)
		return
	}
	c := pixelCall{op: j.op, x: j.x, zero: s.zero[:], at: s.at, taps: taps, rows: s.rows, stride: s.stride,
		how: j.fuse.how(),
		low: j.fuse.Low, high: j.fuse.High, count: s.count[:s.rows]}
	y := j.y[first*j.channels:]
	blocks, most := j.channels/lanes, max(1, pixelWork/(taps*s.rows))
	for b := 0; b < blocks; b += c.blocks {
		c.blocks = min(most, blocks-b)
		s.blocks(&c, y, b, b*lanes)
	}
	switch left := j.channels % lanes; {
	case left == 0:
	case blocks > 0 && !j.fuse.Add:
		c.blocks = 1
		s.blocks(&c, y, blocks, j.channels-lanes)
	default:
		s.apart(&c, y, left)
	}
}

// blocks runs a call for the blocks from block on, whose first channel is channel.
func (s *pixelStrip) blocks(c *pixelCall, y []float32, block, channel int) {
	c.x, c.y = s.j.x[channel:], y[channel:]
	if s.j.op == opDepth {
		c.w, c.bias = s.j.w[block*c.taps*lanes:], s.j.bias[block*lanes:]
	}
	c.run()
	safepoint()
}

// apart does the last channels, fewer than 16, by way of copies of their taps.
func (s *pixelStrip) apart(c *pixelCall, y []float32, left int) {
	j := s.j
	channel, block, ld := j.channels-left, j.channels/lanes, s.stride
	x, at := make([]float32, len(c.at)*lanes), make([]int, len(c.at))
	for i, o := range c.at {
		at[i] = outside
		if o >= 0 {
			at[i] = 4 * i * lanes
			copy(x[i*lanes:], j.x[channel+o/4:][:left])
		}
	}
	var out [pixelRows * lanes]float32
	for r := range c.rows {
		copy(out[r*lanes:], y[r*ld+channel:][:left])
	}
	if j.op == opDepth {
		// A block that overlaps the one before holds its channels at the end; here they come first.
		c.w, c.bias = s.shifted(block, left)
	}
	c.x, c.at, c.y, c.stride, c.blocks = x, at, out[:], lanes, 1
	c.run()
	for r := range c.rows {
		copy(y[r*ld+channel:][:left], out[r*lanes:])
	}
}

// shifted returns the weights and bias of the last block with its last channels in front.
func (s *pixelStrip) shifted(block, left int) (w, bias []float32) {
	j, taps := s.j, len(s.j.v.taps)
	from := 0
	if block > 0 {
		from = lanes - left
	}
	w, bias = make([]float32, taps*lanes), make([]float32, lanes)
	for t := range taps {
		copy(w[t*lanes:], j.w[(block*taps+t)*lanes+from:][:left])
	}
	copy(bias, j.bias[block*lanes+from:][:left])
	return w, bias
}

// longTile pools windows that are too long for one call, row by row: what is so far stands in for a tap outside.
func (s *pixelStrip) longTile(first int) {
	j, one := s.j, []float32{1}
	at := make([]int, 0, pixelWork+1)
	for r := range s.rows {
		for b := 0; b < j.channels; b += lanes {
			var so, sum [lanes]float32
			so = s.zero
			at = append(at[:0], outside)
			b := max(0, min(b, j.channels-lanes))
			for t := r; t < len(s.at); t += s.rows {
				if s.at[t] >= 0 {
					at = append(at, s.at[t])
				}
				if last := t+s.rows >= len(s.at); last || len(at) > pixelWork {
					c := pixelCall{op: j.op, x: j.x[b:], zero: so[:], at: at, taps: len(at), rows: 1, y: sum[:], stride: lanes, blocks: 1, count: one}
					if last && j.op == opMean {
						c.count = s.count[r : r+1]
					}
					c.step(j.channels)
					so, at = sum, append(at[:0], outside)
					safepoint()
				}
			}
			copy(j.y[(first+r)*j.channels+b:][:min(lanes, j.channels)], sum[:])
		}
	}
}

// step runs a call of one row and block, of which fewer than 16 channels may exist.
func (c *pixelCall) step(channels int) {
	if channels >= lanes {
		c.run()
		return
	}
	c.generic(channels)
}

// run does a call by assembly or by generic Go.
func (c *pixelCall) run() {
	if !pixelsFast(c) {
		c.generic(lanes)
	}
}

// generic is the truth that the assembly equals, for some channels of each block.
func (c *pixelCall) generic(channels int) {
	for b := range c.blocks {
		for r := range c.rows {
			for i := range channels {
				c.element(&c.y[r*c.stride+b*lanes+i], r, b, i)
			}
		}
	}
}

// element computes the result of channel i of a block for a row.
func (c *pixelCall) element(y *float32, r, b, i int) {
	sum := float32(0)
	switch c.op {
	case opDepth:
		if sum = c.bias[b*lanes+i]; c.how&1 != 0 {
			sum += *y
		}
	case opMax:
		sum = float32(math.Inf(-1))
	}
	for t := range c.taps {
		x := c.zero[i]
		if at := c.at[t*c.rows+r]; at >= 0 {
			x = c.x[at/4+b*lanes+i]
		}
		switch c.op {
		case opDepth:
			sum = fma32(x, c.w[(b*c.taps+t)*lanes+i], sum)
		case opMax:
			if x > sum || x != x {
				sum = x
			}
		default:
			sum += x
		}
	}
	switch {
	case c.op == opMean:
		sum /= c.count[r]
	case c.op == opDepth && c.how&2 != 0:
		if c.low > sum {
			sum = c.low
		}
		if c.high < sum {
			sum = c.high
		}
	}
	*y = sum
}
