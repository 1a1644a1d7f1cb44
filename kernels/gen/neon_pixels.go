package main

import (
	"fmt"
	"math"
)

// The instructions that only pooling uses.
var (
	opFcmeq = op{"fcmeq d.4s, n.4s, m.4s", 0x4e20e400}
	opBif   = op{"bif d.16b, n.16b, m.16b", 0x6ee01c00} // where a bit of m is 0, d takes that of n
)

// neonCells emits sigmoid, tanh and the cells of recurrent networks, four elements at a time. V0 to V2, and what Exps needs for
// them, hold exponentials under way; V3, V7, V11 and V15 are free.
func neonCells(a Neon) {
	a.Func("sigmoidNEON", "x *float32, n int", "replaces 16*n elements by their sigmoid.")
	a.Args("x", "n")
	a.elements(1, func() {
		a.Get(0, 0, 0)
		a.toSigmoid(0)
		a.Exps(0)
		a.sigmoid(0)
		a.Put(0, 0, 0)
	}, 0)
	a.Func("tanhNEON", "x *float32, n int", "replaces 16*n elements by their hyperbolic tangent.")
	a.Args("x", "n")
	a.elements(1, func() {
		a.Get(3, 0, 0)
		a.toTanh(3, 0)
		a.Exps(0)
		a.tanh(3, 0)
		a.Put(0, 0, 0)
	}, 0)
	a.Func("sigmoidMulNEON", "y *float32, gt *float32, h *float32, n int", "writes sigmoid(gt)*h for 16*n elements.")
	a.Args("y", "gt", "h", "n")
	a.elements(3, func() {
		a.Get(0, 0, 1)
		a.toSigmoid(0)
		a.Exps(0)
		a.sigmoid(0)
		a.Get(3, 0, 2)
		a.V3(opFmul, 0, 0, 3)
		a.Put(0, 0, 0)
	}, 0, 1, 2)
	neonCellsRNN(a)
}

// elements emits the rest of a function whose count of 16 elements is in a register: constants, and a loop over 4 elements at a
// time, which moves pointers on.
func (a Neon) elements(count int, body func(), regs ...int) {
	a.Consts(cSign)
	a.I("LSL $2, R%d", count)
	var ptrs [][2]int
	for _, r := range regs {
		ptrs = append(ptrs, [2]int{r, 16})
	}
	a.Step(count, body, ptrs...)
	a.Return()
}

// neonCellsRNN emits the cells of LSTM and GRU.
func neonCellsRNN(a Neon) {
	a.Func("lstmNEON", "h *float32, c *float32, gates *float32, peep *float32, hidden int, n int",
		"does 16*n elements of an LSTM cell: gates stand hidden floats apart, and so do the peepholes, unless peep is nil.")
	a.Args("h", "c", "gates", "peep", "hidden", "n")
	a.I("LSL $2, R4")
	for _, p := range [][2]int{{2, 6}, {6, 7}, {7, 8}, {3, 9}, {9, 10}} {
		a.I("ADD R4, R%d, R%d", p[0], p[1])
	}
	a.elements(5, a.lstm, 0, 1, 2, 6, 7, 8)
	a.Func("gruBlendNEON", "h *float32, z *float32, x *float32, n int", "writes n + sigmoid(z)*(h-n) with n = tanh(x) for 16*n elements.")
	a.Args("h", "z", "x", "n")
	a.elements(3, func() {
		a.Get(0, 0, 1)
		a.Get(3, 0, 2)
		a.toSigmoid(0)
		a.toTanh(3, 2)
		a.Exps(0, 2)
		a.gruEnd()
	}, 0, 1, 2)
	a.Func("gruCellNEON", "h *float32, z *float32, rr *float32, x *float32, u *float32, n int", "writes n + sigmoid(z)*(h-n) with n = tanh(x + sigmoid(rr)*u) for 16*n elements.")
	a.Args("h", "z", "rr", "x", "u", "n")
	a.elements(5, func() {
		a.Get(0, 0, 1)
		a.Get(1, 0, 2)
		a.toSigmoid(0)
		a.toSigmoid(1)
		a.Exps(0, 1)
		a.sigmoid(1)
		a.Get(3, 0, 3)
		a.Get(7, 0, 4)
		a.V3(opFmla, 3, 1, 7)
		a.toTanh(3, 2)
		a.Exps(2)
		a.gruEnd()
	}, 0, 1, 2, 3, 4)
}

