//go:build (!amd64 && !arm64) || purego

package kernels

func pixelsFast(*pixelCall) bool                                 { return false }
func transposeFast([]float32, int, []float32, int, int, int) int { return 0 }

// hasDepthRow says that there is no kernel for results in a row.
func hasDepthRow() bool { return false }

func (c *depthCall) run() {}
