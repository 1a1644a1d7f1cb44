//go:build amd64 && !purego

package kernels

// floatRows returns the rows of a full tile, and floatPanels how many panels a tile of some rows takes at once.
func floatRows() int {
	if active.zmm() {
		return 10
	}
	return 6
}

func floatPanels(rows int) int {
	switch {
	case active.zmm():
		if rows <= 3 {
			return 4
		}
		return 2
	case active == generic || rows > 3:
		return 1
	case rows == 1:
		return 4
	}
	return 2
}

// gemmFast runs a call by assembly, if the level in use has it.
func gemmFast(c *floatCall) bool {
	if active == generic {
		return false
	}
	shape := c.rows - 1
	if c.panels > 1 {
		shape += floatRows()
	}
	x, zero, at, w, y, bias := &c.x[0], &c.zero[0], &c.at[0], &c.w[0], &c.y[0], &c.bias[0]
	stride, skip := 4*c.stride, 8*(c.every-c.taps*c.rows)
	switch {
	case active.zmm() && c.typ == F32:
		gemmF32AVX512(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	case active.zmm() && c.typ == F16:
		gemmF16AVX512(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	case active.zmm():
		gemmBF16AVX512(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	case c.typ == F16:
		gemmF16AVX2(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	case c.typ == BF16:
		gemmBF16AVX2(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	default:
		gemmF32AVX2(x, zero, at, c.taps, c.k, w, c.step, y, stride, bias, c.how, c.low, c.high, shape, c.tiles, skip)
	}
	return true
}
