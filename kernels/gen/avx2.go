package main

import "fmt"

// AVX2 kernels multiply one panel (16 rows of the matrix: two registers of 8 lanes) with a tile of t
// rows of activations. Registers:
//
//	Y0 - Y7    integer accumulators, two for each row of the tile
//	Y8, Y9     weights; at the end of a block their scales
//	Y10        a broadcast
//	Y11, Y12   products; at the end of a block the results so far
//	Y13, Y15   masks; at the end of a block the minimums
//	Y14        ones of 16 bits
//
// The float32 results stand in registers Y4 - Y7 for one or two rows, else on the stack, where they
// are aligned: a store over the border of two cache lines costs several.
type mul2 struct {
	*Asm
	*form
	t    int
	vnni bool // with AVX-VNNI, see avx2_vnni.go
}

// wide is a form whose panels have been unpacked, for a long run of tiles: a block of 32 columns is
//
//	512 bytes of codes, [4 columns][16 rows][4]
//	16 float32 scales
//	16 float32 minimums to be added, or scales of the second half
//
// and for types whose scales are applied to integers, in place of the scales:
//
//	the scale of the first half, of the second (of each row twice, as int16)
//	the minimums likewise, in types with minimums
//	16 float32 factors of the scales; 16 of the minimums, divided by 8
const wideScales = 512

// wideBytes is the size of a block of an unpacked panel.
func (f *form) wideBytes() int {
	switch {
	case !f.ints():
		return wideScales + 2*64
	case f.mins:
		return wideScales + 6*64
	}
	return wideScales + 3*64
}

// widened is the form of unpacked panels of a type.
func (f form) widened() *form {
	f.name, f.wide, f.super = "Wide"+f.name, true, false
	if f.bytes {
		f.low = 8
	}
	f.book, f.bytes = "", false
	return &f
}

// avx2Widen emits what unpacks a panel and returns its name.
func avx2Widen(a *Asm, f *form) string {
	e := &mul2{Asm: a, form: f}
	name := "widen" + f.name + "AVX2"
	a.FuncFrame(name, "w *byte, out *byte, blocks int", "unpacks a panel.", 128+64)
	a.Load("w", "SI")
	a.Load("out", "DI")
	a.Load("blocks", "CX")
	e.alignStack()
	f.blockLoop(a, 0, e.head, func() {
		e.masks()
		for j := range 8 {
			e.unpack(j)
			e.I("VMOVDQU Y8, %d(DI)", 64*j)
			e.I("VMOVDQU Y9, %d(DI)", 64*j+32)
		}
		put := func(at, r1, r2 int) {
			e.I("VMOVUPS Y%d, %d(DI)", r1, at)
			e.I("VMOVUPS Y%d, %d(DI)", r2, at+32)
		}
		if !f.ints() {
			e.scales(0)
			put(wideScales, 8, 9)
		}
		switch {
		case f.ints():
			e.widenInts()
		case f.half:
			e.scales(1)
			put(wideScales+64, 8, 9)
		case f.mins:
			if f.super {
				e.I("VPCMPEQD Y0, Y0, Y0")
				e.I("VPSLLD $31, Y0, Y0")
				e.I("VXORPS Y0, Y13, Y13")
				e.I("VXORPS Y0, Y15, Y15")
			}
			put(wideScales+64, 13, 15)
		}
		e.I("ADDQ $%d, DI", f.wideBytes())
	})
	a.Ret()
	return name
}

// alignStack sets R11 to the function's own stack, rounded up to a multiple of 64.
func (e *mul2) alignStack() {
	e.I("LEAQ 63(SP), R11")
	e.I("ANDQ $-64, R11")
}

// masks loads the masks of the planes.
func (e *mul2) masks() {
	if e.wide {
		return
	}
	if e.low == 8 {
		e.I("VMOVDQU top8<>+0(SB), Y13")
		return
	}
	if e.three() {
		e.I("VMOVDQU low3<>+0(SB), Y13")
		e.I("VMOVDQU low2<>+0(SB), Y15")
		return
	}
	e.I("VMOVDQU low%d<>+0(SB), Y13", e.low)
	switch {
	case e.bytes && e.vnni:
		e.I("VMOVDQU %sup<>+0(SB), Y15", e.book)
	case e.book != "":
		e.I("VMOVDQU %s<>+0(SB), Y15", e.book)
	case e.high == 1:
		e.I("VMOVDQU bit4<>+0(SB), Y15")
	case e.high == 2:
		e.I("VMOVDQU bits45<>+0(SB), Y15")
	}
}

