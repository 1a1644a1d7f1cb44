package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"reflect"
	"strings"

	"lamina/node/wire"
)

// Codec is a way to write messages.
type Codec uint8

// The codecs. JSON is the zero value: what is spoken when nobody asks for anything else.
const (
	JSON Codec = iota
	Msgpack
)

// Media types of the codecs.
const (
	TypeJSON    = "application/json"
	TypeMsgpack = "application/msgpack"
	TypeSSE     = "text/event-stream"
)

// maxElements bounds the array elements and map entries of a msgpack message: prompts of token ids are long.
const maxElements = 4 << 20

// ErrMessage is wrapped by every DecodeError.
var ErrMessage = errors.New("message does not fit")

// DecodeError is a message that is not what it should be. Field is the path of the field at fault ("options.top_p",
// "messages.3.role"), empty if the message as a whole is.
type DecodeError struct {
	Field string
	Err   error
}

// Error names the field and the cause.
func (e *DecodeError) Error() string {
	if e.Field == "" {
		return e.Err.Error()
	}
	return e.Field + ": " + e.Err.Error()
}

// Unwrap returns ErrMessage and the cause.
func (e *DecodeError) Unwrap() []error { return []error{ErrMessage, e.Err} }

// CodecOf tells the codec of a media type; ok is false for one that is neither.
func CodecOf(contentType string) (c Codec, ok bool) {
	t, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return JSON, false
	}
	switch t {
	case TypeJSON:
		return JSON, true
	case TypeMsgpack, "application/x-msgpack", "application/vnd.msgpack":
		return Msgpack, true
	}
	return JSON, false
}

// Type is the media type of one message.
func (c Codec) Type() string {
	if c == Msgpack {
		return TypeMsgpack
	}
	return TypeJSON
}

// StreamType is the media type of a sequence of messages.
func (c Codec) StreamType() string {
	if c == Msgpack {
		return TypeMsgpack
	}
	return TypeSSE
}

// Marshal encodes one message. JSON ends without a line break and leaves <, > and & as they are.
func (c Codec) Marshal(v any) ([]byte, error) {
	if c == Msgpack {
		return wire.Marshal(v)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// Unmarshal decodes exactly one message into v, a pointer to a struct. Depth, counts and lengths are checked before
// anything is allocated; unknown and repeated fields are refused. Errors are *DecodeError.
func (c Codec) Unmarshal(data []byte, v any) error {
	if c == JSON {
		return DecodeJSON(data, v, true)
	}
	err := wire.Unmarshal(data, v, wire.Limits{Bytes: len(data) + 1, Depth: MaxDepth, Elements: maxElements})
	var field *wire.Error
	switch {
	case err == nil:
		return nil
	case errors.As(err, &field):
		return &DecodeError{Field: field.Path, Err: field.Err}
	}
	return &DecodeError{Err: err}
}

// DecodeJSON decodes exactly one JSON text into v after ScanJSON; strict refuses fields that v does not know.
// Errors are *DecodeError.
func DecodeJSON(data []byte, v any, strict bool) error {
	if err := ScanJSON(data); err != nil {
		return &DecodeError{Err: err}
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if strict {
		d.DisallowUnknownFields()
	}
	if err := d.Decode(v); err != nil {
		return describeJSON(err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return &DecodeError{Err: errors.New("JSON text: one value is wanted, more follows it")}
	}
	return nil
}

// describeJSON turns an error of encoding/json, which speaks of Go, into one that speaks of the message.
func describeJSON(err error) error {
	var field *DecodeError
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &field):
		return field
	case errors.As(err, &kind):
		got := kind.Value
		if n, ok := strings.CutPrefix(got, "number "); ok && strings.Trim(n, "-0123456789") == "" {
			got = "a number out of range"
		}
		return &DecodeError{Field: kind.Field, Err: fmt.Errorf("%s is wanted, not %s", kindName(kind.Type), got)}
	case errors.As(err, &syntax):
		return &DecodeError{Err: fmt.Errorf("not valid JSON: %s at byte %d", syntax.Error(), syntax.Offset)}
	case errors.Is(err, io.EOF):
		return &DecodeError{Err: errors.New("not valid JSON: the text is empty")}
	case errors.Is(err, io.ErrUnexpectedEOF):
		return &DecodeError{Err: errors.New("not valid JSON: the text ends too early")}
	}
	if name, ok := strings.CutPrefix(err.Error(), "json: unknown field "); ok {
		name = clip(strings.Trim(name, `"`), 64)
		return &DecodeError{Field: name, Err: errors.New("unknown field; check the spelling")}
	}
	return &DecodeError{Err: errors.New("not valid JSON for this request")}
}

// kindName names a Go type as JSON would.
func kindName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.Bool:
		return "a boolean"
	case reflect.String:
		return "a string"
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Pointer:
		return kindName(t.Elem())
	}
	return "an integer"
}
