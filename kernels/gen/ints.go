package main

import "fmt"

// Types with two bits in the low plane (Q2_K, Q3_K): the two halves of a sub-block have integer scales,
// which multiply the integer dots; one float32 scale is left.

// three says whether the low and the high plane are one, of three bits; see getTwos in kernels/sub.go.
func (f *form) three() bool { return f.low == 2 && f.high == 1 }

// frame is the stack of a kernel: results, the scales of a super-block, what the first halves of the
// sub-block gave (ints only), and what aligning takes.
func (e *mul2) frame() int {
	if e.ints() {
		return 64*e.t + 128 + 64*e.t + 64
	}
	return 64*e.t + 128 + 64
}

// firstAt is the place of the first half's dots on the stack.
func (e *mul2) firstAt(m, h int) int { return e.headAt() + 128 + 64*m + 32*h }

// factor is the operand of a float32 factor of 8 rows: of the scales (0) or the minimums (1).
func (e *mul2) factor(which, h int) string {
	if !e.wide {
		return fmt.Sprintf("%d(R11)", e.headAt()+64*which+32*h)
	}
	at := wideScales + 2*64
	if e.mins {
		at += 2 * 64
	}
	return fmt.Sprintf("%d(SI)", at+64*which+32*h)
}

// pairs puts the integer scales (0) or minimums (1) of a half into two registers, each twice as int16.
// It spoils Y10.
func (e *mul2) pairs(which, half, r1, r2 int) {
	for h, r := range [2]int{r1, r2} {
		if e.wide {
			e.I("VMOVDQU %d(SI), Y%d", wideScales+128*which+64*half+32*h, r)
			continue
		}
		if h == 0 {
			e.I("VBROADCASTI128 %d(SI), Y10", e.scaleAt()+16*half)
		}
		e.I("VPSHUFB four<>+%d(SB), Y10, Y%d", 32*h, r)
		switch {
		case !e.mins:
			e.I("VPSRAW $8, Y%d, Y%d", r, r)
		case which == 0:
			e.I("VPAND low4of16<>+0(SB), Y%d, Y%d", r, r)
		default:
			e.I("VPSRLW $12, Y%d, Y%d", r, r)
		}
		if e.vnni {
			e.I("VPSRLD $16, Y%d, Y%d", r, r) // once, with zeros above
		}
	}
}

// widenInts stores the scales of an unpacked block.
func (e *mul2) widenInts() {
	wide := &mul2{Asm: e.Asm, form: e.widened()}
	kinds := 1
	if e.mins {
		kinds = 2
	}
	for which := range kinds {
		for half := range 2 {
			e.pairs(which, half, 8, 9)
			at := wideScales + 128*which + 64*half
			e.I("VMOVDQU Y8, %d(DI)", at)
			e.I("VMOVDQU Y9, %d(DI)", at+32)
		}
		for h := range 2 {
			var at int
			fmt.Sscanf(wide.factor(which, h), "%d", &at)
			e.I("VMOVUPS %s, Y8", e.factor(which, h))
			e.I("VMOVUPS Y8, %d(DI)", at)
		}
	}
}

// subInts emits the work on 32 columns.
func (e *mul2) subInts() {
	e.masks()
	for half := range 2 {
		e.start(half)
		for j := range 4 {
			e.unpack(4*half + j)
			e.dots4(4*half + j)
		}
		e.pairs(0, half, 8, 9)
		for m := range e.t {
			for h := range 2 {
				r := 2*m + h
				e.I("VPMADDWD Y%d, Y%d, Y%d", 8+h, r, r)
				if half == 0 {
					e.I("VMOVDQU Y%d, %d(R11)", r, e.firstAt(m, h))
				} else {
					e.I("VPADDD %d(R11), Y%d, Y%d", e.firstAt(m, h), r, r)
				}
			}
		}
	}
	if e.mins {
		e.pairs(1, 0, 8, 9)
		e.pairs(1, 1, 13, 15)
	}
	for m := range e.t {
		e.I("VBROADCASTSS %d(R8), Y10", 4*m)
		for h := range 2 {
			e.addInts(m, h)
		}
	}
}

