//go:build arm64 && !purego

package kernels

// peakSeconds is the time of a floating-point operation in the loop that is the ceiling of the level in use.
func peakSeconds() float64 {
	const n = 2000
	if active == generic {
		return 0
	}
	return seconds(func() { fmaPeakNEON(n) }) / (n * 12 * 8)
}
