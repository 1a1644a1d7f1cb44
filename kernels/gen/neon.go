package main

import (
	"fmt"
	"strings"
)

// Neon emits arm64 functions. Go's assembler knows few vector instructions, so most are encoded here
// (Arm Architecture Reference Manual, chapter C7) and written as words, with their text in Arm's syntax
// beside them: destination first. Loads and stores are Go's.
type Neon struct{ *Asm }

// op is a vector instruction: its name, the arrangements of its operands, and its bits without registers.
type op struct {
	text string // with d, n, m for the registers
	bits uint32
}

// The instructions in use. Their operands are registers d, n and m, or d and n.
var (
	opAnd      = op{"and d.16b, n.16b, m.16b", 0x4e201c00}
	opBic      = op{"bic d.16b, n.16b, m.16b", 0x4e601c00}
	opBit      = op{"bit d.16b, n.16b, m.16b", 0x6ea01c00} // where a bit of m is 1, d takes that of n
	opEor      = op{"eor d.16b, n.16b, m.16b", 0x6e201c00}
	opOrr      = op{"orr d.16b, n.16b, m.16b", 0x4ea01c00}
	opAdd      = op{"add d.4s, n.4s, m.4s", 0x4ea08400}
	opMul      = op{"mul d.4s, n.4s, m.4s", 0x4ea09c00}
	opMla      = op{"mla d.4s, n.4s, m.4s", 0x4ea09400}
	opSub8     = op{"sub d.16b, n.16b, m.16b", 0x6e208400}
	opZip1s    = op{"zip1 d.4s, n.4s, m.4s", 0x4e803800}
	opZip2s    = op{"zip2 d.4s, n.4s, m.4s", 0x4e807800}
	opZip1d    = op{"zip1 d.2d, n.2d, m.2d", 0x4ec03800}
	opZip2d    = op{"zip2 d.2d, n.2d, m.2d", 0x4ec07800}
	opSmmla    = op{"smmla d.4s, n.16b, m.16b", 0x4e80a400} // needs i8mm
	opAddp16   = op{"addp d.8h, n.8h, m.8h", 0x4e60bc00}
	opAddp32   = op{"addp d.4s, n.4s, m.4s", 0x4ea0bc00}
	opTbl      = op{"tbl d.16b, {n.16b}, m.16b", 0x4e000000} // bytes of n by the numbers in m
	opUmax     = op{"umax d.4s, n.4s, m.4s", 0x6ea06400}
	opSmull    = op{"smull d.8h, n.8b, m.8b", 0x0e20c000}
	opSmull2   = op{"smull2 d.8h, n.16b, m.16b", 0x4e20c000}
	opSmlal    = op{"smlal d.8h, n.8b, m.8b", 0x0e208000}
	opSmlal2   = op{"smlal2 d.8h, n.16b, m.16b", 0x4e208000}
	opFadd     = op{"fadd d.4s, n.4s, m.4s", 0x4e20d400}
	opFsub     = op{"fsub d.4s, n.4s, m.4s", 0x4ea0d400}
	opFmul     = op{"fmul d.4s, n.4s, m.4s", 0x6e20dc00}
	opFdiv     = op{"fdiv d.4s, n.4s, m.4s", 0x6e20fc00}
	opFmla     = op{"fmla d.4s, n.4s, m.4s", 0x4e20cc00}
	opFmin     = op{"fmin d.4s, n.4s, m.4s", 0x4ea0f400}   // NaN if one is NaN
	opFmax     = op{"fmax d.4s, n.4s, m.4s", 0x4e20f400}   // the same
	opFmaxnm   = op{"fmaxnm d.4s, n.4s, m.4s", 0x4e20c400} // the other one if one is NaN
	opFcmgt    = op{"fcmgt d.4s, n.4s, m.4s", 0x6ea0e400}
	opSadalp   = op{"sadalp d.4s, n.8h", 0x4e606800}
	opSaddlp   = op{"saddlp d.4s, n.8h", 0x4e602800}
	opSaddlv   = op{"saddlv d, n.16b", 0x4e303800}
	opUmaxv    = op{"umaxv d, n.4s", 0x6eb0a800}
	opFmaxnmv  = op{"fmaxnmv d, n.4s", 0x6e30c800}
	opFabs     = op{"fabs d.4s, n.4s", 0x4ea0f800}
	opFneg     = op{"fneg d.4s, n.4s", 0x6ea0f800}
	opScvtf    = op{"scvtf d.4s, n.4s", 0x4e21d800}
	opUcvtf    = op{"ucvtf d.4s, n.4s", 0x6e21d800}
	opFcvtns   = op{"fcvtns d.4s, n.4s", 0x4e21a800} // to nearest, ties to even
	opFcvtl    = op{"fcvtl d.4s, n.4h", 0x0e217800}
	opFcvtl2   = op{"fcvtl2 d.4s, n.8h", 0x4e217800}
	opFcvtn    = op{"fcvtn d.4h, n.4s", 0x0e216800}
	opFcvtn2   = op{"fcvtn2 d.8h, n.4s", 0x4e216800}
	opXtn32    = op{"xtn d.4h, n.4s", 0x0e612800}
	opXtn32hi  = op{"xtn2 d.8h, n.4s", 0x4e612800}
	opXtn16    = op{"xtn d.8b, n.8h", 0x0e212800}
	opXtn16hi  = op{"xtn2 d.16b, n.8h", 0x4e212800}
	opShll     = op{"shll d.4s, n.4h, #16", 0x2e613800}
	opShll2    = op{"shll2 d.4s, n.8h, #16", 0x6e613800}
	opUxtl8    = op{"uxtl d.8h, n.8b", 0x2f08a400}
	opUxtl16   = op{"uxtl d.4s, n.4h", 0x2f10a400}
	opUxtl16hi = op{"uxtl2 d.4s, n.8h", 0x6f10a400}
	opSxtl8    = op{"sxtl d.8h, n.8b", 0x0f08a400}
	opSxtl16   = op{"sxtl d.4s, n.4h", 0x0f10a400}
	opSxtl16hi = op{"sxtl2 d.4s, n.8h", 0x4f10a400}
)

