package main

import "fmt"

// neonFloat emits the kernel for a float type and returns its name. Results: V0 on, four a row; the
// activations of four columns of a row, or of one: V20 + row; weights: V26 to V29.
func neonFloat(a Neon, typ string, t int) string {
	name := fmt.Sprintf("mul%sx%dNEON", typ, t)
	a.Func(name, floatParams, fmt.Sprintf("multiplies a panel with %d rows of activations.", t))
	a.Args("w", "x", "step", "y", "stride", "cols")
	const x = 6 // R6 on: the rows of activations
	a.I("MOVD R1, R%d", x)
	for r := 1; r < t; r++ {
		a.I("ADD R2, R%d, R%d", x+r-1, x+r)
	}
	for i := range 4 * t {
		a.Zero(i)
	}
	size := floatSize(typ)
	step := func(n int) {
		a.Inc(0, 16*size*n)
		for r := range t {
			a.Inc(x+r, 4*n)
		}
	}
	column := func(k int) {
		neonColumn(a, typ, 16*size*k)
		for r := range t {
			for g := range 4 {
				a.Lane(opFmlaLane, 4*r+g, 26+g, 20+r, k)
			}
		}
	}
	a.I("SUBS $4, R5")
	a.I("BLT rest")
	a.L("four")
	for r := range t {
		a.Get(20+r, 0, x+r)
	}
	for k := range 4 {
		column(k)
	}
	step(4)
	a.I("SUBS $4, R5")
	a.I("BGE four")
	a.L("rest")
	a.I("ADDS $4, R5")
	a.I("BEQ done")
	a.Loop("one", 5, func() {
		for r := range t {
			a.Get4(20+r, 0, x+r)
		}
		column(0)
		step(1)
	})
	a.L("done")
	for r := range t {
		for g := range 4 {
			a.Put(4*r+g, 16*g, 3)
		}
		if r < t-1 {
			a.I("ADD R4, R3")
		}
	}
	a.Return()
	return name
}

// neonColumn loads a column of a panel of float weights to V26 ... V29.
func neonColumn(a Neon, typ string, at int) {
	if typ == "F32" {
		for g := range 4 {
			a.Get(26+g, at+16*g, 0)
		}
		return
	}
	lo, hi := opFcvtl, opFcvtl2
	if typ == "BF16" {
		lo, hi = opShll, opShll2
	}
	for g := 0; g < 4; g += 2 {
		a.Get(27+g, at+8*g, 0)
		a.V2(lo, 26+g, 27+g)
		a.V2(hi, 27+g, 27+g)
	}
}

// neonQuantizeRow emits the quantising of one row of activations, with sums as generic Go has them.
// The largest magnitude is found among the bits as integers, which puts infinities and NaN on top.
func neonQuantizeRow(a Neon) {
	a.Func("quantizeRowNEON", "x *float32, q *int8, f *float32, n *int32, h *int32, rows int, blocks int",
		"quantises the blocks of one row of activations in a tile of rows rows.")
	a.Args("x", "q", "f", "n", "h", "rows", "blocks")
	a.I("LSL $2, R5, R7 // bytes of a block of n, and half of one of f and h")
	a.I("LSL $5, R5 // bytes of a block of q")
	a.Words(28, 0x3c010204) // 1/127
	a.Words(29, 0x42fe0000) // 127
	a.Loop("block", 6, func() {
		for i := range 8 {
			a.Get(i, 16*i, 0)
		}
		for i := range 8 {
			a.V2(opFabs, 8+i, i)
		}
		for n := 4; n > 0; n /= 2 {
			for i := range n {
				a.V3(opUmax, 8+i, 8+i, 8+i+n)
			}
		}
		a.V2(opUmaxv, 8, 8)
		a.I("FMOVS F8, R8 // the largest magnitude's bits")
		a.I("MOVW $%#x, R9", 0x7f800000)
		a.I("CMPW R9, R8")
		a.I("BGE nan")
		a.I("MOVW $%#x, R9 // 2^-100", 27<<23)
		a.I("CMPW R9, R8")
		a.I("BLT zero")
		neonQuantizeBlock(a)
		a.L("next")
		a.Inc(0, 128)
		a.I("ADD R5, R1")
		a.I("ADD R7<<1, R2")
		a.I("ADD R7, R3")
		a.I("ADD R7<<1, R4")
	})
	a.Return()

	a.L("nan")
	a.I("MOVW $%#x, R8", 0x7fc00000)
	a.I("B put")
	a.L("zero")
	a.I("MOVW ZR, R8")
	a.L("put")
	a.Zero(0)
	a.Put(0, 0, 1)
	a.Put(0, 16, 1)
	a.I("MOVW R8, (R2)")
	a.I("MOVW R8, (R2)(R7)")
	a.I("MOVW ZR, (R3)")
	a.I("MOVW ZR, (R4)")
	a.I("MOVW ZR, (R4)(R7)")
	a.I("B next")
}

// neonQuantizeBlock quantises the block in V0 ... V7 and stores it with its scale and sums.
func neonQuantizeBlock(a Neon) {
	a.I("FMULS F28, F8, F9 // d")
	a.I("FDIVS F8, F29, F8")
	a.DupLane(8, 8)
	for i := range 8 {
		a.V3(opFmul, i, i, 8)
		a.V2(opFcvtns, i, i)
	}
	for i := 0; i < 8; i += 2 {
		a.V2(opXtn32, i, i)
		a.V2(opXtn32hi, i, i+1)
	}
	for i := 0; i < 8; i += 4 {
		a.V2(opXtn16, i, i)
		a.V2(opXtn16hi, i, i+2)
		a.Put(i, 4*i, 1)
		a.V2(opSaddlv, i, i)
		a.word(0x0e022c00|uint32(i)<<5|uint32(8+i/4), fmt.Sprintf("smov w%d, v%d.h[0]", 8+i/4, i))
	}
	a.I("ADDW R9, R8, R15")
	a.I("SCVTFWS R15, F10")
	a.I("FMULS F9, F10, F10")
	a.I("FMOVS F9, (R2)")
	a.I("ADD R7, R2, R16")
	a.I("FMOVS F10, (R16)")
	for _, r := range []int{15, 8, 9} {
		a.I("NEGW R%d, R%d", r, r)
	}
	a.I("MOVW R15, (R3)")
	a.I("MOVW R8, (R4)")
	a.I("MOVW R9, (R4)(R7)")
}
