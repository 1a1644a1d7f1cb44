//go:build arm64 && !purego

package kernels

// pixelsFast runs a call by assembly, if the level in use has it.
func pixelsFast(c *pixelCall) bool {
	if active == generic {
		return false
	}
	x, zero, at, y := &c.x[0], &c.zero[0], &c.at[0], &c.y[0]
	switch c.op {
	case opDepth:
		depthNEON(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks, &c.w[0], &c.bias[0], c.how, c.low, c.high)
	case opMax:
		maxTapsNEON(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks)
	default:
		meanTapsNEON(x, zero, at, c.taps, y, 4*c.stride, c.rows, c.blocks, &c.count[0])
	}
	return true
}

// hasDepthRow says that there is no kernel for results in a row.
func hasDepthRow() bool { return false }

func (c *depthCall) run() {}

// transposeFast leaves all to Go.
func transposeFast([]float32, int, []float32, int, int, int) int { return 0 }
