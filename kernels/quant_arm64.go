//go:build arm64 && !purego

package kernels

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{
	generic: genericQuant,
	neon:    {tile: 4, quantize: quantizeNEON, panel: panelNEON},
	neondot: {tile: 5, quantize: quantizeNEON, panel: panelNEONDot, wide: &wideImpl{
		rows: 16, tile: 5, takes: func(f *form) bool { return f.low == 4 }, bytes: func(*form) int { return 512 + 2*64 },
		widen: widenNEONDot, panel: widePanelNEONDot,
	}},
	neoni8mm: {tile: 5, quantize: quantizeNEON, panel: panelNEONDot, wide: &wideImpl{
		rows: 9, tile: 8, takes: func(*form) bool { return true }, bytes: func(f *form) int { return 4 * f.partBytes() },
		widen: widenNEONMM, pair: pairNEONMM, panel: widePanelNEONMM,
	}},
}

// partBytes is the size of 32 columns of 4 rows of a panel that is unpacked for i8mm.
func (f *form) partBytes() int {
	switch {
	case f.ints() && f.mins:
		return 128 + 6*32
	case f.ints():
		return 128 + 3*32
	case f.half, f.mins:
		return 128 + 2*32
	}
	return 128 + 32
}

func widenNEONDot(t Type, dst, w []byte) {
	n := len(w) / formOf(t).panelBlock()
	_ = dst[n*formOf(t).subs()*(512+2*64)-1]
	neonDotWiden[t](&w[0], &dst[0], 0, n)
}

func widePanelNEONDot(t Type, w []byte, a *tile, y []float32, stride int) {
	callQuant(neonDotWide[t][a.rows-1], formOf(t), w, a, y, stride, a.cols/32)
}

func widenNEONMM(t Type, dst, w []byte) {
	f := formOf(t)
	n := len(w) / f.panelBlock()
	part := n * f.subs() * f.partBytes()
	_ = dst[4*part-1]
	neonMMWiden[t](&w[0], &dst[0], part, n)
}

func pairNEONMM(q []int8, rows, cols int) { pairRowsNEON(&q[0], rows, cols/32) }

func widePanelNEONMM(t Type, w []byte, a *tile, y []float32, stride int) {
	callQuant(neonMMWide[t][a.rows-1], formOf(t), w, a, y, stride, a.cols/32)
}

func quantizeNEON(x []float32, q []int8, f []float32, n, h []int32, rows int) {
	quantizeRowNEON(&x[0], &q[0], &f[0], &n[0], &h[0], rows, len(x)/32)
}

func panelNEON(t Type, w []byte, a *tile, y []float32, stride int) {
	if f := formOf(t); f.quantised() {
		callQuant(neonQuant[t][a.rows-1], f, w, a, y, stride, a.cols/f.block)
		return
	}
	callFloat(t, w, a, y, stride)
}

func panelNEONDot(t Type, w []byte, a *tile, y []float32, stride int) {
	if f := formOf(t); f.quantised() {
		callQuant(neonDotQuant[t][a.rows-1], f, w, a, y, stride, a.cols/f.block)
		return
	}
	callFloat(t, w, a, y, stride)
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

// callFloat calls the kernel for float weights, more than once for the tiles of i8mm, which have more rows.
func callFloat(t Type, w []byte, a *tile, y []float32, stride int) {
	_ = y[(a.rows-1)*stride+panelRows-1]
	const most = len(neonFloat[0])
	for r := 0; r < a.rows; r += most {
		k := neonFloat[t][min(most, a.rows-r)-1]
		k(&w[0], &a.x[r*a.cols], 4*a.cols, &y[r*stride], 4*stride, a.cols)
	}
}
