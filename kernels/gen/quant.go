package main

import (
	"fmt"
	"math"
	"strings"
)

// form is what the emitters know of a quantised type; it says the same as form in kernels/types.go.
type form struct {
	name  string
	low   int // bits of a weight in the low plane: 2, 4 or 8
	high  int // bits of a weight in the high plane: 0, 1 or 2
	zero  int // log2 of what is subtracted from a code; 0 for none
	mins  bool
	super bool   // super-blocks of 8 sub-blocks, whose scales are small integers
	half  bool   // a scale for every 16 weights
	exp   bool   // the scale is a power of two (E8M0)
	book  string // of the codes, the name of the table of their weights (plus zero, but see bytes)
	bytes bool   // with a book: its weights need all bits of a byte; AVX2 has them signed
	wide  bool   // unpacked, see avx2Widen
}

var forms = []form{
	{name: "Q80", low: 8, zero: 7}, // zero: where signed weights have to be made unsigned
	{name: "Q40", low: 4, zero: 3},
	{name: "Q41", low: 4, mins: true},
	{name: "Q50", low: 4, high: 1, zero: 4},
	{name: "Q51", low: 4, high: 1, mins: true},
	{name: "Q4K", low: 4, mins: true, super: true},
	{name: "Q5K", low: 4, high: 1, mins: true, super: true},
	{name: "Q6K", low: 4, high: 2, zero: 5, super: true, half: true},
	{name: "Q2K", low: 2, mins: true, super: true, half: true},
	{name: "Q3K", low: 2, high: 1, zero: 2, super: true, half: true},
	{name: "IQ4NL", low: 4, zero: 7, book: "bookIQ4", bytes: true},
	{name: "IQ4XS", low: 4, zero: 7, super: true, book: "bookIQ4", bytes: true},
	{name: "MXFP4", low: 4, zero: 4, exp: true, book: "bookMX4"},
}

// ints says whether the scales of the halves of a sub-block are applied to the integer sums.
func (f *form) ints() bool { return f.low == 2 }

func (f *form) lowBytes() int { return 64 * f.low }
func (f *form) scaleAt() int  { return 64*f.low + 64*f.high }

func (f *form) subBytes() int {
	if f.wide {
		return f.wideBytes()
	}
	return f.scaleAt() + f.scaleBytes()
}

func (f *form) scaleBytes() int {
	switch {
	case f.mins && !f.super:
		return 64
	case f.exp, f.super && !f.half && !f.mins:
		return 16
	}
	return 32
}

func (f *form) headBytes() int {
	switch {
	case f.super && f.mins:
		return 64
	case f.super:
		return 32
	}
	return 0
}

// sums is the number of 4-byte sums of activations that a block of a row has for this type.
func (f *form) sums() int {
	if f.half {
		return 2
	}
	return 1
}

// shift4 is how far a field of the high plane is shifted left (right if negative) so that it stands
// above the bits of the low plane (four, in most types): field j of a plane of one-bit or two-bit fields.
func (f *form) shift4(j int) int { return f.low - j*f.high }

// highAt is the place of the high bits of the weights 4j ... 4j+3 of every row (j < 8): the offset of
// their 64 bytes, and which field of each byte they are.
func (f *form) highAt(j int) (at, field int) {
	if f.high == 1 {
		return f.lowBytes(), j
	}
	return f.lowBytes() + j/4*64, j % 4
}

const (
	quantParams = "w *byte, q *int8, f *float32, n *int32, y *float32, stride int, blocks int"
	floatParams = "w *byte, x *float32, step int, y *float32, stride int, cols int"
)

