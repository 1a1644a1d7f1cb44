package kernels

import (
	"os"
)

// level is a set of instructions that the kernels are written for.
type level uint8

const (
	generic level = iota
	avx2
	avx512bw // without VNNI
	avx512   // with it
	neon
	neondot  // with SDOT
	neoni8mm // with SMMLA too
	levels   // how many there are
)

func (l level) String() string {
	return [levels]string{"generic", "avx2", "avx512bw", "avx512", "neon", "neondot", "neoni8mm"}[l]
}

// runs says whether a CPU whose best level is best has this level.
func (l level) runs(best level) bool {
	return l == generic || l <= best && (l >= neon) == (best >= neon)
}

// zmm says whether a level has the registers of AVX-512, with F, BW, VL and DQ.
func (l level) zmm() bool { return l == avx512bw || l == avx512 }

// active is the level in use. It is chosen once, when the program starts; only tests set it later.
var active = choose(os.Getenv("KERNELS"), bestLevel())

// choose returns the level that KERNELS asks for, or the best one when it names none or one that
// this CPU does not have.
func choose(name string, best level) level {
	for l := range levels {
		if name == l.String() && l.runs(best) {
			return l
		}
	}
	return best
}

// Impl returns the name of the implementation in use: "generic", "avx2", "avx512bw", "avx512", "neon", "neondot"
// or "neoni8mm".
// The best one that the CPU has is taken, unless the environment variable KERNELS names a lower one.
func Impl() string { return active.String() }
