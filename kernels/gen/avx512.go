package main

import (
	"fmt"
	"math"
)

// AVX-512 kernels multiply one panel (16 rows of the matrix: one register of 16 lanes) with a tile of t
// rows of activations. Registers:
//
//	Z0 - Z11    float32 results, one for each row of the tile
//	Z12 - Z23   integer accumulators
//	Z24         weights; at the end of a block their scales
//	Z25         high bits
//	Z26, Z27    masks of the low and the high plane
//	Z28         0x80 in every byte
//	Z29, Z30    scales and minimums of a super-block
//	Z31         at the end of a block the minimums
//
// With a book its table is in Z27; what powers of two need is in Z25 and Z28.
type mul512 struct {
	*Asm
	*form
	t    int
	vnni bool // with VNNI; without, see avx512bw.go
}

// avx512Quant emits the kernel for a quantised type and returns its name.
func avx512Quant(a *Asm, f *form, t int) string {
	return (&mul512{Asm: a, form: f, t: t, vnni: true}).kernel("AVX512")
}

// kernel emits a kernel and returns its name, which ends as said.
func (e *mul512) kernel(level string) string {
	a, f, t := e.Asm, e.form, e.t
	name := fmt.Sprintf("mul%sx%d%s", f.name, t, level)
	a.FuncFrame(name, quantParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t), e.frame())
	loadQuant(a)
	if e.frame() > 0 {
		e.I("LEAQ 63(SP), R11")
		e.I("ANDQ $-64, R11")
	}
	for m := range t {
		e.I("VPXORD Z%d, Z%d, Z%d", m, m, m)
	}
	e.constants()
	f.blockLoop(a, t, e.head, e.sub)
	for m := range t {
		e.I("VMOVUPS Z%d, (DI)", m)
		if m < t-1 {
			e.I("ADDQ R10, DI")
		}
	}
	a.Ret()
	return name
}

// constants loads masks and tables.
func (e *mul512) constants() {
	f := e.form
	word := func(v uint32, r int) {
		e.I("MOVL $%#x, AX", v)
		e.I("VPBROADCASTD AX, Z%d", r)
	}
	switch {
	case e.signed():
		e.constantsBW()
	case f.low == 8:
		word(0x80808080, 28)
	case f.low == 4:
		word(0x0f0f0f0f, 26)
	case f.low == 2:
		word(0x03030303, 26)
	}
	switch {
	case f.three():
		word(0x07070707, 26)
		word(0x04040404, 27)
	case f.high == 1:
		word(0x10101010, 27)
	case f.high == 2:
		word(0x30303030, 27)
	case e.signed():
	case f.bytes:
		e.I("VBROADCASTI32X4 %sup<>+0(SB), Z27", f.book)
	case f.book != "":
		e.I("VBROADCASTI32X4 %s<>+0(SB), Z27", f.book)
	}
	if f.exp {
		word(1<<22, 25) // 2^-127
		word(math.Float32bits(0.5), 28)
	}
}

// head loads the f16 scales of a super-block.
func (e *mul512) head() {
	e.I("VCVTPH2PS (SI), Z29")
	if e.mins {
		e.I("VCVTPH2PS 32(SI), Z30")
	}
	if e.mins && e.ints() && !e.vnni {
		e.I("VMULPS.BCST eighth<>+0(SB), Z30, Z30")
	}
}

// sub emits the work on 32 columns.
func (e *mul512) sub() {
	if e.ints() {
		e.subInts()
		return
	}
	if e.high == 1 {
		e.I("VMOVDQU64 %d(SI), Z25", e.lowBytes())
	}
	e.start(0)
	for j := range 8 {
		if j == 4 && e.half {
			e.scale(0)
			e.start(1)
		}
		e.dots(j)
	}
	if e.half {
		e.scale(1)
	} else {
		e.scale(0)
	}
}

