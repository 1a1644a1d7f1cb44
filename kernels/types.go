package kernels

import (
	"errors"
	"fmt"
	"math"
)

// ErrType says that a weight type is unknown to this package.
var ErrType = errors.New("unsupported weight type")

// ErrShape says that a shape is impossible for a type, or that bytes do not fit a shape.
var ErrShape = errors.New("shape does not fit")

// ErrScale says that a block of quantised weights holds a scale that is not a finite number.
var ErrScale = errors.New("scale is not finite")

// Type is the element type of a weight matrix, with ggml's numbers (github.com/ggml-org/ggml,
// enum ggml_type).
type Type uint32

// The weight types this package reads, packs and multiplies.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q2_K Type = 10
	Q3_K Type = 11
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14

	IQ4_NL Type = 20
	IQ4_XS Type = 23
	BF16   Type = 30
	MXFP4  Type = 39
)

// form describes a type: its block in a GGUF row and its part of a packed panel.
type form struct {
	name  string
	block int // elements in a GGUF block
	bytes int // bytes of a GGUF block
	low   int // bits of a weight in the low plane: 2, 4 or 8; 0 for float types
	high  int // bits of a weight in the high plane: 0, 1 or 2
	zero  int // what is subtracted from a stored code to get the weight
	mins  bool
	super bool      // super-blocks: 8 sub-blocks of 32 with integer scales under one or two f16
	half  bool      // a scale for every 16 weights instead of 32
	exp   bool      // the scale is a power of two, one byte (E8M0)
	book  *[16]int8 // the weights that the codes stand for
}

// The weights of the types whose codes are not the weights: a curve fitted to normally distributed
// weights (ggml, IQ4_NL), and twice the values of E2M1 (OCP Microscaling Formats, 2023).
var (
	bookIQ4 = [16]int8{-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113}
	bookMX4 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}
)

// forms describes each type, by its number; it is never changed.
var forms = [...]form{
	F32:  {name: "F32", block: 1, bytes: 4},
	F16:  {name: "F16", block: 1, bytes: 2},
	BF16: {name: "BF16", block: 1, bytes: 2},
	Q8_0: {name: "Q8_0", block: 32, bytes: 34, low: 8},
	Q4_0: {name: "Q4_0", block: 32, bytes: 18, low: 4, zero: 8},
	Q4_1: {name: "Q4_1", block: 32, bytes: 20, low: 4, mins: true},
	Q5_0: {name: "Q5_0", block: 32, bytes: 22, low: 4, high: 1, zero: 16},
	Q5_1: {name: "Q5_1", block: 32, bytes: 24, low: 4, high: 1, mins: true},
	Q4_K: {name: "Q4_K", block: 256, bytes: 144, low: 4, mins: true, super: true},
	Q5_K: {name: "Q5_K", block: 256, bytes: 176, low: 4, high: 1, mins: true, super: true},
	Q6_K: {name: "Q6_K", block: 256, bytes: 210, low: 4, high: 2, zero: 32, super: true, half: true},
	Q2_K: {name: "Q2_K", block: 256, bytes: 84, low: 2, mins: true, super: true, half: true},
	Q3_K: {name: "Q3_K", block: 256, bytes: 110, low: 2, high: 1, zero: 4, super: true, half: true},

	IQ4_NL: {name: "IQ4_NL", block: 32, bytes: 18, low: 4, book: &bookIQ4},
	IQ4_XS: {name: "IQ4_XS", block: 256, bytes: 136, low: 4, super: true, book: &bookIQ4},
	MXFP4:  {name: "MXFP4", block: 32, bytes: 17, low: 4, exp: true, book: &bookMX4},
}

// formOf returns the description of a type, or nil.
func formOf(t Type) *form {
	if int(t) >= len(forms) || forms[t].block == 0 {
		return nil
	}
	return &forms[t]
}

// quantised says whether a row is made of blocks of integers with scales.
func (f *form) quantised() bool { return f.low != 0 }

// ints says whether the scales of the two halves of a sub-block are applied to the integer sums, so
// that one float scale is left: the types of two bits in the low plane.
func (f *form) ints() bool { return f.low == 2 }

// subs is the number of sub-blocks of 32 weights in a block.
func (f *form) subs() int { return f.block / 32 }

// headBytes is the part of a panel's super-block ahead of its sub-blocks.
func (f *form) headBytes() int {
	switch {
	case !f.super:
		return 0
	case f.mins:
		return 2 * 2 * panelRows
	default:
		return 2 * panelRows
	}
}

// scaleBytes is the part of a panel's sub-block that holds scales and minimums.
func (f *form) scaleBytes() int {
	switch {
	case f.exp, f.super && !f.half && !f.mins:
		return panelRows // one byte
	case f.super:
		return 2 * panelRows // scale and minimum, or two scales (each with a minimum), one byte each
	case f.mins:
		return 2 * 2 * panelRows
	default:
		return 2 * panelRows
	}
}

// subBytes is the size of one sub-block of a panel: low plane, high plane, scales.
func (f *form) subBytes() int { return 64*f.low + 64*f.high + f.scaleBytes() }

// panelBlock is the size in a panel of what one GGUF block holds, for 16 rows.
func (f *form) panelBlock() int {
	if !f.quantised() {
		return f.bytes * panelRows
	}
	return f.headBytes() + f.subs()*f.subBytes()
}

// String returns the name that GGUF files use, for example "Q4_K".
func (t Type) String() string {
	if f := formOf(t); f != nil {
		return f.name
	}
	return fmt.Sprintf("type(%d)", uint32(t))
}

// Valid says whether this package knows the type.
func (t Type) Valid() bool { return formOf(t) != nil }

// Block returns the number of elements in a block of a GGUF row, 0 for an unknown type.
func (t Type) Block() int {
	if f := formOf(t); f != nil {
		return f.block
	}
	return 0
}

// BlockBytes returns the bytes of a block of a GGUF row, 0 for an unknown type.
func (t Type) BlockBytes() int {
	if f := formOf(t); f != nil {
		return f.bytes
	}
	return 0
}

// RowBytes returns the bytes of a GGUF row of cols elements. It fails with ErrType, or with ErrShape
// when cols is not a positive multiple of the type's block.
func RowBytes(t Type, cols int) (int, error) {
	f := formOf(t)
	if f == nil {
		return 0, fmt.Errorf("%w: %s", ErrType, t)
	}
	if cols <= 0 || cols%f.block != 0 || cols > maxDim {
		return 0, fmt.Errorf("%w: a row of %d columns of %s, whose blocks hold %d", ErrShape, cols, t, f.block)
	}
	return cols / f.block * f.bytes, nil
}

// maxDim bounds rows and columns, so that sizes cannot overflow.
const maxDim = math.MaxInt32 / 4