// quant emits the products of weights and activations, and what the workers need.
func quant(a *Asm) {
	a.Func("pause", "n int", "does nothing for n times some 40 cycles.")
	a.Load("n", "CX")
	a.L("loop")
	a.I("PAUSE")
	a.I("DECQ CX")
	a.I("JNZ loop")
	a.I("RET")

	constants(a)
	quantizeRow(a, true)
	quantizeRow(a, false)
	var on2, onVNNI, onBW, on512 kernelTable
	for i := range forms {
		for t := 1; t <= tile2; t++ {
			on2.add(i, avx2Quant(a, &forms[i], t))
			onVNNI.add(i, vnniQuant(a, &forms[i], t))
		}
		for t := 1; t <= tileBW; t++ {
			onBW.add(i, bwQuant(a, &forms[i], t))
		}
		for t := 1; t <= tile512; t++ {
			on512.add(i, avx512Quant(a, &forms[i], t))
		}
	}
	for i, f := range floats {
		for t := 1; t <= tile2; t++ {
			on2.add(len(forms)+i, avx2Float(a, f, t))
		}
		for t := 1; t <= tile512; t++ {
			on512.add(len(forms)+i, avx512Float(a, f, t))
		}
	}
	wideKernels(a)
	on2.emit(a, "avx2", tile2)
	onVNNI.part(a, "vnniQuant", quantParams, tile2, 0, len(forms))
	onBW.part(a, "avx512bwQuant", quantParams, tileBW, 0, len(forms))
	on512.emit(a, "avx512", tile512)
}

// wideKernels emits what unpacks panels and the products of unpacked ones. Types that unpack to the
// same form share the latter.
func wideKernels(a *Asm) {
	var table kernelTable
	var widen [len(table)]string
	same := map[string]string{"Q4K": "Q41", "Q5K": "Q51", "IQ4XS": "IQ4NL", "MXFP4": "Q50"}
	at := map[string]int{}
	for i, f := range forms {
		if f.low == 8 {
			continue
		}
		at[f.name] = i
		widen[i] = avx2Widen(a, &forms[i])
		if name, ok := same[f.name]; ok {
			table[i] = table[at[name]]
			continue
		}
		table.none(i, leastWide2-1)
		for t := leastWide2; t <= tile2; t++ {
			table.add(i, avx2Quant(a, f.widened(), t))
		}
	}
	table.part(a, "avx2Wide", quantParams, tile2, 0, len(forms))
	widenTable(a, "avx2Widen", "w *byte, out *byte, blocks int", widen[:])
}

// widenTable writes the names of what unpacks panels, by type, as a Go variable.
func widenTable(a *Asm, table, params string, names []string) {
	p := func(form string, args ...any) { fmt.Fprintf(&a.stubs, form+"\n", args...) }
	p("\n// %s holds what unpacks a panel of each type. It is never changed.", table)
	p("var %s = [len(forms)]func(%s){", table, params)
	for i, name := range names {
		if name != "" {
			p("\t%s: %s,", typeNames[i], name)
		}
	}
	p("}")
}

const (
	tile2 = 4 // rows of activations in a tile of AVX2
	// The fewest with unpacked panels, which are for 9 rows or more: rows are spread evenly over tiles.
	leastWide2 = 3
	tileBW     = 8  // of AVX-512 without VNNI
	tile512    = 12 // and with it
)

// floats are the float types.
var floats = []string{"F32", "F16", "BF16"}

// kernelTable collects the names of kernels by type and number of rows.
type kernelTable [len(typeNames)][]string

func (k *kernelTable) add(typ int, name string) { k[typ] = append(k[typ], name) }

// none adds nothing for some numbers of rows, which do not occur.
func (k *kernelTable) none(typ, n int) {
	for range n {
		k.add(typ, "nil")
	}
}

// typeNames are the Go names of the types in a table.
var typeNames = [...]string{"Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q4_K", "Q5_K", "Q6_K",
	"Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4", "F32", "F16", "BF16"}

// emit writes the table as two Go variables.
func (k *kernelTable) emit(a *Asm, level string, tile int) {
	k.part(a, level+"Quant", quantParams, tile, 0, len(forms))
	k.part(a, level+"Float", floatParams, tile, len(forms), len(k))
}

