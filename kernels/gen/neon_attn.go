package main

import "fmt"

// neonColumns are the registers of positions or dimensions of a tile of 1 to 6 rows, widest first. With their sums up
// to 24 registers are in use.
var neonColumns = [][]int{1: {16, 4}, 2: {8, 4}, 3: {8, 4}, 4: {4}, 5: {4}, 6: {4}}

// Dispatch emits a jump to the code for the number of rows in a register and, for each number, that code.
func (a Neon) Dispatch(reg int, body func(rows int)) {
	for rows := 2; rows <= maxRows; rows++ {
		a.I("CMP $%d, R%d", rows, reg)
		a.I("BEQ rows%d", rows)
	}
	for rows := 1; rows <= maxRows; rows++ {
		a.L(fmt.Sprintf("rows%d", rows))
		body(rows)
		a.Return()
	}
}

// Halves loads 8 float16 as float32 to d and d+1.
func (a Neon) Halves(d, at, reg int) {
	a.Get(d, at, reg)
	a.V2(opFcvtl2, d+1, d)
	a.V2(opFcvtl, d, d)
}

// neonScores emits the products of query rows with a page of keys. Lanes are positions. V0 on: sums; V24, V25: the
// rows' elements of a dimension; V26 to V31: keys.
func neonScores(a Neon) {
	a.Func("attnScoresNEON", "q *float32, k *uint16, s *float32, rows int, dim int",
		"writes s[rows][64] = q*K for q[dim][rows] and K[dim][64].")
	a.Args("q", "k", "s", "rows", "dim")
	a.Dispatch(3, func(rows int) {
		cols := neonColumns[rows][0]
		a.I("MOVD $%d, R8", pageLen/4/cols)
		a.Loop(fmt.Sprintf("group%d", rows), 8, func() {
			a.I("MOVD R0, R5")
			a.I("MOVD R1, R6")
			a.I("MOVD R4, R7")
			for i := range rows * cols {
				a.Zero(i)
			}
			a.Loop(fmt.Sprintf("dim%d", rows), 7, func() {
				a.Floats(24, rows, 5)
				for n := 0; n < cols; n += 2 {
					k := 26 + n%6
					a.Halves(k, 8*n, 6)
					for m := range rows {
						a.Lane(opFmlaLane, m*cols+n, k, 24+m/4, m%4)
						a.Lane(opFmlaLane, m*cols+n+1, k+1, 24+m/4, m%4)
					}
				}
				a.Inc(5, 4*rows)
				a.Inc(6, 2*pageLen)
			})
			for i := range rows * cols {
				a.Put(i, i/cols*4*pageLen+i%cols*16, 2)
			}
			a.Inc(2, 16*cols)
			a.Inc(1, 8*cols)
		})
	})
}

// neonMix emits the sums of values by their weights. Lanes are dimensions; the sums stay in registers over all
// positions.
func neonMix(a Neon) {
	a.Func("attnMixNEON", "p *float32, val *uint16, o *float32, alpha *float32, rows int, width int, n int",
		"writes o[rows][width] = o*alpha[rows] + p*V for p[rows][64] and V[n][width], of which n positions are added in order; width is a multiple of 16.")
	a.Args("p", "val", "o", "alpha", "rows", "width", "n")
	a.I("LSL $1, R5, R7 // bytes of a row of V")
	a.I("LSL $2, R5, R8 // and of o")
	a.Dispatch(4, func(rows int) {
		for _, cols := range neonColumns[rows] {
			neonMixColumns(a, rows, cols)
		}
	})
}

