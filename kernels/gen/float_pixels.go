package main

import "fmt"

// pixelParams are the parameters of the kernels that treat each channel by itself: lanes are channels, blocks of 16 of
// them. Tap t of row r is at[t*rows+r] bytes after a, or at zero (the same 16 floats for all blocks) if that sum is
// negative; rows of the result stand stride bytes apart.
const pixelParams = "a *float32, zero *float32, at *int, taps int, y *float32, stride int, rows int, blocks int"

// A pixelOp is what is done with the taps: begin sets a sum, tap adds one, finish ends it.
type pixelOp struct {
	name, doc, more string // more: further parameters
	rows            int    // most rows at once
	prepare         func() // before the blocks
	block           func() // before each block
	begin           func(reg, half int)
	each            func() // before the rows of a tap
	tap             func(reg, half int, from string)
	finish          func(reg, half, row int)
	next            func() // after each block
}

// pixelKernels emits depthwise convolution and pooling. They are bound by loads, so AVX-512 uses these too.
func pixelKernels(a *Asm) {
	pixels(a, depthOp(a))
	pixels(a, maxOp(a))
	pixels(a, meanOp(a))
	depthRow(a)
	transpose8(a)
}

// depthOp has the weights of a tap in Y12 and Y13, and walks them at SI.
func depthOp(a *Asm) pixelOp {
	return pixelOp{
		name: "depthAVX2", more: ", w *float32, bias *float32, how int, low float32, high float32", rows: 6,
		doc:     "adds the products of taps and weights, w[blocks][taps][16], as gemm does.",
		prepare: func() { load(a, "w", "SI", "bias", "BX") },
		block:   func() {},
		begin:   func(reg, half int) { a.I("VMOVUPS %d(BX), Y%d", 32*half, reg) },
		each: func() {
			a.I("VMOVUPS (SI), Y12")
			a.I("VMOVUPS 32(SI), Y13")
			a.I("ADDQ $64, SI")
		},
		tap:    func(reg, half int, from string) { a.I("VFMADD231PS %s, Y%d, Y%d", from, 12+half, reg) },
		finish: func(int, int, int) {},
		next:   func() { a.I("ADDQ $64, BX") },
	}
}

// maxOp raises the result to what is larger; a tap that is NaN makes it NaN for good.
func maxOp(a *Asm) pixelOp {
	return pixelOp{
		name: "maxTapsAVX2", rows: 6, doc: "takes the maximum of the taps from -Inf on; NaN if one is NaN.",
		prepare: func() {
			a.I("MOVL $0xff800000, CX")
			a.I("VMOVD CX, X15")
			a.I("VBROADCASTSS X15, Y15")
		},
		block: func() {}, each: func() {}, next: func() {},
		begin: func(reg, _ int) { a.I("VMOVUPS Y15, Y%d", reg) },
		tap: func(reg, half int, from string) {
			a.I("VMOVUPS %s, Y%d", from, 12+half)
			a.I("VMAXPS Y%d, Y%d, Y%d", reg, 12+half, reg) // the sum if either is NaN or both are zero
			a.I("VCMPPS $3, Y%d, Y%d, Y%d", 12+half, 12+half, 12+half)
			a.I("VORPS Y%d, Y%d, Y%d", 12+half, reg, reg)
		},
		finish: func(int, int, int) {},
	}
}

// meanOp adds the taps and divides by a number for each row.
func meanOp(a *Asm) pixelOp {
	return pixelOp{
		name: "meanTapsAVX2", rows: 6, more: ", count *float32", doc: "adds the taps from zero on and divides by count[rows].",
		prepare: func() { a.Load("count", "SI") },
		block:   func() {}, each: func() {}, next: func() {},
		begin: func(reg, _ int) { a.I("VXORPS Y%d, Y%d, Y%[1]d", reg, reg) },
		tap:   func(reg, _ int, from string) { a.I("VADDPS %s, Y%d, Y%d", from, reg, reg) },
		finish: func(reg, half, row int) {
			if half == 0 {
				a.I("VBROADCASTSS %d(SI), Y12", 4*row)
			}
			a.I("VDIVPS Y12, Y%d, Y%d", reg, reg)
		},
	}
}

