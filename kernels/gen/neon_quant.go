package main

import "fmt"

// NEON kernels multiply one panel (16 rows of the matrix: four registers) with a tile of t rows of
// activations. With few rows of activations all four registers are done together; with more, two at a
// time, and the panel is walked twice.
//
// With dotprod, SDOT sums four products into each lane of 32 bits. Without, SMULL and SMLAL multiply
// bytes into lanes of 16 bits, of which 8 rows take four registers; the sums of the four columns are
// made at the end of a block. 16 bits hold what a lane gets: of codes of 4 and 5 bits 8 products,
// of 6 bits 4 (half a block), of 8 bits 2, which then go to lanes of 32 bits (SADALP).
//
// Vector registers, from 0 on: integer accumulators, results, and from work on what changes all the
// time. General registers: R0 weights, R1 activations, R2 their scales, R3 their sums, R4 results, R5
// their stride, R6 blocks, R7 sub-blocks, R8 head of the super-block, R10 to R14 the first values of R0
// to R3 and R6.
type mulNeon struct {
	Neon
	*form
	t     int
	dot   bool // with dotprod
	group int  // registers of the panel done together
	first int  // the first one
}

const (
	tileDot  = 5 // rows of activations in a tile with dotprod
	tileNeon = 4 // and without
	// The fewest with unpacked panels, which are for 16 rows or more.
	leastWideDot = 4

	maskLow, maskHigh = 31, 30 // registers of the masks of the planes
)

// neonQuant emits the kernel for a quantised type and returns its name.
func neonQuant(a *Asm, f *form, t int, dot bool) string {
	e := &mulNeon{Neon: Neon{a}, form: f, t: t, dot: dot, group: 4}
	name := fmt.Sprintf("mul%sx%dNEON", f.name, t)
	both := 2
	if dot {
		name = name + "Dot"
		if f.high != 1 || f.ints() { // see pairs
			both = 3
		}
	}
	if t > both {
		e.group = 2
	}
	a.Func(name, quantParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t))
	e.Args("w", "q", "f", "n", "y", "stride", "blocks")
	if e.group < 4 {
		for i, r := range []int{0, 1, 2, 3, 6} {
			e.I("MOVD R%d, R%d", r, 10+i)
		}
	}
	for e.first = 0; e.first < 4; e.first += e.group {
		if e.first > 0 {
			for i, r := range []int{0, 1, 2, 3, 6} {
				e.I("MOVD R%d, R%d", 10+i, r)
			}
		}
		e.pass()
	}
	e.Return()
	return name
}

// acc is the register of the integer sums of row r and panel register g, res that of their results, and
// work the first that is free.
func (e *mulNeon) acc(r, g int) int {
	if e.dot {
		return r*e.group + g
	}
	return 2 * (r*e.group + g)
}
func (e *mulNeon) res(r, g int) int {
	if e.ints() { // see neon_ints.go
		return r*e.group + g
	}
	return e.acc(e.t, 0) + r*e.group + g
}
func (e *mulNeon) work() int { return e.res(e.t, 0) }

// hoisted says whether there is room to keep the f16 scales of a super-block as float32; head is their
// register: of scale (0) or minimum (1).
func (e *mulNeon) hoisted() bool {
	if e.ints() {
		return e.temps()+4 <= e.head(1, e.group-1)
	}
	return e.super && (e.t == 1 || e.dot && e.t*e.group <= 8 && e.high != 1)
}
func (e *mulNeon) head(m, g int) int { return maskHigh - 1 - m*e.group - g }

