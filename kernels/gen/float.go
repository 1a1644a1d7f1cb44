package main

import "fmt"

// floatKernels emits the products of float weights with rows in place (matrices and convolutions), for each type and level.
func floatKernels(a *Asm) {
	for _, v := range []isa{avx2, avx512} {
		for _, typ := range []string{"F32", "F16", "BF16"} {
			(&gemm{a, v, typ}).emit()
		}
		fmaPeak(a, v)
	}
	pixelKernels(a)
	cellKernels(a)
}

// gemmParams are the parameters of a product of some rows with some panels. Row r of tap t is k floats at a plus
// at[t*rows+r] bytes, or at zero if that sum is negative; weights follow each other over the taps, and panels stand wstep
// bytes apart; rows of the result stand stride bytes apart. A sum starts from the bias, to which the result so far is added if
// bit 0 of how is set; with bit 1 it ends within low and high. shape is the number of a gemmTile of the level. So many tiles are
// done one after the other, the offsets of each skip bytes behind those of the one before, its rows after that one's.
const gemmParams = "a *float32, zero *float32, at *int, taps int, k int, w *byte, wstep int, y *float32, stride int, bias *float32, how int, low float32, high float32, shape int, tiles int, skip int"

// gemmTile is how many rows and panels are multiplied at once.
type gemmTile struct{ rows, panels int }

// gemmTiles returns the shapes of a level. First one panel with 1 to most rows; then as many with several panels, which
// keep the multipliers busy where few rows do not.
func (v isa) gemmTiles() (tiles []gemmTile) {
	most, multi := 6, []int{4, 2, 2}
	if v == avx512 {
		most, multi = 10, []int{4, 4, 4, 2, 2, 2, 2, 2, 2, 2}
	}
	for r := range most {
		tiles = append(tiles, gemmTile{r + 1, 1})
	}
	for r, p := range multi {
		tiles = append(tiles, gemmTile{r + 1, p})
	}
	return tiles
}

// gemm emits one kernel. In all tiles CX counts k up to zero, SI is where the weights are, DI the distance between panels,
// DX where the offsets are. On the stack: the ends of a row at offset 0 and of the zeros, the taps left, the tile's result, the
// tiles left, and the tile's offsets.
type gemm struct {
	*Asm
	v   isa
	typ string
}

// gemmRow are the registers with the ends of the rows.
var gemmRow = []string{"R8", "R9", "R10", "R11", "R12", "R13", "R14", "R15", "AX", "BX"}

func (e *gemm) emit() {
	e.FuncFrame("gemm"+e.typ+e.v.name, gemmParams, "multiplies rows with panels of "+e.typ+"; see floatCall.", 48)
	e.Load("k", "CX")
	for i, name := range []string{"a", "zero"} {
		e.Load(name, "AX")
		e.I("LEAQ (AX)(CX*4), AX")
		e.I("MOVQ AX, %d(SP)", 8*i)
	}
	for i, name := range []string{"y", "tiles", "at"} {
		e.Load(name, "AX")
		e.I("MOVQ AX, %d(SP)", 24+8*i)
	}
	e.Load("shape", "AX")
	tiles := e.v.gemmTiles()
	for i := 1; i < len(tiles); i++ {
		e.I("CMPQ AX, $%d", i)
		e.I("JEQ tile%d", i)
	}
	for i, t := range tiles {
		e.L(fmt.Sprintf("tile%d", i))
		e.tile(t, fmt.Sprint(i))
	}
}

// tile emits the work of a tile; id tells its labels from those of others.
func (e *gemm) tile(t gemmTile, id string) {
	e.L("tiles" + id)
	e.start(t, id)
	load(e.Asm, "w", "SI", "taps", "AX")
	e.I("MOVQ AX, 16(SP)")
	e.I("MOVQ 40(SP), DX")
	if t.panels > 1 {
		e.Load("wstep", "DI")
	}
	if t.panels > 2 {
		e.I("LEAQ (DI)(DI*2), R15")
	}
	e.L("tap" + id)
	for r, reg := range gemmRow[:t.rows] {
		e.I("MOVQ %d(DX), %s", 8*r, reg)
		e.I("ADDQ 0(SP), %s", reg)
		e.I("CMOVQLT 8(SP), %s", reg)
	}
	e.I("ADDQ $%d, DX", 8*t.rows)
	e.I("MOVQ $3, CX")
	e.I("SUBQ %s, CX", e.Arg("k"))
	e.I("JGE rest%s", id)
	size := 16 * floatSize(e.typ)
	e.L("four" + id)
	for k := range 4 {
		e.column(t, k*size, 4*k-12)
	}
	e.I("ADDQ $%d, SI", 4*size)
	e.I("ADDQ $4, CX")
	e.I("JLT four%s", id)
	e.L("rest" + id)
	e.I("SUBQ $3, CX")
	e.I("JEQ next%s", id)
	e.L("one" + id)
	e.column(t, 0, 0)
	e.I("ADDQ $%d, SI", size)
	e.I("ADDQ $1, CX")
	e.I("JNZ one%s", id)
	e.L("next" + id)
	e.I("SUBQ $1, 16(SP)")
	e.I("JNZ tap%s", id)
	e.end(t, id)
}