// pixels emits a kernel. R10: a, R11: zero, DX: offsets, CX: taps left, DI: result, R9: its stride, R12: blocks left.
func pixels(a *Asm, o pixelOp) {
	a.Func(o.name, pixelParams+o.more, o.doc)
	load(a, "a", "R10", "zero", "R11", "y", "DI", "stride", "R9", "blocks", "R12", "rows", "AX")
	o.prepare()
	for r := 2; r <= o.rows; r++ {
		a.I("CMPQ AX, $%d", r)
		a.I("JEQ rows%d", r)
	}
	for rows := 1; rows <= o.rows; rows++ {
		a.L(fmt.Sprintf("rows%d", rows))
		load(a, "at", "DX", "taps", "CX")
		o.block()
		for i := range 2 * rows {
			o.begin(i, i%2)
		}
		if o.more != "" && o.name == "depthAVX2" {
			pixelAdd(a, rows)
		}
		a.L(fmt.Sprintf("tap%d", rows))
		o.each()
		for r := range rows {
			reg := []string{"R8", "R13", "R14"}[r%3]
			a.I("MOVQ %d(DX), %s", 8*r, reg)
			a.I("ADDQ R10, %s", reg)
			a.I("CMOVQLT R11, %s", reg)
			o.tap(2*r, 0, "("+reg+")")
			o.tap(2*r+1, 1, "32("+reg+")")
		}
		a.I("ADDQ $%d, DX", 8*rows)
		a.I("DECQ CX")
		a.I("JNZ tap%d", rows)
		if o.name == "depthAVX2" {
			pixelClip(a, rows)
		}
		a.I("MOVQ DI, R8")
		for i := range 2 * rows {
			if i > 0 && i%2 == 0 {
				a.I("ADDQ R9, R8")
			}
			o.finish(i, i%2, i/2)
			a.I("VMOVUPS Y%d, %d(R8)", i, 32*(i%2))
		}
		o.next()
		a.I("ADDQ $64, R10")
		a.I("ADDQ $64, DI")
		a.I("DECQ R12")
		a.I("JNZ rows%d", rows)
		a.Ret()
	}
}

// pixelAdd adds the result so far if bit 0 of how is set.
func pixelAdd(a *Asm, rows int) {
	a.Load("how", "R8")
	a.I("TESTQ $1, R8")
	a.I("JEQ start%d", rows)
	a.I("MOVQ DI, R8")
	for i := range 2 * rows {
		if i > 0 && i%2 == 0 {
			a.I("ADDQ R9, R8")
		}
		a.I("VADDPS %d(R8), Y%d, Y%d", 32*(i%2), i, i)
	}
	a.L(fmt.Sprintf("start%d", rows))
}

// pixelClip brings the sums within low and high if bit 1 of how is set.
func pixelClip(a *Asm, rows int) {
	a.Load("how", "R8")
	a.I("TESTQ $2, R8")
	a.I("JEQ store%d", rows)
	a.I("VBROADCASTSS %s, Y14", a.Arg("low"))
	a.I("VBROADCASTSS %s, Y15", a.Arg("high"))
	for i := range 2 * rows {
		a.I("VMAXPS Y%d, Y14, Y%d", i, i)
		a.I("VMINPS Y%d, Y15, Y%d", i, i)
	}
	a.L(fmt.Sprintf("store%d", rows))
}

