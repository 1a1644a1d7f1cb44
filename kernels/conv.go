package kernels

import (
	"fmt"
	"sync"
)

// ConvShape describes a convolution over up to three axes: depth, height, width. One over fewer axes has a kernel of 1
// along the first ones. Zero strides, dilations and groups count as 1.
type ConvShape struct {
	In, Out  int // channels
	Groups   int
	Kernel   [3]int
	Stride   [3]int
	Dilation [3]int
	Pad      [3][2]int // zeros before and after the input; negative ones cut it
}

// Conv is a convolution with its weights packed. It is never changed, and may be used by any number of goroutines.
type Conv struct {
	shape  ConvShape
	groups []*Matrix // of a group: rows are channels of the result, columns taps times channels
	depth  *depthwise
	zero   []float32 // what lies outside of the input
	room   sync.Pool // of *[]int: where the rows of a part are
}

// fill replaces zeros by their meaning.
func (s *ConvShape) fill() {
	s.Groups = max(s.Groups, 1)
	for i := range 3 {
		s.Stride[i], s.Dilation[i] = max(s.Stride[i], 1), max(s.Dilation[i], 1)
	}
}

// taps is the number of positions of the kernel.
func (s *ConvShape) taps() int { return s.Kernel[0] * s.Kernel[1] * s.Kernel[2] }

// check says what is impossible about a shape.
func (s *ConvShape) check(weights int) error {
	if s.Groups < 1 || s.In < 1 || s.Out < 1 || s.In%s.Groups != 0 || s.Out%s.Groups != 0 {
		return fmt.Errorf("%w: a convolution of %d to %d channels in %d groups", ErrShape, s.In, s.Out, s.Groups)
	}
	n := s.Out * (s.In / s.Groups)
	for i, k := range s.Kernel {
		if k < 1 || s.Stride[i] < 1 || s.Dilation[i] < 1 {
			return fmt.Errorf("%w: a kernel of %v, strides %v, dilations %v", ErrShape, s.Kernel, s.Stride, s.Dilation)
		}
		if n *= k; n > maxDim {
			return fmt.Errorf("%w: a kernel of %v with %d channels is too large", ErrShape, s.Kernel, s.Out)
		}
	}
	if n != weights {
		return fmt.Errorf("%w: %d weights for a convolution that needs %d", ErrShape, weights, n)
	}
	return nil
}

// NewConv packs the weights of a convolution, [Out][In/Groups][depth][height][width] as ONNX has them. It fails with
// ErrShape.
func NewConv(s ConvShape, weights []float32) (*Conv, error) {
	s.fill()
	if err := s.check(len(weights)); err != nil {
		return nil, err
	}
	c := &Conv{shape: s, zero: make([]float32, s.In/s.Groups*s.Kernel[2])}
	if s.Groups == s.In && s.In == s.Out && s.taps() <= pixelWork {
		c.depth = packDepth(weights, s.Out, s.taps())
		return c, nil
	}
	taps, in, out := s.taps(), s.In/s.Groups, s.Out/s.Groups
	for g := range s.Groups {
		rows := make([]float32, out*in*taps)
		for o := range out {
			from := weights[(g*out+o)*in*taps:][:in*taps]
			transpose(rows[o*in*taps:], in, from, taps, in, taps)
		}
		c.groups = append(c.groups, PackFloats(nil, nil, rows, in*taps, out, in*taps, false))
	}
	return c, nil
}

// OutSize returns the size of the result for an input of a size; an axis is 0 or less if the kernel does not fit.
func (c *Conv) OutSize(in [3]int) (out [3]int) {
	s := &c.shape
	for i := range 3 {
		room := in[i] + s.Pad[i][0] + s.Pad[i][1] - (s.Kernel[i]-1)*s.Dilation[i] - 1
		if out[i] = room/s.Stride[i] + 1; room < 0 {
			out[i] = 0
		}
	}
	return out
}

