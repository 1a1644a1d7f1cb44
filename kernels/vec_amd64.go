//go:build amd64 && !purego

package kernels

// fast is how many of n elements assembly does: whole steps of 16, or none at the generic level.
func fast(n int) int {
	if active == generic {
		return 0
	}
	return n &^ (lanes - 1)
}

func squaresFast(acc *[lanes]float32, x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		squaresAVX512(&acc[0], &x[0], n/lanes)
	default:
		squaresAVX2(&acc[0], &x[0], n/lanes)
	}
	return n
}

func maximaFast(acc *[lanes]float32, x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		maximaAVX512(&acc[0], &x[0], n/lanes)
	default:
		maximaAVX2(&acc[0], &x[0], n/lanes)
	}
	return n
}

func addFast(y, x []float32) int {
	n := fast(min(len(x), len(y)))
	switch {
	case n == 0:
	case active.zmm():
		addAVX512(&y[0], &x[0], n/lanes)
	default:
		addAVX2(&y[0], &x[0], n/lanes)
	}
	return n
}

func scaleMulFast(y, x, weight []float32, s float32) int {
	n := fast(min(len(y), len(x), len(weight)))
	switch {
	case n == 0:
	case active.zmm():
		scaleMulAVX512(&y[0], &x[0], &weight[0], s, n/lanes)
	default:
		scaleMulAVX2(&y[0], &x[0], &weight[0], s, n/lanes)
	}
	return n
}

func scaleFast(y, x []float32, s float32) int {
	n := fast(min(len(y), len(x)))
	switch {
	case n == 0:
	case active.zmm():
		scaleAVX512(&y[0], &x[0], s, n/lanes)
	default:
		scaleAVX2(&y[0], &x[0], s, n/lanes)
	}
	return n
}

func siluMulFast(y, gate, up []float32) int {
	n := fast(min(len(y), len(gate), len(up)))
	switch {
	case n == 0:
	case active.zmm():
		siluMulAVX512(&y[0], &gate[0], &up[0], n/lanes)
	default:
		siluMulAVX2(&y[0], &gate[0], &up[0], n/lanes)
	}
	return n
}

func expSumsFast(acc *[lanes]float32, e, x []float32, m float32) int {
	n := fast(min(len(e), len(x)))
	switch {
	case n == 0:
	case active.zmm():
		expSumsAVX512(&acc[0], &e[0], &x[0], m, n/lanes)
	default:
		expSumsAVX2(&acc[0], &e[0], &x[0], m, n/lanes)
	}
	return n
}

func halvesFast(y []uint16, x []float32) int {
	n := fast(min(len(y), len(x)))
	switch {
	case n == 0:
	case active.zmm():
		halvesAVX512(&y[0], &x[0], n/lanes)
	default:
		halvesAVX2(&y[0], &x[0], n/lanes)
	}
	return n
}

func ropeHalvesFast(a, b, cos, sin []float32) int {
	n := fast(min(len(a), len(b), len(cos), len(sin)))
	switch {
	case n == 0:
	case active.zmm():
		ropeHalvesAVX512(&a[0], &b[0], &cos[0], &sin[0], n/lanes)
	default:
		ropeHalvesAVX2(&a[0], &b[0], &cos[0], &sin[0], n/lanes)
	}
	return n
}

// ropePairsFast returns how many pairs it did, a multiple of 8.
func ropePairsFast(x, cos, sin []float32) int {
	n := fast(min(len(x), 2*len(cos), 2*len(sin)))
	switch {
	case n == 0:
	case active.zmm():
		ropePairsAVX512(&x[0], &cos[0], &sin[0], n/lanes)
	default:
		ropePairsAVX2(&x[0], &cos[0], &sin[0], n/lanes)
	}
	return n / 2
}
