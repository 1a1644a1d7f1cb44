package main

// AVX-512 without VNNI (F, BW, VL, DQ: Skylake-X and its successors up to Cascade Lake) multiplies as AVX2
// does, in registers twice as wide: VPMADDUBSW into accumulators of 16 bits, which start at -zero * sum(q)
// of their own columns. The sums of the activations are those that AVX2 reads. Where weights are signed
// (8 bits, books of bytes), registers are used so:
//
//	Z25   ones of 16 bits
//	Z28   zero
//	Z31   a broadcast, then products
//	K1    which weights are negative
//
// Tiles are of 8 rows at most: 12, for which there is room, would save 3 % (4 bits) to 7 % (6 bits) of
// the instructions and take twice the text.

// bwQuant emits the kernel for a quantised type and returns its name.
func bwQuant(a *Asm, f *form, t int) string {
	return (&mul512{Asm: a, form: f, t: t}).kernel("AVX512BW")
}

// signed says whether weights stay signed: magnitudes are then multiplied with activations that take the
// weights' signs.
func (e *mul512) signed() bool { return !e.vnni && (e.low == 8 || e.bytes) }

// constantsBW loads what signed weights need.
func (e *mul512) constantsBW() {
	e.I("VMOVDQU64 ones16<>+0(SB), Z25")
	e.I("VPXORD Z28, Z28, Z28")
	if e.low != 8 {
		e.I("VMOVDQU64 low4<>+0(SB), Z26")
		e.I("VBROADCASTI32X4 %s<>+0(SB), Z27", e.book)
	}
}

// start16 is start for accumulators of 16 bits; see mul2.start.
func (e *mul512) start16(half int) {
	if e.signed() {
		return
	}
	shift := e.zero - 3 // the sums are already times 8
	if e.mins {
		if e.high == 0 {
			return
		}
		shift = 1
	}
	for m := range e.t {
		r := 12 + m
		e.I("VPBROADCASTD %d(R9), Z%d", 4*(m+half*e.t), r)
		switch {
		case shift > 0:
			e.I("VPSLLW $%d, Z%d, Z%d", shift, r, r)
		case shift < 0:
			e.I("VPSRAW $%d, Z%d, Z%d", -shift, r, r)
		}
	}
}

// dots16 adds the products of the codes in Z24 to the accumulators of 16 bits.
func (e *mul512) dots16(j int) {
	first := (j == 0 || j == 4 && e.ints()) && e.mins && e.high == 0
	for m := range e.t {
		e.I("VPBROADCASTD %d(DX), Z31", 32*m+4*j)
		if first {
			e.I("VPMADDUBSW Z31, Z24, Z%d", 12+m)
			continue
		}
		e.I("VPMADDUBSW Z31, Z24, Z31")
		e.I("VPADDW Z31, Z%d, Z%d", 12+m, 12+m)
	}
}

// dotsSigned adds the products of the signed weights 4j ... 4j+3; see mul2.dots8.
func (e *mul512) dotsSigned(j int) {
	if e.low == 8 {
		e.I("VMOVDQU64 %d(SI), Z24", 64*j)
	} else {
		e.unpack(j)
	}
	e.I("VPMOVB2M Z24, K1")
	e.I("VPABSB Z24, Z24")
	for m := range e.t {
		e.I("VPBROADCASTD %d(DX), Z31", 32*m+4*j)
		e.I("VPSUBB Z31, Z28, K1, Z31")
		e.I("VPMADDUBSW Z31, Z24, Z31")
		if j == 0 {
			e.I("VPMADDWD Z31, Z25, Z%d", 12+m)
			continue
		}
		e.I("VPMADDWD Z31, Z25, Z31")
		e.I("VPADDD Z31, Z%d, Z%d", 12+m, 12+m)
	}
}

// finish16 turns the accumulator of row m into dots of 32 bits; see mul2.finishInts.
func (e *mul512) finish16(m int) {
	if e.vnni || e.signed() {
		return
	}
	r := 12 + m
	e.I("VPMADDWD ones16<>+0(SB), Z%d, Z%d", r, r)
	if e.mins && e.high == 1 {
		e.I("VPBROADCASTD %d(R9), Z25", 4*m)
		e.I("VPMADDWD minus2<>+0(SB), Z25, Z25")
		e.I("VPADDD Z25, Z%d, Z%d", r, r)
	}
}

// pairs16 puts the integer scales (0) or minimums (1) of a half, each twice as int16, into a register.
func (e *mul512) pairs16(which, at, r int) {
	e.I("VBROADCASTI32X4 %d(SI), Z%d", at, r)
	e.I("VPSHUFB four<>+0(SB), Z%d, Z%d", r, r)
	switch {
	case !e.mins:
		e.I("VPSRAW $8, Z%d, Z%d", r, r)
	case which == 0:
		e.I("VPANDD.BCST low4of16<>+0(SB), Z%d, Z%d", r, r)
	default:
		e.I("VPSRLW $12, Z%d, Z%d", r, r)
	}
}

// minimums16 puts the sums of row m times the minimums, in Z24 and Z31, into its accumulator.
func (e *mul512) minimums16(m int) {
	e.I("VPBROADCASTD %d(R9), Z%d", 4*m, 12+m)
	e.I("VPBROADCASTD %d(R9), Z25", 4*(e.t+m))
	e.I("VPMADDWD Z24, Z%d, Z%d", 12+m, 12+m)
	e.I("VPMADDWD Z31, Z25, Z25")
	e.I("VPADDD Z25, Z%d, Z%d", 12+m, 12+m)
}
