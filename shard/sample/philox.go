package sample

import "math/bits"

// The constants of Philox4x32 (Salmon et al., SC 2011): two multipliers and the Weyl steps of the key.
const (
	philoxM0, philoxM1 = 0xD2511F53, 0xCD9E8D57
	philoxW0, philoxW1 = 0x9E3779B9, 0xBB67AE85
	philoxRounds       = 10
)

// philox is the counter-based generator Philox4x32-10: a bijection of the counter, chosen by the key.
func philox(ctr [4]uint32, key [2]uint32) [4]uint32 {
	for range philoxRounds {
		h0, l0 := bits.Mul32(philoxM0, ctr[0])
		h1, l1 := bits.Mul32(philoxM1, ctr[2])
		ctr = [4]uint32{h1 ^ ctr[1] ^ key[0], l1, h0 ^ ctr[3] ^ key[1], l0}
		key[0] += philoxW0
		key[1] += philoxW1
	}
	return ctr
}

// uniform is the random number of a position: in [0,1), 53 bits, a function of its arguments alone.
func uniform(seed uint64, pos int) float64 {
	p := uint64(pos)
	r := philox([4]uint32{uint32(p), uint32(p >> 32)}, [2]uint32{uint32(seed), uint32(seed >> 32)})
	return float64((uint64(r[0])<<32|uint64(r[1]))>>11) * 0x1p-53
}
