package main

import "fmt"

// pageLen is the number of positions in a page, and with it the stride of scores and weights, in floats.
const pageLen = 64

// maxRows is the most query rows of a tile.
const maxRows = 6

// dispatch emits a jump to the code for the number of rows in AX and, for each number, that code.
func dispatch(a *Asm, body func(rows int)) {
	for rows := 2; rows <= maxRows; rows++ {
		a.I("CMPQ AX, $%d", rows)
		a.I("JEQ rows%d", rows)
	}
	for rows := 1; rows <= maxRows; rows++ {
		a.L(fmt.Sprintf("rows%d", rows))
		body(rows)
	}
}

// columns returns how many registers of positions or dimensions a tile of rows has, widest first: enough sums under
// way to hide the latency of the multiply-add, as few as fit beside their operands.
func (v isa) columns(rows int) []int {
	if v == avx512 {
		return []int{4, 1}
	}
	return [][]int{1: {8, 2}, 2: {4, 2}, 3: {4, 2}, 4: {2}, 5: {2}, 6: {2}}[rows]
}

// fmas emits sum[m][n] += left(m) * right(n), where left is one float32 in memory and right a register full of
// float16 in memory. Sum m,n is register m*cols+n.
func fmas(a *Asm, v isa, rows, cols int, left, right func(i int) string) {
	first, all := rows*cols, 16
	if v == avx512 {
		all = 32
	}
	fma := func(m, n, l, r int) { a.I("VFMADD231PS %s, %s, %s", v.r(r), v.r(l), v.r(m*cols+n)) }
	if v == avx2 && first+cols >= all { // no room for all on the right: keep the left ones
		for m := range rows {
			a.I("VBROADCASTSS %s, %s", left(m), v.r(first+m))
		}
		for n := range cols {
			r := first + rows + n%(all-first-rows)
			a.I("VCVTPH2PS %s, %s", right(n), v.r(r))
			for m := range rows {
				fma(m, n, first+m, r)
			}
		}
		return
	}
	for n := range cols {
		a.I("VCVTPH2PS %s, %s", right(n), v.r(first+n))
	}
	for m := range rows {
		l := first + cols + m%(all-first-cols)
		if v == avx2 {
			a.I("VBROADCASTSS %s, %s", left(m), v.r(l))
		}
		for n := range cols {
			if v == avx512 {
				a.I("VFMADD231PS.BCST %s, %s, %s", left(m), v.r(first+n), v.r(m*cols+n))
			} else {
				fma(m, n, l, first+n)
			}
		}
	}
}

// attnScores emits the products of query rows with a page of keys. Lanes are positions.
func attnScores(a *Asm, v isa) {
	a.Func("attnScores"+v.name, "q *float32, k *uint16, s *float32, rows int, dim int",
		"writes s[rows][64] = q*K for q[dim][rows] and K[dim][64].")
	load(a, "q", "R8", "k", "R9", "s", "DI", "rows", "AX", "dim", "R10")
	dispatch(a, func(rows int) {
		cols := v.columns(rows)[0]
		group := fmt.Sprintf("group%d", rows)
		a.I("MOVQ $%d, BX", pageLen/v.width/cols)
		a.L(group)
		a.I("MOVQ R8, SI")
		a.I("MOVQ R9, DX")
		a.I("MOVQ R10, CX")
		for i := range rows * cols {
			v.zero(a, i)
		}
		a.L("loop" + group)
		fmas(a, v, rows, cols,
			func(m int) string { return fmt.Sprintf("%d(SI)", 4*m) },
			func(n int) string { return fmt.Sprintf("%d(DX)", n*v.size()/2) })
		a.I("ADDQ $%d, SI", 4*rows)
		a.I("ADDQ $%d, DX", 2*pageLen)
		a.I("DECQ CX")
		a.I("JNZ loop%s", group)
		for i := range rows * cols {
			a.I("VMOVUPS %s, %d(DI)", v.r(i), i/cols*4*pageLen+i%cols*v.size())
		}
		a.I("ADDQ $%d, DI", cols*v.size())
		a.I("ADDQ $%d, R9", cols*v.size()/2)
		a.I("DECQ BX")
		a.I("JNZ %s", group)
		a.Ret()
	})
}

