//go:build !amd64 || purego

package kernels

func geluMulFast(_, _, _ []float32) int          { return 0 }
func softCapFast(_ []float32, _ *[3]float32) int { return 0 }
func geluErfFast([]float32) int                  { return 0 }
