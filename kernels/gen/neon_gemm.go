package main

import "fmt"

// floatKernelsNeon emits the products of float weights with rows in place, for each type.
func floatKernelsNeon(a *Asm) {
	for _, typ := range []string{"F32", "F16", "BF16"} {
		neonGemm(Neon{a}, typ)
	}
	n := Neon{a}
	neonPixels(n)
	neonCells(n)
	n.Func("fmaPeakNEON", "n int", "does 12*n multiply-adds of whole registers.")
	n.Args("n")
	for i := range 14 {
		n.Zero(i)
	}
	n.Step(0, func() {
		for i := range 12 {
			n.V3(opFmla, i, 12, 13)
		}
	})
	n.Return()
}

// neonGemmTiles are the shapes of NEON's kernels: sums, weights and floats of a tile fill at most 32 registers.
var neonGemmTiles = []gemmTile{{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}, {1, 4}, {2, 2}}

// Registers of the kernels: the parameters in gemmArgs from R0 on, rows from R8 on, panels of weights from R20 on.
const (
	gemmRows   = 8
	gemmPanels = 20
)

// neonGemm emits the kernel of a type. V0 on: sums; V20 on: floats of the rows; V26 to V29: weights.
func neonGemm(a Neon, typ string) {
	a.Func("gemm"+typ+"NEON", gemmParams, "multiplies rows with panels of "+typ+"; see floatCall.")
	a.Args("a", "zero", "at", "taps", "k", "wstep", "y", "stride") // taps again for each tile
	for _, p := range [][2]string{{"bias", "R14"}, {"how", "R19"}, {"shape", "R15"}, {"tiles", "R24"}, {"skip", "R25"}} {
		a.I("MOVD %s, %s", a.Arg(p[0]), p[1])
	}
	for i := 1; i < len(neonGemmTiles); i++ {
		a.I("CMP $%d, R15", i)
		a.I("BEQ tile%d", i)
	}
	for i, t := range neonGemmTiles {
		a.L(fmt.Sprintf("tile%d", i))
		neonGemmTile(a, typ, t, fmt.Sprint(i))
	}
}

// neonGemmTile emits the work of a tile; id tells its labels from those of others.
func neonGemmTile(a Neon, typ string, t gemmTile, id string) {
	a.L("tiles" + id)
	neonGemmStart(a, t, id)
	a.I("MOVD %s, R%d", a.Arg("w"), gemmPanels)
	a.I("MOVD %s, R3", a.Arg("taps"))
	for p := 1; p < t.panels; p++ {
		a.I("ADD R5, R%d, R%d", gemmPanels+p-1, gemmPanels+p)
	}
	size := 16 * floatSize(typ)
	column := func(k, lane int) {
		for p := range t.panels {
			neonWeights(a, typ, k*size, gemmPanels+p)
			for r := range t.rows {
				for q := range 4 {
					a.Lane(opFmlaLane, 4*(r*t.panels+p)+q, 26+q, 20+r, lane)
				}
			}
		}
	}
	step := func(n int) {
		for p := range t.panels {
			a.Inc(gemmPanels+p, n*size)
		}
		for r := range t.rows {
			a.Inc(gemmRows+r, 4*n)
		}
	}
	a.L("tap" + id)
	for r := range t.rows {
		a.I("MOVD.P 8(R2), R%d", gemmRows+r)
		a.I("ADDS R0, R%d", gemmRows+r)
		a.I("CSEL LT, R1, R%d, R%[1]d", gemmRows+r)
	}
	a.I("SUBS $4, R4, R13")
	a.I("BLT rest%s", id)
	a.L("four" + id)
	for r := range t.rows {
		a.Get(20+r, 0, gemmRows+r)
	}
	for k := range 4 {
		column(k, k)
	}
	step(4)
	a.I("SUBS $4, R13")
	a.I("BGE four%s", id)
	a.L("rest" + id)
	a.I("ADDS $4, R13")
	a.I("BEQ next%s", id)
	a.Loop("one"+id, 13, func() {
		for r := range t.rows {
			a.Get4(20+r, 0, gemmRows+r)
		}
		column(0, 0)
		step(1)
	})
	a.L("next" + id)
	a.I("SUBS $1, R3")
	a.I("BNE tap%s", id)
	neonGemmEnd(a, t, id)
}

// neonGemmSums calls f for each register of sums, with its place from R13 on, which walks the rows of the result.
func neonGemmSums(a Neon, t gemmTile, f func(reg, at int)) {
	a.I("MOVD R6, R13")
	n := 4 * t.panels
	for r := range t.rows {
		if r > 0 {
			a.I("ADD R7, R13")
		}
		for i := range n {
			f(r*n+i, 16*i)
		}
	}
}

// neonGemmStart sets the sums.
func neonGemmStart(a Neon, t gemmTile, id string) {
	for i := range 4 * t.panels * t.rows {
		a.Get(i, 16*(i%(4*t.panels)), 14)
	}
	a.I("TBZ $0, R19, start%s", id)
	neonGemmSums(a, t, func(reg, at int) {
		a.Get(26, at, 13)
		a.V3(opFadd, reg, reg, 26)
	})
	a.L("start" + id)
}

// neonGemmEnd bounds the sums and stores them.
func neonGemmEnd(a Neon, t gemmTile, id string) {
	a.I("TBZ $1, R19, store%s", id)
	a.Splats(26, "low")
	a.Splats(27, "high")
	for i := range 4 * t.panels * t.rows {
		a.V3(opFcmgt, 28, 26, i)
		a.V3(opFcmgt, 29, i, 27)
		a.V3(opBit, i, 26, 28)
		a.V3(opBit, i, 27, 29)
	}
	a.L("store" + id)
	neonGemmSums(a, t, func(reg, at int) { a.Put(reg, at, 13) })
	a.I("ADD R7, R13, R6")
	a.I("ADD R25, R2")
	a.I("SUBS $1, R24")
	a.I("BNE tiles%s", id)
	a.Return()
}

// neonWeights loads a column of a panel of float weights to V26 ... V29.
func neonWeights(a Neon, typ string, at, reg int) {
	if typ == "F32" {
		for q := range 4 {
			a.Get(26+q, at+16*q, reg)
		}
		return
	}
	lo, hi := opFcvtl, opFcvtl2
	if typ == "BF16" {
		lo, hi = opShll, opShll2
	}
	for q := 0; q < 4; q += 2 {
		a.Get(27+q, at+8*q, reg)
		a.V2(lo, 26+q, 27+q)
		a.V2(hi, 27+q, 27+q)
	}
}