// attnMix emits the sums of values by their weights. Lanes are dimensions; the sums stay in registers over all
// positions.
func attnMix(a *Asm, v isa) {
	a.Func("attnMix"+v.name, "p *float32, val *uint16, o *float32, alpha *float32, rows int, width int, n int",
		"writes o[rows][width] = o*alpha[rows] + p*V for p[rows][64] and V[n][width], of which n positions are added in order; width is a multiple of 16.")
	load(a, "p", "R8", "val", "R9", "o", "DI", "alpha", "R10", "rows", "AX", "width", "BX", "n", "R13")
	a.I("LEAQ (BX)(BX*1), R12") // bytes of a row of V
	a.I("LEAQ (R12)(R12*1), R11")
	at := func(m, bytes int) string { // AX is DI + 3*R11
		base := []string{"DI", "AX"}[m/3]
		return fmt.Sprintf("%d(%s)", bytes, base) + []string{"", "(R11*1)", "(R11*2)"}[m%3]
	}
	dispatch(a, func(rows int) {
		for _, cols := range v.columns(rows) {
			mixColumns(a, v, rows, cols, at)
		}
		a.Ret()
	})
}

// mixColumns emits the loop over groups of cols registers of dimensions, of which BX are left.
func mixColumns(a *Asm, v isa, rows, cols int, at func(m, bytes int) string) {
	name := fmt.Sprintf("r%dc%d", rows, cols)
	a.L(name)
	a.I("CMPQ BX, $%d", cols*v.width)
	a.I("JLT %send", name)
	a.I("LEAQ (DI)(R11*2), AX")
	a.I("ADDQ R11, AX")
	for m := range rows {
		a.I("VBROADCASTSS %d(R10), %s", 4*m, v.r(rows*cols))
		for n := range cols {
			a.I("VMULPS %s, %s, %s", at(m, n*v.size()), v.r(rows*cols), v.r(m*cols+n))
		}
	}
	a.I("MOVQ R8, SI")
	a.I("MOVQ R9, DX")
	a.I("MOVQ R13, CX")
	a.I("TESTQ CX, CX")
	a.I("JEQ %sstore", name)
	a.L(name + "loop")
	fmas(a, v, rows, cols,
		func(m int) string { return fmt.Sprintf("%d(SI)", 4*pageLen*m) },
		func(n int) string { return fmt.Sprintf("%d(DX)", n*v.size()/2) })
	a.I("ADDQ $4, SI")
	a.I("ADDQ R12, DX")
	a.I("DECQ CX")
	a.I("JNZ %sloop", name)
	a.L(name + "store")
	for m := range rows {
		for n := range cols {
			a.I("VMOVUPS %s, %s", v.r(m*cols+n), at(m, n*v.size()))
		}
	}
	a.I("ADDQ $%d, DI", cols*v.size())
	a.I("ADDQ $%d, R9", cols*v.size()/2)
	a.I("SUBQ $%d, BX", cols*v.width)
	a.I("JMP %s", name)
	a.L(name + "end")
}

// attnWeigh emits the step of the online softmax over a page.
func attnWeigh(a *Asm, v isa) {
	a.Func("attnWeigh"+v.name, "s *float32, sum *float32, high *float32, alpha *float32, rows int",
		"takes rows through one page of scores s[rows][64]: it raises the maxima high[rows], writes alpha[rows] = exp(old-high), replaces the scores by exp(s-high) and adds them to sum[rows][16]*alpha.")
	load(a, "s", "DI", "sum", "SI", "high", "DX", "alpha", "BX", "rows", "CX")
	expConsts(a, v)
	steps(a, func() {
		if v == avx512 {
			weighRow512(a)
		} else {
			weighRow256(a)
		}
	}, ptr{"DI", 4 * pageLen}, ptr{"SI", 64}, ptr{"DX", 4}, ptr{"BX", 4})
	a.Ret()
}

