package main

import "fmt"

// The constants of vec_gelu.go in package kernels, which says what they mean, in the order of geluTable.
const (
	cGelu1 = iota
	cGelu3
	cRoot
	cErfP
	cErf1
	cErf2
	cErf3
	cErf4
	cErf5
	cGeluCount
)

// geluWord is a constant as bits.
func geluWord(c int) uint32 {
	return bits([cGeluCount]float64{
		cGelu1: 1.5957691216057308, cGelu3: 0.07135481282553614, cRoot: 0.7071067811865476, cErfP: 0.3275911,
		cErf1: 0.254829592, cErf2: -0.284496736, cErf3: 1.421413741, cErf4: -1.453152027, cErf5: 1.061405429,
	}[c])
}

// geluTable emits the constants, each eight times.
func geluTable(a *Asm) {
	var words []uint32
	for c := range cGeluCount {
		words = append(words, repeat(geluWord(c), 8)...)
	}
	a.Data("geluConst", words...)
}

// gelu emits both forms of GELU, the gated unit of gpt-oss, the soft cap and what LayerNorm needs, each for AVX2 and
// AVX-512.
func gelu(a *Asm) {
	expTable(a)
	geluTable(a)
	for _, v := range []isa{avx2, avx512} {
		geluMul(a, v)
		geluErf(a, v)
		softCap(a, v)
		clampedGLU(a, v)
		centre(a, v)
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

func geluErf(a *Asm, v isa) {
	a.Func("geluErf"+v.name, "x *float32, n int", "turns x into x*(1+erf(x/sqrt(2)))/2 for 16*n elements.")
	load(a, "x", "DI", "n", "CX")
	expConsts(a, v)
	one, half := v.con(cOne), v.con(cHalf)
	con := func(c int) string { return fmt.Sprintf("geluConst<>+%d(SB)", 32*c) }
	if v == avx2 {
		one, half = v.r(14), v.r(15)
		a.I("VMOVUPS %s, %s", v.con(cOne), one)
		a.I("VMOVUPS %s, %s", v.con(cHalf), half)
	} else {
		free := []int{4, 5, 6, 7, 13, 14, 15}
		for i, r := range free {
			a.I("VBROADCASTSS %s, %s", con(cRoot+i), v.r(r))
		}
		con = func(c int) string { return v.r(free[c-cRoot]) }
	}
	x := []int{0, 4}[:v.per()]
	steps(a, func() {
		for i, r := range x {
			z, g, p, t := v.r(r), v.r(8+i), v.r(10+i), v.r(12+i)
			a.I("VMOVUPS %d(DI), %s", i*v.size(), g)
			a.I("VANDPS %s, %s, %s", v.con(cSign), g, z)
			a.I("VXORPS %s, %s, %s", z, g, z) // |g|
			a.I("VMULPS %s, %s, %s", con(cRoot), z, z)
			a.I("VMOVUPS %s, %s", con(cErfP), t)
			a.I("VFMADD213PS %s, %s, %s", one, z, t) // z*p + 1
			a.I("VDIVPS %s, %s, %s", t, one, t)
			a.I("VMOVUPS %s, %s", con(cErf4), p)
			a.I("VFMADD231PS %s, %s, %s", con(cErf5), t, p)
			for _, c := range []int{cErf3, cErf2, cErf1} {
				a.I("VFMADD213PS %s, %s, %s", con(c), t, p)
			}
			a.I("VMULPS %s, %s, %s", t, p, p)
			a.I("VMULPS %s, %s, %s", z, z, z)
			a.I("VXORPS %s, %s, %s", v.con(cSign), z, z) // -z*z
		}
		exps(a, v, x...)
		for i, r := range x {
			e, g, p := v.r(r), v.r(8+i), v.r(10+i)
			a.I("VMULPS %s, %s, %s", e, p, p)
			a.I("VMULPS %s, %s, %s", half, p, p)
			a.I("VSUBPS %s, %s, %s", p, half, p)
			a.I("VANDPS %s, %s, %s", v.con(cSign), g, e)
			a.I("VXORPS %s, %s, %s", e, p, p)
			a.I("VADDPS %s, %s, %s", half, p, p)
			a.I("VMULPS %s, %s, %s", g, p, p)
			a.I("VMOVUPS %s, %d(DI)", p, i*v.size())
		}
	}, ptr{"DI", 64})
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

func clampedGLU(a *Asm, v isa) {
	a.Func("clampedGLU"+v.name, "y *float32, gt *float32, up *float32, slope float32, limit float32, n int",
		"writes g/(1+exp(-slope*g))*(u+1) for 16*n elements, g and u being gt and up within the limit.")
	load(a, "y", "DI", "gt", "SI", "up", "DX", "n", "CX")
	expConsts(a, v)
	high := highest(a, v)
	limit, slope, low := v.r(12), v.r(13), v.r(14)
	a.I("VBROADCASTSS %s, %s", a.Arg("limit"), limit)
	a.I("VBROADCASTSS %s, %s", a.Arg("slope"), slope)
	a.I("VXORPS %s, %s, %s", v.con(cSign), limit, low)
	x := []int{0, 4}[:v.per()]
	steps(a, func() {
		for i, r := range x {
			g := v.r(8 + i)
			a.I("VMOVUPS %d(SI), %s", i*v.size(), g)
			a.I("VMINPS %s, %s, %s", g, limit, g) // the first operand if it is NaN
			a.I("VMULPS %s, %s, %s", g, slope, v.r(r))
			a.I("VXORPS %s, %s, %s", v.con(cSign), v.r(r), v.r(r))
			a.I("VMINPS %s, %s, %s", v.r(r), high, v.r(r))
		}
		exps(a, v, x...)
		for i, r := range x {
			u := v.r(10 + i)
			a.I("VMOVUPS %d(DX), %s", i*v.size(), u)
			a.I("VMINPS %s, %s, %s", u, limit, u)
			a.I("VMAXPS %s, %s, %s", u, low, u)
			a.I("VADDPS %s, %s, %s", v.con(cOne), u, u)
			a.I("VADDPS %s, %s, %s", v.con(cOne), v.r(r), v.r(r))
			a.I("VDIVPS %s, %s, %s", v.r(r), v.r(8+i), v.r(r))
			a.I("VMULPS %s, %s, %s", u, v.r(r), v.r(r))
			a.I("VMOVUPS %s, %d(DI)", v.r(r), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64}, ptr{"DX", 64})
	a.Ret()
}

// centre emits the sum of elements and what subtracts their mean.
func centre(a *Asm, v isa) {
	a.Func("sums"+v.name, "acc *float32, x *float32, n int", "adds 16*n elements to 16 lanes.")
	load(a, "acc", "DI", "x", "SI", "n", "CX")
	for i := range v.per() {
		a.I("VMOVUPS %d(DI), %s", i*v.size(), v.r(i))
	}
	steps(a, func() {
		for i := range v.per() {
			a.I("VADDPS %d(SI), %s, %s", i*v.size(), v.r(i), v.r(i))
		}
	}, ptr{"SI", 64})
	for i := range v.per() {
		a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
	}
	a.Ret()

	a.Func("less"+v.name, "y *float32, x *float32, m float32, n int", "writes x-m for 16*n elements.")
	load(a, "y", "DI", "x", "SI", "n", "CX")
	a.I("VBROADCASTSS %s, %s", a.Arg("m"), v.r(4))
	steps(a, func() {
		for i := range v.per() {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(i))
			a.I("VSUBPS %s, %s, %s", v.r(4), v.r(i), v.r(i))
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64})
	a.Ret()
}
