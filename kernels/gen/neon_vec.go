package main

// vecNeon emits the vector operations and attention for arm64. A step covers 16 elements: four registers.
func vecNeon(a *Asm) {
	n := Neon{a}
	neonSums(n)
	neonMaps(n)
	neonExps(n)
	neonRopes(n)
	neonScores(n)
	neonWeigh(n)
	neonMix(n)
}

// Step emits a loop over the steps that are counted in a register; each of the pointers (registers and
// the bytes of a step) moves on.
func (a Neon) Step(count int, body func(), ptrs ...[2]int) {
	a.Loop("loop", count, func() {
		body()
		for _, p := range ptrs {
			a.Inc(p[0], p[1])
		}
	})
}

// Gets and Puts load and store 16 elements, registers d to d+3.
func (a Neon) Gets(d, reg int) {
	for i := range 4 {
		a.Get(d+i, 16*i, reg)
	}
}

func (a Neon) Puts(d, reg int) {
	for i := range 4 {
		a.Put(d+i, 16*i, reg)
	}
}

// Maps emits d = n op m for registers d to d+3 and so on. Operand m is one register if single is set.
func (a Neon) Maps(o op, d, n, m int, single bool) {
	for i := range 4 {
		if single {
			a.V3(o, d+i, n+i, m)
		} else {
			a.V3(o, d+i, n+i, m+i)
		}
	}
}

// Each emits d = op n for registers d to d+3.
func (a Neon) Each(o op, d, n int) {
	for i := range 4 {
		a.V2(o, d+i, n+i)
	}
}

// Splats loads a float32 parameter to all lanes of a register.
func (a Neon) Splats(d int, name string) {
	a.I("FMOVS %s, F%d", a.Arg(name), d)
	a.DupLane(d, d)
}

// neonSums emits the sums over elements: 16 lanes are read, added to and written back.
func neonSums(a Neon) {
	lanes := func(body func()) {
		a.Args("acc", "x", "n")
		a.Gets(0, 0)
		a.Step(2, func() {
			a.Gets(4, 1)
			body()
		}, [2]int{1, 64})
		a.Puts(0, 0)
		a.Return()
	}
	a.Func("squaresNEON", "acc *float32, x *float32, n int", "adds the squares of 16*n elements to 16 lanes.")
	lanes(func() { a.Maps(opFmla, 0, 4, 4, false) })
	a.Func("maximaNEON", "acc *float32, x *float32, n int", "raises 16 lanes to the larger ones of 16*n elements; NaN is passed over.")
	lanes(func() {
		a.Maps(opFcmgt, 8, 4, 0, false)
		a.Maps(opBit, 0, 4, 8, false)
	})
}

// neonMaps emits the operations on elements one by one.
func neonMaps(a Neon) {
	a.Func("addNEON", "y *float32, x *float32, n int", "adds 16*n elements of x to y.")
	a.Args("y", "x", "n")
	a.Step(2, func() {
		a.Gets(0, 0)
		a.Gets(4, 1)
		a.Maps(opFadd, 0, 0, 4, false)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64})
	a.Return()

	a.Func("scaleMulNEON", "y *float32, x *float32, w *float32, s float32, n int", "writes (x*s)*w for 16*n elements.")
	a.Args("y", "x", "w", "n")
	a.Splats(8, "s")
	a.Step(3, func() {
		a.Gets(0, 1)
		a.Gets(4, 2)
		a.Maps(opFmul, 0, 0, 8, true)
		a.Maps(opFmul, 0, 0, 4, false)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64}, [2]int{2, 64})
	a.Return()

	a.Func("scaleNEON", "y *float32, x *float32, s float32, n int", "writes x*s for 16*n elements.")
	a.Args("y", "x", "n")
	a.Splats(8, "s")
	a.Step(2, func() {
		a.Gets(0, 1)
		a.Maps(opFmul, 0, 0, 8, true)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64})
	a.Return()

	a.Func("halvesNEON", "y *uint16, x *float32, n int", "rounds 16*n elements to float16.")
	a.Args("y", "x", "n")
	a.Step(2, func() {
		a.Gets(0, 1)
		for i := 0; i < 4; i += 2 {
			a.V2(opFcvtn, i, i)
			a.V2(opFcvtn2, i, i+1)
			a.Put(i, 8*i, 0)
		}
	}, [2]int{0, 32}, [2]int{1, 64})
	a.Return()
}

// Where the constants of exp32 stand: in order from V16 on, for as many as are in use.
const neonConst = 16

// Consts loads the constants of exp32, up to and without one of them.
func (a Neon) Consts(end int) {
	words := expWords()
	for c, w := range words[:end] {
		a.Words(neonConst+c, w)
	}
}

