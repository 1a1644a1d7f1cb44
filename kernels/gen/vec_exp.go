package main

import "fmt"

// The constants of exp32, in the order of expTable. They are those of vec_exp.go in package kernels, which says what
// they mean; the tests that compare the levels would see a difference.
const (
	cLog2E = iota
	cMagic
	cLn2Hi
	cLn2Lo
	cC6
	cC5
	cC4
	cC3
	cHalf
	cOne
	cBias
	cLow
	cHigh
	cSign
	cCount
)

// expWords are the constants as bits.
func expWords() [cCount]uint32 {
	return [cCount]uint32{
		cLog2E: bits(1.4426950408889634), cMagic: bits(3 << 22), cLn2Hi: bits(-0x1.62ep-1), cLn2Lo: bits(-0x1.0bfbe8e7bcd5ep-15),
		cC6: bits(0.0013863756965035445), cC5: bits(0.008367509246614849), cC4: bits(0.04166723877257511), cC3: bits(0.1666653380253785),
		cHalf: bits(0.5), cOne: bits(1), cBias: 127 << 23, cLow: bits(-87), cHigh: bits(88.37), cSign: 1 << 31,
	}
}

// expTable emits the constants, each eight times, so that AVX2 can use them as operands in memory.
func expTable(a *Asm) {
	var words []uint32
	for _, c := range expWords() {
		for range 8 {
			words = append(words, c)
		}
	}
	a.Data("expConst", words...)
}

// con is a constant as an operand: memory for AVX2, for AVX-512 a register from 16 on, which expConsts fills.
func (v isa) con(c int) string {
	if v == avx512 {
		return fmt.Sprintf("Z%d", 16+c)
	}
	return fmt.Sprintf("expConst<>+%d(SB)", 32*c)
}

func expConsts(a *Asm, v isa) {
	if v == avx512 {
		for c := range cCount {
			a.I("VBROADCASTSS expConst<>+%d(SB), Z%d", 32*c, 16+c)
		}
	}
}

// exps emits exp32 of the registers of x, all at once so that their chains overlap. Register x[i] is replaced by the
// result; x[i]+1 to x[i]+3 are scratch (AVX-512: to x[i]+2, and mask register i+1). The arguments are at most 88.37 or
// NaN.
func exps(a *Asm, v isa, x ...int) {
	each := func(form string, args func(x, t, p, m string) []any) {
		for _, r := range x {
			a.I(form, args(v.r(r), v.r(r+1), v.r(r+2), v.r(r+3))...)
		}
	}
	op := func(name string, c int, order func(x, t, p string) (string, string)) {
		each(name+" %s, %s, %s", func(x, t, p, _ string) []any {
			src, dst := order(x, t, p)
			return []any{v.con(c), src, dst}
		})
	}
	for i, r := range x { // keep what is not below -87; NaN is kept
		if v == avx512 {
			a.I("VCMPPS $0x15, %s, %s, K%d", v.con(cLow), v.r(r), i+1)
		} else {
			a.I("VCMPPS $0x15, %s, %s, %s", v.con(cLow), v.r(r), v.r(r+3))
		}
	}
	each("VMOVUPS %s, %s", func(_, t, _, _ string) []any { return []any{v.con(cMagic), t} })
	op("VFMADD231PS", cLog2E, func(x, t, p string) (string, string) { return x, t }) // t = x*log2(e) + magic
	op("VSUBPS", cMagic, func(x, t, p string) (string, string) { return t, p })      // n, in p
	op("VFMADD231PS", cLn2Hi, func(x, t, p string) (string, string) { return p, x }) // r, in x
	op("VFMADD231PS", cLn2Lo, func(x, t, p string) (string, string) { return p, x })
	each("VMOVUPS %s, %s", func(_, _, p, _ string) []any { return []any{v.con(cC5), p} })
	op("VFMADD231PS", cC6, func(x, t, p string) (string, string) { return x, p })
	for _, c := range []int{cC4, cC3, cHalf, cOne, cOne} {
		op("VFMADD213PS", c, func(x, t, p string) (string, string) { return x, p })
	}
	each("VPSLLD $23, %s, %s", func(_, t, _, _ string) []any { return []any{t, t} })
	op("VPADDD", cBias, func(x, t, p string) (string, string) { return t, t }) // 2^n
	for i, r := range x {
		if v == avx512 {
			a.I("VMULPS.Z %s, %s, K%d, %s", v.r(r+1), v.r(r+2), i+1, v.r(r))
		} else {
			a.I("VMULPS %s, %s, %s", v.r(r+1), v.r(r+2), v.r(r))
			a.I("VANDPS %s, %s, %s", v.r(r+3), v.r(r), v.r(r))
		}
	}
}

// vecExps emits the operations on elements that need exponentials.
func vecExps(a *Asm, v isa) {
	a.Func("siluMul"+v.name, "y *float32, gt *float32, up *float32, n int", "writes gt/(1+exp(-gt))*up for 16*n elements.")
	load(a, "y", "DI", "gt", "SI", "up", "DX", "n", "CX")
	expConsts(a, v)
	high := v.con(cHigh)
	if v == avx2 {
		high = v.r(15)
		a.I("VMOVUPS %s, %s", v.con(cHigh), high)
	}
	x := []int{0, 4}[:v.per()]
	steps(a, func() {
		for i, r := range x {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(8+i))
			a.I("VXORPS %s, %s, %s", v.con(cSign), v.r(8+i), v.r(r))
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

	a.Func("expSums"+v.name, "acc *float32, e *float32, x *float32, m float32, n int", "writes exp(x-m) to e for 16*n elements and adds them to 16 lanes.")
	load(a, "acc", "DX", "e", "DI", "x", "SI", "n", "CX")
	expConsts(a, v)
	a.I("VBROADCASTSS %s, %s", a.Arg("m"), v.r(15))
	for i := range x {
		a.I("VMOVUPS %d(DX), %s", i*v.size(), v.r(8+i))
	}
	steps(a, func() {
		for i, r := range x {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(r))
			a.I("VSUBPS %s, %s, %s", v.r(15), v.r(r), v.r(r))
		}
		exps(a, v, x...)
		for i, r := range x {
			a.I("VMOVUPS %s, %d(DI)", v.r(r), i*v.size())
			a.I("VADDPS %s, %s, %s", v.r(r), v.r(8+i), v.r(8+i))
		}
	}, ptr{"DI", 64}, ptr{"SI", 64})
	for i := range x {
		a.I("VMOVUPS %s, %d(DX)", v.r(8+i), i*v.size())
	}
	a.Ret()
}