// transpose8 emits the transposition of 8 rows: 2x2 blocks of words, then of pairs, then of halves.
func transpose8(a *Asm) {
	a.Func("transpose8AVX2", "dst *float32, ldd int, src *float32, lds int, n int",
		"turns 8 rows of 8*n floats, lds bytes apart, into 8*n rows of 8, ldd bytes apart.")
	load(a, "dst", "DI", "ldd", "R9", "src", "SI", "lds", "R8", "n", "CX")
	a.I("LEAQ (R8)(R8*2), R10")
	a.I("LEAQ (R9)(R9*2), R11")
	rows := func(base, four, step, three string) [8]string {
		return [8]string{"(" + base + ")", "(" + base + ")(" + step + "*1)", "(" + base + ")(" + step + "*2)", "(" + base + ")(" + three + "*1)",
			"(" + four + ")", "(" + four + ")(" + step + "*1)", "(" + four + ")(" + step + "*2)", "(" + four + ")(" + three + "*1)"}
	}
	a.L("loop")
	a.I("LEAQ (SI)(R8*4), R12")
	a.I("LEAQ (DI)(R9*4), R13")
	for i, from := range rows("SI", "R12", "R8", "R10") {
		a.I("VMOVUPS %s, Y%d", from, i)
	}
	for i := 0; i < 8; i += 2 {
		a.I("VUNPCKLPS Y%d, Y%d, Y%d", i+1, i, 8+i)
		a.I("VUNPCKHPS Y%d, Y%d, Y%d", i+1, i, 9+i)
	}
	for i := 0; i < 8; i += 4 { // columns j and j+4 of four rows, for j from 0 to 3
		a.I("VSHUFPS $0x44, Y%d, Y%d, Y%d", 10+i, 8+i, i)
		a.I("VSHUFPS $0xee, Y%d, Y%d, Y%d", 10+i, 8+i, i+1)
		a.I("VSHUFPS $0x44, Y%d, Y%d, Y%d", 11+i, 9+i, i+2)
		a.I("VSHUFPS $0xee, Y%d, Y%d, Y%d", 11+i, 9+i, i+3)
	}
	to := rows("DI", "R13", "R9", "R11")
	for j := range 4 {
		a.I("VPERM2F128 $0x20, Y%d, Y%d, Y%d", 4+j, j, 8+j)
		a.I("VPERM2F128 $0x31, Y%d, Y%d, Y%d", 4+j, j, 12+j)
		a.I("VMOVUPS Y%d, %s", 8+j, to[j])
		a.I("VMOVUPS Y%d, %s", 12+j, to[4+j])
	}
	a.I("ADDQ $32, SI")
	a.I("LEAQ (DI)(R9*8), DI")
	a.I("DECQ CX")
	a.I("JNZ loop")
	a.Ret()
}

// depthRowShape is a kernel's width and its stride.
type depthRowShape struct{ width, stride int }

var depthRowShapes = []depthRowShape{{3, 1}, {3, 2}, {5, 1}, {5, 2}, {7, 1}, {7, 2}}

// depthRowPixels is how many results in a row are done at once.
const depthRowPixels = 4

// depthRow emits depthwise convolution of results in a row, all of whose taps along the width are inside: each float is loaded
// once for all results that it is in. R8: the floats, R9: bytes to the next pixel's, R10: a, R11: zero, R13: pix, R14: 0, DX:
// offsets, CX: rows of taps left, DI: result, SI: weights, BX: bias, R12: blocks left, R15: tiles left; Y0 on: sums, two a pixel; Y8 on: weights
// if there is room for them; Y14 and Y15: floats.
func depthRow(a *Asm) {
	a.Func("depthRowAVX2", "a *float32, zero *float32, at *int, rows int, pix int, y *float32, stride int, blocks int, w *float32, bias *float32, how int, low float32, high float32, shape int, tiles int, ahead int",
		"adds the products of rows of taps and weights, w[blocks][rows][width][16], for blocks of 16 channels; row i begins at[i] bytes after a, or is zero if that sum is negative; pixels are pix bytes apart, results stride. So many tiles of 4 results are done, the floats of each ahead bytes behind those before.")
	load(a, "zero", "R11", "pix", "R13", "tiles", "R15", "shape", "AX")
	a.I("XORL R14, R14")
	for i := 1; i < len(depthRowShapes); i++ {
		a.I("CMPQ AX, $%d", i)
		a.I("JEQ shape%d", i)
	}
	for i, s := range depthRowShapes {
		a.L(fmt.Sprintf("shape%d", i))
		load(a, "a", "R10", "y", "DI", "w", "SI", "bias", "BX", "blocks", "R12")
		depthRowBody(a, s, i)
		a.I("DECQ R12")
		a.I("JNZ block%d", i)
		load(a, "a", "R10", "y", "DI", "stride", "R9")
		a.I("ADDQ %s, R10", a.Arg("ahead"))
		a.I("LEAQ (DI)(R9*%d), DI", depthRowPixels)
		a.I("MOVQ R10, %s", a.Arg("a"))
		a.I("MOVQ DI, %s", a.Arg("y"))
		a.I("DECQ R15")
		a.I("JNZ shape%d", i)
		a.Ret()
	}
}

