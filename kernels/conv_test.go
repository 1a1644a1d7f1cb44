package kernels

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// drawConv draws the shape of a convolution and the size of its inputs.
func drawConv(t *rapid.T) (s ConvShape, in [3]int) {
	s.Groups = rapid.SampledFrom([]int{1, 1, 2, 3}).Draw(t, "groups")
	most := rapid.SampledFrom([]int{4, 20, 70}).Draw(t, "most channels")
	s.In, s.Out = s.Groups*rapid.IntRange(1, most).Draw(t, "in"), s.Groups*rapid.IntRange(1, 40).Draw(t, "out")
	if rapid.IntRange(0, 2).Draw(t, "depthwise") == 0 {
		s.Groups = rapid.IntRange(1, 70).Draw(t, "channels")
		s.In, s.Out = s.Groups, s.Groups
	}
	in = drawWindows(t, &s.Kernel, &s.Stride, &s.Dilation, &s.Pad)
	return s, in
}

// drawWindows draws windows over up to three axes, and the size of an input.
func drawWindows(t *rapid.T, kernel, stride, dilation *[3]int, pad *[3][2]int) (in [3]int) {
	axes := rapid.SampledFrom([]int{1, 2, 2, 2, 3}).Draw(t, "axes")
	for i := range 3 {
		kernel[i], in[i] = 1, 1
		if i < 3-axes {
			continue
		}
		kernel[i] = rapid.SampledFrom([]int{1, 2, 3, 3, 4, 5, 7}).Draw(t, "kernel")
		stride[i], dilation[i] = rapid.IntRange(0, 3).Draw(t, "stride"), rapid.IntRange(0, 2).Draw(t, "dilation")
		pad[i] = [2]int{rapid.IntRange(0, 3).Draw(t, "pad"), rapid.IntRange(0, 3).Draw(t, "pad after")}
		in[i] = rapid.IntRange(1, []int{4, 9, 26}[i]).Draw(t, "size")
	}
	return in
}

// eachTap calls f for each tap of a result pixel in order, with the input pixel or -1 outside.
func eachTap(kernel, stride, dilation [3]int, pad [3][2]int, in, at [3]int, f func(tap, pixel int)) {
	tap := 0
	for z := range kernel[0] {
		for y := range kernel[1] {
			for x := range kernel[2] {
				pixel := 0
				for i, k := range [3]int{z, y, x} {
					p := at[i]*max(stride[i], 1) - pad[i][0] + k*max(dilation[i], 1)
					if p < 0 || p >= in[i] {
						pixel = -1
						break
					}
					pixel = pixel*in[i] + p
				}
				f(tap, pixel)
				tap++
			}
		}
	}
}

// eachPixel calls f for each pixel of a size.
func eachPixel(size [3]int, f func(at [3]int, pixel int)) {
	for p := range size[0] * size[1] * size[2] {
		f([3]int{p / size[2] / size[1], p / size[2] % size[1], p % size[2]}, p)
	}
}

// plainConv is Run as its contract says it. If sums is not nil, it gets float64 sums and those of magnitudes.
func plainConv(c *Conv, weights, y, x []float32, n int, in [3]int, f Fuse, sums *[2][]float64) {
	s := &c.shape
	ci, co, taps := s.In/s.Groups, s.Out/s.Groups, s.taps()
	out := c.OutSize(in)
	inPixels, outPixels := in[0]*in[1]*in[2], out[0]*out[1]*out[2]
	for b := range n {
		eachPixel(out, func(at [3]int, pixel int) {
			for o := range s.Out {
				to := &y[(b*outPixels+pixel)*s.Out+o]
				sum := float32(0)
				switch {
				case f.Add && f.Bias != nil:
					sum = *to + f.Bias[o]
				case f.Add:
					sum = *to
				case f.Bias != nil:
					sum = f.Bias[o]
				}
				exactly, size := float64(sum), math.Abs(float64(sum))
				eachTap(s.Kernel, s.Stride, s.Dilation, s.Pad, in, at, func(tap, from int) {
					for i := range ci {
						v := float32(0)
						if from >= 0 {
							v = x[(b*inPixels+from)*s.In+o/co*ci+i]
						}
						w := weights[(o*ci+i)*taps+tap]
						sum = fma32(v, w, sum)
						exactly += float64(v) * float64(w)
						size += math.Abs(float64(v) * float64(w))
					}
				})
				one := []float32{sum}
				if f.Clip {
					bound(one, f.Low, f.High)
				}
				*to = one[0]
				if sums != nil {
					sums[0], sums[1] = append(sums[0], exactly), append(sums[1], size)
				}
			}
		})
	}
}

