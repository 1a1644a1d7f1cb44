package kernels

import (
	"fmt"
	"sync"
)

// ConvTranspose is a transposed convolution with its weights packed: what an input pixel adds to the result is spread by the
// kernel (Zeiler et al., "Deconvolutional Networks", 2010). It is never changed, and may be used by any number of goroutines.
type ConvTranspose struct {
	shape  ConvShape
	more   [3]int
	phases [][]*Matrix // by the number of a phase, then of a group; nil where no tap falls
	zero   []float32
	room   sync.Pool
}

// A phase is the results whose distances from the padding's start have the same remainders by the strides: the same taps meet
// each of them, and neighbours among them have neighbouring inputs, so that each phase is a convolution with stride 1.

// NewConvTranspose packs the weights of a transposed convolution, [In][Out/Groups][depth][height][width] as ONNX has them; more
// is ONNX's output_padding. It fails with ErrShape.
func NewConvTranspose(s ConvShape, more [3]int, weights []float32) (*ConvTranspose, error) {
	s.fill()
	turned := s // the check of a convolution the other way round
	turned.In, turned.Out = s.Out, s.In
	if err := turned.check(len(weights)); err != nil {
		return nil, err
	}
	if min(more[0], more[1], more[2]) < 0 {
		return nil, fmt.Errorf("%w: %v more pixels of result", ErrShape, more)
	}
	c := &ConvTranspose{shape: s, more: more, zero: make([]float32, s.In/s.Groups)}
	for p := range s.Stride[0] * s.Stride[1] * s.Stride[2] {
		c.phases = append(c.phases, c.packPhase(p, weights))
	}
	return c, nil
}

// remainders are those of a phase along the axes.
func (c *ConvTranspose) remainders(phase int) [3]int {
	s := c.shape.Stride
	return [3]int{phase / s[2] / s[1], phase / s[2] % s[1], phase % s[2]}
}

// tapsOf returns the taps of an axis that meet results of a remainder.
func (c *ConvTranspose) tapsOf(axis, remainder int) (taps []int) {
	s := &c.shape
	for k := range s.Kernel[axis] {
		if k*s.Dilation[axis]%s.Stride[axis] == remainder {
			taps = append(taps, k)
		}
	}
	return taps
}

// packPhase packs the weights of the taps of a phase.
func (c *ConvTranspose) packPhase(phase int, weights []float32) (groups []*Matrix) {
	s, rem := &c.shape, c.remainders(phase)
	var taps []int
	for _, z := range c.tapsOf(0, rem[0]) {
		for _, y := range c.tapsOf(1, rem[1]) {
			for _, x := range c.tapsOf(2, rem[2]) {
				taps = append(taps, (z*s.Kernel[1]+y)*s.Kernel[2]+x)
			}
		}
	}
	if len(taps) == 0 {
		return nil
	}
	ci, co, all := s.In/s.Groups, s.Out/s.Groups, s.taps()
	for g := range s.Groups {
		rows := make([]float32, 0, co*len(taps)*ci)
		for o := range co {
			for _, t := range taps {
				for i := range ci {
					rows = append(rows, weights[((g*ci+i)*co+o)*all+t])
				}
			}
		}
		groups = append(groups, PackFloats(nil, nil, rows, len(taps)*ci, co, len(taps)*ci, false))
	}
	return groups
}

// OutSize returns the size of the result for an input of a size; an axis is 0 if nothing is left of it.
func (c *ConvTranspose) OutSize(in [3]int) (out [3]int) {
	s := &c.shape
	for i := range 3 {
		out[i] = max(0, (in[i]-1)*s.Stride[i]+(s.Kernel[i]-1)*s.Dilation[i]+1+c.more[i]-s.Pad[i][0]-s.Pad[i][1])
	}
	return out
}

