package main

import "fmt"

// The constants of tanh32, in the order of tanhTable. They are those of rnn_math.go in package kernels, which says what they
// mean.
const (
	cTanh4 = iota
	cTanh3
	cTanh2
	cTanh1
	cTanh0
	cTanhLimit
	cTwo
	cTanhCount
)

func tanhWords() [cTanhCount]uint32 {
	return [cTanhCount]uint32{
		cTanh4: bits(-0.005697375163435936), cTanh3: bits(0.020632537081837654), cTanh2: bits(-0.05373779311776161),
		cTanh1: bits(0.13331420719623566), cTanh0: bits(-0.3333328068256378), cTanhLimit: bits(0.625), cTwo: bits(2),
	}
}

// tanhTable emits the constants, each eight times.
func tanhTable(a *Asm) {
	var words []uint32
	for _, c := range tanhWords() {
		for range 8 {
			words = append(words, c)
		}
	}
	a.Data("tanhConst", words...)
}

// cellKernels emits sigmoid, tanh and the cells of recurrent networks.
func cellKernels(a *Asm) {
	expTable(a)
	tanhTable(a)
	for _, v := range []isa{avx2, avx512} {
		c := cell{a, v}
		c.maps()
		c.lstm()
		c.gru()
	}
}

// cell emits cells. Registers 0 to 11 hold up to three exponentials under way and what they need; 12 and, with AVX-512,
// 30 and 31 are free; 13, 14 and 15 are the bound of exp32's arguments, one and two.
type cell struct {
	*Asm
	v isa
}

func (c cell) consts() {
	expConsts(c.Asm, c.v)
	for i, con := range []string{fmt.Sprintf("expConst<>+%d(SB)", 32*cHigh), fmt.Sprintf("expConst<>+%d(SB)", 32*cOne), fmt.Sprintf("tanhConst<>+%d(SB)", 32*cTwo)} {
		c.I("VBROADCASTSS %s, %s", con, c.v.r(13+i))
	}
}

// op emits an instruction whose first operand is a constant of tanhTable.
func (c cell) op(name string, con int, regs ...int) {
	bcst, text := "", ""
	if c.v == avx512 {
		bcst = ".BCST"
	}
	for _, r := range regs {
		text += ", " + c.v.r(r)
	}
	c.I("%s%s tanhConst<>+%d(SB)%s", name, bcst, 32*con, text)
}

// get and put move a register from and to memory.
func (c cell) get(from string, r int) { c.I("VMOVUPS %s, %s", from, c.v.r(r)) }
func (c cell) put(r int, to string)   { c.I("VMOVUPS %s, %s", c.v.r(r), to) }

// three emits dst = a op b (Go's order: b first).
func (c cell) three(op string, b, a, dst int) {
	c.I("%s %s, %s, %s", op, c.v.r(b), c.v.r(a), c.v.r(dst))
}

// toSigmoid turns x in a register into the argument of its exponential.
func (c cell) toSigmoid(r int) {
	c.I("VXORPS %s, %s, %s", c.v.con(cSign), c.v.r(r), c.v.r(r))
	c.three("VMINPS", r, 13, r) // the first operand if it is NaN
}

// sigmoid turns the exponential into the result.
func (c cell) sigmoid(r int) {
	c.three("VADDPS", r, 14, r)
	c.three("VDIVPS", r, 14, r)
}

// toTanh makes the argument of the exponential for tanh of x.
func (c cell) toTanh(x, r int) {
	c.I("VANDPS %s, %s, %s", c.v.con(cSign), c.v.r(x), c.v.r(r))
	c.three("VXORPS", x, r, r) // |x|
	c.three("VADDPS", r, r, r)
	c.three("VMINPS", r, 13, r)
}

