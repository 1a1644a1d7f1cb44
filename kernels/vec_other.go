//go:build (!amd64 && !arm64) || purego

package kernels

// There is no assembly here: the loops in Go do all elements.

func squaresFast(*[lanes]float32, []float32) int                     { return 0 }
func maximaFast(*[lanes]float32, []float32) int                      { return 0 }
func addFast(_, _ []float32) int                                     { return 0 }
func scaleMulFast(_, _, _ []float32, _ float32) int                  { return 0 }
func scaleFast(_, _ []float32, _ float32) int                        { return 0 }
func siluMulFast(_, _, _ []float32) int                              { return 0 }
func expSumsFast(*[lanes]float32, []float32, []float32, float32) int { return 0 }
func halvesFast([]uint16, []float32) int                             { return 0 }
func ropeHalvesFast(_, _, _, _ []float32) int                        { return 0 }
func ropePairsFast(_, _, _ []float32) int                            { return 0 }