// pass emits the loop over all blocks for some registers of the panel.
func (e *mulNeon) pass() {
	for r := range e.t {
		for g := range e.group {
			e.Zero(e.res(r, g))
		}
	}
	e.masks()
	id := e.first
	e.Loop(fmt.Sprintf("block%d", id), 6, func() {
		if !e.super {
			e.sub()
			return
		}
		e.I("MOVD R0, R8")
		if e.hoisted() {
			for m := range e.headBytes() / 32 {
				for g := range e.group {
					e.headScale(e.head(m, g), m, g)
				}
			}
		}
		e.Inc(0, e.headBytes())
		e.I("MOVD $8, R7")
		e.Loop(fmt.Sprintf("sub%d", id), 7, e.sub)
	})
	for r := range e.t {
		for g := range e.group {
			e.Put(e.res(r, g), 16*(e.first+g), 4)
		}
		if r < e.t-1 {
			e.I("ADD R5, R4")
		}
	}
	if e.t > 1 && e.first+e.group < 4 {
		for range e.t - 1 {
			e.I("SUB R5, R4")
		}
	}
}

// masks sets the masks that unpack, dots5 and dots6 need.
func (e *mulNeon) masks() {
	if e.ints() {
		e.intMasks()
		return
	}
	low, high := uint32(0x0f), []uint32{0, 0x10, 0x30}[e.high]
	switch {
	case e.low == 8:
		return
	case e.pairs():
		high = 0x11
	case e.dot && e.high == 2:
		low, high = 0xf0, 0x33
	}
	e.Bytes(maskLow, low)
	if high != 0 {
		e.Bytes(maskHigh, high)
	}
	if e.book != "" {
		e.I("MOVD $%s<>(SB), R15", e.book)
		e.Get(maskHigh, 0, 15)
	}
}

// headScale loads f16 scales (m = 0) or minimums (1) of a super-block as float32.
func (e *mulNeon) headScale(d, m, g int) {
	e.Get8(d, 32*m+8*(e.first+g), 8)
	e.V2(opFcvtl, d, d)
}

// sub emits the work on 32 columns.
func (e *mulNeon) sub() {
	if e.ints() {
		e.subInts()
	} else {
		e.subFloats()
	}
	e.Inc(0, e.subBytes())
	e.Inc(1, 32*e.t)
	e.Inc(2, 8*e.t)
	e.Inc(3, 4*e.t*e.sums())
}

// subFloats is sub for types whose scales are float32.
func (e *mulNeon) subFloats() {
	for half := range 2 {
		switch {
		case e.dot:
			if half == 0 || e.half {
				e.start(half)
			}
			switch {
			case e.pairs():
				if half == 0 {
					e.dots5()
				}
			case e.high == 2:
				e.dots6(half)
			default:
				e.dots(half)
			}
		case e.long():
			e.products8(half)
		default:
			e.products4(half)
		}
		if half == 1 || e.half {
			part := half
			if !e.half {
				part = 0
			}
			if !e.dot {
				e.sumUp()
				e.addStart(part)
			}
			e.scale(part)
		}
	}
}

// long says whether weights need all bits of a byte.
func (e *mulNeon) long() bool { return e.low == 8 || e.bytes }

// shift is by how much -sum(q) is shifted to make up for the codes' being unsigned; 0 for none.
func (e *mulNeon) shift() int {
	if e.low == 8 || e.book != "" { // signed
		return 0
	}
	return e.zero
}

// start sets the accumulators of SDOT to zero * -sum(q).
func (e *mulNeon) start(half int) {
	for r := range e.t {
		if e.shift() > 0 {
			e.Splat(e.work(), 4*(r+half*e.t), 3)
		}
		for g := range e.group {
			if e.shift() > 0 {
				e.Shl(32, e.acc(r, g), e.work(), e.shift())
			} else {
				e.Zero(e.acc(r, g))
			}
		}
	}
}

// addStart adds the same once the sums are made.
func (e *mulNeon) addStart(half int) {
	if e.shift() == 0 {
		return
	}
	for r := range e.t {
		e.Splat(e.work(), 4*(r+half*e.t), 3)
		e.Shl(32, e.work(), e.work(), e.shift())
		for g := range e.group {
			e.V3(opAdd, e.acc(r, g), e.acc(r, g), e.work())
		}
	}
}