// tanh turns the exponential in r, and x, into tanh(x); r+1 to r+3 are scratch.
func (c cell) tanh(x, r int) {
	size, z, p := r+1, r+2, r+3
	sign := func() { c.I("VANDPS %s, %s, %s", c.v.con(cSign), c.v.r(x), c.v.r(size)) }
	c.three("VADDPS", r, 14, r)
	c.three("VDIVPS", r, 15, r)
	c.three("VSUBPS", r, 14, r)
	sign()
	c.three("VXORPS", x, size, size) // |x|
	c.three("VMULPS", size, size, z)
	if c.v == avx512 {
		c.I("VBROADCASTSS tanhConst<>+%d(SB), %s", 32*cTanh4, c.v.r(p))
	} else {
		c.get(fmt.Sprintf("tanhConst<>+%d(SB)", 32*cTanh4), p)
	}
	for _, con := range []int{cTanh3, cTanh2, cTanh1, cTanh0} {
		c.op("VFMADD213PS", con, z, p)
	}
	c.three("VMULPS", size, z, z)
	c.three("VFMADD213PS", size, z, p) // the result where |x| is small
	if c.v == avx512 {
		c.I("VCMPPS.BCST $0x15, tanhConst<>+%d(SB), %s, K4", 32*cTanhLimit, c.v.r(size))
		c.I("VBLENDMPS %s, %s, K4, %s", c.v.r(r), c.v.r(p), c.v.r(r))
	} else {
		c.I("VCMPPS $0x15, tanhConst<>+%d(SB), %s, %s", 32*cTanhLimit, c.v.r(size), c.v.r(size))
		c.I("VBLENDVPS %s, %s, %s, %s", c.v.r(size), c.v.r(r), c.v.r(p), c.v.r(r))
	}
	sign()
	c.three("VXORPS", size, r, r)
}

// vectors emits a loop over registers of elements: CX counts steps of 16. Pointers move by a register.
func (c cell) vectors(body func(), regs ...string) {
	if c.v == avx2 {
		c.I("ADDQ CX, CX")
	}
	var ptrs []ptr
	for _, r := range regs {
		ptrs = append(ptrs, ptr{r, c.v.size()})
	}
	steps(c.Asm, body, ptrs...)
	c.Ret()
}

// maps emits sigmoid and tanh of a vector, and the product of a sigmoid with another.
func (c cell) maps() {
	c.Func("sigmoidMul"+c.v.name, "y *float32, gt *float32, h *float32, n int", "writes sigmoid(gt)*h for 16*n elements.")
	load(c.Asm, "y", "DI", "gt", "SI", "h", "DX", "n", "CX")
	c.consts()
	c.vectors(func() {
		c.get("(SI)", 0)
		c.toSigmoid(0)
		exps(c.Asm, c.v, 0)
		c.sigmoid(0)
		c.I("VMULPS (DX), %s, %s", c.v.r(0), c.v.r(0))
		c.put(0, "(DI)")
	}, "DI", "SI", "DX")

	c.Func("sigmoid"+c.v.name, "x *float32, n int", "replaces 16*n elements by their sigmoid.")
	load(c.Asm, "x", "DI", "n", "CX")
	c.consts()
	c.pairs(c.toSigmoid, c.sigmoid)

	c.Func("tanh"+c.v.name, "x *float32, n int", "replaces 16*n elements by their hyperbolic tangent.")
	load(c.Asm, "x", "DI", "n", "CX")
	c.consts()
	x := func(r int) int { return []int{8, 12}[r/4] }
	c.pairs(func(r int) {
		c.three("VORPS", r, r, x(r))
		c.toTanh(x(r), r)
	}, func(r int) { c.tanh(x(r), r) })
}

// pairs emits a loop that replaces elements, two registers at a time with AVX2.
func (c cell) pairs(to, from func(r int)) {
	x := []int{0, 4}[:c.v.per()]
	steps(c.Asm, func() {
		for i, r := range x {
			c.get(fmt.Sprintf("%d(DI)", i*c.v.size()), r)
			to(r)
		}
		exps(c.Asm, c.v, x...)
		for i, r := range x {
			from(r)
			c.put(r, fmt.Sprintf("%d(DI)", i*c.v.size()))
		}
	}, ptr{"DI", 64})
	c.Ret()
}