// Exps emits exp32 of the registers x, all at once so that their chains overlap; x+4, x+8 and x+12 are scratch. The
// arguments are at most 88.37 or NaN.
func (a Neon) Exps(x ...int) {
	con := func(c int) int { return neonConst + c }
	each := func(f func(x, t, p, q int)) {
		for _, r := range x {
			f(r, r+4, r+8, r+12)
		}
	}
	each(func(x, _, _, q int) { a.V3(opFcmgt, q, con(cLow), x) }) // what gives zero: not NaN
	each(func(x, _, _, q int) { a.V3(opBic, x, x, q) })
	each(func(_, t, _, _ int) { a.Mov(t, con(cMagic)) })
	each(func(x, t, _, _ int) { a.V3(opFmla, t, x, con(cLog2E)) })
	each(func(_, t, p, _ int) { a.V3(opFsub, p, t, con(cMagic)) }) // n, in p
	each(func(x, _, p, _ int) { a.V3(opFmla, x, p, con(cLn2Hi)) })
	each(func(x, _, p, _ int) { a.V3(opFmla, x, p, con(cLn2Lo)) }) // r, in x
	each(func(_, t, _, _ int) { a.Shl(32, t, t, 23) })
	each(func(_, t, _, _ int) { a.V3(opAdd, t, t, con(cBias)) }) // 2^n
	each(func(_, t, _, q int) { a.V3(opBic, t, t, q) })
	each(func(_, _, p, _ int) { a.Mov(p, con(cC5)) })
	each(func(x, _, p, _ int) { a.V3(opFmla, p, x, con(cC6)) })
	for i, c := range []int{cC4, cC3, cHalf, cOne, cOne} { // from p to q and back
		each(func(x, _, p, q int) {
			if i%2 == 1 {
				p, q = q, p
			}
			a.Mov(q, con(c))
			a.V3(opFmla, q, p, x)
		})
	}
	each(func(x, t, _, q int) { a.V3(opFmul, x, q, t) })
}

// neonExps emits the operations on elements that need exponentials.
func neonExps(a Neon) {
	a.Func("siluMulNEON", "y *float32, gt *float32, up *float32, n int", "writes gt/(1+exp(-gt))*up for 16*n elements.")
	a.Args("y", "gt", "up", "n")
	a.Consts(cSign)
	a.Step(3, func() {
		a.Gets(0, 1)
		a.Each(opFneg, 0, 0)
		a.Maps(opFmin, 0, 0, neonConst+cHigh, true)
		a.Exps(0, 1, 2, 3)
		a.Maps(opFadd, 0, 0, neonConst+cOne, true)
		a.Gets(4, 1)
		a.Gets(8, 2)
		a.Maps(opFdiv, 0, 4, 0, false)
		a.Maps(opFmul, 0, 0, 8, false)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64}, [2]int{2, 64})
	a.Return()

	a.Func("expSumsNEON", "acc *float32, e *float32, x *float32, m float32, n int", "writes exp(x-m) to e for 16*n elements and adds them to 16 lanes.")
	a.Args("acc", "e", "x", "n")
	a.I("MOVWU %s, R4", a.Arg("m"))
	a.Consts(cHigh)
	a.Gets(28, 0)
	a.Step(3, func() {
		a.Gets(0, 2)
		neonExpStep(a)
		a.Puts(0, 1)
	}, [2]int{1, 64}, [2]int{2, 64})
	a.Puts(28, 0)
	a.Return()
}

// neonExpStep emits exp32 of V0 ... V3 less the float32 in R4, and adds it to V28 ... V31.
func neonExpStep(a Neon) {
	a.DupWord(15, 4)
	a.Maps(opFsub, 0, 0, 15, true)
	a.Exps(0, 1, 2, 3)
	a.Maps(opFadd, 28, 28, 0, false)
}

// neonRopes emits the rotations of one head, for elements that are rotated together with as many others (halves) or in
// pairs (pairs).
func neonRopes(a Neon) {
	// In V0 and V1 what is rotated, in V2 and V3 cosines and sines.
	rotate := func() {
		a.V3(opFmul, 4, 1, 3)
		a.V2(opFneg, 4, 4)
		a.V3(opFmul, 5, 0, 3)
		a.V3(opFmla, 4, 0, 2) // x*cos - y*sin
		a.V3(opFmla, 5, 1, 2) // y*cos + x*sin
	}
	a.Func("ropeHalvesNEON", "x *float32, y *float32, cos *float32, sin *float32, n int", "rotates 16*n pairs (x, y).")
	a.Args("x", "y", "cos", "sin", "n")
	a.Step(4, func() {
		for i := range 4 {
			for j := range 4 {
				a.Get(j, 16*i, j)
			}
			rotate()
			a.Put(4, 16*i, 0)
			a.Put(5, 16*i, 1)
		}
	}, [2]int{0, 64}, [2]int{1, 64}, [2]int{2, 64}, [2]int{3, 64})
	a.Return()

	a.Func("ropePairsNEON", "x *float32, cos *float32, sin *float32, n int", "rotates 8*n pairs that stand side by side.")
	a.Args("x", "cos", "sin", "n")
	a.Step(3, func() {
		for i := range 2 {
			a.I("VLD2 (R0), [V0.S4, V1.S4]")
			a.Get(2, 16*i, 1)
			a.Get(3, 16*i, 2)
			rotate()
			a.I("VST2.P [V4.S4, V5.S4], 32(R0)")
		}
	}, [2]int{1, 32}, [2]int{2, 32})
	a.Return()
}