// The instructions with one lane of m as an operand for all lanes.
var (
	opSdotLane = op{"sdot d.4s, n.16b, m.4b", 0x4f80e000} // needs dotprod
	opMulLane  = op{"mul d.4s, n.4s, m.s", 0x4f808000}
	opMlaLane  = op{"mla d.4s, n.4s, m.s", 0x6f800000}
	opFmulLane = op{"fmul d.4s, n.4s, m.s", 0x4f809000}
	opFmlaLane = op{"fmla d.4s, n.4s, m.s", 0x4f801000}
	opFmlsLane = op{"fmls d.4s, n.4s, m.s", 0x4f805000}
)

// word writes an instruction with its text.
func (a Neon) word(bits uint32, text string, regs ...int) {
	for i, r := range regs {
		name := []string{" d", " n", " m"}[i]
		text = strings.Replace(text, name, fmt.Sprintf(" v%d", r), 1)
		text = strings.Replace(text, "{"+name[1:], fmt.Sprintf("{v%d", r), 1)
	}
	a.I("WORD $0x%08x // %s", bits, text)
}

// V3 emits d = n op m (some also read d).
func (a Neon) V3(o op, d, n, m int) {
	a.word(o.bits|uint32(m)<<16|uint32(n)<<5|uint32(d), o.text, d, n, m)
}

// V2 emits d = op n.
func (a Neon) V2(o op, d, n int) { a.word(o.bits|uint32(n)<<5|uint32(d), o.text, d, n) }

// Lane emits d = n * lane i of m (0 to 3), or d += that.
func (a Neon) Lane(o op, d, n, m, i int) {
	bits := o.bits | uint32(i&1)<<21 | uint32(i>>1)<<11
	a.word(bits|uint32(m)<<16|uint32(n)<<5|uint32(d), fmt.Sprintf("%s[%d]", o.text, i), d, n, m)
}

// Shl emits d = n << s in lanes of some bits (8 or 32).
func (a Neon) Shl(lane, d, n, s int) {
	a.word(0x4f005400|uint32(lane+s)<<16|uint32(n)<<5|uint32(d),
		fmt.Sprintf("shl d.%s, n.%[1]s, #%d", laneText(lane), s), d, n)
}

// Ushr emits d = n >> s in bytes.
func (a Neon) Ushr(d, n, s int) {
	a.word(0x6f000400|uint32(16-s)<<16|uint32(n)<<5|uint32(d), fmt.Sprintf("ushr d.16b, n.16b, #%d", s), d, n)
}

