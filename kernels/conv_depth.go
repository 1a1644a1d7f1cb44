package kernels

import "math"

// depthwise is the packed form of a convolution of each channel by itself.
type depthwise struct {
	channels int
	w        []float32 // [blocks][taps][16 channels]
}

// depthBlocks is the number of blocks of 16 channels. The last one overlaps the one before if the channels are no multiple
// of 16, so that it is full; if there are fewer than 16 channels, it is filled up with zeros.
func depthBlocks(channels int) int { return (channels + lanes - 1) / lanes }

// depthFirst is the first channel of a block.
func depthFirst(channels, block int) int { return max(0, min(block*lanes, channels-lanes)) }

// packDepth packs weights [channel][tap].
func packDepth(weights []float32, channels, taps int) *depthwise {
	d := &depthwise{channels: channels, w: make([]float32, depthBlocks(channels)*taps*lanes)}
	for b := range depthBlocks(channels) {
		first := depthFirst(channels, b)
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
	j.bias = make([]float32, depthBlocks(d.channels)*lanes)
	for b := range depthBlocks(d.channels) {
		to := j.bias[b*lanes : (b+1)*lanes]
		switch {
		case f.Bias != nil:
			first := depthFirst(d.channels, b)
			copy(to, f.Bias[first:d.channels])
		case f.Add:
			for i := range to {
				to[i] = float32(math.Copysign(0, -1))
			}
		}
	}
	j.run(w)
}
