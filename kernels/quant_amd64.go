//go:build amd64 && !purego

package kernels

import "unsafe"

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{
	generic: genericQuant,
	avx2:    {tile: 4, quantize: quantizeAVX2, panel: panelAVX2},
	avx512:  {tile: 12, quantize: quantizeAVX512, panel: panelAVX512},
}

func quantizeAVX2(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRow2(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func quantizeAVX512(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRow512(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func panelAVX2(m *Matrix, w []byte, a *tile, y []float32, stride int) {
	if f := avx2Quant(m.Type, a.rows); f != nil {
		quantKernel(f, m.Type, w, a, y, stride)
		return
	}
	floatKernel(avx2Float(m.Type, a.rows), w, a, y, stride)
}

func panelAVX512(m *Matrix, w []byte, a *tile, y []float32, stride int) {
	if f := avx512Quant(m.Type, a.rows); f != nil {
		quantKernel(f, m.Type, w, a, y, stride)
		return
	}
	floatKernel(avx512Float(m.Type, a.rows), w, a, y, stride)
}

// quantKernel calls a kernel for quantised weights, having checked that what it reads and writes is
// there.
func quantKernel(k func(w *byte, q *int8, f *float32, n *int32, y *float32, stride, blocks int),
	t Type, w []byte, a *tile, y []float32, stride int) {
	f := formOf(t)
	sums := a.n
	if f.half {
		sums = a.h
	}
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], unsafe.SliceData(a.q), unsafe.SliceData(a.f), unsafe.SliceData(sums), &y[0], 4*stride, a.cols/f.block)
}

// floatKernel does the same for float weights.
func floatKernel(k func(w *byte, x *float32, step int, y *float32, stride, cols int),
	w []byte, a *tile, y []float32, stride int) {
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], &a.x[0], 4*a.cols, &y[0], 4*stride, a.cols)
}
