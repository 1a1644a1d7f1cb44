package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"
)

// Unmarshal checks b against lim (zero fields: see Limits) and decodes it into v, a non-nil pointer. On an error what v points to
// is unspecified. Errors wrap ErrMalformed, ErrLimit or ErrField; an *Error names the field.
func Unmarshal(b []byte, v any, lim Limits) error {
	if err := Check(b, lim); err != nil {
		return err
	}
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("msgpack: cannot decode into %T: a non-nil pointer is needed", v)
	}
	d := decoder{b: b, memory: memoryPerByte*len(b) + memoryBase}
	return d.value(p.Elem())
}

// Decoding may take this much memory for a byte of input and besides; honest messages stay far below
// (an integer of one byte in a []int64 takes 8, an empty string in an []any 32).
const (
	memoryPerByte = 64
	memoryBase    = 64 << 10
)

// Error is a value that does not fit its place.
type Error struct {
	Path string // "messages.0.role"; empty for the value as a whole
	Err  error
}

// Error names the field and the cause.
func (e *Error) Error() string {
	if e.Path == "" {
		return e.Err.Error()
	}
	return e.Path + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// within puts a step in front of the path of err.
func within(step string, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if !errors.As(err, &e) {
		return &Error{Path: step, Err: err}
	}
	if e.Path != "" {
		step += "." + e.Path
	}
	return &Error{Path: step, Err: e.Err}
}

func misfit(format string, args ...any) error {
	return &Error{Err: fmt.Errorf("%w: "+format, append([]any{ErrField}, args...)...)}
}

// decoder walks bytes that Check has passed: every length is known to lie inside b.
type decoder struct {
	b      []byte
	pos    int
	memory int // still allowed
	fields fieldCache
}

func (d *decoder) take(n int) error {
	if n > d.memory {
		return fmt.Errorf("%w: it would take too much memory for its size", ErrLimit)
	}
	d.memory -= n
	return nil
}

// next reads a header and, for values without elements, the content.
func (d *decoder) next() (h header, code byte, body []byte) {
	code = d.b[d.pos]
	h = parseHeader(d.b[d.pos:])
	d.pos += h.size
	if h.kind != kindArray && h.kind != kindMap {
		body = d.b[d.pos : d.pos+h.n]
		d.pos += h.n
	}
	return h, code, body
}

// skip passes over one value.
func (d *decoder) skip() {
	for todo := 1; todo > 0; todo-- {
		h, _, _ := d.next()
		switch h.kind {
		case kindArray:
			todo += h.n
		case kindMap:
			todo += 2 * h.n
		}
	}
}

func (d *decoder) value(v reflect.Value) error {
	if v.CanAddr() && reflect.PointerTo(v.Type()).Implements(unmarshalerType) {
		return d.custom(v)
	}
	if d.b[d.pos] == 0xc0 {
		d.pos++
		v.SetZero()
		return nil
	}
	switch v.Kind() {
	case reflect.Pointer:
		if err := d.take(int(v.Type().Elem().Size())); err != nil {
			return err
		}
		if v.IsNil() {
			v.Set(reflect.New(v.Type().Elem()))
		}
		return d.value(v.Elem())
	case reflect.Slice, reflect.Array:
		return d.array(v)
	case reflect.Map:
		return d.mapping(v)
	case reflect.Struct:
		if v.Type() == timeType {
			return d.time(v)
		}
		return d.structure(v)
	case reflect.Interface:
		if v.NumMethod() != 0 {
			return misfit("cannot decode into %s", v.Type())
		}
		x, err := d.any()
		if err == nil && x != nil {
			v.Set(reflect.ValueOf(x))
		}
		return err
	}
	return d.scalar(v)
}

func (d *decoder) custom(v reflect.Value) error {
	from := d.pos
	d.skip()
	return v.Addr().Interface().(Unmarshaler).UnmarshalMsgpack(d.b[from:d.pos])
}

func (d *decoder) scalar(v reflect.Value) error {
	h, code, body := d.next()
	switch v.Kind() {
	case reflect.Bool:
		if h.kind != kindBool {
			return misfit("%s where a bool belongs", h.kind)
		}
		v.SetBool(code == 0xc3)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		n, big, err := integer(h, code, body)
		if err != nil {
			return err
		}
		if big || v.OverflowInt(n) {
			return misfit("a number out of the range of %s", v.Kind())
		}
		v.SetInt(n)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		n, big, err := integer(h, code, body)
		if err != nil {
			return err
		}
		if n < 0 && !big || v.OverflowUint(uint64(n)) {
			return misfit("a number out of the range of %s", v.Kind())
		}
		v.SetUint(uint64(n))
	case reflect.Float32, reflect.Float64:
		f, err := float(h, code, body)
		if err != nil {
			return err
		}
		if v.OverflowFloat(f) {
			return misfit("a number out of the range of %s", v.Kind())
		}
		v.SetFloat(f)
	case reflect.String:
		s, err := d.text(h, body)
		if err != nil {
			return err
		}
		v.SetString(s)
	default:
		return misfit("cannot decode into %s", v.Type())
	}
	return nil
}

// integer reads a number; big says that n holds the bits of a uint64 above the int64 range.
func integer(h header, code byte, body []byte) (n int64, big bool, err error) {
	if h.kind != kindInt {
		return 0, false, misfit("%s where an integer belongs", h.kind)
	}
	switch code {
	case 0xcc:
		return int64(body[0]), false, nil
	case 0xcd:
		return int64(binary.BigEndian.Uint16(body)), false, nil
	case 0xce:
		return int64(binary.BigEndian.Uint32(body)), false, nil
	case 0xcf:
		u := binary.BigEndian.Uint64(body)
		return int64(u), u > math.MaxInt64, nil
	case 0xd0:
		return int64(int8(body[0])), false, nil
	case 0xd1:
		return int64(int16(binary.BigEndian.Uint16(body))), false, nil
	case 0xd2:
		return int64(int32(binary.BigEndian.Uint32(body))), false, nil
	case 0xd3:
		return int64(binary.BigEndian.Uint64(body)), false, nil
	}
	return int64(int8(code)), false, nil
}

func float(h header, code byte, body []byte) (float64, error) {
	if h.kind == kindInt {
		n, big, err := integer(h, code, body)
		if big {
			return float64(uint64(n)), err
		}
		return float64(n), err
	}
	if h.kind != kindFloat {
		return 0, misfit("%s where a number belongs", h.kind)
	}
	if code == 0xca {
		return float64(math.Float32frombits(binary.BigEndian.Uint32(body))), nil
	}
	return math.Float64frombits(binary.BigEndian.Uint64(body)), nil
}

// text takes str, and bin from clients that know no str.
func (d *decoder) text(h header, body []byte) (string, error) {
	if h.kind != kindStr && h.kind != kindBin {
		return "", misfit("%s where a string belongs", h.kind)
	}
	if !utf8.Valid(body) {
		return "", misfit("a string that is not valid UTF-8")
	}
	if err := d.take(len(body)); err != nil {
		return "", err
	}
	return string(body), nil
}

func (d *decoder) time(v reflect.Value) error {
	h, _, body := d.next()
	t, err := timestamp(h, body)
	if err == nil {
		v.Set(reflect.ValueOf(t))
	}
	return err
}

// timestamp reads the three forms of the extension; the result is in UTC.
func timestamp(h header, body []byte) (time.Time, error) {
	if h.kind != kindTime {
		return time.Time{}, misfit("%s where a time belongs", h.kind)
	}
	var sec int64
	var nsec uint32
	switch len(body) {
	case 4:
		sec = int64(binary.BigEndian.Uint32(body))
	case 8:
		x := binary.BigEndian.Uint64(body)
		sec, nsec = int64(x&(1<<34-1)), uint32(x>>34)
	default:
		nsec, sec = binary.BigEndian.Uint32(body), int64(binary.BigEndian.Uint64(body[4:]))
	}
	if nsec >= 1e9 {
		return time.Time{}, misfit("a time with %d nanoseconds", nsec)
	}
	return time.Unix(sec, int64(nsec)).UTC(), nil
}

func (d *decoder) array(v reflect.Value) error {
	h, _, body := d.next()
	if v.Type().Elem().Kind() == reflect.Uint8 && (h.kind == kindBin || h.kind == kindStr) {
		return d.bytes(v, body)
	}
	if h.kind != kindArray {
		return misfit("%s where an array belongs", h.kind)
	}
	if v.Kind() == reflect.Array {
		if h.n != v.Len() {
			return misfit("%d elements where %d belong", h.n, v.Len())
		}
	} else {
		if err := d.take(h.n * int(v.Type().Elem().Size())); err != nil {
			return err
		}
		v.Set(reflect.MakeSlice(v.Type(), h.n, h.n))
	}
	for i := range h.n {
		if err := d.value(v.Index(i)); err != nil {
			return within(strconv.Itoa(i), err)
		}
	}
	return nil
}

func (d *decoder) bytes(v reflect.Value, body []byte) error {
	if v.Kind() == reflect.Array && len(body) != v.Len() {
		return misfit("%d bytes where %d belong", len(body), v.Len())
	}
	if v.Kind() == reflect.Slice {
		if err := d.take(len(body)); err != nil {
			return err
		}
		v.Set(reflect.MakeSlice(v.Type(), len(body), len(body)))
	}
	for i, c := range body {
		v.Index(i).SetUint(uint64(c))
	}
	return nil
}

// entryOverhead is what an entry of a Go map takes besides its key and value, rounded up.
const entryOverhead = 16

func (d *decoder) mapping(v reflect.Value) error {
	h, _, _ := d.next()
	if h.kind != kindMap {
		return misfit("%s where a map belongs", h.kind)
	}
	t := v.Type()
	if err := d.take(h.n * (int(t.Key().Size()+t.Elem().Size()) + entryOverhead)); err != nil {
		return err
	}
	switch z := reflect.Zero(t.Key()); {
	case t.Key().Kind() == reflect.String, z.CanInt(), z.CanUint():
	default:
		return misfit("cannot decode into %s", t)
	}
	m := reflect.MakeMapWithSize(t, h.n)
	for range h.n {
		k := reflect.New(t.Key()).Elem()
		if err := d.value(k); err != nil {
			return err
		}
		if m.MapIndex(k).IsValid() {
			return misfit("key %v stands twice", k)
		}
		e := reflect.New(t.Elem()).Elem()
		if err := d.value(e); err != nil {
			return within(fmt.Sprint(k), err)
		}
		m.SetMapIndex(k, e)
	}
	v.Set(m)
	return nil
}

func (d *decoder) structure(v reflect.Value) error {
	h, _, _ := d.next()
	if h.kind != kindMap {
		return misfit("%s where a map belongs", h.kind)
	}
	fs := d.fields.of(v.Type())
	if h.n > len(fs) {
		h.n = len(fs) + 1 // enough to meet the unknown or repeated one
	}
	seen := make([]bool, len(fs))
	for range h.n {
		kh, _, key := d.next()
		if kh.kind != kindStr {
			return misfit("%s where a field name belongs", kh.kind)
		}
		i := indexOf(fs, key)
		if i < 0 {
			return misfit("unknown field %.64q", key)
		}
		if seen[i] {
			return misfit("field %q stands twice", fs[i].name)
		}
		seen[i] = true
		if err := d.value(v.FieldByIndex(fs[i].index)); err != nil {
			return within(fs[i].name, err)
		}
	}
	return nil
}

func indexOf(fs []field, name []byte) int {
	for i := range fs {
		if fs[i].name == string(name) {
			return i
		}
	}
	return -1
}

// any decodes into the types listed in the package comment.
func (d *decoder) any() (any, error) {
	h, code, body := d.next()
	if err := d.take(16); err != nil {
		return nil, err
	}
	switch h.kind {
	case kindBool:
		return code == 0xc3, nil
	case kindInt:
		n, big, err := integer(h, code, body)
		if big {
			return uint64(n), err
		}
		return n, err
	case kindFloat:
		return float(h, code, body)
	case kindStr:
		return d.text(h, body)
	case kindBin:
		return append([]byte{}, body...), d.take(len(body))
	case kindTime:
		return timestamp(h, body)
	case kindArray:
		return d.anyArray(h.n)
	case kindMap:
		return d.anyMap(h.n)
	}
	return nil, nil
}

func (d *decoder) anyArray(n int) (any, error) {
	if err := d.take(16 * n); err != nil {
		return nil, err
	}
	out := make([]any, n)
	for i := range out {
		var err error
		if out[i], err = d.any(); err != nil {
			return nil, within(strconv.Itoa(i), err)
		}
	}
	return out, nil
}

func (d *decoder) anyMap(n int) (any, error) {
	if err := d.take(n * (32 + entryOverhead)); err != nil {
		return nil, err
	}
	out := make(map[string]any, n)
	for range n {
		h, _, body := d.next()
		if h.kind != kindStr {
			return nil, misfit("%s where a string key belongs", h.kind)
		}
		k, err := d.text(h, body)
		if err != nil {
			return nil, err
		}
		if _, twice := out[k]; twice {
			return nil, misfit("key %.64q stands twice", k)
		}
		if out[k], err = d.any(); err != nil {
			return nil, within(k, err)
		}
	}
	return out, nil
}
