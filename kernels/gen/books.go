package main

// The weights that the codes of a type stand for; kernels/types.go says the same.
var (
	bookIQ4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	bookMX4 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

// book is a table for VPSHUFB, in each half of 32 bytes, with zero added to the weights.
func book(b [16]int8, zero int) []uint32 {
	w := make([]uint32, 8)
	for i := range 32 {
		w[i/4] |= uint32(byte(int(b[i%16])+zero)) << (i % 4 * 8)
	}
	return w
}

// lowAt is the place of the low bits of the weights 4j ... 4j+3 of every row (j < 8): the offset of their
// 64 bytes, and how far down in each byte they are shifted.
func (f *form) lowAt(j int) (at, down int) {
	switch {
	case f.three() && j < 6:
		return j / 2 * 64, j % 2 * 3
	case f.three():
		return (j - 6) * 64, 6
	case f.low == 2:
		return j / 4 * 64, j % 4 * 2
	}
	return j % 4 * 64, j / 4 * 4
}

// powers loads bytes of E8M0 and makes halves of the powers of two from them, as half2 in package kernels
// does: the smallest power, 2^-127, has no exponent of its own in float32.
func powers(a *Asm, from, reg, smallest, half string) {
	a.I("VPMOVZXBD %s, %s", from, reg)
	a.I("VPSLLD $23, %s, %s", reg, reg)
	a.I("VPMAXSD %s, %s, %s", smallest, reg, reg)
	a.I("VMULPS %s, %s, %s", half, reg, reg)
}

// dotsBook adds up the products of weights from a book that needs all bits of a byte, like dots8.
func (e *mul2) dotsBook() {
	e.masks()
	for j := range 8 {
		e.unpack(j)
		e.I("VPABSB Y8, Y11")
		e.I("VPABSB Y9, Y12")
		for h := range 2 {
			for m := range e.t {
				r := 2*m + h
				e.I("VPBROADCASTD %d(DX), Y10", 32*m+4*j)
				e.I("VPSIGNB Y%d, Y10, Y10", 8+h)
				e.I("VPMADDUBSW Y10, Y%d, Y10", 11+h)
				if j == 0 {
					e.I("VPMADDWD Y10, Y14, Y%d", r)
					continue
				}
				e.I("VPMADDWD Y10, Y14, Y10")
				e.I("VPADDD Y10, Y%d, Y%d", r, r)
			}
		}
	}
}
