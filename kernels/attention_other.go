//go:build (!amd64 && !arm64) || purego

package kernels

func (*attnTile) scoresFast([]uint16) bool                { return false }
func (*attnTile) weighFast(_, _ int) bool                 { return false }
func (*attnTile) mixFast(_ []uint16, _, _, _, _ int) bool { return false }
