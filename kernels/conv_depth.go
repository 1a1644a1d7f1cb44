package kernels

import "math"

// depthwise is the packed form of a convolution of each channel by itself.
type depthwise struct {
	channels int
	w        []float32 // [blocks][taps][16 channels]
	line     []float32 // [groups][taps][8 channels], for results in a row; nil if there are fewer than 8 channels
}

// depthLine is the number of channels that the kernel for results in a row takes at once.
const depthLine = 8

// groupsOf is the number of groups of some size that channels make. The last one overlaps the one before if channels are no
// multiple of the size, so that it is full; if there are fewer channels than that, it is filled up with zeros.
func groupsOf(channels, size int) int { return (channels + size - 1) / size }

// firstOf is the first channel of a group.
func firstOf(channels, size, group int) int { return max(0, min(group*size, channels-size)) }

// packDepth packs weights [channel][tap].
func packDepth(weights []float32, channels, taps int) *depthwise {
	d := &depthwise{channels: channels, w: packGroups(weights, channels, taps, lanes)}
	if channels >= depthLine {
		d.line = packGroups(weights, channels, taps, depthLine)
	}
	return d
}

// packGroups turns [channel][tap] into [group][tap][channel].
func packGroups(weights []float32, channels, taps, size int) []float32 {
	n := groupsOf(channels, size)
	w := make([]float32, n*taps*size)
	for g := range n {
		first := firstOf(channels, size, g)
		for i := range min(size, channels) {
			for t := range taps {
				w[(g*taps+t)*size+i] = weights[(first+i)*taps+t]
			}
		}
	}
	return w
}

// biasGroups lays the start of sums out in groups: the bias, or what changes nothing.
func biasGroups(f Fuse, channels, size int) []float32 {
	n := groupsOf(channels, size)
	b := make([]float32, n*size)
	for g := range n {
		to := b[g*size : (g+1)*size]
		switch {
		case f.Bias != nil:
			copy(to, f.Bias[firstOf(channels, size, g):channels])
		case f.Add:
			for i := range to {
				to[i] = float32(math.Copysign(0, -1))
			}
		}
	}
	return b
}

// run convolves.
func (d *depthwise) run(w *Workers, y, x []float32, rows int, v *convInput, f Fuse) {
	j := pixelJob{op: opDepth, v: v, x: x, y: y, channels: d.channels, rows: rows, w: d.w, fuse: f}
	j.bias = biasGroups(f, d.channels, lanes)
	if d.line != nil && (!f.Add || d.channels%depthLine == 0) {
		j.lineW, j.lineBias = d.line, biasGroups(f, d.channels, depthLine)
	}
	j.run(w)
}

// rowKernel is the number of the kernel for results in a row, of 8 pixels; the one for 4 follows it. -1 if there is none.
func (j *pixelJob) rowKernel() int {
	width, stride := len(j.v.axes[2]), j.v.stride[2]
	if j.lineW == nil || !hasDepthRow() || stride > 2 || width > 1 && j.v.axes[2][1] != 1 {
		return -1
	}
	i := map[int]int{3: 0, 5: 4, 7: 8}
	first, ok := i[width]
	if !ok {
		return -1
	}
	return first + 2*(stride-1)
}

// lines does the result pixels from from to to-1 row by row: those at the ends, whose taps are partly outside, as other pixels are,
// the rest 8 or 4 at a time. The last of these may be done twice.
func (s *pixelStrip) lines(from, to int) {
	v := s.j.v
	width, stride := v.out[2], v.stride[2]
	left := min(width, (v.pad[2]+stride-1)/stride) // the first pixel whose taps are all inside, and the first one that follows
	right := min(width, (v.in[2]-len(v.axes[2])+v.pad[2])/stride+1)
	if v.in[2]+v.pad[2] < len(v.axes[2]) {
		right = 0
	}
	for from < to {
		line := from / width * width
		end := min(line+width, to)
		a, b := max(from, line+left), min(end, line+right)
		if b-a < 4 {
			a, b = end, end
		}
		s.span(from, min(a, end))
		done := s.line(a, b)
		s.span(max(done, from), end)
		from = end
	}
}

// line does the pixels from a to b-1 of a row, all inside along the width, and returns the first one that it has left.
func (s *pixelStrip) line(a, b int) int {
	if a >= b {
		return a
	}
	j, v := s.j, s.j.v
	var w [1]convWindow
	v.windows(w[:], a)
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
	step := v.stride[2] * v.pix / 4
	for at := a; at < b; {
		n, shape := 8, j.rowKernel()
		if b-a < 8 {
			n, shape = 4, shape+1
		}
		if b-at < n {
			if j.fuse.Add {
				return at
			}
			at = b - n
		}
		s.lineGroups(j.x[(at-a)*step:], j.y[at*j.channels:], rows, shape)
		at += n
	}
	return b
}

// lineGroups calls the kernel for results in a row for all channels.
func (s *pixelStrip) lineGroups(x, y []float32, rows, shape int) {
	j := s.j
	c := depthCall{at: s.room[:rows], zero: s.zero[:], pix: j.v.pix, stride: j.channels, low: j.fuse.Low, high: j.fuse.High, shape: shape}
	if c.how = 0; j.fuse.Add {
		c.how = 1
	}
	if j.fuse.Clip {
		c.how |= 2
	}
	size := len(j.v.taps) * depthLine
	whole := j.channels / depthLine
	most := max(1, pixelWork/(len(j.v.taps)*8))
	for g := 0; g < whole; g += c.groups {
		c.groups = min(most, whole-g)
		c.x, c.y, c.w, c.bias = x[g*depthLine:], y[g*depthLine:], j.lineW[g*size:], j.lineBias[g*depthLine:]
		c.run()
		safepoint()
	}
	if j.channels%depthLine != 0 {
		first := j.channels - depthLine
		c.groups = 1
		c.x, c.y, c.w, c.bias = x[first:], y[first:], j.lineW[whole*size:], j.lineBias[whole*depthLine:]
		c.run()
	}
}

// depthCall is a call of the kernel for results in a row; see depthRow of gen.
type depthCall struct {
	x, zero   []float32
	at        []int
	pix       int
	y         []float32
	stride    int // floats between results
	groups    int
	w, bias   []float32
	how       int
	low, high float32
	shape     int
}
