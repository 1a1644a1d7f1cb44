package wire

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"reflect"

	"github.com/vmihailenco/msgpack/v5"
)

// Marshal encodes v. Equal values give equal bytes. It fails on types that the package does not take (see the package comment).
func Marshal(v any) ([]byte, error) { return Append(make([]byte, 0, 256), v) }

// Append is Marshal onto the end of dst.
func Append(dst []byte, v any) ([]byte, error) {
	s, err := shapeOf(reflect.TypeOf(v))
	if err != nil {
		return dst, err
	}
	buf := bytes.NewBuffer(dst)
	e := msgpack.GetEncoder()
	defer msgpack.PutEncoder(e)
	e.Reset(buf)
	e.UseCompactInts(true)
	e.SetCustomStructTag(fallbackTag)
	if err := e.Encode(v); err != nil {
		return dst, fmt.Errorf("msgpack: %w", err)
	}
	b := buf.Bytes()[len(dst):]
	if len(b) > math.MaxUint32 { // longer lengths wrap in the library
		return dst, fmt.Errorf("msgpack: %T of %d bytes is too large", v, len(b))
	}
	w := walk{b: b, own: true, memory: math.MaxInt}
	if err := w.value(s); err != nil {
		return dst, fmt.Errorf("msgpack: %T: %w", v, err)
	}
	if w.out != nil {
		return append(dst, w.bytes()...), nil
	}
	return buf.Bytes(), nil
}

// Decoding may take this much memory for a byte of input and besides; honest messages stay far below
// (an integer of one byte in a []int64 takes 8, an entry of two bytes in a map[int32]float32 about 80).
const (
	memoryPerByte = 64
	memoryBase    = 64 << 10
)

// Unmarshal checks b against lim (zero fields: see Limits) and decodes it into v, a non-nil pointer. What v points to is
// set to its zero value first; on an error it is unspecified. Errors wrap ErrMalformed, ErrLimit or ErrField; an *Error
// names the field.
func Unmarshal(b []byte, v any, lim Limits) error {
	if err := Check(b, lim); err != nil {
		return err
	}
	p := reflect.ValueOf(v)
	if p.Kind() != reflect.Pointer || p.IsNil() {
		return fmt.Errorf("msgpack: cannot decode into %T: a non-nil pointer is needed", v)
	}
	s, err := shapeOf(p.Type().Elem())
	if err != nil {
		return err
	}
	w := walk{b: b, memory: memoryPerByte*len(b) + memoryBase}
	if err := w.value(s); err != nil {
		return err
	}
	p.Elem().SetZero() // the library would leave, merge or decode into what it finds
	d := msgpack.GetDecoder()
	defer msgpack.PutDecoder(d)
	d.Reset(bytes.NewReader(w.bytes()))
	d.SetCustomStructTag(fallbackTag)
	d.DisallowUnknownFields(true)
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrField, err)
	}
	return nil
}

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
