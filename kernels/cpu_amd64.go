//go:build amd64 && !purego

package kernels

import "golang.org/x/sys/cpu"

// bestLevel returns the highest level that this CPU and its operating system support.
func bestLevel() level {
	x := &cpu.X86
	if !(x.HasAVX2 && x.HasFMA && x.HasF16C && x.HasBMI2) {
		return generic
	}
	switch {
	case !(x.HasAVX512F && x.HasAVX512BW && x.HasAVX512VL && x.HasAVX512DQ):
		return avx2
	case !x.HasAVX512VNNI:
		return avx512bw
	}
	return avx512
}
