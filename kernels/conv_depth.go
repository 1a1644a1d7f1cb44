package kernels

import "math"

// depthwise is the packed form of a convolution of each channel by itself.
type depthwise struct {
	channels int
	w        []float32 // [blocks][taps][16 channels]
}

// blocksOf is the number of blocks of 16 that channels make. The last one overlaps the one before if channels are no multiple of
// 16, so that it is full; if there are fewer than 16, it is filled up with zeros.
func blocksOf(channels int) int { return (channels + lanes - 1) / lanes }

// firstOf is the first channel of a block.
func firstOf(channels, block int) int { return max(0, min(block*lanes, channels-lanes)) }

// packDepth packs weights [channel][tap].
func packDepth(weights []float32, channels, taps int) *depthwise {
	n := blocksOf(channels)
	d := &depthwise{channels: channels, w: make([]float32, n*taps*lanes)}
	for b := range n {
		first := firstOf(channels, b)
		for i := range min(lanes, channels) {
			for t := range taps {
				d.w[(b*taps+t)*lanes+i] = weights[(first+i)*taps+t]
			}
		}
	}
	return d
}

// run convolves.
func (d *depthwise) run(w *Workers, y, x []float32, rows int, v *convInput, f Fuse) {
	j := pixelJob{op: opDepth, v: v, x: x, y: y, channels: d.channels, rows: rows, w: d.w, fuse: f}
	n := blocksOf(d.channels)
	j.bias = make([]float32, n*lanes)
	for b := range n {
		to := j.bias[b*lanes : (b+1)*lanes]
		switch {
		case f.Bias != nil:
			copy(to, f.Bias[firstOf(d.channels, b):d.channels])
		case f.Add:
			for i := range to {
				to[i] = float32(math.Copysign(0, -1))
			}
		}
	}
	j.run(w)
}

// how is what a call does besides multiplying, as bits.
func (f *Fuse) how() int {
	how := 0
	if f.Add {
		how = 1
	}
	if f.Clip {
		how |= 2
	}
	return how
}

// linePixels is how many results in a row the kernel for them does at once.
const linePixels = 4

// lineShape is the number of the kernel for results in a row, -1 if there is none for this convolution.
func (j *pixelJob) lineShape() int {
	width, stride := len(j.v.axes[2]), j.v.stride[2]
	if j.op != opDepth || !hasDepthRow() || j.channels < lanes || j.fuse.Add && j.channels%lanes != 0 ||
		stride > 2 || width != 3 && width != 5 && width != 7 || j.v.axes[2][1] != 1 {
		return -1
	}
	return width - 4 + stride
}

// lines does the result rows from from to to-1: first what has all taps along the width inside, 4 or more at a time (the last 4 may
// be partly done twice), then the ends of the rows, each column for several rows at once.
func (s *pixelStrip) lines(from, to int) {
	v := s.j.v
	width, stride := v.out[2], v.stride[2]
	left := (v.pad[2] + stride - 1) / stride // the first pixel whose taps are all inside
	right := 0                               // and the first one that follows
	if room := v.in[2] + v.pad[2] - len(v.axes[2]); room >= 0 {
		right = min(width, room/stride+1)
	}
	if right-left < linePixels {
		s.span(from*width, to*width)
		return
	}
	for l := from; l < to; l++ {
		done := s.line(l*width+left, l*width+right)
		s.span(done, l*width+right)
	}
	for x := range width {
		if x < left || x >= right {
			s.column(x, from, to)
		}
	}
}

// column does pixel x of the result rows from from to to-1.
func (s *pixelStrip) column(x, from, to int) {
	v := s.j.v
	s.stride = s.j.channels * v.out[2]
	var room [pixelRows]convWindow
	for ; from < to; from += s.rows {
		s.rows = min(pixelRows, to-from)
		ws := room[:s.rows]
		for i := range ws {
			cursor := v.cursor((from+i)*v.out[2] + x)
			v.windows(ws[i:i+1], &cursor)
		}
		s.at = s.room[:s.rows*len(v.taps)]
		v.locateEdge(s.at, ws, 1)
		s.tile(from*v.out[2] + x)
		safepoint()
	}
}

// line does the pixels from a to b-1 of a row, at least 4, all inside along the width, and returns the first one that it has left.
func (s *pixelStrip) line(a, b int) int {
	j, v := s.j, s.j.v
	var w [1]convWindow
	cursor := v.cursor(a)
	v.windows(w[:], &cursor)
	rows := 0
	for _, z := range v.axes[0] {
		for _, y := range v.axes[1] {
			at := w[0].bytes + v.taps[rows*len(v.axes[2])]
			if !inside(w[0].at[0]+z, v.in[0]) || !inside(w[0].at[1]+y, v.in[1]) {
				at = outside
			}
			s.room[rows] = at
			rows++
		}
	}
	step := v.stride[2] * v.pix / 4 // floats from a result's to the next one's
	tiles := (b - a) / linePixels
	s.lineTiles(j.x, j.y[a*j.channels:], rows, tiles)
	done := a + tiles*linePixels
	if done < b && !j.fuse.Add {
		s.lineTiles(j.x[(b-linePixels-a)*step:], j.y[(b-linePixels)*j.channels:], rows, 1)
		done = b
	}
	return done
}

// lineTiles calls the kernel for results in a row for all channels of some tiles.
func (s *pixelStrip) lineTiles(x, y []float32, rows, tiles int) {
	j := s.j
	c := depthCall{at: s.room[:rows], zero: s.zero[:], pix: j.v.pix, stride: j.channels, how: j.fuse.how(),
		low: j.fuse.Low, high: j.fuse.High, shape: j.lineShape(), ahead: linePixels * j.v.stride[2] * j.v.pix}
	taps := len(j.v.taps)
	whole, most := j.channels/lanes, max(1, pixelWork/(taps*linePixels))
	for t := 0; t < tiles; t += c.tiles {
		c.tiles = min(tiles-t, max(1, most/whole))
		from, to := x[t*c.ahead/4:], y[t*linePixels*j.channels:]
		for b := 0; b < blocksOf(j.channels); b += c.blocks {
			c.blocks = 1
			if b < whole {
				c.blocks = min(most, whole-b)
			}
			first := firstOf(j.channels, b)
			c.x, c.y, c.w, c.bias = from[first:], to[first:], j.w[b*taps*lanes:], j.bias[b*lanes:]
			c.run()
			safepoint()
		}
	}
}

// depthCall is a call of the kernel for results in a row; see depthRow of gen.
type depthCall struct {
	x, zero   []float32
	at        []int
	pix       int
	y         []float32
	stride    int // floats between results
	blocks    int
	w, bias   []float32
	how       int
	low, high float32
	shape     int
	tiles     int
	ahead     int // bytes from a tile's floats to the next one's
}
