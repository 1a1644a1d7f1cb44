package main

import "fmt"

// NEON with i8mm: SMMLA multiplies 2 rows of 8 activations with 2 rows of 8 weights, four sums in one register: row 0 of
// the activations with both rows of weights, then row 1. Panels are unpacked before (neon_wide.go), rows of
// activations paired (neonPairRows). A kernel walks a panel in its four parts of 4 rows. Results, scales and
// the scales of the activations are kept in the order of SMMLA's sums; rows come apart at the end.
//
// Vector registers, from 0 on: results, integer sums, scaled integer sums (ints only), what changes all the time. General
// registers: those of mulNeon; R9 a row of results, R10 parts, R11 to R14 the first values of R1, R2, R3 and R6.
type mulMM struct {
	Neon
	*form
	t int
}

const (
	tileMM  = 8 // rows of activations in a tile
	leastMM = 4 // and the fewest: they are spread evenly over tiles, and are 9 or more

	scaleMM = 28 // first register of the scales of the activations; with ints they have none of their own
)

func (e *mulMM) pairs() int        { return (e.t + 1) / 2 }
func (e *mulMM) res(p, x int) int  { return 2*p + x } // of pair p of activations and pair x of weights
func (e *mulMM) acc(p, x int) int  { return 2*e.pairs() + 2*p + x }
func (e *mulMM) sum(p, x int) int  { return 4*e.pairs() + 2*p + x }
func (e *mulMM) single(p int) bool { return 2*p+1 == e.t } // the last row has no other

func (e *mulMM) work() int {
	if e.ints() {
		return 6 * e.pairs()
	}
	return 4 * e.pairs()
}

// mmName names the form of an unpacked panel.
func (f *form) mmName() string {
	name := ""
	if f.ints() {
		name = "Ints"
	} else if f.half {
		name = "Half"
	}
	if f.mins {
		name += "Mins"
	}
	return name
}

// mmQuant emits the kernel for unpacked panels like those of a type and returns its name.
func mmQuant(a *Asm, f *form, t int) string {
	e := &mulMM{Neon{a}, f, t}
	name := fmt.Sprintf("mulWide%sx%dNEONMM", f.mmName(), t)
	a.Func(name, quantParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t))
	e.Args("w", "q", "f", "n", "y", "stride", "blocks")
	for i, r := range []int{1, 2, 3, 6} {
		e.I("MOVD R%d, R%d", r, 11+i)
	}
	e.I("MOVD $4, R10")
	e.Loop("part", 10, func() {
		for i, r := range []int{1, 2, 3, 6} {
			e.I("MOVD R%d, R%d", 11+i, r)
		}
		e.part()
		e.Inc(4, 16)
	})
	e.Return()
	return name
}

// part emits the work on a part of the panel.
func (e *mulMM) part() {
	each := func(f func(p, x int)) {
		for p := range e.pairs() {
			for x := range 2 {
				f(p, x)
			}
		}
	}
	each(func(p, x int) { e.Zero(e.res(p, x)) })
	e.Loop("block", 6, func() {
		if !e.ints() {
			e.words(scaleMM, 0, 2)
		}
		switch {
		case e.ints():
			e.blockInts(each)
		case e.half:
			e.dots(each, 0, 2)
			e.scale(each, 0)
			e.dots(each, 2, 4)
			e.scale(each, 1)
		default:
			e.dots(each, 0, 4)
			e.scale(each, 0)
			if e.mins {
				e.minimums(each)
			}
		}
		e.Inc(0, e.partBytes())
		e.Inc(1, 32*e.t)
		e.Inc(2, 8*e.t)
		if e.ints() && e.mins {
			e.Inc(3, 8*e.t)
		}
	})
	e.I("MOVD R4, R9")
	for p := range e.pairs() {
		e.V3(opZip1d, e.work(), e.res(p, 0), e.res(p, 1))
		e.Put(e.work(), 0, 9)
		if !e.single(p) {
			e.I("ADD R5, R9")
			e.V3(opZip2d, e.work(), e.res(p, 0), e.res(p, 1))
			e.Put(e.work(), 0, 9)
		}
		if p < e.pairs()-1 {
			e.I("ADD R5, R9")
		}
	}
}

// dots sets the integer sums to the products of columns 8*first up to 8*end.
func (e *mulMM) dots(each func(func(p, x int)), first, end int) {
	each(func(p, x int) { e.Zero(e.acc(p, x)) })
	for k := first; k < end; k++ {
		acts, w := e.work(), e.work()+e.pairs()
		if k%2 == 1 && !e.ints() { // where there is room, by turns
			acts, w = w+2, w+2+e.pairs()
		}
		for p := range e.pairs() {
			if e.single(p) {
				e.Get8(acts+p, 64*p+8*k, 1)
			} else {
				e.Get(acts+p, 64*p+16*k, 1)
			}
		}
		for x := range 2 {
			e.Get(w+x, 32*k+16*x, 0)
			for p := range e.pairs() {
				e.V3(opSmmla, e.acc(p, x), acts+p, w+x)
			}
		}
	}
}

// words loads a word for each row of activations, the n-th set of those at R(reg), to the registers from d on.
func (e *mulMM) words(d, n, reg int) {
	for p := range e.pairs() {
		if at := 4*e.t*n + 8*p; e.single(p) {
			e.Get4(d+p, at, reg)
		} else {
			e.Get8(d+p, at, reg)
		}
		e.V3(opZip1s, d+p, d+p, d+p)
	}
}

