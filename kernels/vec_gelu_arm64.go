//go:build arm64 && !purego

package kernels

func geluMulFast(y, gate, up []float32) int {
	n := fast(min(len(y), len(gate), len(up)))
	if n != 0 {
		geluMulNEON(&y[0], &gate[0], &up[0], n/lanes)
	}
	return n
}

func softCapFast(x []float32, top *[3]float32) int {
	n := fast(len(x))
	if n != 0 {
		softCapNEON(&x[0], &top[0], n/lanes)
	}
	return n
}

func geluErfFast(x []float32) int {
	n := fast(len(x))
	if n != 0 {
		geluErfNEON(&x[0], n/lanes)
	}
	return n
}

func clampedGLUFast(y, gate, up []float32, slope, limit float32) int {
	n := fast(min(len(y), len(gate), len(up)))
	if n != 0 {
		clampedGLUNEON(&y[0], &gate[0], &up[0], slope, limit, n/lanes)
	}
	return n
}

func sumsFast(acc *[lanes]float32, x []float32) int {
	n := fast(len(x))
	if n != 0 {
		sumsNEON(&acc[0], &x[0], n/lanes)
	}
	return n
}

func lessFast(y, x []float32, m float32) int {
	n := fast(min(len(y), len(x)))
	if n != 0 {
		lessNEON(&y[0], &x[0], m, n/lanes)
	}
	return n
}