func (e *mul2) inRegs() bool { return e.t <= 2 }

// The stack, from R11 on, which is a multiple of 64: results, and the f16 scales of a super-block as float32.
func (e *mul2) accAt(m, half int) int { return 64*m + 32*half }
func (e *mul2) headAt() int           { return 64 * e.t }

// avx2Quant emits the kernel for a quantised type and returns its name.
func avx2Quant(a *Asm, f *form, t int) string {
	return (&mul2{Asm: a, form: f, t: t}).kernel("AVX2")
}

// kernel emits a kernel and returns its name, which ends as said.
func (e *mul2) kernel(level string) string {
	a, f, t := e.Asm, e.form, e.t
	name := fmt.Sprintf("mul%sx%d%s", f.name, t, level)
	a.FuncFrame(name, quantParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t), e.frame())
	loadQuant(a)
	e.alignStack()
	e.I("VXORPS Y0, Y0, Y0")
	for m := range t {
		for h := range 2 {
			if e.inRegs() {
				e.I("VXORPS Y%d, Y%d, Y%d", 4+2*m+h, 4+2*m+h, 4+2*m+h)
			} else {
				e.I("VMOVUPS Y0, %d(R11)", e.accAt(m, h))
			}
		}
	}
	e.I("VMOVDQU ones16<>+0(SB), Y14")
	f.blockLoop(a, t, e.head, e.sub)
	for m := range t {
		for h := range 2 {
			r := 4 + 2*m + h
			if !e.inRegs() {
				r = h
				e.I("VMOVUPS %d(R11), Y%d", e.accAt(m, h), r)
			}
			e.I("VMOVUPS Y%d, %d(DI)", r, 32*h)
		}
		if m < t-1 {
			e.I("ADDQ R10, DI")
		}
	}
	a.Ret()
	return name
}

// head puts the f16 scales of a super-block on the stack as float32.
func (e *mul2) head() {
	for i := range e.headBytes() / 16 {
		e.I("VCVTPH2PS %d(SI), Y8", 16*i)
		if e.ints() && i >= 2 && !e.vnni {
			e.I("VMULPS eighth<>+0(SB), Y8, Y8")
		}
		e.I("VMOVUPS Y8, %d(R11)", e.headAt()+32*i)
	}
}

// ahead is how far ahead of the weights memory is told what comes: with few rows of activations the
// weights come from memory, and processors without AVX-512 do not look far enough by themselves (on
// Zen 3 it gives 20 to 40 % in decode, and costs nothing in prefill).
const ahead = 2048

// prefetch asks for the next bytes of the weights, some way ahead.
func prefetch(a *Asm, bytes int) {
	for at := 0; at < bytes; at += 64 {
		a.I("PREFETCHT0 %d(SI)", ahead+at)
	}
}

// sub emits the work on 32 columns.
func (e *mul2) sub() {
	if !e.wide {
		prefetch(e.Asm, e.subBytes())
	}
	switch {
	case e.low == 8 && !e.vnni:
		e.dots8()
		e.scale(0)
		return
	case e.bytes && !e.vnni:
		e.dotsBook()
		e.scale(0)
		return
	case e.ints():
		e.subInts()
		return
	}
	e.masks()
	e.start(0)
	for j := range 8 {
		if j == 4 && e.half {
			e.scale(0)
			e.start(1)
		}
		e.unpack(j)
		e.dots4(j)
	}
	if e.half {
		e.scale(1)
	} else {
		e.scale(0)
	}
}

// start sets the accumulators to what makes up for the codes' being unsigned. With minimums and four
// bits nothing is needed; with five bits the sum of 32 products does not fit 16 bits, so 16 is
// subtracted from the codes like in Q5_0, and put back in scale.
func (e *mul2) start(half int) {
	if e.vnni {
		e.startVNNI(half)
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
		r := 2 * m
		e.I("VPBROADCASTD %d(R9), Y%d", 4*(m+half*e.t), r)
		switch {
		case shift > 0:
			e.I("VPSLLW $%d, Y%d, Y%d", shift, r, r)
		case shift < 0:
			e.I("VPSRAW $%d, Y%d, Y%d", -shift, r, r)
		}
		e.I("VMOVDQA Y%d, Y%d", r, r+1)
	}
}

