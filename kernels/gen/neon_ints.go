package main

// NEON for the types with two bits in the low plane (Q2_K, Q3_K), whose halves of a sub-block have integer scales:
// the registers of the panel are done one after the other, so that few sums are under way at once.
//
// After the results stand, for each row of activations, the scaled sum, the dots of a half (without dotprod
// in two registers) and, with dotprod, 16 activations; then what changes all the time.

// total is the register of the scaled integer sum of row r, half that of its dots over half a sub-block.
func (e *mulNeon) total(r int) int { return e.work() + r }

func (e *mulNeon) half1(r int) int {
	if e.dot {
		return e.work() + e.t + r
	}
	return e.work() + e.t + 2*r
}

// temps is the first of four registers for what changes all the time.
func (e *mulNeon) temps() int { return e.work() + 3*e.t }

// intMasks sets the masks: of the codes, and of a third bit or of the nibble of a scale.
func (e *mulNeon) intMasks() {
	if e.three() {
		e.Bytes(maskLow, 7)
		e.Bytes(maskHigh, 4)
		return
	}
	e.Bytes(maskLow, 3)
	e.Bytes(maskHigh, 0x0f)
}

// subInts emits the work on 32 columns.
func (e *mulNeon) subInts() {
	for g := range e.group {
		for half := range 2 {
			if e.dot {
				e.dotsInts(g, half)
			} else {
				e.productsInts(g, half)
			}
			s := e.temps() + 1
			e.intScale(s, g, half, 0)
			for r := range e.t {
				if half == 0 {
					e.V3(opMul, e.total(r), e.half1(r), s)
				} else {
					e.V3(opMla, e.total(r), e.half1(r), s)
				}
			}
		}
		e.finishInts(g)
	}
}

// intScale loads the integer scales (0) or minimums (1) of a half to d, as 32 bits.
func (e *mulNeon) intScale(d, g, half, which int) {
	e.Get4(d, e.scaleAt()+16*half+4*(e.first+g), 0)
	switch {
	case !e.mins:
		e.V2(opSxtl8, d, d)
		e.V2(opSxtl16, d, d)
		return
	case which == 0:
		e.V3(opAnd, d, d, maskHigh)
	default:
		e.Ushr(d, d, 4)
	}
	e.V2(opUxtl8, d, d)
	e.V2(opUxtl16, d, d)
}

// unpackInts puts the codes of the weights 4j ... 4j+3 into w. v holds the vector that the last ones came from.
func (e *mulNeon) unpackInts(w, v, j, g int) {
	at := 16 * (e.first + g)
	from, down := e.lowAt(j)
	if down == 0 || j >= 6 && e.three() {
		e.Get(v, from+at, 0)
	}
	if down == 0 {
		e.V3(opAnd, w, v, maskLow)
		return
	}
	e.Ushr(w, v, down)
	switch {
	case e.three() && j >= 6:
		e.Get(v, 128+at, 0)
		e.Ushr(v, v, j-2)
		e.V3(opBit, w, v, maskHigh)
	case down < 6:
		e.V3(opAnd, w, w, maskLow)
	}
}

// dotsInts adds up the products of half a sub-block by SDOT.
func (e *mulNeon) dotsInts(g, half int) {
	acts, w, v := e.half1(e.t), e.temps(), e.temps()+1
	for r := range e.t {
		e.Get(acts+r, 32*r+16*half, 1)
		if e.zero == 0 {
			e.Zero(e.half1(r))
			continue
		}
		e.Splat(e.half1(r), 4*(r+half*e.t), 3)
		e.Shl(32, e.half1(r), e.half1(r), e.zero)
	}
	for j := range 4 {
		e.unpackInts(w, v, 4*half+j, g)
		for r := range e.t {
			e.Lane(opSdotLane, e.half1(r), w, acts+r, j)
		}
	}
}

// productsInts does the same in lanes of 16 bits, which hold 16 products of 3 bits, and adds the columns.
func (e *mulNeon) productsInts(g, half int) {
	w, v, q := e.temps(), e.temps()+1, e.temps()+2
	for j := range 4 {
		e.unpackInts(w, v, 4*half+j, g)
		lo, hi := opSmlal, opSmlal2
		if j == 0 {
			lo, hi = opSmull, opSmull2
		}
		for r := range e.t {
			e.Splat(q, 32*r+4*(4*half+j), 1)
			e.V3(lo, e.half1(r), w, q)
			e.V3(hi, e.half1(r)+1, w, q)
		}
	}
	for r := range e.t {
		x := e.half1(r)
		e.V3(opAddp16, x, x, x+1)
		e.V2(opSaddlp, x, x)
		if e.zero == 0 {
			continue
		}
		e.Splat(q, 4*(r+half*e.t), 3)
		e.Shl(32, q, q, e.zero)
		e.V3(opAdd, x, x, q)
	}
}

// finishInts adds what the integer sums of panel register g come to, to the results.
func (e *mulNeon) finishInts(g int) {
	d, tmp := e.half1(0), e.temps()
	n := d + (e.t+3)/4
	e.Floats(d, e.t, 2)
	add := func(which int) {
		by := e.head(which, g)
		if !e.hoisted() {
			by = tmp
			e.headScale(by, which, g)
		}
		for r := range e.t {
			e.V2(opScvtf, e.total(r), e.total(r))
			e.V3(opFmul, e.total(r), e.total(r), by)
			e.Lane(opFmlaLane, e.res(r, g), e.total(r), d+r/4, r%4)
		}
	}
	add(0)
	if !e.mins {
		return
	}
	e.intScale(tmp+1, g, 0, 1)
	e.intScale(tmp+2, g, 1, 1)
	e.Floats(n, 2*e.t, 3)
	for r := range e.t {
		e.Lane(opMulLane, e.total(r), tmp+1, n+r/4, r%4)
		e.Lane(opMlaLane, e.total(r), tmp+2, n+(e.t+r)/4, (e.t+r)%4)
	}
	add(1)
}