// neonMixColumns emits the loop over groups of cols registers of dimensions, of which R5 are left. V0 on: sums; V24 to
// V27: weights; V28 to V31: values.
func neonMixColumns(a Neon, rows, cols int) {
	name := fmt.Sprintf("r%dc%d", rows, cols)
	sums := func(f func(i, at int)) {
		a.I("MOVD R2, R9")
		for m := range rows {
			for n := range cols {
				f(m*cols+n, 16*n)
			}
			if m < rows-1 {
				a.I("ADD R8, R9")
			}
		}
	}
	a.L(name)
	a.I("CMP $%d, R5", 4*cols)
	a.I("BLT %send", name)
	a.Floats(24, rows, 3)
	sums(func(i, at int) {
		a.Get(i, at, 9)
		a.Lane(opFmulLane, i, i, 24+i/cols/4, i/cols%4)
	})
	a.I("MOVD R0, R10")
	a.I("MOVD R1, R11")
	a.I("MOVD R6, R12")
	a.I("CBZ R12, %sstore", name)
	a.Loop(name+"loop", 12, func() {
		neonMixPosition(a, rows, cols)
		a.Inc(10, 4)
		a.I("ADD R7, R11")
	})
	a.L(name + "store")
	sums(func(i, at int) { a.Put(i, at, 9) })
	a.Inc(2, 16*cols)
	a.Inc(1, 8*cols)
	a.I("SUB $%d, R5", 4*cols)
	a.I("B %s", name)
	a.L(name + "end")
}

// neonMixPosition adds the values of one position: weights from R10, values from R11.
func neonMixPosition(a Neon, rows, cols int) {
	weight := func(m, r int) { a.Get4(r, 4*pageLen*m, 10) }
	if rows > 3 { // keep all values
		a.Halves(28, 0, 11)
		a.Halves(30, 16, 11)
		for m := range rows {
			weight(m, 24+m%4)
			for n := range cols {
				a.Lane(opFmlaLane, m*cols+n, 28+n, 24+m%4, 0)
			}
		}
		return
	}
	for m := range rows { // keep all weights
		weight(m, 24+m)
	}
	for n := 0; n < cols; n += 2 {
		v := 28 + n%4
		a.Halves(v, 8*n, 11)
		for m := range rows {
			a.Lane(opFmlaLane, m*cols+n, v, 24+m, 0)
			a.Lane(opFmlaLane, m*cols+n+1, v+1, 24+m, 0)
		}
	}
}

// neonWeigh emits the step of the online softmax over a page.
func neonWeigh(a Neon) {
	a.Func("attnWeighNEON", "s *float32, sum *float32, high *float32, alpha *float32, rows int",
		"takes rows through one page of scores s[rows][64]: it raises the maxima high[rows], writes alpha[rows] = exp(old-high), replaces the scores by exp(s-high) and adds them to sum[rows][16]*alpha.")
	a.Args("s", "sum", "high", "alpha", "rows")
	a.I("MOVD R4, R5")
	a.Consts(cHigh)
	a.Step(5, func() {
		a.I("FMOVS (R2), F28")
		a.DupLane(0, 28)
		for i := 1; i < 4; i++ {
			a.Mov(i, 0)
		}
		for i := range 16 {
			a.Get(4+i%8, 16*i, 0)
			a.V3(opFmaxnm, i%4, i%4, 4+i%8)
		}
		a.V3(opFmaxnm, 0, 0, 1)
		a.V3(opFmaxnm, 2, 2, 3)
		a.V3(opFmaxnm, 0, 0, 2)
		a.V2(opFmaxnmv, 0, 0)
		a.I("FMOVS F0, (R2)")
		a.I("FMOVS F0, R4")
		a.I("FSUBS F0, F28, F0")
		a.Exps(0)
		a.I("FMOVS F0, (R3)")
		a.DupLane(0, 0)
		a.Gets(28, 1)
		a.Maps(opFmul, 28, 28, 0, true)
		for i := range 4 {
			for j := range 4 {
				a.Get(j, 64*i+16*j, 0)
			}
			neonExpStep(a)
			for j := range 4 {
				a.Put(j, 64*i+16*j, 0)
			}
		}
		a.Puts(28, 1)
	}, [2]int{0, 4 * pageLen}, [2]int{1, 64}, [2]int{2, 4}, [2]int{3, 4})
	a.Return()
}
