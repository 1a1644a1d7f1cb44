package main

// For a long run of tiles a panel is first unpacked to signed weights of 8 bits and float32 scales. With
// dotprod a block of 32 columns is then, as in avx2.go,
//
//	512 bytes of weights, [8][16 rows][4]
//	16 float32 scales
//	16 float32 minimums to be added, or scales of the second half
//
// With i8mm the panel becomes four parts of 4 rows, one behind the other, and a block of a part
//
//	128 bytes of weights, [4][2 pairs][2 rows][8]: an operand of SMMLA has 8 columns of 2 rows
//	scales of both pairs, each [a b a b]
//	minimums to be added, or scales of the second half, likewise
//
// and for types whose scales are applied to integers, in place of the scales: those of the first half and of the
// second (int32), the factor (float32); the minimums of both halves, and their factor.

// partBytes is the size of a block of a part.
func (f *form) partBytes() int {
	switch {
	case f.ints() && f.mins:
		return 128 + 6*32
	case f.ints():
		return 128 + 3*32
	case f.half, f.mins:
		return 128 + 2*32
	}
	return 128 + 32
}

// widenedNeon is the form of panels that are unpacked for dotprod.
func (f *form) widenedNeon() *form {
	return &form{name: "Wide" + f.mmName(), low: 8, half: f.half, mins: f.mins, wide: true}
}

// widenNeon emits what unpacks panels. General registers: R0 weights, R1 and R4 to R6 what is written, R2
// bytes of a part, R3 blocks, R7 sub-blocks, R8 head of the super-block.
type widenNeon struct {
	mulNeon
	mm bool // for i8mm
}

const zeroCode = 20 // register of what is subtracted from codes

// neonWiden emits what unpacks a panel of a type and returns its name.
func neonWiden(a *Asm, f *form, mm bool) string {
	e := &widenNeon{mulNeon{Neon: Neon{a}, form: f, t: 1, group: 4}, mm}
	name := "widen" + f.name + "NEON"
	if mm {
		name += "MM"
	}
	a.Func(name, "w *byte, out *byte, part int, blocks int", "unpacks a panel.")
	e.Args("w", "out", "part", "blocks")
	e.I("ADD R2, R1, R4")
	e.I("ADD R2, R4, R5")
	e.I("ADD R2, R5, R6")
	e.masks()
	if e.shift() > 0 {
		e.Bytes(zeroCode, 1<<e.shift())
	}
	e.Loop("block", 3, func() {
		if !e.super {
			e.block()
			return
		}
		e.I("MOVD R0, R8")
		for m := range e.headBytes() / 32 {
			for g := range 4 {
				e.headScale(e.head(m, g), m, g)
			}
		}
		e.Inc(0, e.headBytes())
		e.I("MOVD $8, R7")
		e.Loop("sub", 7, e.block)
	})
	e.Return()
	return name
}

// out is the register that points to where panel register g is written.
func (e *widenNeon) out(g int) int {
	if !e.mm {
		return 1
	}
	return []int{1, 4, 5, 6}[g]
}

// block emits the work on 32 columns.
func (e *widenNeon) block() {
	for g := range 4 {
		for j := 0; j < 8; j += 2 {
			e.weights(0, j, g)
			e.weights(1, j+1, g)
			if !e.mm {
				e.Put(0, 64*j+16*g, 1)
				e.Put(1, 64*j+64+16*g, 1)
				continue
			}
			e.V3(opZip1s, 2, 0, 1)
			e.V3(opZip2s, 3, 0, 1)
			e.Put(2, 16*j, e.out(g))
			e.Put(3, 16*j+16, e.out(g))
		}
	}
	if e.ints() {
		e.putInts()
	} else {
		e.putScales()
	}
	e.Inc(0, e.subBytes())
	if !e.mm {
		e.Inc(1, e.form.widenedNeon().subBytes())
		return
	}
	for g := range 4 {
		e.Inc(e.out(g), e.partBytes())
	}
}

// weights puts the weights 4j ... 4j+3 of panel register g into w.
func (e *widenNeon) weights(w, j, g int) {
	if e.ints() {
		e.unpackInts(w, 8, j, g)
	} else {
		e.unpack(w, 9, j, g)
	}
	if e.shift() > 0 {
		e.V3(opSub8, w, w, zeroCode)
	}
}

// put stores the scales or minimums of panel register g that are in s, as number n of those that there are.
func (e *widenNeon) put(s, n, g int) {
	if !e.mm {
		e.Put(s, wideScales+64*n+16*g, 1)
		return
	}
	e.V3(opZip1d, 10, s, s)
	e.V3(opZip2d, 11, s, s)
	e.Put(10, 128+32*n, e.out(g))
	e.Put(11, 128+32*n+16, e.out(g))
}

func (e *widenNeon) putScales() {
	for g := 0; g < 4; g += 2 {
		e.scales(4, 6, g, 0, 0)
		e.put(4, 0, g)
		e.put(5, 0, g+1)
		switch {
		case e.half:
			e.scales(4, 6, g, 1, 0)
		case e.mins:
			e.scales(4, 6, g, 1, 1)
			if e.super { // they are subtracted
				e.V2(opFneg, 4, 4)
				e.V2(opFneg, 5, 5)
			}
		default:
			continue
		}
		e.put(4, 1, g)
		e.put(5, 1, g+1)
	}
}

func (e *widenNeon) putInts() {
	for g := range 4 {
		n := 0
		for which := range e.headBytes() / 32 {
			for half := range 2 {
				e.intScale(4, g, half, which)
				e.put(4, n+half, g)
			}
			e.put(e.head(which, g), n+2, g)
			n += 3
		}
	}
}