// part writes a part of the table as a Go variable.
func (k *kernelTable) part(a *Asm, name, params string, tile, first, end int) {
	p := func(form string, args ...any) { fmt.Fprintf(&a.stubs, form+"\n", args...) }
	p("\n// %s holds the kernels of each type for 1 to %d rows. It is never changed.", name, tile)
	p("var %s = [len(forms)][%d]func(%s){", name, tile, params)
	for i := first; i < end; i++ {
		if len(k[i]) != 0 {
			p("\t%s: {%s},", typeNames[i], strings.Join(k[i], ", "))
		}
	}
	p("}")
}

// loadQuant puts the parameters of a quantised kernel into registers: SI weights, DX activations, R8 scales,
// R9 sums, DI results, R10 stride of the results, CX blocks.
func loadQuant(a *Asm) {
	for _, p := range [][2]string{{"w", "SI"}, {"q", "DX"}, {"f", "R8"}, {"n", "R9"}, {"y", "DI"},
		{"stride", "R10"}, {"blocks", "CX"}} {
		a.Load(p[0], p[1])
	}
}

// blockLoop emits the loop over the blocks of a panel: head once for a block, sub once for each
// sub-block of 32 columns, then the streams step on; without rows (t = 0) there are none
// of activations.
func (f *form) blockLoop(a *Asm, t int, head, sub func()) {
	a.L("block")
	if f.super {
		head()
		a.I("ADDQ $%d, SI", f.headBytes())
		a.I("MOVQ $8, BX")
	}
	a.L("sub")
	sub()
	a.I("ADDQ $%d, SI", f.subBytes())
	if t > 0 {
		a.I("ADDQ $%d, DX", 32*t)
		a.I("ADDQ $%d, R8", 8*t)
		a.I("ADDQ $%d, R9", 4*t*f.sums())
	}
	if f.super {
		a.I("DECQ BX")
		a.I("JNZ sub")
	}
	a.I("DECQ CX")
	a.I("JNZ block")
}

// constants emits the words that kernels broadcast.
func constants(a *Asm) {
	a.Data("low4", repeat(0x0f0f0f0f, 16)...)
	a.Data("bit4", repeat(0x10101010, 8)...)
	a.Data("bits45", repeat(0x30303030, 8)...)
	a.Data("low2", repeat(0x03030303, 8)...)
	a.Data("low3", repeat(0x07070707, 8)...)
	a.Data("bit2", repeat(0x04040404, 8)...)
	a.Data("low4of16", repeat(0x000f000f, 8)...)
	a.Data("top8", repeat(0x80808080, 8)...)
	a.Data("ones16", repeat(0x00010001, 16)...)
	a.Data("minus2", repeat(0xfffefffe, 16)...)
	a.Data("abs32", repeat(0x7fffffff, 8)...)
	a.Data("ones8", repeat(0x01010101, 8)...)
	a.Data("order", 0, 4, 1, 5, 2, 6, 3, 7)
	a.Data("four", 0, 0x01010101, 0x02020202, 0x03030303, 0x04040404, 0x05050505, 0x06060606, 0x07070707,
		0x08080808, 0x09090909, 0x0a0a0a0a, 0x0b0b0b0b, 0x0c0c0c0c, 0x0d0d0d0d, 0x0e0e0e0e, 0x0f0f0f0f)
	a.Data("eighth", repeat(math.Float32bits(0.125), 8)...)
	a.Data("half", repeat(math.Float32bits(0.5), 8)...)
	a.Data("tiny2", repeat(1<<22, 8)...) // 2^-127
	a.Data("bookIQ4", book(bookIQ4, 0)...)
	a.Data("bookIQ4up", book(bookIQ4, 128)...)
	a.Data("bookMX4", book(bookMX4, 16)...)
}

func repeat(w uint32, n int) []uint32 {
	s := make([]uint32, n)
	for i := range s {
		s[i] = w
	}
	return s
}