// lstm emits the cell of an LSTM. SI, R9, R10, R11: gates i, o, f, c; DI: h; DX: the cell; R12, R13, R14: peepholes of
// i, o, f.
func (c cell) lstm() {
	c.Func("lstm"+c.v.name, "h *float32, c *float32, gates *float32, peep *float32, hidden int, n int",
		"does 16*n elements of an LSTM cell: gates stand hidden floats apart, and so do the peepholes, unless peep is nil.")
	load(c.Asm, "h", "DI", "c", "DX", "gates", "SI", "peep", "R12", "hidden", "R8", "n", "CX")
	for _, p := range [][3]string{{"SI", "R9", "R10"}, {"R12", "R13", "R14"}} {
		c.I("LEAQ (%s)(R8*4), %s", p[0], p[1])
		c.I("LEAQ (%s)(R8*4), %s", p[1], p[2])
	}
	c.I("LEAQ (R10)(R8*4), R11")
	c.consts()
	c.vectors(func() {
		c.get("(SI)", 0)
		c.get("(R10)", 4)
		c.get("(R11)", 12)
		c.I("TESTQ R12, R12")
		c.I("JEQ first")
		c.get("(DX)", 8)
		c.I("VFMADD231PS (R12), %s, %s", c.v.r(8), c.v.r(0))
		c.I("VFMADD231PS (R14), %s, %s", c.v.r(8), c.v.r(4))
		c.L("first")
		c.toSigmoid(0)
		c.toSigmoid(4)
		c.toTanh(12, 8)
		exps(c.Asm, c.v, 0, 4, 8)
		c.sigmoid(0)
		c.sigmoid(4)
		c.tanh(12, 8)
		c.three("VMULPS", 8, 0, 12)
		c.I("VFMADD231PS (DX), %s, %s", c.v.r(4), c.v.r(12))
		c.put(12, "(DX)")
		c.get("(R9)", 0)
		c.I("TESTQ R12, R12")
		c.I("JEQ second")
		c.I("VFMADD231PS (R13), %s, %s", c.v.r(12), c.v.r(0))
		for _, r := range []string{"R12", "R13", "R14"} {
			c.I("ADDQ $%d, %s", c.v.size(), r)
		}
		c.L("second")
		c.toSigmoid(0)
		c.toTanh(12, 4)
		exps(c.Asm, c.v, 0, 4)
		c.sigmoid(0)
		c.tanh(12, 4)
		c.three("VMULPS", 4, 0, 0)
		c.put(0, "(DI)")
	}, "DI", "DX", "SI", "R9", "R10", "R11")
}

// gru emits the cells of a GRU. DI: h; SI: gate z; R9: gate r; DX: the hidden gate's input part; R10: its recurrent part.
func (c cell) gru() {
	end := func() { // exponentials of z and of the hidden gate are in 0 and 8; that gate in 12
		c.sigmoid(0)
		c.tanh(12, 8)
		c.get("(DI)", 4)
		c.three("VSUBPS", 8, 4, 4)
		c.three("VFMADD213PS", 8, 4, 0) // z*(h-n) + n
		c.put(0, "(DI)")
	}
	c.Func("gruBlend"+c.v.name, "h *float32, z *float32, x *float32, n int", "writes n + sigmoid(z)*(h-n) with n = tanh(x) for 16*n elements.")
	load(c.Asm, "h", "DI", "z", "SI", "x", "DX", "n", "CX")
	c.consts()
	c.vectors(func() {
		c.get("(SI)", 0)
		c.get("(DX)", 12)
		c.toSigmoid(0)
		c.toTanh(12, 8)
		exps(c.Asm, c.v, 0, 8)
		end()
	}, "DI", "SI", "DX")

	c.Func("gruCell"+c.v.name, "h *float32, z *float32, rr *float32, x *float32, u *float32, n int", "writes n + sigmoid(z)*(h-n) with n = tanh(x + sigmoid(rr)*u) for 16*n elements.")
	load(c.Asm, "h", "DI", "z", "SI", "rr", "R9", "x", "DX", "u", "R10", "n", "CX")
	c.consts()
	c.vectors(func() {
		c.get("(SI)", 0)
		c.get("(R9)", 4)
		c.toSigmoid(0)
		c.toSigmoid(4)
		exps(c.Asm, c.v, 0, 4)
		c.sigmoid(4)
		c.get("(DX)", 12)
		c.I("VFMADD231PS (R10), %s, %s", c.v.r(4), c.v.r(12))
		c.toTanh(12, 8)
		exps(c.Asm, c.v, 8)
		end()
	}, "DI", "SI", "R9", "DX", "R10")
}
