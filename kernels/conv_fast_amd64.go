//go:build amd64 && !purego

package kernels

// pixelsFast runs a call by assembly, if the level in use has it. AVX-512 uses AVX2's: these are bound by loads.
func pixelsFast(c *pixelCall) bool {
	if active == generic {
		return false
	}
	x, zero, at, y := &c.x[0], &c.zero[0], &c.at[0], &c.y[0]
	switch c.op {
	case opDepth:
		depthAVX2(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks, &c.w[0], &c.bias[0], c.how, c.low, c.high)
	case opMax:
		maxTapsAVX2(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks)
	default:
		meanTapsAVX2(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks, &c.count[0])
	}
	return true
}

// hasDepthRow says whether the level in use has the kernel for results in a row.
func hasDepthRow() bool { return active != generic }

// run does a call.
func (c *depthCall) run() {
	depthRowAVX2(&c.x[0], &c.zero[0], &c.at[0], len(c.at), c.pix, &c.y[0], 4*c.stride, c.blocks, &c.w[0], &c.bias[0], c.how, c.low, c.high, c.shape, c.tiles, c.ahead)
}

// transposeFast transposes the first rows and columns, as many of each as are whole eights, and returns these rows.
func transposeFast(dst []float32, ldd int, src []float32, lds, rows, cols int) int {
	if active == generic || rows < 8 || cols < 8 {
		return 0
	}
	const strip = 64 // columns: their half-written lines stay in the first-level cache
	for c := 0; c+8 <= cols; c += strip {
		n := min(strip, cols-c) / 8
		for r := 0; r+8 <= rows; r += 8 {
			transpose8AVX2(&dst[c*ldd+r], 4*ldd, &src[r*lds+c], 4*lds, n)
			safepoint()
		}
	}
	return rows &^ 7
}
