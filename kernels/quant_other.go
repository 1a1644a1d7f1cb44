//go:build (!amd64 && !arm64) || purego

package kernels

// quantImpls holds the products of each level that is built here.
var quantImpls = [levels]quantImpl{generic: genericQuant}

// pause does nothing for n times a few cycles.
func pause(n int) {
	for range n {
		checkpoint()
	}
}