// dots adds the products of the weights 4j ... 4j+3 of all rows.
func (e *mul512) dots(j int) {
	if e.signed() {
		e.dotsSigned(j)
		return
	}
	e.unpack(j)
	if !e.vnni {
		e.dots16(j)
		return
	}
	for m := range e.t {
		e.I("VPDPBUSD.BCST %d(DX), Z24, Z%d", 32*m+4*j, 12+m)
	}
}

// start sets the accumulators to what makes up for the codes' being unsigned.
func (e *mul512) start(half int) {
	if !e.vnni {
		e.start16(half)
		return
	}
	for m := range e.t {
		if e.zero == 0 {
			e.I("VPXORD Z%d, Z%d, Z%d", 12+m, 12+m, 12+m)
		} else {
			e.I("VPSLLD.BCST $%d, %d(R9), Z%d", e.zero, 4*(m+half*e.t), 12+m)
		}
	}
}

// unpack puts the codes of the weights 4j ... 4j+3 of all rows into Z24.
func (e *mul512) unpack(j int) {
	if e.low == 8 {
		e.I("VPXORD %d(SI), Z28, Z24", 64*j)
		return
	}
	if at, down := e.lowAt(j); down == 0 {
		e.I("VPANDD %d(SI), Z26, Z24", at)
	} else {
		e.I("VPSRLW $%d, %d(SI), Z24", down, at)
		e.I("VPANDD Z26, Z24, Z24")
	}
	if e.book != "" {
		e.I("VPSHUFB Z24, Z27, Z24")
	}
	switch {
	case e.three() && j >= 6:
		e.I("VPSRLW $%d, 128(SI), Z31", j-2)
		e.I("VPTERNLOGD $0xd8, Z27, Z31, Z24 // the bits of Z27 from Z31")
		return
	case e.high == 0 || e.three():
		return
	}
	at, field := e.highAt(j)
	from := "Z25"
	if e.high == 2 {
		from = fmt.Sprintf("%d(SI)", at)
	}
	switch s := e.shift4(field); {
	case s > 0:
		e.I("VPSLLW $%d, %s, Z31", s, from)
	case s < 0:
		e.I("VPSRLW $%d, %s, Z31", -s, from)
	default:
		e.I("VMOVDQU64 %s, Z31", from)
	}
	e.I("VPTERNLOGD $0xf8, Z27, Z31, Z24 // Z24 | Z31&Z27")
}

// scale adds the scaled accumulators to the results: the second half of a sub-block of Q6_K, or the
// first or only one.
func (e *mul512) scale(half int) {
	at := e.scaleAt()
	small := func(op string, at, by, r int) {
		e.I("%s %d(SI), Z%d", op, at, r)
		e.I("VCVTDQ2PS Z%d, Z%d", r, r)
		e.I("VMULPS Z%d, Z%d, Z%d", by, r, r)
	}
	switch {
	case e.half:
		small("VPMOVSXBD", at+16*half, 29, 24)
	case e.exp:
		powers(e.Asm, fmt.Sprintf("%d(SI)", at), "Z24", "Z25", "Z28")
	case e.super && !e.mins:
		small("VPMOVSXBD", at, 29, 24)
	case e.super:
		small("VPMOVZXBD", at, 29, 24)
		small("VPMOVZXBD", at+16, 30, 31)
	default:
		e.I("VCVTPH2PS %d(SI), Z24", at)
		if e.mins {
			e.I("VCVTPH2PS %d(SI), Z31", at+32)
		}
	}
	for m := range e.t {
		e.finish16(m)
		e.I("VCVTDQ2PS Z%d, Z%d", 12+m, 12+m)
		e.I("VMULPS Z24, Z%d, Z%d", 12+m, 12+m)
		e.I("VFMADD231PS.BCST %d(R8), Z%d, Z%d", 4*m, 12+m, m)
	}
	if !e.mins {
		return
	}
	op := "VFMADD231PS"
	if e.super {
		op = "VFNMADD231PS" // minimums of super-blocks are subtracted
	}
	for m := range e.t {
		e.I("%s.BCST %d(R8), Z31, Z%d", op, 4*(e.t+m), m)
	}
}
