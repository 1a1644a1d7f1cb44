package main

// The constants of geluMul, as vec_gelu.go in package kernels has them, in the order of geluTable.
const (
	cGelu1 = iota
	cGelu3
)

// gelu emits the gated GELU and the soft cap, each for AVX2 and AVX-512.
func gelu(a *Asm) {
	expTable(a)
	var words []uint32
	for _, c := range []float64{cGelu1: 1.5957691216057308, cGelu3: 0.07135481282553614} {
		for range 8 {
			words = append(words, bits(c))
		}
	}
	a.Data("geluConst", words...)
	for _, v := range []isa{avx2, avx512} {
		geluMul(a, v)
		softCap(a, v)
	}
}

// highest brings the upper bound of exp32's argument to a register.
func highest(a *Asm, v isa) string {
	if v == avx512 {
		return v.con(cHigh)
	}
	a.I("VMOVUPS %s, %s", v.con(cHigh), v.r(15))
	return v.r(15)
}

func geluMul(a *Asm, v isa) {
	a.Func("geluMul"+v.name, "y *float32, gt *float32, up *float32, n int",
		"writes gt/(1+exp(-gt*(c1+c3*gt*gt)))*up for 16*n elements.")
	load(a, "y", "DI", "gt", "SI", "up", "DX", "n", "CX")
	expConsts(a, v)
	high := highest(a, v)
	c1, c3 := v.r(13), v.r(14)
	a.I("VBROADCASTSS geluConst<>+%d(SB), %s", 32*cGelu1, c1)
	a.I("VBROADCASTSS geluConst<>+%d(SB), %s", 32*cGelu3, c3)
	x := []int{0, 4}[:v.per()]
	steps(a, func() {
		for i, r := range x {
			g, t := v.r(8+i), v.r(10+i)
			a.I("VMOVUPS %d(SI), %s", i*v.size(), g)
			a.I("VMULPS %s, %s, %s", g, g, t)
			a.I("VFMADD213PS %s, %s, %s", c1, c3, t) // t*c3 + c1
			a.I("VMULPS %s, %s, %s", g, t, t)
			a.I("VXORPS %s, %s, %s", v.con(cSign), t, v.r(r))
			a.I("VMINPS %s, %s, %s", v.r(r), high, v.r(r)) // the first operand if it is NaN
		}
		exps(a, v, x...)
		for i, r := range x {
			a.I("VADDPS %s, %s, %s", v.con(cOne), v.r(r), v.r(r))
			a.I("VDIVPS %s, %s, %s", v.r(r), v.r(8+i), v.r(r))
			a.I("VMULPS %d(DX), %s, %s", i*v.size(), v.r(r), v.r(r))
			a.I("VMOVUPS %s, %d(DI)", v.r(r), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64}, ptr{"DX", 64})
	a.Ret()
}

func softCap(a *Asm, v isa) {
	a.Func("softCap"+v.name, "x *float32, top *float32, n int",
		"turns x into top[0] - top[2]/(1+exp(x*top[1])) for 16*n elements.")
	load(a, "x", "DI", "top", "SI", "n", "CX")
	expConsts(a, v)
	high := highest(a, v)
	limit, slope, twice := v.r(12), v.r(13), v.r(14)
	for i, r := range []string{limit, slope, twice} {
		a.I("VBROADCASTSS %d(SI), %s", 4*i, r)
	}
	x := []int{0, 4}[:v.per()]
	steps(a, func() {
		for i, r := range x {
			a.I("VMULPS %d(DI), %s, %s", i*v.size(), slope, v.r(r))
			a.I("VMINPS %s, %s, %s", v.r(r), high, v.r(r)) // the first operand if it is NaN
		}
		exps(a, v, x...)
		for i, r := range x {
			a.I("VADDPS %s, %s, %s", v.con(cOne), v.r(r), v.r(r))
			a.I("VDIVPS %s, %s, %s", v.r(r), twice, v.r(r))
			a.I("VSUBPS %s, %s, %s", v.r(r), limit, v.r(r))
			a.I("VMOVUPS %s, %d(DI)", v.r(r), i*v.size())
		}
	}, ptr{"DI", 64})
	a.Ret()
}
