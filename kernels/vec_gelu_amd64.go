//go:build amd64 && !purego

package kernels

func geluMulFast(y, gate, up []float32) int {
	n := fast(min(len(y), len(gate), len(up)))
	switch {
	case n == 0:
	case active.zmm():
		geluMulAVX512(&y[0], &gate[0], &up[0], n/lanes)
	default:
		geluMulAVX2(&y[0], &gate[0], &up[0], n/lanes)
	}
	return n
}

func softCapFast(x []float32, top *[3]float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		softCapAVX512(&x[0], &top[0], n/lanes)
	default:
		softCapAVX2(&x[0], &top[0], n/lanes)
	}
	return n
}

func geluErfFast(x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		geluErfAVX512(&x[0], n/lanes)
	default:
		geluErfAVX2(&x[0], n/lanes)
	}
	return n
}

func clampedGLUFast(y, gate, up []float32, slope, limit float32) int {
	n := fast(min(len(y), len(gate), len(up)))
	switch {
	case n == 0:
	case active.zmm():
		clampedGLUAVX512(&y[0], &gate[0], &up[0], slope, limit, n/lanes)
	default:
		clampedGLUAVX2(&y[0], &gate[0], &up[0], slope, limit, n/lanes)
	}
	return n
}

func sumsFast(acc *[lanes]float32, x []float32) int {
	n := fast(len(x))
	switch {
	case n == 0:
	case active.zmm():
		sumsAVX512(&acc[0], &x[0], n/lanes)
	default:
		sumsAVX2(&acc[0], &x[0], n/lanes)
	}
	return n
}

func lessFast(y, x []float32, m float32) int {
	n := fast(min(len(y), len(x)))
	switch {
	case n == 0:
	case active.zmm():
		lessAVX512(&y[0], &x[0], m, n/lanes)
	default:
		lessAVX2(&y[0], &x[0], m, n/lanes)
	}
	return n
}
