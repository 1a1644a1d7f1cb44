//go:build (!amd64 && !arm64) || purego

package kernels

func sigmoidFast([]float32) int               { return 0 }
func tanhFast([]float32) int                  { return 0 }
func sigmoidMulFast(_, _, _ []float32) int    { return 0 }
func lstmFast(_, _, _, _ []float32) int       { return 0 }
func gruBlendFast(_, _, _ []float32) int      { return 0 }
func gruCellFast(_, _, _, _, _ []float32) int { return 0 }
