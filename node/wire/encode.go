package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Marshal encodes v. Equal values give equal bytes. It fails on types that have no encoding (channels, functions,
// complex numbers, maps with other keys than strings and integers) and on values nested deeper than 256.
func Marshal(v any) ([]byte, error) { return Append(nil, v) }

// Append is Marshal onto the end of dst.
func Append(dst []byte, v any) ([]byte, error) {
	e := encoder{b: dst}
	if err := e.value(reflect.ValueOf(v), 0); err != nil {
		return dst, err
	}
	return e.b, nil
}

type encoder struct {
	b      []byte
	fields fieldCache
}

var errTooDeep = errors.New("msgpack: value nested too deep to encode")

func (e *encoder) value(v reflect.Value, depth int) error {
	if !v.IsValid() {
		e.b = append(e.b, 0xc0)
		return nil
	}
	if depth > maxDepth {
		return errTooDeep
	}
	if done, err := e.custom(v); done {
		return err
	}
	switch v.Kind() {
	case reflect.Bool:
		e.b = append(e.b, 0xc2+b2u(v.Bool()))
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		e.int(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		e.uint(v.Uint())
	case reflect.Float32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xca), math.Float32bits(float32(v.Float())))
	case reflect.Float64:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcb), math.Float64bits(v.Float()))
	case reflect.String:
		return e.str(v.String())
	case reflect.Slice, reflect.Array:
		return e.array(v, depth)
	case reflect.Map:
		return e.mapping(v, depth)
	case reflect.Struct:
		return e.structure(v, depth)
	case reflect.Pointer, reflect.Interface:
		return e.value(v.Elem(), depth+1)
	default:
		return fmt.Errorf("msgpack: cannot encode %s", v.Type())
	}
	return nil
}

// custom handles time.Time and types that encode themselves.
func (e *encoder) custom(v reflect.Value) (done bool, err error) {
	t := v.Type()
	if t == timeType {
		e.time(v.Interface().(time.Time))
		return true, nil
	}
	if (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) && v.IsNil() {
		e.b = append(e.b, 0xc0)
		return true, nil
	}
	if !t.Implements(marshalerType) {
		if !v.CanAddr() || !reflect.PointerTo(t).Implements(marshalerType) {
			return false, nil
		}
		v = v.Addr()
	}
	b, err := v.Interface().(Marshaler).MarshalMsgpack()
	if err != nil {
		return true, fmt.Errorf("msgpack: %s: %w", t, err)
	}
	if err := Check(b, Limits{Bytes: math.MaxInt, Depth: maxDepth, Elements: math.MaxInt}); err != nil {
		return true, fmt.Errorf("msgpack: %s encodes itself wrongly: %w", t, err)
	}
	e.b = append(e.b, b...)
	return true, nil
}

func b2u(b bool) byte {
	if b {
		return 1
	}
	return 0
}

func (e *encoder) int(n int64) {
	switch {
	case n >= 0:
		e.uint(uint64(n))
	case n >= -32:
		e.b = append(e.b, byte(n))
	case n >= math.MinInt8:
		e.b = append(e.b, 0xd0, byte(n))
	case n >= math.MinInt16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xd2), uint32(n))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xd3), uint64(n))
	}
}

func (e *encoder) uint(n uint64) {
	switch {
	case n < 0x80:
		e.b = append(e.b, byte(n))
	case n <= math.MaxUint8:
		e.b = append(e.b, 0xcc, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, 0xcd), uint16(n))
	case n <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xce), uint32(n))
	default:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xcf), n)
	}
}

// length writes a header: fix is the base of the short form (for n below fixMax, none if 0), then the codes for
// lengths of 8 (0: none), 16 and 32 bits.
func (e *encoder) length(n int, fix byte, fixMax int, c8, c16, c32 byte) error {
	switch {
	case n < fixMax:
		e.b = append(e.b, fix|byte(n))
	case c8 != 0 && n <= math.MaxUint8:
		e.b = append(e.b, c8, byte(n))
	case n <= math.MaxUint16:
		e.b = binary.BigEndian.AppendUint16(append(e.b, c16), uint16(n))
	case n <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, c32), uint32(n))
	default:
		return fmt.Errorf("msgpack: length %d does not fit 32 bits", n)
	}
	return nil
}

