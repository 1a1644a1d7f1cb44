package main

// AVX-VNNI brings VPDPBUSD to processors without AVX-512. It changes the dots of an AVX2 kernel: codes are
// made unsigned for all types, as for AVX-512, sums are of 32 bits, and the sums of the activations are
// those that AVX-512 reads.

// vnniQuant emits the kernel for a quantised type and returns its name.
func vnniQuant(a *Asm, f *form, t int) string {
	return (&mul2{Asm: a, form: f, t: t, vnni: true}).kernel("VNNI")
}

// startVNNI sets the accumulators to what makes up for the codes' being unsigned.
func (e *mul2) startVNNI(half int) {
	for m := range e.t {
		r := 2 * m
		if e.zero == 0 {
			e.I("VPXOR Y%d, Y%d, Y%d", r, r, r)
			e.I("VPXOR Y%d, Y%d, Y%d", r+1, r+1, r+1)
			continue
		}
		e.I("VPBROADCASTD %d(R9), Y%d", 4*(m+half*e.t), r)
		e.I("VPSLLD $%d, Y%d, Y%d", e.zero, r, r)
		e.I("VMOVDQA Y%d, Y%d", r, r+1)
	}
}

// dotsVNNI adds the products of the codes in Y8 and Y9.
func (e *mul2) dotsVNNI(j int) {
	for m := range e.t {
		e.I("VPBROADCASTD %d(DX), Y10", 32*m+4*j)
		e.dotBytes(10, 8, 2*m)
		e.dotBytes(10, 9, 2*m+1)
	}
}

// dotBytes emits VPDPBUSD with the VEX prefix, which Go's assembler does not have: four unsigned bytes of
// y times four signed ones of x are added to each lane of d.
func (e *mul2) dotBytes(x, y, d int) {
	e.I("BYTE $0xc4; BYTE $%#02x; BYTE $%#02x; BYTE $0x50; BYTE $%#02x // VPDPBUSD Y%d, Y%d, Y%d",
		(d>>3^1)<<7|1<<6|(x>>3^1)<<5|2, (y^15)<<3|1<<2|1, 3<<6|d&7<<3|x&7, x, y, d)
}