func depthRowBody(a *Asm, s depthRowShape, id int) {
	result := func(f func(reg, at int)) {
		a.Load("stride", "R9")
		a.I("MOVQ DI, R8")
		for r := range depthRowPixels {
			if r > 0 {
				a.I("ADDQ R9, R8")
			}
			f(2*r, 0)
			f(2*r+1, 32)
		}
	}
	a.L(fmt.Sprintf("block%d", id))
	load(a, "at", "DX", "rows", "CX", "how", "AX")
	for r := range 2 * depthRowPixels {
		a.I("VMOVUPS %d(BX), Y%d", r%2*32, r)
	}
	a.I("TESTQ $1, AX")
	a.I("JEQ row%d", id)
	result(func(reg, at int) { a.I("VADDPS %d(R8), Y%d, Y%d", at, reg, reg) })
	a.L(fmt.Sprintf("row%d", id))
	a.I("MOVQ (DX), R8")
	a.I("MOVQ R13, R9")
	a.I("ADDQ R10, R8")
	a.I("CMOVQLT R11, R8")
	a.I("CMOVQLT R14, R9")
	depthRowTaps(a, s)
	a.I("ADDQ $%d, SI", 64*s.width)
	a.I("ADDQ $8, DX")
	a.I("DECQ CX")
	a.I("JNZ row%d", id)
	a.I("TESTQ $2, AX")
	a.I("JEQ put%d", id)
	a.I("VBROADCASTSS %s, Y8", a.Arg("low"))
	a.I("VBROADCASTSS %s, Y9", a.Arg("high"))
	for r := range 2 * depthRowPixels {
		a.I("VMAXPS Y%d, Y8, Y%d", r, r)
		a.I("VMINPS Y%d, Y9, Y%d", r, r)
	}
	a.L(fmt.Sprintf("put%d", id))
	result(func(reg, at int) { a.I("VMOVUPS Y%d, %d(R8)", reg, at) })
	for _, r := range []string{"R10", "DI", "BX"} {
		a.I("ADDQ $64, %s", r)
	}
}

// depthRowTaps emits the products of a row of taps.
func depthRowTaps(a *Asm, s depthRowShape) {
	weight := func(k, half int) string { return fmt.Sprintf("%d(SI)", 64*k+32*half) }
	if s.width == 3 {
		for i := range 6 {
			a.I("VMOVUPS %s, Y%d", weight(i/2, i%2), 8+i)
		}
		weight = func(k, half int) string { return fmt.Sprintf("Y%d", 8+2*k+half) }
	}
	last := (depthRowPixels-1)*s.stride + s.width - 1
	for x := range last + 1 {
		a.I("VMOVUPS (R8), Y14")
		a.I("VMOVUPS 32(R8), Y15")
		if x < last {
			a.I("ADDQ R9, R8")
		}
		for r := range depthRowPixels {
			if k := x - r*s.stride; k >= 0 && k < s.width {
				for half := range 2 {
					a.I("VFMADD231PS %s, Y%d, Y%d", weight(k, half), 14+half, 2*r+half)
				}
			}
		}
	}
}
