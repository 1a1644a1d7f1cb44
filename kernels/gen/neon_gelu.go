package main

// geluNeon emits both forms of GELU, the gated unit of gpt-oss, the soft cap and what LayerNorm needs, for arm64.
func geluNeon(a *Asm) {
	n := Neon{a}
	neonGeluMul(n)
	neonGeluErf(n)
	neonSoftCap(n)
	neonClampedGLU(n)
	neonCentre(n)
}

func neonGeluMul(a Neon) {
	const c1, c3 = 29, 30
	a.Func("geluMulNEON", "y *float32, gt *float32, up *float32, n int",
		"writes gt/(1+exp(-gt*(c1+c3*gt*gt)))*up for 16*n elements.")
	a.Args("y", "gt", "up", "n")
	a.Consts(cSign)
	a.Words(c1, geluWord(cGelu1))
	a.Words(c3, geluWord(cGelu3))
	a.Step(3, func() {
		a.Gets(4, 1)
		a.Maps(opFmul, 8, 4, 4, false)
		for i := range 4 {
			a.Mov(i, c1)
		}
		a.Maps(opFmla, 0, 8, c3, true)
		a.Maps(opFmul, 0, 0, 4, false)
		a.logistic()
		a.Gets(4, 1)
		a.Gets(8, 2)
		a.Maps(opFdiv, 0, 4, 0, false)
		a.Maps(opFmul, 0, 0, 8, false)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64}, [2]int{2, 64})
	a.Return()
}

// logistic makes 1 + exp(-x) of V0 ... V3.
func (a Neon) logistic() {
	a.Each(opFneg, 0, 0)
	a.Maps(opFmin, 0, 0, neonConst+cHigh, true)
	a.Exps(0, 1, 2, 3)
	a.Maps(opFadd, 0, 0, neonConst+cOne, true)
}

// neonGeluErf works on two registers at a time: V0 and V1 are exp32's, what it leaves alone holds
// constants and, in V2 and V3, what the exponential is multiplied with.
func neonGeluErf(a Neon) {
	const one, half, sign = neonConst + cOne, neonConst + cHalf, neonConst + cSign
	a.Func("geluErfNEON", "x *float32, n int", "turns x into x*(1+erf(x/sqrt(2)))/2 for 16*n elements.")
	a.Args("x", "n")
	a.Consts(cCount)
	at := map[int]int{cRoot: 6, cErfP: 7, cErf1: 10, cErf2: 11, cErf3: 14, cErf4: 15, cErf5: 30}
	for c := cRoot; c <= cErf5; c++ {
		a.Words(at[c], geluWord(c))
	}
	a.I("LSL $1, R1")
	a.Step(1, func() {
		for i := range 2 {
			z, p, t, q := i, 2+i, 4+i, 12+i
			a.Get(z, 16*i, 0)
			a.V2(opFabs, z, z)
			a.V3(opFmul, z, z, at[cRoot])
			a.Mov(t, one)
			a.V3(opFmla, t, z, at[cErfP])
			a.V3(opFdiv, t, one, t)
			a.Mov(p, at[cErf4])
			a.V3(opFmla, p, t, at[cErf5])
			for _, c := range []int{cErf3, cErf2, cErf1} {
				a.Mov(q, at[c])
				a.V3(opFmla, q, t, p)
				p, q = q, p
			}
			a.V3(opFmul, 2+i, t, p)
			a.V3(opFmul, z, z, z)
			a.V2(opFneg, z, z)
		}
		a.Exps(0, 1)
		for i := range 2 {
			e, p, g := i, 2+i, 4+i
			a.V3(opFmul, p, e, p)
			a.V3(opFmul, p, p, half)
			a.V3(opFsub, p, half, p)
			a.Get(g, 16*i, 0)
			a.V3(opAnd, e, g, sign)
			a.V3(opEor, p, p, e)
			a.V3(opFadd, p, half, p)
			a.V3(opFmul, p, g, p)
			a.Put(p, 16*i, 0)
		}
	}, [2]int{0, 32})
	a.Return()
}

func neonSoftCap(a Neon) {
	const limit, slope, twice = 29, 30, 31
	a.Func("softCapNEON", "x *float32, top *float32, n int",
		"turns x into top[0] - top[2]/(1+exp(x*top[1])) for 16*n elements.")
	a.Args("x", "top", "n")
	a.Consts(cSign)
	for i, d := range []int{limit, slope, twice} {
		a.Splat(d, 4*i, 1)
	}
	a.Step(2, func() {
		a.Gets(0, 0)
		a.Maps(opFmul, 0, 0, slope, true)
		a.Maps(opFmin, 0, 0, neonConst+cHigh, true)
		a.Exps(0, 1, 2, 3)
		a.Maps(opFadd, 0, 0, neonConst+cOne, true)
		for i := range 4 {
			a.V3(opFdiv, i, twice, i)
			a.V3(opFsub, i, limit, i)
		}
		a.Puts(0, 0)
	}, [2]int{0, 64})
	a.Return()
}

func neonClampedGLU(a Neon) {
	const high, low, slope = 29, 30, 31
	a.Func("clampedGLUNEON", "y *float32, gt *float32, up *float32, slope float32, limit float32, n int",
		"writes g/(1+exp(-slope*g))*(u+1) for 16*n elements, g and u being gt and up within the limit.")
	a.I("MOVD %s, R3", a.Arg("n"))
	a.Args("y", "gt", "up")
	a.Consts(cSign)
	a.Splats(high, "limit")
	a.Splats(slope, "slope")
	a.V2(opFneg, low, high)
	a.Step(3, func() {
		a.Gets(0, 1)
		a.Maps(opFmin, 0, 0, high, true)
		a.Maps(opFmul, 0, 0, slope, true)
		a.logistic()
		a.Gets(4, 1)
		a.Maps(opFmin, 4, 4, high, true)
		a.Maps(opFdiv, 0, 4, 0, false)
		a.Gets(8, 2)
		a.Maps(opFmin, 8, 8, high, true)
		a.Maps(opFmax, 8, 8, low, true)
		a.Maps(opFadd, 8, 8, neonConst+cOne, true)
		a.Maps(opFmul, 0, 0, 8, false)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64}, [2]int{2, 64})
	a.Return()
}

// neonCentre emits the sum of elements and what subtracts their mean.
func neonCentre(a Neon) {
	a.Func("sumsNEON", "acc *float32, x *float32, n int", "adds 16*n elements to 16 lanes.")
	a.Args("acc", "x", "n")
	a.Gets(0, 0)
	a.Step(2, func() {
		a.Gets(4, 1)
		a.Maps(opFadd, 0, 0, 4, false)
	}, [2]int{1, 64})
	a.Puts(0, 0)
	a.Return()

	a.Func("lessNEON", "y *float32, x *float32, m float32, n int", "writes x-m for 16*n elements.")
	a.I("MOVD %s, R2", a.Arg("n"))
	a.Args("y", "x")
	a.Splats(8, "m")
	a.Step(2, func() {
		a.Gets(0, 1)
		a.Maps(opFsub, 0, 0, 8, true)
		a.Puts(0, 0)
	}, [2]int{0, 64}, [2]int{1, 64})
	a.Return()
}
