package gguf

import (
	"encoding/binary"
	"fmt"
	"math"
)

// ValueType is the type tag of a value, numbered as in the file.
type ValueType uint32

// The value types of the specification.
const (
	TypeUint8 ValueType = iota
	TypeInt8
	TypeUint16
	TypeInt16
	TypeUint32
	TypeInt32
	TypeFloat32
	TypeBool
	TypeString
	TypeArray
	TypeUint64
	TypeInt64
	TypeFloat64
)

var typeNames = [...]string{"uint8", "int8", "uint16", "int16", "uint32", "int32", "float32", "bool",
	"string", "array", "uint64", "int64", "float64"}

// String names the type as the specification does.
func (t ValueType) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// size returns the bytes of one scalar, 0 for strings, arrays and unknown types.
func (t ValueType) size() int {
	switch t {
	case TypeUint8, TypeInt8, TypeBool:
		return 1
	case TypeUint16, TypeInt16:
		return 2
	case TypeUint32, TypeInt32, TypeFloat32:
		return 4
	case TypeUint64, TypeInt64, TypeFloat64:
		return 8
	}
	return 0
}

// Value is one value as it stands in the file: a type and its bytes, already checked to be complete.
// The zero Value is not valid; make one with String, Uint32 and the other constructors.
type Value struct {
	Type ValueType
	elem ValueType // of an array
	n    int       // elements of an array
	raw  []byte    // payload; of a string or array without its length and type
}

// Pair is a key and its value.
type Pair struct {
	Key   string
	Value Value
}

// String makes a string value.
func String(s string) Value { return Value{Type: TypeString, raw: []byte(s)} }

// Bool makes a boolean value.
func Bool(b bool) Value {
	raw := []byte{0}
	if b {
		raw[0] = 1
	}
	return Value{Type: TypeBool, raw: raw}
}

// Uint32 makes a uint32 value.
func Uint32(u uint32) Value {
	return Value{Type: TypeUint32, raw: binary.LittleEndian.AppendUint32(nil, u)}
}

// Uint64 makes a uint64 value.
func Uint64(u uint64) Value {
	return Value{Type: TypeUint64, raw: binary.LittleEndian.AppendUint64(nil, u)}
}

// Int32 makes an int32 value.
func Int32(i int32) Value {
	return Value{Type: TypeInt32, raw: binary.LittleEndian.AppendUint32(nil, uint32(i))}
}

// Float32 makes a float32 value.
func Float32(f float32) Value {
	return Value{Type: TypeFloat32, raw: binary.LittleEndian.AppendUint32(nil, math.Float32bits(f))}
}

// Strings makes an array of strings.
func Strings(s []string) Value {
	v := Value{Type: TypeArray, elem: TypeString, n: len(s)}
	for _, x := range s {
		v.raw = binary.LittleEndian.AppendUint64(v.raw, uint64(len(x)))
		v.raw = append(v.raw, x...)
	}
	return v
}

// Int32s makes an array of int32.
func Int32s(s []int32) Value {
	v := Value{Type: TypeArray, elem: TypeInt32, n: len(s)}
	for _, x := range s {
		v.raw = binary.LittleEndian.AppendUint32(v.raw, uint32(x))
	}
	return v
}

// Float32s makes an array of float32.
func Float32s(s []float32) Value {
	v := Value{Type: TypeArray, elem: TypeFloat32, n: len(s)}
	for _, x := range s {
		v.raw = binary.LittleEndian.AppendUint32(v.raw, math.Float32bits(x))
	}
	return v
}

// integer reads a scalar of any integer type; raw holds at least its size.
func integer(t ValueType, raw []byte) (i int64, u uint64, ok bool) {
	switch t {
	case TypeUint8:
		u = uint64(raw[0])
	case TypeUint16:
		u = uint64(binary.LittleEndian.Uint16(raw))
	case TypeUint32:
		u = uint64(binary.LittleEndian.Uint32(raw))
	case TypeUint64:
		u = binary.LittleEndian.Uint64(raw)
	case TypeInt8:
		i = int64(int8(raw[0]))
		return i, uint64(i), true
	case TypeInt16:
		i = int64(int16(binary.LittleEndian.Uint16(raw)))
		return i, uint64(i), true
	case TypeInt32:
		i = int64(int32(binary.LittleEndian.Uint32(raw)))
		return i, uint64(i), true
	case TypeInt64:
		i = int64(binary.LittleEndian.Uint64(raw))
		return i, uint64(i), true
	default:
		return 0, 0, false
	}
	return int64(u), u, true
}

// signed tells whether t is a signed integer type.
func (t ValueType) signed() bool {
	return t == TypeInt8 || t == TypeInt16 || t == TypeInt32 || t == TypeInt64
}

func real(t ValueType, raw []byte) (float64, bool) {
	switch t {
	case TypeFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(raw))), true
	case TypeFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(raw)), true
	}
	return 0, false
}