// both loads number n of the scales of both pairs of weights to d and d+1.
func (e *mulMM) both(d, n int) {
	e.Get(d, 128+32*n, 0)
	e.Get(d+1, 128+32*n+16, 0)
}

// scale adds the integer sums, scaled, to the results.
func (e *mulMM) scale(each func(func(p, x int)), half int) {
	s, d := e.work(), scaleMM
	e.both(s, half)
	each(func(p, x int) { e.V2(opScvtf, e.acc(p, x), e.acc(p, x)) })
	each(func(p, x int) { e.V3(opFmul, e.acc(p, x), e.acc(p, x), s+x) })
	each(func(p, x int) { e.V3(opFmla, e.res(p, x), e.acc(p, x), d+p) })
}

// minimums adds them times the sums of the activations.
func (e *mulMM) minimums(each func(func(p, x int))) {
	m, d := e.work(), e.work()+2
	e.both(m, 1)
	e.words(d, 1, 2)
	each(func(p, x int) { e.V3(opFmla, e.res(p, x), m+x, d+p) })
}

// blockInts emits the work on 32 columns of a type whose scales are applied to integers.
func (e *mulMM) blockInts(each func(func(p, x int))) {
	s := e.work()
	for half := range 2 {
		e.dots(each, 2*half, 2*half+2)
		e.both(s, half)
		o := opMla
		if half == 0 {
			o = opMul
		}
		each(func(p, x int) { e.V3(o, e.sum(p, x), e.acc(p, x), s+x) })
	}
	e.factor(each, 2)
	if !e.mins {
		return
	}
	e.both(s, 3)
	e.words(s+2, 0, 3)
	each(func(p, x int) { e.V3(opMul, e.sum(p, x), s+x, s+2+p) })
	e.both(s, 4)
	e.words(s+2, 1, 3)
	each(func(p, x int) { e.V3(opMla, e.sum(p, x), s+x, s+2+p) })
	e.factor(each, 5)
}

// factor adds the scaled integer sums, times number n of the scales, to the results.
func (e *mulMM) factor(each func(func(p, x int)), n int) {
	s, d := e.work(), e.work()+2
	e.both(s, n)
	e.words(d, 0, 2)
	each(func(p, x int) { e.V2(opScvtf, e.sum(p, x), e.sum(p, x)) })
	each(func(p, x int) { e.V3(opFmul, e.sum(p, x), e.sum(p, x), s+x) })
	each(func(p, x int) { e.V3(opFmla, e.res(p, x), e.sum(p, x), d+p) })
}

// neonPairRows emits what puts rows of activations side by side by twos: of each 8 columns those of one row, then those of the
// next. A last row without another stays as it is.
func neonPairRows(a Neon) {
	a.Func("pairRowsNEON", "q *int8, rows int, blocks int", "pairs the rows of a tile.")
	a.Args("q", "rows", "blocks")
	a.Loop("block", 2, func() {
		a.I("MOVD R1, R3")
		a.L("pair")
		a.I("SUBS $2, R3")
		a.I("BLT rest")
		for i := range 4 {
			a.Get(i, 16*i, 0)
		}
		for i := range 2 {
			a.V3(opZip1d, 4, i, 2+i)
			a.V3(opZip2d, 5, i, 2+i)
			a.Put(4, 32*i, 0)
			a.Put(5, 32*i+16, 0)
		}
		a.Inc(0, 64)
		a.I("B pair")
		a.L("rest")
		a.I("ADDS $2, R3")
		a.I("BEQ next")
		a.Inc(0, 32)
		a.L("next")
	})
	a.Return()
}

// neonWide emits what unpacks panels, and the products of unpacked ones, for dotprod and i8mm.
func neonWide(a *Asm) {
	var mm, dot kernelTable
	var widenMM, widenDot [len(mm)]string
	same := map[string]int{}
	sameDot := map[string]int{}
	for i := range forms {
		f := &forms[i]
		widenMM[i] = neonWiden(a, f, true)
		if at, ok := same[f.mmName()]; ok {
			mm[i] = mm[at]
		} else {
			same[f.mmName()] = i
			mm.none(i, leastMM-1)
			for t := leastMM; t <= tileMM; t++ {
				mm.add(i, mmQuant(a, f, t))
			}
		}
		if f.low != 4 {
			continue
		}
		widenDot[i] = neonWiden(a, f, false)
		if at, ok := sameDot[f.mmName()]; ok {
			dot[i] = dot[at]
			continue
		}
		sameDot[f.mmName()] = i
		dot.none(i, leastWideDot-1)
		for t := leastWideDot; t <= tileDot; t++ {
			dot.add(i, neonQuant(a, f.widenedNeon(), t, true))
		}
	}
	neonPairRows(Neon{a})
	mm.part(a, "neonMMWide", quantParams, tileMM, 0, len(forms))
	dot.part(a, "neonDotWide", quantParams, tileDot, 0, len(forms))
	widenTable(a, "neonMMWiden", "w, out *byte, part, blocks int", widenMM[:])
	widenTable(a, "neonDotWiden", "w, out *byte, part, blocks int", widenDot[:])
}