// gruEnd blends: the exponentials of z and of the hidden gate are in V0 and V2, that gate in V3, the state at R0.
func (a Neon) gruEnd() {
	a.sigmoid(0)
	a.tanh(3, 2)
	a.Get(7, 0, 0)
	a.V3(opFsub, 7, 7, 2)
	a.V3(opFmla, 2, 0, 7)
	a.Put(2, 0, 0)
}

// lstm emits four elements of an LSTM cell. R0: h, R1: the cell, R2, R6, R7, R8: gates i, o, f, c; R3, R9, R10: peepholes of
// i, o, f.
func (a Neon) lstm() {
	a.Get(0, 0, 2)
	a.Get(1, 0, 7)
	a.Get(3, 0, 8)
	a.Get(7, 0, 1)
	a.I("CBZ R3, first")
	a.Get(11, 0, 3)
	a.V3(opFmla, 0, 11, 7)
	a.Get(11, 0, 10)
	a.V3(opFmla, 1, 11, 7)
	a.L("first")
	a.toSigmoid(0)
	a.toSigmoid(1)
	a.toTanh(3, 2)
	a.Exps(0, 1, 2)
	a.sigmoid(0)
	a.sigmoid(1)
	a.tanh(3, 2)
	a.V3(opFmul, 11, 0, 2)
	a.V3(opFmla, 11, 1, 7)
	a.Put(11, 0, 1)
	a.Get(0, 0, 6)
	a.I("CBZ R3, second")
	a.Get(3, 0, 9)
	a.V3(opFmla, 0, 3, 11)
	for _, r := range []int{3, 9, 10} {
		a.Inc(r, 16)
	}
	a.L("second")
	a.toSigmoid(0)
	a.toTanh(11, 1)
	a.Exps(0, 1)
	a.sigmoid(0)
	a.tanh(11, 1)
	a.V3(opFmul, 0, 0, 1)
	a.Put(0, 0, 0)
}

// toSigmoid and toTanh make the argument of an exponential; toTanh leaves x as it is.
func (a Neon) toSigmoid(r int) {
	a.V2(opFneg, r, r)
	a.V3(opFmin, r, r, neonConst+cHigh)
}

func (a Neon) toTanh(x, r int) {
	a.V2(opFabs, r, x)
	a.V3(opFadd, r, r, r)
	a.V3(opFmin, r, r, neonConst+cHigh)
}

// sigmoid turns an exponential into the result.
func (a Neon) sigmoid(r int) {
	a.V3(opFadd, r, r, neonConst+cOne)
	a.V3(opFdiv, r, neonConst+cOne, r)
}

// tanh turns the exponential in r, and x, into tanh(x). V4, V8 and V29 to V31 are scratch.
func (a Neon) tanh(x, r int) {
	const size, z, t, p, q = 4, 8, 29, 30, 31
	words := tanhWords()
	a.V3(opFadd, r, r, neonConst+cOne)
	a.Words(t, words[cTwo])
	a.V3(opFdiv, r, t, r)
	a.V3(opFsub, r, neonConst+cOne, r)
	a.V2(opFabs, size, x)
	a.V3(opFmul, z, size, size)
	a.Words(p, words[cTanh4])
	from, to := p, q
	for _, c := range []int{cTanh3, cTanh2, cTanh1, cTanh0} {
		a.Words(to, words[c])
		a.V3(opFmla, to, from, z)
		from, to = to, from
	}
	a.V3(opFmul, z, size, z)
	a.Mov(to, size)
	a.V3(opFmla, to, z, from) // the result where |x| is small
	a.Words(t, words[cTanhLimit])
	a.V3(opFcmgt, t, t, size)
	a.V3(opBit, r, to, t)
	a.Words(t, 1<<31)
	a.V3(opAnd, t, t, x)
	a.V3(opOrr, r, r, t)
}