// Run computes n results: x is [n][depth][height][width][In], y [n][...][Out] with the size that OutSize returns. An element of y
// is start + the sum of x*weight over the taps that meet it in order, and for each over the channels of its group in order, by
// one FMA each, as Conv.Run has it. y must not overlap x. It panics when x, y or the bias are too short.
func (c *ConvTranspose) Run(w *Workers, y, x []float32, n int, in [3]int, fuse Fuse) {
	s := &c.shape
	out := c.OutSize(in)
	pixels, rows := n*in[0]*in[1]*in[2], n*out[0]*out[1]*out[2]
	if len(x) < pixels*s.In || len(y) < rows*s.Out || fuse.Bias != nil && len(fuse.Bias) < s.Out {
		panic(fmt.Sprintf("kernels: transposed convolution of %d inputs of %v with %d channels to %d: %d floats, result of %d, bias of %d",
			n, in, s.In, s.Out, len(x), len(y), len(fuse.Bias)))
	}
	if rows <= 0 || pixels <= 0 {
		return
	}
	for p, groups := range c.phases {
		t := c.phase(p, in, out)
		if t.n = n * t.v.out[0] * t.v.out[1] * t.v.out[2]; t.n == 0 {
			continue
		}
		buf := make([]float32, t.n*s.Out)
		if fuse.Add {
			t.move(w, y, buf, s.Out, false)
		}
		if groups == nil {
			startAlone(buf, s.Out, fuse)
		} else {
			c.multiply(w, buf, x, &t, groups, fuse)
		}
		t.move(w, y, buf, s.Out, true)
	}
}

// multiply convolves a phase.
func (c *ConvTranspose) multiply(w *Workers, y, x []float32, t *phaseInput, groups []*Matrix, fuse Fuse) {
	s := &c.shape
	ci, co := s.In/s.Groups, s.Out/s.Groups
	for g, m := range groups {
		p := floatProduct{x: x[g*ci:], zero: c.zero, room: &c.room, conv: &t.v, y: y[g*co:], ldy: s.Out, rows: t.n, m: m,
			taps: len(t.v.taps), k: ci, fuse: fuse}
		if fuse.Bias != nil {
			p.fuse.Bias = fuse.Bias[g*co : (g+1)*co]
		}
		p.run(w)
	}
}

// startAlone is a product of no terms.
func startAlone(y []float32, cols int, f Fuse) {
	for i := 0; i < len(y); i += cols {
		row := y[i : i+cols]
		if !f.Add {
			clear(row)
		}
		for k := range row {
			switch {
			case f.Bias != nil && f.Add:
				row[k] += f.Bias[k]
			case f.Bias != nil:
				row[k] = f.Bias[k]
			}
		}
		if f.Clip {
			bound(row, f.Low, f.High)
		}
	}
}

// phaseInput is a phase: where its taps are, and which results it has.
type phaseInput struct {
	v             convInput
	n             int    // results
	first, stride [3]int // of them along the axes
	size          [3]int // of the whole result
}

// phase lays out a phase for an input and a result.
func (c *ConvTranspose) phase(phase int, in, out [3]int) phaseInput {
	s := &c.shape
	t := phaseInput{stride: s.Stride, size: out, v: convInput{in: in, pix: 4 * s.In, stride: [3]int{1, 1, 1}}}
	for a, rem := range c.remainders(phase) {
		o := (rem - s.Pad[a][0]) % s.Stride[a]
		if o < 0 {
			o += s.Stride[a]
		}
		t.first[a] = o
		if o < out[a] {
			t.v.out[a] = (out[a]-1-o)/s.Stride[a] + 1
		}
		for _, k := range c.tapsOf(a, rem) {
			t.v.axes[a] = append(t.v.axes[a], (o+s.Pad[a][0]-k*s.Dilation[a])/s.Stride[a])
		}
	}
	if c.phases[phase] != nil {
		t.v.layOut()
	}
	return t
}

// move copies the results of a phase from buf to y, or the other way.
func (t *phaseInput) move(w *Workers, y, buf []float32, channels int, toY bool) {
	parts := max(1, min(4*w.N(), t.n*channels>>14))
	w.Do(parts, func(part int) {
		at := t.n * part / parts
		cursor := t.v.cursor(at)
		for ; at < t.n*(part+1)/parts; at++ {
			c := &cursor
			o := ((c.n*t.size[0]+t.first[0]+c.z*t.stride[0])*t.size[1]+t.first[1]+c.y*t.stride[1])*t.size[2] + t.first[2] + c.x*t.stride[2]
			to, from := y[o*channels:(o+1)*channels], buf[at*channels:(at+1)*channels]
			if !toY {
				to, from = from, to
			}
			copy(to, from)
			if at%256 == 0 {
				safepoint()
			}
			if c.x++; c.x == t.v.out[2] {
				*c = t.v.cursor(at + 1)
			}
		}
	})
}
