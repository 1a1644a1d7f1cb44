package main

import (
	"fmt"
	"math"
)

// vec emits the vector operations and attention, each for AVX2 and AVX-512. A step covers 16 elements: two registers
// of AVX2, one of AVX-512.
func vec(a *Asm) {
	expTable(a)
	for _, v := range []isa{avx2, avx512} {
		vecSums(a, v)
		vecMaps(a, v)
		vecExps(a, v)
		vecRopes(a, v)
		attnScores(a, v)
		attnWeigh(a, v)
		attnMix(a, v)
	}
}

// isa is a set of instructions: how its registers are called and how many floats they hold.
type isa struct {
	name  string
	reg   byte
	width int
}

var (
	avx2   = isa{"AVX2", 'Y', 8}
	avx512 = isa{"AVX512", 'Z', 16}
)

// r is the name of register i.
func (v isa) r(i int) string { return fmt.Sprintf("%c%d", v.reg, i) }

// per is the number of registers for 16 elements, and size the bytes of one.
func (v isa) per() int  { return 16 / v.width }
func (v isa) size() int { return 4 * v.width }

// zero clears register i.
func (v isa) zero(a *Asm, i int) {
	if v == avx512 {
		a.I("VPXORD Z%d, Z%d, Z%d", i, i, i)
		return
	}
	a.I("VXORPS Y%d, Y%d, Y%d", i, i, i)
}

// ptr is a pointer in a register and the bytes that it moves on in a step.
type ptr struct {
	reg   string
	bytes int
}

// steps emits a loop over CX steps, at least one.
func steps(a *Asm, body func(), ptrs ...ptr) {
	a.L("loop")
	body()
	for _, p := range ptrs {
		a.I("ADDQ $%d, %s", p.bytes, p.reg)
	}
	a.I("DECQ CX")
	a.I("JNZ loop")
}

// load moves parameters to registers: name, register, name, register and so on.
func load(a *Asm, pairs ...string) {
	for i := 0; i < len(pairs); i += 2 {
		a.Load(pairs[i], pairs[i+1])
	}
}

// vecSums emits the sums over elements: 16 lanes are read, added to and written back.
func vecSums(a *Asm, v isa) {
	lanes := func(body func()) {
		load(a, "acc", "DI", "x", "SI", "n", "CX")
		for i := range v.per() {
			a.I("VMOVUPS %d(DI), %s", i*v.size(), v.r(i))
		}
		steps(a, body, ptr{"SI", 64})
		for i := range v.per() {
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
		}
		a.Ret()
	}
	a.Func("squares"+v.name, "acc *float32, x *float32, n int", "adds the squares of 16*n elements to 16 lanes.")
	lanes(func() {
		for i := range v.per() {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(4+i))
			a.I("VFMADD231PS %s, %s, %s", v.r(4+i), v.r(4+i), v.r(i))
		}
	})
	a.Func("maxima"+v.name, "acc *float32, x *float32, n int", "raises 16 lanes to the larger ones of 16*n elements; NaN is passed over.")
	lanes(func() {
		for i := range v.per() {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(4+i))
			a.I("VMAXPS %s, %s, %s", v.r(i), v.r(4+i), v.r(i)) // the first operand if either is NaN
		}
	})
}