// Run convolves n inputs of a size (depth, height, width): x is [n][depth][height][width][In], y [n][...][Out] with the size
// that OutSize returns. An element of y is
//
//	start + sum of x*weight over the taps in order, and for each tap over the channels of its group in order
//
// by one FMA each, from start as GEMM has it; what lies outside of the input counts as zeros and is multiplied like them. y
// must not overlap x. It panics when x, y or the bias are too short.
func (c *Conv) Run(w *Workers, y, x []float32, n int, in [3]int, fuse Fuse) {
	s := &c.shape
	out := c.OutSize(in)
	pixels, rows := n*in[0]*in[1]*in[2], n*out[0]*out[1]*out[2]
	if len(x) < pixels*s.In || len(y) < rows*s.Out || fuse.Bias != nil && len(fuse.Bias) < s.Out {
		panic(fmt.Sprintf("kernels: convolution of %d inputs of %v with %d channels to %d: %d floats, result of %d, bias of %d",
			n, in, s.In, s.Out, len(x), len(y), len(fuse.Bias)))
	}
	if rows <= 0 || min(out[0], out[1], out[2]) <= 0 || pixels == 0 {
		return
	}
	v := newConvInput(s, in, out)
	if c.depth != nil {
		c.depth.run(w, y, x, rows, v, fuse)
		return
	}
	ci, co := s.In/s.Groups, s.Out/s.Groups
	for g, m := range c.groups {
		p := floatProduct{x: x[g*ci:], zero: c.zero, room: &c.room, conv: v, y: y[g*co:], ldy: s.Out, rows: rows, m: m,
			taps: s.taps(), k: ci, fuse: fuse}
		if fuse.Bias != nil {
			p.fuse.Bias = fuse.Bias[g*co : (g+1)*co]
		}
		if v.direct {
			p.conv, p.ldx = nil, s.In
		}
		p.run(w)
	}
}

// convInput says where the windows of a convolution are in its input.
type convInput struct {
	in, out [3]int
	pix     int      // bytes of a pixel
	axes    [3][]int // of each tap along an axis: its distance from the window's origin
	low     [3]int   // the first and last of them
	high    [3]int
	stride  [3]int
	pad     [3]int // the origin of the first window is at -pad
	taps    []int  // of each tap: bytes from the window's origin
	merged  int    // taps along the width whose channels follow each other in memory, if there are several and they are short
	direct  bool   // result pixel i has the one tap at input pixel i
}

// newConvInput lays out a convolution.
func newConvInput(s *ConvShape, in, out [3]int) *convInput {
	v := &convInput{in: in, out: out, pix: 4 * s.In, stride: s.Stride}
	for i := range 3 {
		v.pad[i] = s.Pad[i][0]
		for k := range s.Kernel[i] {
			v.axes[i] = append(v.axes[i], k*s.Dilation[i])
		}
	}
	v.layOut()
	if k := s.Kernel[2]; k > 1 && s.Groups == 1 && s.Dilation[2] == 1 && k*s.In <= floatStretch/2 {
		v.merged = k
	}
	v.direct = s.taps() == 1 && s.Stride == [3]int{1, 1, 1} && s.Pad == [3][2]int{}
	return v
}

// layOut computes what follows from the axes.
func (v *convInput) layOut() {
	for i, taps := range v.axes {
		v.low[i], v.high[i] = min(taps[0], taps[len(taps)-1]), max(taps[0], taps[len(taps)-1])
	}
	for _, z := range v.axes[0] {
		for _, y := range v.axes[1] {
			for _, x := range v.axes[2] {
				v.taps = append(v.taps, ((z*v.in[1]+y)*v.in[2]+x)*v.pix)
			}
		}
	}
}

// convWindow is where the taps of a result pixel are: the origin, in pixels along the axes of its input and in bytes, and whether
// all taps are inside along each axis.
type convWindow struct {
	at     [3]int
	bytes  int
	inside [3]bool
}

// convCursor is a result pixel.
type convCursor struct{ n, z, y, x int }

// cursor finds a result pixel by its number.
func (v *convInput) cursor(pixel int) convCursor {
	line, plane := pixel/v.out[2], pixel/v.out[2]/v.out[1]
	return convCursor{n: plane / v.out[0], z: plane % v.out[0], y: line % v.out[1], x: pixel % v.out[2]}
}