// unpack puts the codes of the weights 4j ... 4j+3 of panel register g into w; t is scratch.
func (e *mulNeon) unpack(w, t, j, g int) {
	at := 16 * (e.first + g)
	if e.low == 8 {
		e.Get(w, 64*j+at, 0)
		return
	}
	e.Get(w, 64*(j%4)+at, 0)
	if j < 4 {
		e.V3(opAnd, w, w, maskLow)
	} else {
		e.Ushr(w, w, 4)
	}
	if e.book != "" {
		e.V3(opTbl, w, maskHigh, w)
	}
	if e.high == 0 {
		return
	}
	plane, field := e.highAt(j)
	e.Get(t, plane+at, 0)
	if s := e.shift4(field); s > 0 {
		e.Shl(8, t, t, s)
	} else if s < 0 {
		e.Ushr(t, t, -s)
	}
	e.V3(opBit, w, t, maskHigh)
}

// dots adds the products of half a block by SDOT.
func (e *mulNeon) dots(half int) {
	for r := range e.t {
		e.Get(e.work()+r, 32*r+16*half, 1)
	}
	from, to := e.work()+e.t, maskHigh // free registers, taken in turn
	if e.hoisted() {
		to = e.head(1, e.group-1)
	}
	free := from
	next := func() int {
		r := free
		if free++; free == to {
			free = from
		}
		return r
	}
	for j := range 4 {
		for g := range e.group {
			w := next()
			t := w
			if e.high > 0 {
				t = next()
			}
			e.unpack(w, t, 4*half+j, g)
			for r := range e.t {
				e.Lane(opSdotLane, e.acc(r, g), w, e.work()+r, j)
			}
		}
	}
}

// pairs says whether there is room for the activations of a whole block, so that weights j and 16+j of
// five bits can be unpacked together (dots5).
func (e *mulNeon) pairs() bool { return e.dot && e.high == 1 && e.work()+2*e.t+3 <= maskHigh }

// dots5 adds the products of a block of codes of five bits. Of h >> j, shifted by 4 once more or not, the
// lowest bit stands above the nibble of weight j, bit 4 above that of weight 16+j.
func (e *mulNeon) dots5() {
	for r := range e.t {
		e.Get(e.work()+2*r, 32*r, 1)
		e.Get(e.work()+2*r+1, 32*r+16, 1)
	}
	h := e.work() + 2*e.t
	w, m := h+1, h+2
	for g := range e.group {
		at := 16 * (e.first + g)
		e.Get(h, e.lowBytes()+at, 0)
		for j := range 4 {
			e.Get(w, 64*j+at, 0)
			if j == 0 {
				e.V3(opAnd, m, h, maskHigh)
			} else {
				e.Ushr(m, h, j)
				e.V3(opAnd, m, m, maskHigh)
			}
			e.Sli(w, m, 4)
			for r := range e.t {
				e.Lane(opSdotLane, e.acc(r, g), w, e.work()+2*r, j)
			}
			e.Get(w, 64*j+at, 0)
			e.Sri(m, w, 4)
			for r := range e.t {
				e.Lane(opSdotLane, e.acc(r, g), m, e.work()+2*r+1, j)
			}
		}
	}
}

// dots6 adds the products of half a block of codes of six bits. Of the four fields of two bits, two at a
// time are taken out: the lower one is shifted above its nibble, the upper one stands there.
func (e *mulNeon) dots6(half int) {
	for r := range e.t {
		e.Get(e.work()+r, 32*r+16*half, 1)
	}
	w := e.work() + e.t
	m := w + 1 // and the next
	for g := range e.group {
		at := 16 * (e.first + g)
		e.Get(m+1, e.lowBytes()+64*half+at, 0)
		e.V3(opAnd, m, m+1, maskHigh)
		e.Ushr(m+1, m+1, 2)
		e.V3(opAnd, m+1, m+1, maskHigh)
		for j := range 4 {
			x, field := w, m+j%2
			e.Get(w, 64*j+at, 0)
			switch {
			case half == 0 && j < 2:
				e.Sli(w, field, 4)
			case half == 0:
				e.V3(opBit, w, field, maskLow)
			case j < 2:
				e.Ushr(w, w, 4)
				e.Sli(w, field, 4)
			default:
				e.Sri(field, w, 4)
				x = field
			}
			for r := range e.t {
				e.Lane(opSdotLane, e.acc(r, g), x, e.work()+r, j)
			}
		}
	}
}