// unpack puts the codes of the weights 4j ... 4j+3 of all rows into Y8 and Y9.
func (e *mul2) unpack(j int) {
	for h := range 2 {
		if e.wide {
			e.I("VMOVDQU %d(SI), Y%d", 64*j+32*h, 8+h)
			continue
		}
		w := 8 + h
		if e.low == 8 {
			e.I("VPXOR %d(SI), Y13, Y%d", 64*j+32*h, w)
			continue
		}
		at, down := e.lowAt(j)
		at += 32 * h
		if down == 0 {
			e.I("VPAND %d(SI), Y13, Y%d", at, w)
		} else {
			e.I("VMOVDQU %d(SI), Y%d", at, w)
			e.I("VPSRLW $%d, Y%d, Y%d", down, w, w)
			if j >= 6 && e.three() {
				e.thirdBit(j, h)
				continue
			}
			e.I("VPAND Y13, Y%d, Y%d", w, w)
		}
		if e.book != "" {
			e.I("VPSHUFB Y%d, Y15, Y%d", w, w)
		}
		if e.high == 0 || e.three() {
			continue
		}
		at, field := e.highAt(j)
		at += 32 * h
		switch s := e.shift4(field); {
		case s == 0:
			e.I("VPAND %d(SI), Y15, Y11", at)
		case s > 0:
			e.I("VMOVDQU %d(SI), Y11", at)
			e.I("VPSLLW $%d, Y11, Y11", s)
			e.I("VPAND Y15, Y11, Y11")
		default:
			e.I("VMOVDQU %d(SI), Y11", at)
			e.I("VPSRLW $%d, Y11, Y11", -s)
			e.I("VPAND Y15, Y11, Y11")
		}
		e.I("VPOR Y11, Y%d, Y%d", w, w)
	}
}

// thirdBit clears what is no part of the two low bits of codes in Y8 or Y9, and puts the third above.
func (e *mul2) thirdBit(j, h int) {
	e.I("VMOVDQU %d(SI), Y11", 128+32*h)
	e.I("VPAND Y15, Y%d, Y%d", 8+h, 8+h)
	e.I("VPSRLW $%d, Y11, Y11", j-2)
	e.I("VPAND bit2<>+0(SB), Y11, Y11")
	e.I("VPOR Y11, Y%d, Y%d", 8+h, 8+h)
}

// dots4 adds the products of the codes in Y8 and Y9 to the accumulators of 16 bits.
func (e *mul2) dots4(j int) {
	if e.vnni {
		e.dotsVNNI(j)
		return
	}
	first := (j == 0 || j == 4 && e.ints()) && e.mins && e.high == 0
	for m := range e.t {
		e.I("VPBROADCASTD %d(DX), Y10", 32*m+4*j)
		if first {
			e.I("VPMADDUBSW Y10, Y8, Y%d", 2*m)
			e.I("VPMADDUBSW Y10, Y9, Y%d", 2*m+1)
			continue
		}
		e.I("VPMADDUBSW Y10, Y8, Y11")
		e.I("VPMADDUBSW Y10, Y9, Y12")
		e.I("VPADDW Y11, Y%d, Y%d", 2*m, 2*m)
		e.I("VPADDW Y12, Y%d, Y%d", 2*m+1, 2*m+1)
	}
}

// dots8 adds up the products of signed weights: magnitudes of weights times activations with the signs
// of the weights. A pair of products just fits 16 bits.
func (e *mul2) dots8() {
	for j := range 8 {
		e.I("VPABSB %d(SI), Y8", 64*j)
		e.I("VPABSB %d(SI), Y9", 64*j+32)
		for m := range e.t {
			e.I("VPBROADCASTD %d(DX), Y10", 32*m+4*j)
			e.I("VPSIGNB %d(SI), Y10, Y11", 64*j)
			e.I("VPSIGNB %d(SI), Y10, Y12", 64*j+32)
			for h := range 2 {
				e.I("VPMADDUBSW Y%d, Y%d, Y%d", 11+h, 8+h, 11+h)
				if j == 0 {
					e.I("VPMADDWD Y%d, Y14, Y%d", 11+h, 2*m+h)
					continue
				}
				e.I("VPMADDWD Y%d, Y14, Y%d", 11+h, 11+h)
				e.I("VPADDD Y%d, Y%d, Y%d", 11+h, 2*m+h, 2*m+h)
			}
		}
	}
}

