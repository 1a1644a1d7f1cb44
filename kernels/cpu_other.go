//go:build (!amd64 && !arm64) || purego

package kernels

// bestLevel returns the only level that is built here.
func bestLevel() level { return generic }