// products4 adds the products of half a block in lanes of 16 bits: rows 4g and 4g+1 of the panel in one
// register, 4g+2 and 4g+3 in the next.
func (e *mulNeon) products4(half int) {
	q, t := e.work()+e.group, e.work()+e.group+1
	for j := 4 * half; j < 4*half+4; j++ {
		for g := range e.group {
			e.unpack(e.work()+g, t, j, g)
		}
		for r := range e.t {
			e.Splat(q, 32*r+4*j, 1)
			for g := range e.group {
				lo, hi := opSmlal, opSmlal2
				if j == 0 || j == 4 && e.half {
					lo, hi = opSmull, opSmull2
				}
				e.V3(lo, e.acc(r, g), e.work()+g, q)
				e.V3(hi, e.acc(r, g)+1, e.work()+g, q)
			}
		}
	}
}

// products8 is the same for weights of 8 bits. Pairs of products go on to lanes of 32 bits.
func (e *mulNeon) products8(half int) {
	n := 2 // registers of the panel at a time
	if e.book != "" {
		n = 1 // room for mask and book
	}
	w, q, t := e.work(), e.work()+2*n, e.work()+2*n+2
	for j := 4 * half; j < 4*half+4; j += 2 {
		for from := 0; from < e.group; from += n {
			for g := range n {
				e.unpack(w+g, 0, j, from+g)
				e.unpack(w+n+g, 0, j+1, from+g)
			}
			for r := range e.t {
				e.Splat(q, 32*r+4*j, 1)
				e.Splat(q+1, 32*r+4*j+4, 1)
				for g := range n {
					e.V3(opSmull, t, w+g, q)
					e.V3(opSmull2, t+1, w+g, q)
					e.V3(opSmlal, t, w+n+g, q+1)
					e.V3(opSmlal2, t+1, w+n+g, q+1)
					add := opSadalp
					if j == 0 {
						add = opSaddlp
					}
					e.V2(add, e.acc(r, from+g), t)
					e.V2(add, e.acc(r, from+g)+1, t+1)
				}
			}
		}
	}
}

// sumUp adds the columns of a row of the panel: two registers become one, with a lane for each row.
func (e *mulNeon) sumUp() {
	for r := range e.t {
		for g := range e.group {
			x := e.acc(r, g)
			if !e.long() && e.high == 0 { // 16 products of 4 bits fit 16 bits
				e.V3(opAddp16, x, x, x+1)
				e.V2(opSaddlp, x, x)
				continue
			}
			if !e.long() {
				e.V2(opSaddlp, x, x)
				e.V2(opSaddlp, x+1, x+1)
			}
			e.V3(opAddp32, x, x, x+1)
		}
	}
}

// scale adds the scaled accumulators to the results: the second half of a sub-block of Q6_K, or the
// first or only one. Registers of the panel are done in pairs.
func (e *mulNeon) scale(half int) {
	e.Floats(e.work(), 2*e.t, 2)
	s := e.work() + (2*e.t+3)/4
	lane := func(o op, d, n, i int) { e.Lane(o, d, n, e.work()+i/4, i%4) }
	for from := 0; from < e.group; from += 2 {
		e.scales(s, s+2, from, half, 0)
		for r := range e.t {
			for g := from; g < from+2; g++ {
				x := e.acc(r, g)
				e.V2(opScvtf, x, x)
				e.V3(opFmul, x, x, s+g-from)
				lane(opFmlaLane, e.res(r, g), x, r)
			}
		}
		if !e.mins {
			continue
		}
		e.scales(s, s+2, from, 1, 1)
		add := opFmlaLane
		if e.super {
			add = opFmlsLane // minimums of super-blocks are subtracted
		}
		for r := range e.t {
			for g := from; g < from+2; g++ {
				lane(add, e.res(r, g), s+g-from, e.t+r)
			}
		}
	}
}

