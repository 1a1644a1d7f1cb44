//go:build amd64 && !purego

package peak

func of(impl string) Loops {
	switch impl {
	case "avx2":
		return Loops{fmaAVX2, 12 * 16, dotAVX2, 12 * 64, []func(*byte, int){readAVX2, readAheadAVX2}, 256}
	case "avx512":
		return Loops{fmaAVX512, 12 * 32, dotAVX512, 12 * 128, []func(*byte, int){readAVX512, readAheadAVX512}, 256}
	}
	return plain
}
