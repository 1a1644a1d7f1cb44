//go:build arm64 && !purego

package kernels

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{
	generic: genericQuant,
	neon:    {tile: 4, quantize: quantizeNEON, panel: panelNEON},
	neondot: {tile: 5, quantize: quantizeNEON, panel: panelNEONDot},
}

func quantizeNEON(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRowNEON(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func panelNEON(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := neonQuant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride)
		return
	}
	callFloat(t, w, a, y, stride)
}

func panelNEONDot(t Type, w []byte, a *tile, y []float32, stride int) {
	if k := neonDotQuant[t][a.rows-1]; k != nil {
		callQuant(k, formOf(t), w, a, y, stride)
		return
	}
	callFloat(t, w, a, y, stride)
}

// callQuant calls a kernel for quantised weights. That w and a hold what it reads is known from their
// making.
func callQuant(k func(w *byte, q *int8, f *float32, n *int32, y *float32, stride, blocks int),
	f *form, w []byte, a *tile, y []float32, stride int) {
	sums := a.n
	if f.half {
		sums = a.h
	}
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], &a.q[0], &a.f[0], &sums[0], &y[0], 4*stride, a.cols/f.block)
}

// callFloat calls the kernel for float weights, or generic Go for what has none.
func callFloat(t Type, w []byte, a *tile, y []float32, stride int) {
	k := neonFloat[t][a.rows-1]
	if k == nil {
		panelGeneric(t, w, a, y, stride)
		return
	}
	_ = y[(a.rows-1)*stride+panelRows-1]
	k(&w[0], &a.x[0], 4*a.cols, &y[0], 4*stride, a.cols)
}
