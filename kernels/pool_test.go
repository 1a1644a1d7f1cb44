package kernels

import (
	"fmt"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// plainPool is MaxPool and MeanPool as their contracts say it.
func plainPool(x []float32, n, channels int, in [3]int, s PoolShape, mean, countPad bool) (y []float32) {
	out, size := s.OutSize(in), in[0]*in[1]*in[2]
	for b := range n {
		eachPixel(out, func(at [3]int, _ int) {
			for i := range channels {
				high, sum, count := float32(math.Inf(-1)), float32(0), 0
				eachTap(s.Kernel, s.Stride, s.Dilation, s.Pad, in, at, func(tap, pixel int) {
					if pixel < 0 {
						return
					}
					v := x[(b*size+pixel)*channels+i]
					if v > high || v != v {
						high = v
					}
					sum, count = sum+v, count+1
				})
				if countPad { // those within the input and its padding
					padded := in
					for a := range 3 {
						padded[a] += s.Pad[a][0] + s.Pad[a][1]
					}
					count = 0
					eachTap(s.Kernel, s.Stride, s.Dilation, [3][2]int{}, padded, at, func(_, pixel int) {
						if pixel >= 0 {
							count++
						}
					})
				}
				if mean {
					high = sum / float32(count)
				}
				y = append(y, high)
			}
		})
	}
	return y
}

// TestPools: any shape and number of workers gives the bits of the contract.
func TestPools(t *testing.T) {
	teams := newTeams(t)
	eachImpl(t, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { checkPools(t, teams) }) })
}

func FuzzPools(f *testing.F) {
	teams := newTeams(f)
	f.Fuzz(rapid.MakeFuzz(func(t *rapid.T) { checkPools(t, teams) }))
}

func checkPools(t *rapid.T, teams []*Workers) {
	var s PoolShape
	in := drawWindows(t, &s.Kernel, &s.Stride, &s.Dilation, &s.Pad)
	s.Ceil = rapid.Bool().Draw(t, "ceil")
	n, channels := rapid.IntRange(1, 2).Draw(t, "n"), rapid.IntRange(1, 70).Draw(t, "channels")
	x := exact(t, "x", n*in[0]*in[1]*in[2]*channels)
	out, w := s.OutSize(in), team(t, teams)
	y := make([]float32, n*out[0]*out[1]*out[2]*channels)
	MaxPool(w, y, x, n, channels, in, s)
	sameBits(t, fmt.Sprintf("maxima %+v of %v", s, in), y, plainPool(x, n, channels, in, s, false, false))
	for _, countPad := range []bool{false, true} {
		MeanPool(w, y, x, n, channels, in, s, countPad)
		sameBits(t, fmt.Sprintf("means %+v of %v", s, in), y, plainPool(x, n, channels, in, s, true, countPad))
	}
}

// TestPoolLong: windows too long for one call of a kernel, over all of an input.
func TestPoolLong(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	eachImpl(t, func(t *testing.T) {
		for _, channels := range []int{3, 16, 21} {
			in := [3]int{1, 150, 160}
			s := PoolShape{Kernel: in, Pad: [3][2]int{{}, {1, 0}, {0, 2}}}
			x := normals(1, in[1]*in[2]*channels)
			out := s.OutSize(in)
			y := make([]float32, out[0]*out[1]*out[2]*channels)
			MaxPool(w, y, x, 1, channels, in, s)
			sameBits(t, "maxima", y, plainPool(x, 1, channels, in, s, false, false))
			MeanPool(w, y, x, 1, channels, in, s, true)
			sameBits(t, "means", y, plainPool(x, 1, channels, in, s, true, true))
		}
	})
}

// TestPoolSizes: the sizes that ONNX gives.
func TestPoolSizes(t *testing.T) {
	for _, c := range []struct {
		kernel, stride, pad, in int
		ceil                    bool
		want                    int
	}{
		{3, 2, 1, 112, false, 56}, {3, 2, 0, 112, false, 55}, {3, 2, 0, 112, true, 56}, {2, 2, 0, 5, true, 3}, {2, 2, 0, 5, false, 2},
		{5, 1, 0, 4, false, 0}, {1, 3, 0, 5, true, 2}, {2, 3, 1, 4, true, 2}, // a third window would begin in the padding
	} {
		s := PoolShape{Kernel: [3]int{1, 1, c.kernel}, Stride: [3]int{1, 1, c.stride}, Pad: [3][2]int{{}, {}, {c.pad, c.pad}}, Ceil: c.ceil}
		if got := s.OutSize([3]int{1, 1, c.in})[2]; got != c.want {
			t.Errorf("%+v: %d, want %d", c, got, c.want)
		}
	}
}