// windows finds the windows of result pixels from a cursor on, and moves it behind them.
func (v *convInput) windows(ws []convWindow, c *convCursor) {
	var line convWindow
	fresh := true
	for i := range ws {
		if fresh {
			line.at = [3]int{c.z*v.stride[0] - v.pad[0], c.y*v.stride[1] - v.pad[1], c.x*v.stride[2] - v.pad[2]}
			line.bytes = (((c.n*v.in[0]+line.at[0])*v.in[1]+line.at[1])*v.in[2] + line.at[2]) * v.pix
			for a := range 2 {
				line.inside[a] = line.at[a]+v.low[a] >= 0 && line.at[a]+v.high[a] < v.in[a]
			}
			fresh = false
		}
		line.inside[2] = line.at[2]+v.low[2] >= 0 && line.at[2]+v.high[2] < v.in[2]
		ws[i] = line
		line.at[2] += v.stride[2]
		line.bytes += v.stride[2] * v.pix
		if c.x++; c.x == v.out[2] {
			fresh, c.x = true, 0
			if c.y++; c.y == v.out[1] {
				c.y = 0
				if c.z++; c.z == v.out[0] {
					c.z, c.n = 0, c.n+1
				}
			}
		}
	}
}

// locate writes where each tap of some result pixels from a cursor on is, which it moves behind them: at[tap*rows+r], in bytes. If the taps along the width of all
// pixels are one piece each, it writes the first ones of these only. It returns how many taps a piece has.
func (v *convInput) locate(at []int, c *convCursor, rows int) int {
	if v.locateInside(at, c, rows) {
		return max(v.merged, 1)
	}
	var room [maxFloatRows]convWindow
	ws := room[:rows]
	v.windows(ws, c)
	merged := max(v.merged, 1)
	for r := range ws {
		if !ws[r].inside[2] {
			merged = 1
		}
	}
	v.locateEdge(at, ws, merged)
	return merged
}

// locateInside is locate for pixels of one row whose taps are all inside, which most are; it says whether they are.
func (v *convInput) locateInside(at []int, c *convCursor, rows int) bool {
	if c.x+rows > v.out[2] {
		return false
	}
	first := [3]int{c.z*v.stride[0] - v.pad[0], c.y*v.stride[1] - v.pad[1], c.x*v.stride[2] - v.pad[2]}
	for a, p := range first {
		if p+v.low[a] < 0 || p+v.high[a] >= v.in[a] {
			return false
		}
	}
	if first[2]+(rows-1)*v.stride[2]+v.high[2] >= v.in[2] {
		return false
	}
	base, step := (((c.n*v.in[0]+first[0])*v.in[1]+first[1])*v.in[2]+first[2])*v.pix, v.stride[2]*v.pix
	for t := 0; t < len(v.taps); t += max(v.merged, 1) {
		o := base + v.taps[t]
		for r := range at[:rows] {
			at[r] = o
			o += step
		}
		at = at[rows:]
	}
	if c.x += rows; c.x == v.out[2] {
		*c = v.cursor(((c.n*v.out[0]+c.z)*v.out[1] + c.y + 1) * v.out[2])
	}
	return true
}

// locateEdge is locate for windows that are partly outside.
func (v *convInput) locateEdge(at []int, ws []convWindow, merged int) {
	t := 0
	for _, z := range v.axes[0] {
		for _, y := range v.axes[1] {
			for i := 0; i < len(v.axes[2]); i += merged {
				for r := range ws {
					w := &ws[r]
					at[r] = w.bytes + v.taps[t]
					if !inside(w.at[0]+z, v.in[0]) || !inside(w.at[1]+y, v.in[1]) || merged == 1 && !inside(w.at[2]+v.axes[2][i], v.in[2]) {
						at[r] = outside
					}
				}
				at = at[len(ws):]
				t += merged
			}
		}
	}
}

func inside(i, n int) bool { return uint(i) < uint(n) }
