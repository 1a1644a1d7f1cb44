//go:build amd64 && !purego

package kernels

// peakSeconds is the time of a floating-point operation in the loop that is the ceiling of the level in use.
func peakSeconds() float64 {
	const n = 2000
	switch active {
	case avx512bw, avx512:
		return seconds(func() { fmaPeakAVX512(n) }) / (n * 12 * 32)
	case avx2:
		return seconds(func() { fmaPeakAVX2(n) }) / (n * 12 * 16)
	}
	return 0
}
