package kernels

import "math"

// f16 returns the value of an IEEE 754 binary16 number, exactly.
func f16(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp := uint32(h>>10) & 31
	frac := uint32(h) & 1023
	switch {
	case exp == 31:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
	// A subnormal is a whole number of 2^-24; the product is exact.
	v := float32(frac) * (1.0 / (1 << 24))
	return math.Float32frombits(math.Float32bits(v) | sign)
}

// bf16 returns the value of a bfloat16 number, exactly.
func bf16(h uint16) float32 { return math.Float32frombits(uint32(h) << 16) }

// finite16 says whether a binary16 number is neither infinite nor NaN.
func finite16(h uint16) bool { return h>>10&31 != 31 }