// Sli puts the bytes of n, shifted left, above the lower s bits of d; Sri, shifted right, below the upper s bits.
func (a Neon) Sli(d, n, s int) {
	a.word(0x6f005400|uint32(8+s)<<16|uint32(n)<<5|uint32(d), fmt.Sprintf("sli d.16b, n.16b, #%d", s), d, n)
}

func (a Neon) Sri(d, n, s int) {
	a.word(0x6f004400|uint32(16-s)<<16|uint32(n)<<5|uint32(d), fmt.Sprintf("sri d.16b, n.16b, #%d", s), d, n)
}

func laneText(bits int) string { return map[int]string{8: "16b", 32: "4s"}[bits] }

// Mov copies a vector register.
func (a Neon) Mov(d, n int) {
	a.word(opOrr.bits|uint32(n)<<16|uint32(n)<<5|uint32(d), "mov d.16b, n.16b", d, n)
}

// Zero clears a vector register.
func (a Neon) Zero(d int) { a.Bytes(d, 0) }

// Bytes sets all bytes of a vector register.
func (a Neon) Bytes(d int, b uint32) {
	a.word(0x4f00e400|b>>5<<16|b&31<<5|uint32(d), fmt.Sprintf("movi d.16b, #%#x", b), d)
}

// Words sets all lanes of a vector register to 32 bits, by way of R15.
func (a Neon) Words(d int, w uint32) {
	a.I("MOVD $0x%08x, R15", w)
	a.DupWord(d, 15)
}

// DupWord sets all lanes of d to the low word of a general register.
func (a Neon) DupWord(d, reg int) {
	a.word(0x4e040c00|uint32(reg)<<5|uint32(d), fmt.Sprintf("dup d.4s, w%d", reg), d)
}

// DupLane sets all lanes of d to lane 0 of n.
func (a Neon) DupLane(d, n int) { a.word(0x4e040400|uint32(n)<<5|uint32(d), "dup d.4s, n.s[0]", d, n) }

// Splat loads 4 bytes at reg+at (a general register's number) to all lanes, by way of R15.
func (a Neon) Splat(d, at, reg int) {
	if at != 0 {
		a.I("ADD $%d, R%d, R15", at, reg)
		reg = 15
	}
	a.word(0x4d40c800|uint32(reg)<<5|uint32(d), fmt.Sprintf("ld1r {v%d.4s}, [x%d]", d, reg))
}

// Get and Put load and store a whole vector register; Get8 and Get4 load its lowest 8 and 4 bytes.
func (a Neon) Get(d, at, reg int)  { a.I("FMOVQ %d(R%d), F%d", at, reg, d) }
func (a Neon) Put(d, at, reg int)  { a.I("FMOVQ F%d, %d(R%d)", d, at, reg) }
func (a Neon) Get8(d, at, reg int) { a.I("FMOVD %d(R%d), F%d", at, reg, d) }
func (a Neon) Get4(d, at, reg int) { a.I("FMOVS %d(R%d), F%d", at, reg, d) }

// Floats loads n floats (at least one) to the registers from d on, and reads no more than those.
func (a Neon) Floats(d, n, reg int) {
	at := 0
	for ; n >= 4; n -= 4 {
		a.Get(d, at, reg)
		d, at = d+1, at+16
	}
	switch n {
	case 1:
		a.Get4(d, at, reg)
	case 2:
		a.Get8(d, at, reg)
	case 3:
		a.Get8(d, at, reg)
		a.I("ADD $%d, R%d, R15", at+8, reg)
		a.word(0x4d408000|15<<5|uint32(d), fmt.Sprintf("ld1 {v%d.s}[2], [x15]", d))
	}
}

// Args moves the parameters of a function, all of them words, to R0, R1 and so on.
func (a Neon) Args(names ...string) {
	for i, n := range names {
		a.I("MOVD %s, R%d", a.Arg(n), i)
	}
}

// Inc moves a pointer on.
func (a Neon) Inc(reg, by int) {
	if by != 0 {
		a.I("ADD $%d, R%d", by, reg)
	}
}

// Loop emits a loop over the steps that are counted in a register, at least one.
func (a Neon) Loop(label string, count int, body func()) {
	a.L(label)
	body()
	a.I("SUBS $1, R%d", count)
	a.I("BNE %s", label)
}

// Return ends a function.
func (a Neon) Return() { a.I("RET") }