// TestConv: any shape and number of workers gives the bits of the contract.
func TestConv(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkConv(t, teams) }) })
}

func FuzzConv(f *testing.F) {
	teams := newTeams(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { checkConv(t, teams) }))
}

func checkConv(t *rapid.T, teams []*Workers) {
	s, in := drawConv(t)
	weights := values(t, "weights", s.Out*(s.In/s.Groups)*s.taps())
	c, err := NewConv(s, weights)
	if err != nil {
		t.Fatal(err)
	}
	out, n := c.OutSize(in), rapid.IntRange(1, 2).Draw(t, "n")
	x := exact(t, "x", n*in[0]*in[1]*in[2]*s.In)
	y := exact(t, "y", n*max(0, out[0]*out[1]*out[2])*s.Out)
	f := drawFuse(t, s.Out)
	want := append([]float32{}, y...)
	plainConv(c, weights, want, x, n, in, f, nil)
	c.Run(team(t, teams), y, x, n, in, f)
	sameBits(t, fmt.Sprintf("convolution %+v of %v", s, in), y, want)
}

// TestConvOracle: results are within (terms+1) * 2^-24 of the sum of magnitudes, the bound of a chain of roundings.
func TestConvOracle(t *testing.T) {
	w := NewWorkers(1)
	defer w.Close()
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			s, in := drawConv(t)
			weights := normals(rapid.Uint64().Draw(t, "weights"), s.Out*(s.In/s.Groups)*s.taps())
			c, err := NewConv(s, weights)
			if err != nil {
				t.Fatal(err)
			}
			out := c.OutSize(in)
			x := normals(rapid.Uint64().Draw(t, "x"), in[0]*in[1]*in[2]*s.In)
			y := make([]float32, max(0, out[0]*out[1]*out[2])*s.Out)
			var sums [2][]float64
			plainConv(c, weights, append([]float32{}, y...), x, 1, in, Fuse{}, &sums)
			c.Run(w, y, x, 1, in, Fuse{})
			terms := float64(s.taps()*s.In/s.Groups + 1)
			for i, v := range y {
				if e := math.Abs(float64(v) - sums[0][i]); e > terms*0x1p-24*sums[1][i] {
					t.Fatalf("element %d is %g, want %g: error %g of magnitudes %g", i, v, sums[0][i], e, sums[1][i])
				}
			}
		})
	})
}

func TestConvShapes(t *testing.T) {
	for _, s := range []ConvShape{
		{In: 3, Out: 4, Groups: 2, Kernel: [3]int{1, 1, 1}},
		{In: 0, Out: 4, Kernel: [3]int{1, 1, 1}},
		{In: 1, Out: 1, Kernel: [3]int{1, 0, 1}},
		{In: 1, Out: 1, Kernel: [3]int{1, 1, 1}, Stride: [3]int{1, -2, 1}},
		{In: 1 << 20, Out: 1 << 20, Kernel: [3]int{1, 3, 3}},
		{In: 2, Out: 2, Kernel: [3]int{1, 3, 3}}, // 36 weights
	} {
		if _, err := NewConv(s, make([]float32, 8)); err == nil {
			t.Errorf("%+v with 8 weights is no error", s)
		}
	}
}

// TestLayouts: both directions, at any size, and back.
func TestLayouts(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	eachImpl(t, func(t *testing.T) {
		rapid.Check(t, func(t *rapid.T) {
			n, c, p := rapid.IntRange(0, 2).Draw(t, "n"), rapid.IntRange(1, 60).Draw(t, "channels"), rapid.IntRange(1, 700).Draw(t, "pixels")
			x := normals(1, n*c*p)
			y, back := make([]float32, len(x)), make([]float32, len(x))
			ChannelsLast(w, y, x, n, c, p)
			for i, v := range x {
				if at := i/(c*p)*c*p + i%p*c + i/p%c; y[at] != v {
					t.Fatalf("element %d is not at %d", i, at)
				}
			}
			ChannelsFirst(w, back, y, n, c, p)
			sameBits(t, "there and back", back, x)
		})
	})
}