// vecMaps emits the operations on elements one by one.
func vecMaps(a *Asm, v isa) {
	a.Func("add"+v.name, "y *float32, x *float32, n int", "adds 16*n elements of x to y.")
	load(a, "y", "DI", "x", "SI", "n", "CX")
	steps(a, func() {
		for i := range v.per() {
			a.I("VMOVUPS %d(DI), %s", i*v.size(), v.r(i))
			a.I("VADDPS %d(SI), %s, %s", i*v.size(), v.r(i), v.r(i))
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64})
	a.Ret()

	a.Func("scaleMul"+v.name, "y *float32, x *float32, w *float32, s float32, n int", "writes (x*s)*w for 16*n elements.")
	load(a, "y", "DI", "x", "SI", "w", "DX", "n", "CX")
	a.I("VBROADCASTSS %s, %s", a.Arg("s"), v.r(4))
	steps(a, func() {
		for i := range v.per() {
			a.I("VMULPS %d(SI), %s, %s", i*v.size(), v.r(4), v.r(i))
			a.I("VMULPS %d(DX), %s, %s", i*v.size(), v.r(i), v.r(i))
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64}, ptr{"DX", 64})
	a.Ret()

	a.Func("scale"+v.name, "y *float32, x *float32, s float32, n int", "writes x*s for 16*n elements.")
	load(a, "y", "DI", "x", "SI", "n", "CX")
	a.I("VBROADCASTSS %s, %s", a.Arg("s"), v.r(4))
	steps(a, func() {
		for i := range v.per() {
			a.I("VMULPS %d(SI), %s, %s", i*v.size(), v.r(4), v.r(i))
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"SI", 64})
	a.Ret()

	a.Func("halves"+v.name, "y *uint16, x *float32, n int", "rounds 16*n elements to float16.")
	load(a, "y", "DI", "x", "SI", "n", "CX")
	steps(a, func() {
		for i := range v.per() {
			a.I("VMOVUPS %d(SI), %s", i*v.size(), v.r(i))
			a.I("VCVTPS2PH $0, %s, %d(DI)", v.r(i), i*v.size()/2)
		}
	}, ptr{"DI", 32}, ptr{"SI", 64})
	a.Ret()
}

// vecRopes emits the rotations of one head, for 16*n elements that are rotated together with as many others (halves)
// or in pairs (pairs).
func vecRopes(a *Asm, v isa) {
	a.Func("ropeHalves"+v.name, "x *float32, y *float32, cos *float32, sin *float32, n int", "rotates 16*n pairs (x, y).")
	load(a, "x", "DI", "y", "SI", "cos", "DX", "sin", "BX", "n", "CX")
	steps(a, func() {
		for i := range v.per() {
			at, x, y, c, s, t := i*v.size(), v.r(8*i), v.r(8*i+1), v.r(8*i+2), v.r(8*i+3), v.r(8*i+4)
			a.I("VMOVUPS %d(DI), %s", at, x)
			a.I("VMOVUPS %d(SI), %s", at, y)
			a.I("VMOVUPS %d(DX), %s", at, c)
			a.I("VMOVUPS %d(BX), %s", at, s)
			a.I("VMULPS %s, %s, %s", s, y, t)
			a.I("VMULPS %s, %s, %s", s, x, s)
			a.I("VFMSUB213PS %s, %s, %s", t, c, x) // x*c - t
			a.I("VFMADD213PS %s, %s, %s", s, c, y) // y*c + s
			a.I("VMOVUPS %s, %d(DI)", x, at)
			a.I("VMOVUPS %s, %d(SI)", y, at)
		}
	}, ptr{"DI", 64}, ptr{"SI", 64}, ptr{"DX", 64}, ptr{"BX", 64})
	a.Ret()

	a.Func("ropePairs"+v.name, "x *float32, cos *float32, sin *float32, n int", "rotates 8*n pairs that stand side by side.")
	load(a, "x", "DI", "cos", "DX", "sin", "BX", "n", "CX")
	steps(a, func() {
		for i := range v.per() {
			x, c, s, t := v.r(8*i), v.r(8*i+1), v.r(8*i+2), v.r(8*i+3)
			a.I("VMOVUPS %d(DI), %s", i*v.size(), x)
			a.I("VPMOVZXDQ %d(DX), %s", i*v.size()/2, c)
			a.I("VPMOVZXDQ %d(BX), %s", i*v.size()/2, s)
			a.I("VMOVSLDUP %s, %s", c, c)
			a.I("VMOVSLDUP %s, %s", s, s)
			a.I("VPERMILPS $0xb1, %s, %s", x, t)
			a.I("VMULPS %s, %s, %s", s, t, t)
			a.I("VFMADDSUB213PS %s, %s, %s", t, c, x) // even: x*c - t, odd: x*c + t
			a.I("VMOVUPS %s, %d(DI)", x, i*v.size())
		}
	}, ptr{"DI", 64}, ptr{"DX", 32}, ptr{"BX", 32})
	a.Ret()
}

// bits is the pattern of a float32 constant.
func bits(f float64) uint32 { return math.Float32bits(float32(f)) }
