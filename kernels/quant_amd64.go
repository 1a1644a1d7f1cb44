//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{
	generic:  genericQuant,
	avx2:     avx2Impl(cpu.X86.HasAVXVNNI),
	avx512bw: {tile: 8, quantize: quantizeAVX2, panel: panelAVX512BW},
	avx512:   {tile: 12, quantize: quantizeAVX512, panel: panelAVX512},
}

// avx2Impl returns the products of AVX2, with or without AVX-VNNI.
func avx2Impl(vnni bool) quantImpl {
	if vnni {
		return quantImpl{tile: 4, quantize: quantizeAVX512, panel: panelVNNI}
	}
	return quantImpl{tile: 4, quantize: quantizeAVX2, panel: panelAVX2, wide: &wideImpl{
		rows: 9, tile: 4, takes: func(f *form) bool { return f.low < 8 }, bytes: wideBytesAVX2,
		widen: widenAVX2, panel: widePanelAVX2,
	}}
}

func quantizeAVX2(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRow2(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func quantizeAVX512(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRow512(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func panelAVX2(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := avx2Quant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride, a.cols/formOf(t).block)
		return
	}
	callFloat(avx2Float[t][a.rows-1], w, a, y, stride)
}

func panelVNNI(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := vnniQuant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride, a.cols/formOf(t).block)
		return
	}
	callFloat(avx2Float[t][a.rows-1], w, a, y, stride)
}

func panelAVX512BW(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := avx512bwQuant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride, a.cols/formOf(t).block)
		return
	}
	callFloat(avx512Float[t][a.rows-1], w, a, y, stride)
}

func panelAVX512(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := avx512Quant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride, a.cols/formOf(t).block)
		return
	}
	callFloat(avx512Float[t][a.rows-1], w, a, y, stride)
}

// wideBytesAVX2 is the size of 32 columns of an unpacked panel.
func wideBytesAVX2(f *form) int {
	switch {
	case !f.ints():
		return 512 + 2*64
	case f.mins:
		return 512 + 6*64
	}
	return 512 + 3*64
}

func widenAVX2(t Type, dst, w []byte) {
	f := formOf(t)
	n := len(w) / f.panelBlock()
	_ = dst[n*f.subs()*wideBytesAVX2(f)-1]
	avx2Widen[t](&w[0], &dst[0], n)
}

func widePanelAVX2(t Type, w []byte, a *tile, y []float32, stride int) {
	callQuant(avx2Wide[t][a.rows-1], formOf(t), w, a, y, stride, a.cols/32)
}

// callQuant calls a kernel for quantised weights. That w and a hold what it reads is known from their
// making.
func callQuant(k func(w *byte, q *int8, f *float32, n *int32, y *float32, stride, blocks int),
	f *form, w []byte, a *tile, y []float32, stride, blocks int) {
	sums := a.n
	if f.half {
		sums = a.h
	}
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], &a.q[0], &a.f[0], &sums[0], &y[0], 4*stride, blocks)
}

// callFloat calls a kernel for float weights.
func callFloat(k func(w *byte, x *float32, step int, y *float32, stride, cols int),
	w []byte, a *tile, y []float32, stride int) {
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], &a.x[0], 4*a.cols, &y[0], 4*stride, a.cols)
}
