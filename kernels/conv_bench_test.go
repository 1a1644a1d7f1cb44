package kernels

import (
	"fmt"
	"testing"
)

// convShape is a square convolution over images.
func convShape(in, out, kernel, stride, groups int) ConvShape {
	p := kernel / 2
	return ConvShape{In: in, Out: out, Groups: groups, Kernel: [3]int{1, kernel, kernel}, Stride: [3]int{1, stride, stride},
		Pad: [3][2]int{{}, {p, p}, {p, p}}}
}

// BenchmarkConv has layers of ResNet and MobileNet, on one worker.
func BenchmarkConv(b *testing.B) {
	w := NewWorkers(1)
	for _, l := range []struct{ size, in, out, kernel, stride, groups int }{
		{56, 64, 64, 3, 1, 1}, {28, 128, 128, 3, 1, 1}, {14, 256, 256, 3, 1, 1}, {7, 512, 512, 3, 1, 1},
		{224, 3, 64, 7, 2, 1}, {224, 3, 32, 3, 2, 1}, {56, 64, 256, 1, 1, 1}, {28, 128, 512, 1, 1, 1}, {56, 256, 512, 1, 2, 1},
		{112, 32, 64, 1, 1, 1}, {56, 128, 128, 1, 1, 1}, {14, 512, 512, 1, 1, 1}, {7, 1024, 1024, 1, 1, 1},
		{112, 32, 32, 3, 1, 32}, {112, 64, 64, 3, 2, 64}, {56, 128, 128, 3, 1, 128}, {28, 256, 256, 3, 1, 256}, {14, 512, 512, 3, 1, 512}, {14, 72, 72, 5, 1, 72},
	} {
		b.Run(fmt.Sprintf("%dx%dx%d/%d/k%ds%dg%d", l.size, l.size, l.in, l.out, l.kernel, l.stride, l.groups), func(b *testing.B) {
			s := convShape(l.in, l.out, l.kernel, l.stride, l.groups)
			weights := normals(1, l.out*l.in/l.groups*l.kernel*l.kernel)
			c, err := NewConv(s, weights)
			if err != nil {
				b.Fatal(err)
			}
			in := [3]int{1, l.size, l.size}
			out := c.OutSize(in)
			x, y := normals(2, l.size*l.size*l.in), make([]float32, out[1]*out[2]*l.out)
			f := Fuse{Bias: normals(3, l.out), Clip: true, High: 6}
			eachFast(b, func(b *testing.B) {
				flops(b, 2*len(y)*l.in/l.groups*l.kernel*l.kernel, func() { c.Run(w, y, x, 1, in, f) })
			})
		})
	}
}

// BenchmarkPool has a ResNet's, and a change of layout for comparison.
func BenchmarkPool(b *testing.B) {
	w := NewWorkers(1)
	x := normals(1, 112*112*64)
	y := make([]float32, len(x))
	three := PoolShape{Kernel: [3]int{1, 3, 3}, Stride: [3]int{1, 2, 2}, Pad: [3][2]int{{}, {1, 1}, {1, 1}}}
	all := PoolShape{Kernel: [3]int{1, 7, 7}}
	b.Run("Max3x3s2/112x112x64", func(b *testing.B) {
		perElement(b, len(x), func() { MaxPool(w, y, x, 1, 64, [3]int{1, 112, 112}, three) })
	})
	b.Run("Mean3x3s2/112x112x64", func(b *testing.B) {
		perElement(b, len(x), func() { MeanPool(w, y, x, 1, 64, [3]int{1, 112, 112}, three, false) })
	})
	b.Run("MeanAll/7x7x2048", func(b *testing.B) {
		perElement(b, 7*7*2048, func() { MeanPool(w, y, x, 1, 2048, [3]int{1, 7, 7}, all, false) })
	})
	b.Run("ChannelsLast/112x112x64", func(b *testing.B) { perElement(b, len(x), func() { ChannelsLast(w, y, x, 1, 64, 112*112) }) })
	b.Run("ChannelsFirst/112x112x64", func(b *testing.B) { perElement(b, len(x), func() { ChannelsFirst(w, y, x, 1, 64, 112*112) }) })
}