// addInts adds what the integers of 8 rows and row m of the activations come to, to the results: dots in
// their accumulator, minimums in Y8, Y9, Y13, Y15 and the scale of the activations in Y10.
func (e *mul2) addInts(m, h int) {
	r := 2*m + h
	e.I("VCVTDQ2PS Y%d, Y%d", r, r)
	e.I("VMULPS %s, Y%d, Y%d", e.factor(0, h), r, r)
	y := 4 + r
	if e.inRegs() {
		e.I("VFMADD231PS Y10, Y%d, Y%d", r, y)
	} else {
		y = r
		e.I("VFMADD213PS %d(R11), Y10, Y%d", e.accAt(m, h), y)
	}
	if e.mins {
		e.I("VPBROADCASTD %d(R9), Y11", 4*m)
		e.I("VPBROADCASTD %d(R9), Y12", 4*(e.t+m))
		e.I("VPMADDWD Y11, Y%d, Y11", 8+h)
		e.I("VPMADDWD Y12, Y%d, Y12", 13+2*h)
		e.I("VPADDD Y12, Y11, Y11")
		e.I("VCVTDQ2PS Y11, Y11")
		e.I("VMULPS %s, Y11, Y11", e.factor(1, h))
		e.I("VFMADD231PS Y10, Y11, Y%d", y)
	}
	if !e.inRegs() {
		e.I("VMOVUPS Y%d, %d(R11)", y, e.accAt(m, h))
	}
}

// firsts returns the registers that hold the dots of the first halves, as far as they suffice; the
// other rows' are on the stack.
func (e *mul512) firsts() []int {
	regs := []int{25, 28}
	for r := e.t; r < 12; r++ { // what fewer rows leave of results and of accumulators
		regs = append(regs, r, 12+r)
	}
	return regs[:min(e.t, len(regs))]
}

// frame is the stack of a kernel.
func (e *mul512) frame() int {
	if n := e.t - len(e.firsts()); e.ints() && n > 0 {
		return 64*n + 64
	}
	return 0
}

// subInts emits the work on 32 columns.
func (e *mul512) subInts() {
	regs := e.firsts()
	for half := range 2 {
		e.start(half)
		for j := 4 * half; j < 4*half+4; j++ {
			e.dots(j)
		}
		e.intScale(0, half, 24)
		for m := range e.t {
			switch r := 12 + m; {
			case half == 0 && m < len(regs):
				e.I("VPMADDWD Z24, Z%d, Z%d", r, regs[m])
			case half == 0:
				e.I("VPMADDWD Z24, Z%d, Z%d", r, r)
				e.I("VMOVDQU64 Z%d, %d(R11)", r, 64*(m-len(regs)))
			case m < len(regs):
				e.I("VPMADDWD Z24, Z%d, Z%d", r, r)
				e.I("VPADDD Z%d, Z%d, Z%d", regs[m], r, r)
			default:
				e.I("VPMADDWD Z24, Z%d, Z%d", r, r)
				e.I("VPADDD %d(R11), Z%d, Z%d", 64*(m-len(regs)), r, r)
			}
		}
	}
	e.addInts(29)
	if !e.mins {
		return
	}
	e.intScale(1, 0, 24)
	e.intScale(1, 1, 31)
	for m := range e.t {
		if !e.vnni {
			e.minimums16(m)
			continue
		}
		e.I("VPXORD Z%d, Z%d, Z%d", 12+m, 12+m, 12+m)
		e.I("VPDPWSSD.BCST %d(R9), Z24, Z%d", 4*m, 12+m)
		e.I("VPDPWSSD.BCST %d(R9), Z31, Z%d", 4*(e.t+m), 12+m)
	}
	e.addInts(30)
}

// intScale puts the integer scales (0) or minimums (1) of a half into a register: int16 with zeros above.
// Without VNNI each stands there twice.
func (e *mul512) intScale(which, half, r int) {
	at := e.scaleAt() + 16*half
	if !e.vnni {
		e.pairs16(which, at, r)
		return
	}
	if !e.mins {
		e.I("VPMOVSXBD %d(SI), Z%d", at, r)
		e.I("VPSLLD $16, Z%d, Z%d", r, r)
		e.I("VPSRLD $16, Z%d, Z%d", r, r)
		return
	}
	e.I("VPMOVZXBD %d(SI), Z%d", at, r)
	if which == 1 {
		e.I("VPSRLD $4, Z%d, Z%d", r, r)
		return
	}
	e.I("VPSLLD $28, Z%d, Z%d", r, r)
	e.I("VPSRLD $28, Z%d, Z%d", r, r)
}

// addInts adds the integer accumulators, times the factors in register by, to the results.
func (e *mul512) addInts(by int) {
	for m := range e.t {
		e.I("VCVTDQ2PS Z%d, Z%d", 12+m, 12+m)
		e.I("VMULPS Z%d, Z%d, Z%d", by, 12+m, 12+m)
		e.I("VFMADD231PS.BCST %d(R8), Z%d, Z%d", 4*m, 12+m, m)
	}
}