// scale adds the scaled accumulators to the results: the second half of a sub-block of Q6_K, or the
// first or only one.
func (e *mul2) scale(half int) {
	e.scales(half)
	for m := range e.t {
		e.finishInts(m)
		r := 4 + 2*m
		e.I("VBROADCASTSS %d(R8), Y10", 4*m)
		if !e.inRegs() {
			r = 11
			e.I("VMOVUPS %d(R11), Y11", e.accAt(m, 0))
			e.I("VMOVUPS %d(R11), Y12", e.accAt(m, 1))
		}
		e.I("VFMADD231PS Y10, Y%d, Y%d", 2*m, r)
		e.I("VFMADD231PS Y10, Y%d, Y%d", 2*m+1, r+1)
		if e.mins {
			op := "VFMADD231PS"
			if e.super {
				op = "VFNMADD231PS" // minimums of super-blocks are subtracted
			}
			e.I("VBROADCASTSS %d(R8), Y10", 4*(e.t+m))
			e.I("%s Y10, Y13, Y%d", op, r)
			e.I("%s Y10, Y15, Y%d", op, r+1)
		}
		if !e.inRegs() {
			e.I("VMOVUPS Y11, %d(R11)", e.accAt(m, 0))
			e.I("VMOVUPS Y12, %d(R11)", e.accAt(m, 1))
		}
	}
}

// finishInts turns the accumulators of row m into dots of 32 bits, and these into float32 times the
// scale of the weights.
func (e *mul2) finishInts(m int) {
	back := e.mins && e.high == 1 && !e.vnni
	if back {
		e.I("VPBROADCASTD %d(R9), Y10", 4*m)
		e.I("VPMADDWD minus2<>+0(SB), Y10, Y10")
	}
	for h := range 2 {
		r := 2*m + h
		if e.low != 8 && !e.bytes && !e.vnni {
			e.I("VPMADDWD Y%d, Y14, Y%d", r, r)
		}
		if back {
			e.I("VPADDD Y10, Y%d, Y%d", r, r)
		}
		e.I("VCVTDQ2PS Y%d, Y%d", r, r)
		e.I("VMULPS Y%d, Y%d, Y%d", 8+h, r, r)
	}
}

// scales puts the scales of the weights into Y8 and Y9, and the minimums into Y13 and Y15.
func (e *mul2) scales(half int) {
	at := e.scaleAt()
	if e.wide {
		at = wideScales + 64*half
		e.I("VMOVUPS %d(SI), Y8", at)
		e.I("VMOVUPS %d(SI), Y9", at+32)
		if e.mins {
			e.I("VMOVUPS %d(SI), Y13", at+64)
			e.I("VMOVUPS %d(SI), Y15", at+96)
		}
		return
	}
	if e.exp {
		for h := range 2 {
			powers(e.Asm, fmt.Sprintf("%d(SI)", at+8*h), fmt.Sprintf("Y%d", 8+h), "tiny2<>+0(SB)", "half<>+0(SB)")
		}
		return
	}
	if !e.super {
		e.I("VCVTPH2PS %d(SI), Y8", at)
		e.I("VCVTPH2PS %d(SI), Y9", at+16)
		if e.mins {
			e.I("VCVTPH2PS %d(SI), Y13", at+32)
			e.I("VCVTPH2PS %d(SI), Y15", at+48)
		}
		return
	}
	small := func(op string, at, by, r int) {
		e.I("%s %d(SI), Y%d", op, at, r)
		e.I("VCVTDQ2PS Y%d, Y%d", r, r)
		e.I("VMULPS %d(R11), Y%d, Y%d", e.headAt()+by, r, r)
	}
	if e.half {
		small("VPMOVSXBD", at+16*half, 0, 8)
		small("VPMOVSXBD", at+16*half+8, 32, 9)
		return
	}
	if !e.mins {
		small("VPMOVSXBD", at, 0, 8)
		small("VPMOVSXBD", at+8, 32, 9)
		return
	}
	small("VPMOVZXBD", at, 0, 8)
	small("VPMOVZXBD", at+8, 32, 9)
	small("VPMOVZXBD", at+16, 64, 13)
	small("VPMOVZXBD", at+24, 96, 15)
}
