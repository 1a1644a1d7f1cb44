//go:build arm64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// bestLevel returns the highest level that this CPU and its operating system support.
func bestLevel() level {
	switch {
	case cpu.ARM64.HasASIMDDP && cpu.ARM64.HasI8MM:
		return neoni8mm
	case cpu.ARM64.HasASIMDDP:
		return neondot
	}
	return neon // a part of every arm64 CPU that Go runs on
}