// str replaces invalid UTF-8, as JSON does: the other side refuses it.
func (e *encoder) str(s string) error {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if err := e.length(len(s), 0xa0, 32, 0xd9, 0xda, 0xdb); err != nil {
		return err
	}
	e.b = append(e.b, s...)
	return nil
}

func (e *encoder) time(t time.Time) {
	sec, nsec := t.Unix(), uint32(t.Nanosecond())
	switch {
	case nsec == 0 && sec >= 0 && sec <= math.MaxUint32:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xd6, extTime), uint32(sec))
	case sec >= 0 && sec < 1<<34:
		e.b = binary.BigEndian.AppendUint64(append(e.b, 0xd7, extTime), uint64(nsec)<<34|uint64(sec))
	default:
		e.b = binary.BigEndian.AppendUint32(append(e.b, 0xc7, 12, extTime), nsec)
		e.b = binary.BigEndian.AppendUint64(e.b, uint64(sec))
	}
}

func (e *encoder) array(v reflect.Value, depth int) error {
	if v.Kind() == reflect.Slice && v.IsNil() {
		e.b = append(e.b, 0xc0)
		return nil
	}
	if v.Type().Elem().Kind() == reflect.Uint8 {
		if err := e.length(v.Len(), 0, 0, 0xc4, 0xc5, 0xc6); err != nil {
			return err
		}
		at := len(e.b)
		e.b = append(e.b, make([]byte, v.Len())...)
		reflect.Copy(reflect.ValueOf(e.b[at:]), v)
		return nil
	}
	if err := e.length(v.Len(), 0x90, 16, 0, 0xdc, 0xdd); err != nil {
		return err
	}
	for i := range v.Len() {
		if err := e.value(v.Index(i), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (e *encoder) mapping(v reflect.Value, depth int) error {
	if v.IsNil() {
		e.b = append(e.b, 0xc0)
		return nil
	}
	keys := v.MapKeys()
	switch k := v.Type().Key(); {
	case k.Kind() == reflect.String:
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	case reflect.Zero(k).CanInt():
		slices.SortFunc(keys, func(a, b reflect.Value) int { return compare(a.Int(), b.Int()) })
	case reflect.Zero(k).CanUint():
		slices.SortFunc(keys, func(a, b reflect.Value) int { return compare(a.Uint(), b.Uint()) })
	default:
		return fmt.Errorf("msgpack: cannot encode a map with keys of type %s", k)
	}
	if err := e.length(len(keys), 0x80, 16, 0, 0xde, 0xdf); err != nil {
		return err
	}
	for _, k := range keys {
		if err := e.value(k, depth+1); err != nil {
			return err
		}
		if err := e.value(v.MapIndex(k), depth+1); err != nil {
			return err
		}
	}
	return nil
}

func compare[T int64 | uint64](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (e *encoder) structure(v reflect.Value, depth int) error {
	fs := e.fields.of(v.Type())
	n := 0
	for _, f := range fs {
		if !f.omitEmpty || !isEmpty(v.FieldByIndex(f.index)) {
			n++
		}
	}
	if err := e.length(n, 0x80, 16, 0, 0xde, 0xdf); err != nil {
		return err
	}
	for _, f := range fs {
		fv := v.FieldByIndex(f.index)
		if f.omitEmpty && isEmpty(fv) {
			continue
		}
		if err := e.str(f.name); err != nil {
			return err
		}
		if err := e.value(fv, depth+1); err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
	}
	return nil
}

// isEmpty is what omitempty leaves out: zero numbers, false, nil, and strings, slices, arrays and maps of no length.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String, reflect.Slice, reflect.Array, reflect.Map:
		return v.Len() == 0
	case reflect.Struct:
		return false
	}
	return v.IsZero()
}