// newHigh emits the maximum of register X0 (four lanes) and the old one in register old, to memory and to register 15.
func newHigh(a *Asm, v isa, old int) {
	a.I("VPERMILPS $0x4e, X0, X1")
	a.I("VMAXPS X1, X0, X0")
	a.I("VPERMILPS $0xb1, X0, X1")
	a.I("VMAXPS X1, X0, X0")
	a.I("VMAXSS X%d, X0, X0", old)
	a.I("VMOVSS X0, (DX)")
	a.I("VBROADCASTSS X0, %s", v.r(15))
}

func weighRow256(a *Asm) {
	v := avx2
	a.I("VBROADCASTSS (DX), Y14")
	for i := range 4 {
		a.I("VMOVUPS %d(DI), Y%d", 64*i, i)
		a.I("VMAXPS %d(DI), Y%d, Y%d", 64*i+32, i, i)
	}
	a.I("VMAXPS Y1, Y0, Y0")
	a.I("VMAXPS Y3, Y2, Y2")
	a.I("VMAXPS Y2, Y0, Y0")
	a.I("VEXTRACTF128 $1, Y0, X1")
	a.I("VMAXPS X1, X0, X0")
	newHigh(a, v, 14)
	a.I("VSUBPS Y15, Y14, Y0")
	// Three chains at a time: alpha and scores 0-1, 2-4, 5-7. The sums are registers 12 and 13.
	for from := -1; from < 8; from += 3 {
		for i := range 3 {
			if j := from + i; j >= 0 {
				a.I("VMOVUPS %d(DI), Y%d", 32*j, 4*i)
				a.I("VSUBPS Y15, Y%d, Y%d", 4*i, 4*i)
			}
		}
		exps(a, v, 0, 4, 8)
		for i := range 3 {
			j := from + i
			if j < 0 {
				a.I("VMOVSS X0, (BX)")
				a.I("VMULPS (SI), Y0, Y12")
				a.I("VMULPS 32(SI), Y0, Y13")
				continue
			}
			a.I("VMOVUPS Y%d, %d(DI)", 4*i, 32*j)
			a.I("VADDPS Y%d, Y%d, Y%d", 4*i, 12+j%2, 12+j%2)
		}
	}
	a.I("VMOVUPS Y12, (SI)")
	a.I("VMOVUPS Y13, 32(SI)")
}

func weighRow512(a *Asm) {
	v := avx512
	a.I("VBROADCASTSS (DX), Z31")
	a.I("VMOVUPS (DI), Z0")
	a.I("VMOVUPS 128(DI), Z1")
	a.I("VMAXPS 64(DI), Z0, Z0")
	a.I("VMAXPS 192(DI), Z1, Z1")
	a.I("VMAXPS Z1, Z0, Z0")
	a.I("VEXTRACTF64X4 $1, Z0, Y1")
	a.I("VMAXPS Y1, Y0, Y0")
	a.I("VEXTRACTF128 $1, Y0, X1")
	a.I("VMAXPS X1, X0, X0")
	newHigh(a, v, 31)
	a.I("VSUBPS Z15, Z31, Z0")
	for j := range 4 {
		a.I("VMOVUPS %d(DI), Z%d", 64*j, 3+3*j)
		a.I("VSUBPS Z15, Z%d, Z%d", 3+3*j, 3+3*j)
	}
	exps(a, v, 0, 3, 6, 9, 12)
	a.I("VMOVSS X0, (BX)")
	a.I("VMULPS (SI), Z0, Z30")
	for j := range 4 {
		a.I("VMOVUPS Z%d, %d(DI)", 3+3*j, 64*j)
		a.I("VADDPS Z%d, Z30, Z30", 3+3*j)
	}
	a.I("VMOVUPS Z30, (SI)")
}
