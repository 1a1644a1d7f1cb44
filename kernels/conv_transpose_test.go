package kernels

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"
)

// plainTranspose is ConvTranspose.Run as its contract says it.
func plainTranspose(c *ConvTranspose, weights, y, x []float32, n int, in [3]int, f Fuse) {
	s := &c.shape
	ci, co, taps, out := s.In/s.Groups, s.Out/s.Groups, s.taps(), c.OutSize(in)
	inPixels, outPixels := in[0]*in[1]*in[2], out[0]*out[1]*out[2]
	for b := range n {
		eachPixel(out, func(at [3]int, pixel int) {
			for o := range s.Out {
				to := &y[(b*outPixels+pixel)*s.Out+o]
				one := []float32{*to}
				startAlone(one, 1, Fuse{Add: f.Add, Bias: biasOf(f, o)})
				for t := range taps {
					k := [3]int{t / s.Kernel[2] / s.Kernel[1], t / s.Kernel[2] % s.Kernel[1], t % s.Kernel[2]}
					from, meets := 0, true
					for a := range 3 {
						p := at[a] + s.Pad[a][0] - k[a]*s.Dilation[a]
						meets = meets && p%s.Stride[a] == 0
						if p /= s.Stride[a]; from < 0 || p < 0 || p >= in[a] {
							from = -1
							continue
						}
						from = from*in[a] + p
					}
					for i := 0; meets && i < ci; i++ {
						v := float32(0)
						if from >= 0 {
							v = x[(b*inPixels+from)*s.In+o/co*ci+i]
						}
						one[0] = fma32(v, weights[((o/co*ci+i)*co+o%co)*taps+t], one[0])
					}
				}
				if f.Clip {
					bound(one, f.Low, f.High)
				}
				*to = one[0]
			}
		})
	}
}

func biasOf(f Fuse, o int) []float32 {
	if f.Bias == nil {
		return nil
	}
	return f.Bias[o : o+1]
}

// TestConvTranspose: any shape and number of workers gives the bits of the contract.
func TestConvTranspose(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkTranspose(t, teams) }) })
}

func FuzzConvTranspose(f *testing.F) {
	teams := newTeams(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { checkTranspose(t, teams) }))
}

func checkTranspose(t *rapid.T, teams []*Workers) {
	var s ConvShape
	in := drawWindows(t, &s.Kernel, &s.Stride, &s.Dilation, &s.Pad)
	for a := range in {
		in[a] = min(in[a], 7)
	}
	s.Groups = rapid.IntRange(1, 3).Draw(t, "groups")
	s.In, s.Out = s.Groups*rapid.IntRange(1, 9).Draw(t, "in"), s.Groups*rapid.IntRange(1, 20).Draw(t, "out")
	var more [3]int
	for a := range more {
		more[a] = rapid.IntRange(0, 2).Draw(t, "more")
	}
	weights := values(t, "weights", s.In*(s.Out/s.Groups)*s.taps())
	c, err := NewConvTranspose(s, more, weights)
	if err != nil {
		t.Fatal(err)
	}
	out, n := c.OutSize(in), rapid.IntRange(1, 2).Draw(t, "n")
	if out[0]*out[1]*out[2] > 800 {
		t.Skip("too large")
	}
	x, y := exact(t, "x", n*in[0]*in[1]*in[2]*s.In), exact(t, "y", n*out[0]*out[1]*out[2]*s.Out)
	f := drawFuse(t, s.Out)
	want := append([]float32{}, y...)
	plainTranspose(c, weights, want, x, n, in, f)
	c.Run(team(t, teams), y, x, n, in, f)
	sameBits(t, fmt.Sprintf("transposed convolution %+v of %v", s, in), y, want)
}
