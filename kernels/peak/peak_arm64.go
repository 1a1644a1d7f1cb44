//go:build arm64 && !purego

package peak

func of(impl string) Loops {
	switch impl {
	case "neon":
		return Loops{fmaNEON, 24 * 8, dotNEON, 24 * 16, []func(*byte, int){readNEON}, 256}
	case "neondot":
		return Loops{fmaNEON, 24 * 8, dotNEONDOT, 24 * 32, []func(*byte, int){readNEON}, 256}
	}
	return plain
}