// neonPixels emits depthwise convolution and pooling, with lanes for channels. R0: a, R1: zero, R2: offsets, R3: taps left, R4:
// result, R5: its stride, R7: blocks left, R8: where a tap is, R9: weights or counts, R10: bias; V0 on: sums, four a row; V24
// to V27: weights; V28 and V29: floats.
func neonPixels(a Neon) {
	const most = 6
	for _, o := range []struct{ name, more, doc string }{
		{"depthNEON", ", w *float32, bias *float32, how int, low float32, high float32", "adds the products of taps and weights, w[blocks][taps][16], as gemm does."},
		{"maxTapsNEON", "", "takes the maximum of the taps from -Inf on; NaN if one is NaN."},
		{"meanTapsNEON", ", count *float32", "adds the taps from zero on and divides by count[rows]."},
	} {
		a.Func(o.name, pixelParams+o.more, o.doc)
		a.Args("a", "zero", "at", "taps", "y", "stride", "rows", "blocks")
		switch o.name {
		case "depthNEON":
			a.I("MOVD %s, R9", a.Arg("w"))
			a.I("MOVD %s, R10", a.Arg("bias"))
			a.I("MOVD %s, R11", a.Arg("how"))
		case "meanTapsNEON":
			a.I("MOVD %s, R9", a.Arg("count"))
		}
		for r := 2; r <= most; r++ {
			a.I("CMP $%d, R6", r)
			a.I("BEQ rows%d", r)
		}
		for rows := 1; rows <= most; rows++ {
			a.L(label("rows", rows))
			a.I("MOVD %s, R2", a.Arg("at"))
			a.I("MOVD %s, R3", a.Arg("taps"))
			neonPixelRows(a, o.name, rows)
			a.Inc(0, 64)
			a.Inc(4, 64)
			a.I("SUBS $1, R7")
			a.I("BNE rows%d", rows)
			a.Return()
		}
	}
}

// neonPixelRows emits a block of some rows.
func neonPixelRows(a Neon, name string, rows int) {
	results := func(f func(reg, at int)) {
		a.I("MOVD R4, R8")
		for i := range 4 * rows {
			if i > 0 && i%4 == 0 {
				a.I("ADD R5, R8")
			}
			f(i, i%4*16)
		}
	}
	neonPixelStart(a, name, rows)
	if name == "depthNEON" {
		a.Inc(10, 64)
		a.I("TBZ $0, R11, tap%d", rows)
		results(func(reg, at int) {
			a.Get(28, at, 8)
			a.V3(opFadd, reg, reg, 28)
		})
	}
	a.L(label("tap", rows))
	if name == "depthNEON" {
		a.Gets(24, 9)
		a.Inc(9, 64)
	}
	for r := range rows {
		a.I("MOVD.P 8(R2), R8")
		a.I("ADDS R0, R8")
		a.I("CSEL LT, R1, R8, R8")
		for q := range 4 {
			neonPixelTap(a, name, 4*r+q, 24+q, 16*q)
		}
	}
	a.I("SUBS $1, R3")
	a.I("BNE tap%d", rows)
	switch name {
	case "depthNEON":
		a.I("TBZ $1, R11, store%d", rows)
		a.Splats(24, "low")
		a.Splats(25, "high")
		for i := range 4 * rows {
			a.V3(opFcmgt, 28, 24, i)
			a.V3(opFcmgt, 29, i, 25)
			a.V3(opBit, i, 24, 28)
			a.V3(opBit, i, 25, 29)
		}
		a.L(label("store", rows))
	case "meanTapsNEON":
		for r := range rows {
			a.Splat(28, 4*r, 9)
			for q := range 4 {
				a.V3(opFdiv, 4*r+q, 4*r+q, 28)
			}
		}
	}
	results(func(reg, at int) { a.Put(reg, at, 8) })
}

// neonPixelStart sets the sums of a block.
func neonPixelStart(a Neon, name string, rows int) {
	for i := range 4 * rows {
		switch name {
		case "depthNEON":
			a.Get(i, i%4*16, 10)
		case "maxTapsNEON":
			a.Words(i, math.Float32bits(float32(math.Inf(-1))))
		default:
			a.Zero(i)
		}
	}
}

// neonPixelTap takes four floats at R8 into a sum.
func neonPixelTap(a Neon, name string, sum, weight, at int) {
	a.Get(28, at, 8)
	switch name {
	case "depthNEON":
		a.V3(opFmla, sum, 28, weight)
	case "maxTapsNEON":
		a.V3(opFcmgt, 29, 28, sum)
		a.V3(opBit, sum, 28, 29)
		a.V3(opFcmeq, 29, 28, 28)
		a.V3(opBif, sum, 28, 29)
	default:
		a.V3(opFadd, sum, sum, 28)
	}
}

// label is a label of its own for a number.
func label(name string, i int) string { return fmt.Sprintf("%s%d", name, i) }
