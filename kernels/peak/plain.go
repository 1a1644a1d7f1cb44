package peak

import "unsafe"

// plain is what there is without assembly: the compiler makes no loop at the limit of the machine's arithmetic.
var plain = Loops{Reads: []func(*byte, int){readWords}, Stride: 256}

// readWords reads n times 256 bytes by words.
func readWords(p *byte, n int) {
	sum := uint64(0)
	for _, w := range unsafe.Slice((*[32]uint64)(unsafe.Pointer(p)), n) {
		for i := 0; i < len(w); i += 4 {
			sum |= w[i] | w[i+1] | w[i+2] | w[i+3]
		}
	}
	if sum == 1 {
		*p |= 1 // what nothing depends on, the compiler would leave out; a lowest bit that is set stays
	}
}
