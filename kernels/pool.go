package kernels

import "fmt"

// PoolShape describes the windows of a pooling over up to three axes: depth, height, width. One over fewer axes has a
// kernel of 1 along the first ones. Zero strides and dilations count as 1.
type PoolShape struct {
	Kernel   [3]int
	Stride   [3]int
	Dilation [3]int
	Pad      [3][2]int // before and after the input
	Ceil     bool      // a last window that reaches beyond the padding counts, if it begins before the padding after the input
}

// shape is the same as that of a convolution of each channel by itself.
func (s PoolShape) shape(channels int) ConvShape {
	c := ConvShape{In: channels, Out: channels, Groups: channels, Kernel: s.Kernel, Stride: s.Stride, Dilation: s.Dilation, Pad: s.Pad}
	c.fill()
	return c
}

// OutSize returns the size of the result for an input of a size; an axis is 0 if the window does not fit.
func (s PoolShape) OutSize(in [3]int) (out [3]int) {
	c := s.shape(1)
	for i := range 3 {
		room := in[i] + c.Pad[i][0] + c.Pad[i][1] - (c.Kernel[i]-1)*c.Dilation[i] - 1
		if room < 0 {
			continue
		}
		out[i] = room/c.Stride[i] + 1
		if s.Ceil && room%c.Stride[i] != 0 && out[i]*c.Stride[i] < in[i]+c.Pad[i][0] {
			out[i]++
		}
	}
	return out
}

// MaxPool writes the maximum of each window of n inputs of a size (depth, height, width): x is
// [n][depth][height][width][channels], y the same with the size that OutSize returns. Padding is left out; a window with
// nothing else gives -Inf. A window that holds a NaN gives NaN. It panics when x or y is too short.
func MaxPool(w *Workers, y, x []float32, n, channels int, in [3]int, s PoolShape) {
	pool(w, &pixelJob{op: opMax, x: x, y: y, channels: channels}, n, in, s)
}

// MeanPool writes the mean of each window, laid out as MaxPool has it: the sum of its elements, added in order from zero on,
// divided by their number. With countPad padding counts as zeros (but not what a last window of Ceil has beyond it);
// without, it is left out. The mean of nothing is NaN.
func MeanPool(w *Workers, y, x []float32, n, channels int, in [3]int, s PoolShape, countPad bool) {
	pool(w, &pixelJob{op: opMean, x: x, y: y, channels: channels, countPad: countPad}, n, in, s)
}

// pool does a pooling.
func pool(w *Workers, j *pixelJob, n int, in [3]int, s PoolShape) {
	c, out := s.shape(j.channels), s.OutSize(in)
	pixels := n * in[0] * in[1] * in[2]
	j.rows = n * out[0] * out[1] * out[2]
	if min(c.Kernel[0], c.Kernel[1], c.Kernel[2]) < 1 || j.channels < 0 || n < 0 || len(j.x) < pixels*j.channels || len(j.y) < j.rows*j.channels {
		panic(fmt.Sprintf("kernels: pooling %d inputs of %v with %d channels by windows of %v: %d floats, result of %d",
			n, in, j.channels, s.Kernel, len(j.x), len(j.y)))
	}
	if j.rows <= 0 || j.channels == 0 || pixels == 0 {
		return
	}
	j.v = newConvInput(&c, in, out)
	for i := range 3 {
		j.after[i] = c.Pad[i][1]
	}
	j.run(w)
}

// counts writes how many taps the mean of each row is divided by.
func (j *pixelJob) counts(count []float32, at []int, first int) {
	var room [pixelRows]convWindow
	if j.countPad {
		cursor := j.v.cursor(first)
		j.v.windows(room[:len(count)], &cursor)
	}
	for r := range count {
		n := 0
		if j.countPad {
			n = 1
			for a, taps := range j.v.axes {
				in := 0
				for _, t := range taps {
					if room[r].at[a]+t < j.v.in[a]+j.after[a] {
						in++
					}
				}
				n *= in
			}
		} else {
			for t := r; t < len(at); t += len(count) {
				if at[t] >= 0 {
					n++
				}
			}
		}
		count[r] = float32(n)
	}
}