// each calls f for each register of sums of a tile, with its row and its place in a row of the result; row is called
// before each row.
func (e *gemm) each(t gemmTile, row func(r int), f func(reg string, i int)) {
	n := t.panels * e.v.per()
	for r := range t.rows {
		if row != nil {
			row(r)
		}
		for i := range n {
			f(e.v.r(r*n+i), i)
		}
	}
}

// start sets the sums. The result of the next tile is asked for meanwhile.
func (e *gemm) start(t gemmTile, id string) {
	load(e.Asm, "bias", "R10", "how", "R11", "stride", "R9")
	e.each(t, nil, func(reg string, i int) { e.I("VMOVUPS %d(R10), %s", i*e.v.size(), reg) })
	e.I("MOVQ 24(SP), R8")
	e.I("TESTQ $1, R11")
	e.I("JEQ start%s", id)
	e.I("MOVQ R8, R12")
	e.each(t, e.nextRow, func(reg string, i int) { e.I("VADDPS %d(R8), %s, %s", i*e.v.size(), reg, reg) })
	e.I("MOVQ R12, R8")
	e.L("start" + id)
	for range 2 * t.rows {
		e.I("PREFETCHT0 (R8)")
		e.I("ADDQ R9, R8")
	}
}

func (e *gemm) nextRow(r int) {
	if r > 0 {
		e.I("ADDQ R9, R8")
	}
}

// end bounds the sums and stores them.
func (e *gemm) end(t gemmTile, id string) {
	load(e.Asm, "stride", "R9", "how", "R11")
	e.I("MOVQ 24(SP), R8")
	e.I("TESTQ $2, R11")
	e.I("JEQ store%s", id)
	low, high := e.v.r(14), e.v.r(15)
	if e.v == avx512 {
		low, high = "Z30", "Z31"
	}
	e.I("VBROADCASTSS %s, %s", e.Arg("low"), low)
	e.I("VBROADCASTSS %s, %s", e.Arg("high"), high)
	e.each(t, nil, func(reg string, _ int) {
		e.I("VMAXPS %s, %s, %s", reg, low, reg) // the first operand if it is NaN or both are zero
		e.I("VMINPS %s, %s, %s", reg, high, reg)
	})
	e.L("store" + id)
	e.each(t, e.nextRow, func(reg string, i int) { e.I("VMOVUPS %s, %d(R8)", reg, i*e.v.size()) })
	e.I("ADDQ R9, R8")
	e.I("MOVQ R8, 24(SP)")
	e.I("ADDQ %s, DX", e.Arg("skip"))
	e.I("MOVQ DX, 40(SP)")
	e.I("SUBQ $1, 32(SP)")
	e.I("JNZ tiles%s", id)
	e.Ret()
}

// weights is where register i of the weights of a column is, from at bytes on.
func (e *gemm) weights(i, at int) string {
	p, bytes := i/e.v.per(), e.v.size()*floatSize(e.typ)/4
	base := []string{"(SI)", "(SI)(DI*1)", "(SI)(DI*2)", "(SI)(R15*1)"}[p]
	return fmt.Sprintf("%d%s", at+i%e.v.per()*bytes, base)
}

// weight loads register i of the weights of a column.
func (e *gemm) weight(i, at int, to string) {
	from := e.weights(i, at)
	switch e.typ {
	case "F32":
		e.I("VMOVUPS %s, %s", from, to)
	case "F16":
		e.I("VCVTPH2PS %s, %s", from, to)
	default:
		e.I("VPMOVZXWD %s, %s", from, to)
		e.I("VPSLLD $16, %s, %s", to, to)
	}
}

// column emits one k: its weights are at bytes on from SI, its floats x bytes on from the ends of the rows plus 4*CX.
func (e *gemm) column(t gemmTile, at, x int) {
	n, all := t.panels*e.v.per(), 16*e.v.size()/32
	first := t.rows * n // the registers from here on are free
	left := func(r int, to string) { e.I("VBROADCASTSS %d(%s)(CX*4), %s", x, gemmRow[r], to) }
	if first+n >= all { // no room for all weights: keep the left operands
		for r := range t.rows {
			left(r, e.v.r(first+r))
		}
		for i := range n {
			w := e.v.r(first + t.rows + i%(all-first-t.rows))
			e.weight(i, at, w)
			for r := range t.rows {
				e.I("VFMADD231PS %s, %s, %s", w, e.v.r(first+r), e.v.r(r*n+i))
			}
		}
		return
	}
	for i := range n {
		e.weight(i, at, e.v.r(first+i))
	}
	for r := range t.rows {
		x := e.v.r(first + n + r%(all-first-n))
		left(r, x)
		for i := range n {
			e.I("VFMADD231PS %s, %s, %s", e.v.r(first+i), x, e.v.r(r*n+i))
		}
	}
}

// fmaPeak emits the loop whose speed is the ceiling of all products: 12 multiply-adds at a time, in registers.
func fmaPeak(a *Asm, v isa) {
	a.Func("fmaPeak"+v.name, "n int", "does 12*n multiply-adds of whole registers.")
	a.Load("n", "CX")
	for i := range 14 {
		v.zero(a, i)
	}
	steps(a, func() {
		for i := range 12 {
			a.I("VFMADD231PS %s, %s, %s", v.r(12), v.r(13), v.r(i))
		}
	})
	a.Ret()
}