// scales loads to d and d+1 the float32 scales of panel registers g and g+1: set which of those after
// the planes, under set m of those of the super-block. t is scratch.
func (e *mulNeon) scales(d, t, g, which, m int) {
	if e.wide {
		for i := range 2 {
			e.Get(d+i, wideScales+64*which+16*(e.first+g+i), 0)
		}
		return
	}
	at := e.scaleAt()
	if e.exp {
		e.powers(d, t, at+4*(e.first+g))
		return
	}
	if !e.super {
		for i := range 2 {
			e.Get8(d+i, at+32*which+8*(e.first+g+i), 0)
			e.V2(opFcvtl, d+i, d+i)
		}
		return
	}
	long, wide, wide2, float := opUxtl8, opUxtl16, opUxtl16hi, opUcvtf
	if !e.mins {
		long, wide, wide2, float = opSxtl8, opSxtl16, opSxtl16hi, opScvtf
	}
	e.Get8(t, at+16*which+4*(e.first+g), 0)
	e.V2(long, t, t)
	e.V2(wide, d, t)
	e.V2(wide2, d+1, t)
	for i := range 2 {
		e.V2(float, d+i, d+i)
		h := e.head(m, g+i)
		if !e.hoisted() {
			h = t
			e.headScale(h, m, g+i)
		}
		e.V3(opFmul, d+i, d+i, h)
	}
}

// powers loads bytes of E8M0 and makes halves of the powers of two from them, as half2 in package kernels
// does: the smallest power, 2^-127, has no exponent of its own in float32.
func (e *mulNeon) powers(d, t, at int) {
	e.Get8(t, at, 0)
	e.V2(opUxtl8, t, t)
	e.V2(opUxtl16, d, t)
	e.V2(opUxtl16hi, d+1, t)
	e.Words(t, 1<<22)
	for i := range 2 {
		e.Shl(32, d+i, d+i, 23)
		e.V3(opUmax, d+i, d+i, t)
	}
	e.Words(t, bits(0.5))
	for i := range 2 {
		e.V3(opFmul, d+i, d+i, t)
	}
}

// quantNeon emits the products of weights and activations for arm64, and what the workers need.
func quantNeon(a *Asm) {
	n := Neon{a}
	a.Func("pause", "n int", "does nothing for n times some 40 cycles.")
	n.Args("n")
	n.Loop("loop", 0, func() { n.I("ISB $15 // YIELD is nothing on most CPUs") })
	n.Return()

	a.Data("bookIQ4", book(bookIQ4, 0)[:4]...)
	a.Data("bookMX4", book(bookMX4, 0)[:4]...)
	neonQuantizeRow(n)
	var plain, dot kernelTable
	for i := range forms {
		for t := 1; t <= tileNeon; t++ {
			plain.add(i, neonQuant(a, &forms[i], t, false))
		}
		for t := 1; t <= tileDot; t++ {
			dot.add(i, neonQuant(a, &forms[i], t, true))
		}
	}
	for i, f := range floats {
		for t := 1; t <= tileDot; t++ {
			plain.add(len(forms)+i, neonFloat(n, f, t))
		}
	}
	neonWide(a)
	plain.part(a, "neonQuant", quantParams, tileNeon, 0, len(forms))
	dot.part(a, "neonDotQuant", quantParams, tileDot, 0, len(forms))
	plain.part(a, "neonFloat", floatParams, tileDot, len(forms), len(plain))
}
