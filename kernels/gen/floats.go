package main

import "fmt"

// tileRow is the operand of column k past the present one in row m of the activations. Rows are three
// to a base register (R8, R11, R12, R13), R9 bytes apart.
func tileRow(m, k int) string {
	base := []string{"R8", "R11", "R12", "R13"}[m/3]
	switch m % 3 {
	case 1:
		return fmt.Sprintf("%d(%s)(R9*1)", 4*k, base)
	case 2:
		return fmt.Sprintf("%d(%s)(R9*2)", 4*k, base)
	}
	return fmt.Sprintf("%d(%s)", 4*k, base)
}

// floatLoop emits a kernel for float weights: fma(k) multiplies column k past the present one of all
// rows of panel and tile. Columns are walked in order, four and then one at a time.
func floatLoop(a *Asm, t, size int, fetch bool, fma func(k int)) {
	for _, p := range [][2]string{{"w", "SI"}, {"x", "R8"}, {"step", "R9"}, {"y", "DI"}, {"stride", "R10"},
		{"cols", "CX"}} {
		a.Load(p[0], p[1])
	}
	bases := []string{"R8", "R11", "R12", "R13"}[:(t+2)/3]
	a.I("LEAQ (R9)(R9*2), AX")
	for i := 1; i < len(bases); i++ {
		a.I("LEAQ (%s)(AX*1), %s", bases[i-1], bases[i])
	}
	step := func(n int) {
		a.I("ADDQ $%d, SI", 16*size*n)
		for _, b := range bases {
			a.I("ADDQ $%d, %s", 4*n, b)
		}
	}
	a.I("SUBQ $4, CX")
	a.I("JLT rest")
	a.L("four")
	if fetch {
		prefetch(a, 4*16*size)
	}
	for k := range 4 {
		fma(k)
	}
	step(4)
	a.I("SUBQ $4, CX")
	a.I("JGE four")
	a.L("rest")
	a.I("ADDQ $4, CX")
	a.I("JEQ done")
	a.L("one")
	fma(0)
	step(1)
	a.I("DECQ CX")
	a.I("JNZ one")
	a.L("done")
}

// floatSize is the bytes of a float type.
func floatSize(typ string) int {
	if typ == "F32" {
		return 4
	}
	return 2
}

// avx2Float emits the kernel for a float type and returns its name. Results: Y0 - Y7; weights: Y12 and
// Y13; a broadcast: Y14.
func avx2Float(a *Asm, typ string, t int) string {
	name := fmt.Sprintf("mul%sx%dAVX2", typ, t)
	a.Func(name, floatParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t))
	for r := range 2 * t {
		a.I("VXORPS Y%d, Y%d, Y%d", r, r, r)
	}
	size := floatSize(typ)
	floatLoop(a, t, size, true, func(k int) {
		for h := range 2 {
			at := 16*size*k + 8*size*h
			switch typ {
			case "F32":
				a.I("VMOVUPS %d(SI), Y%d", at, 12+h)
			case "F16":
				a.I("VCVTPH2PS %d(SI), Y%d", at, 12+h)
			default:
				a.I("VPMOVZXWD %d(SI), Y%d", at, 12+h)
				a.I("VPSLLD $16, Y%d, Y%d", 12+h, 12+h)
			}
		}
		for m := range t {
			a.I("VBROADCASTSS %s, Y14", tileRow(m, k))
			a.I("VFMADD231PS Y14, Y12, Y%d", 2*m)
			a.I("VFMADD231PS Y14, Y13, Y%d", 2*m+1)
		}
	})
	for m := range t {
		a.I("VMOVUPS Y%d, (DI)", 2*m)
		a.I("VMOVUPS Y%d, 32(DI)", 2*m+1)
		if m < t-1 {
			a.I("ADDQ R10, DI")
		}
	}
	a.Ret()
	return name
}

// avx512Float emits the kernel for a float type and returns its name. Results: Z0 - Z11; weights: Z24.
func avx512Float(a *Asm, typ string, t int) string {
	name := fmt.Sprintf("mul%sx%dAVX512", typ, t)
	a.Func(name, floatParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t))
	for r := range t {
		a.I("VPXORD Z%d, Z%d, Z%d", r, r, r)
	}
	size := floatSize(typ)
	floatLoop(a, t, size, false, func(k int) {
		at := 16 * size * k
		switch typ {
		case "F32":
			a.I("VMOVUPS %d(SI), Z24", at)
		case "F16":
			a.I("VCVTPH2PS %d(SI), Z24", at)
		default:
			a.I("VPMOVZXWD %d(SI), Z24", at)
			a.I("VPSLLD $16, Z24, Z24")
		}
		for m := range t {
			a.I("VFMADD231PS.BCST %s, Z24, Z%d", tileRow(m, k), m)
		}
	})
	for m := range t {
		a.I("VMOVUPS Z%d, (DI)", m)
		if m < t-1 {
			a.I("ADDQ R10, DI")
		}
	}
	a.Ret()
	return name
}
