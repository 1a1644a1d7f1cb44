package wire

import (
	"encoding"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
)

// fallbackTag names the fields that have no tag `msgpack`.
const fallbackTag = "json"

// maxFields lets a walk note the fields it has seen in one word.
const maxFields = 64

// shape is what a walk needs to know of a Go type. A pointer has the shape of what it points to.
type shape struct {
	typ    reflect.Type
	kind   reflect.Kind
	size   int     // bytes of a value, in a slice for example
	behind int     // bytes behind the pointer, if it is one
	key    *shape  // of maps
	elem   *shape  // of slices, arrays and maps
	fields []field // of structs
}

type field struct {
	name string
	*shape
}

var (
	timeType = reflect.TypeFor[time.Time]()
	byteType = reflect.TypeFor[byte]()
)

// shapes remembers shapeOf, which depends on nothing but the type: building one costs more than a message.
var shapes sync.Map // reflect.Type -> *shape

func shapeOf(t reflect.Type) (*shape, error) {
	if s, ok := shapes.Load(t); ok {
		return s.(*shape), nil
	}
	s, err := newShape(t, nil)
	if err != nil {
		return nil, fmt.Errorf("msgpack: %w", err)
	}
	shapes.Store(t, s)
	return s, nil
}

// newShape refuses what the library would decode past our checks, encode without end or panic on. above are the types that t
// is a part of.
func newShape(t reflect.Type, above []reflect.Type) (*shape, error) {
	switch {
	case t == nil:
		return nil, fmt.Errorf("nil has no type")
	case t == timeType:
		return &shape{typ: t, size: int(t.Size())}, nil
	case codesItself(t):
		return nil, fmt.Errorf("%s codes itself, which is not taken", t)
	case slices.Contains(above, t):
		return nil, fmt.Errorf("%s contains itself, which is not taken", t)
	}
	above = append(above, t)
	s := &shape{typ: t, kind: t.Kind(), size: int(t.Size())}
	var err error
	switch t.Kind() {
	case reflect.Bool, reflect.String, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
	case reflect.Pointer:
		var to *shape
		if to, err = newShape(t.Elem(), above); err == nil {
			*s = *to
			s.size, s.behind = int(t.Size()), to.behind+int(t.Elem().Size())
		}
	case reflect.Slice, reflect.Array:
		if t.Kind() == reflect.Array && t.Elem().Kind() == reflect.Uint8 && t.Elem() != byteType {
			return nil, fmt.Errorf("%s: use [%d]byte", t, t.Len())
		}
		s.elem, err = newShape(t.Elem(), above)
	case reflect.Map:
		if s.key, err = newShape(t.Key(), above); err == nil && s.key.kind != reflect.String && !s.key.integer() {
			return nil, fmt.Errorf("%s: keys must be strings or integers", t)
		}
		if err == nil {
			s.elem, err = newShape(t.Elem(), above)
		}
	case reflect.Struct:
		s.fields, err = newFields(t, above)
	default:
		err = fmt.Errorf("%s is not taken", t)
	}
	return s, err
}

func (s *shape) integer() bool { return s.kind >= reflect.Int && s.kind <= reflect.Uint64 }

// holds says whether an integer, as read by the function integer, is in the range of s.
func (s *shape) holds(n int64, big bool) bool {
	if s.kind <= reflect.Int64 {
		return !big && !s.typ.OverflowInt(n)
	}
	return (n >= 0 || big) && !s.typ.OverflowUint(uint64(n))
}

// codesItself says whether the library would leave the coding of t to t.
func codesItself(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return slices.ContainsFunc([]reflect.Type{
		reflect.TypeFor[msgpack.CustomEncoder](), reflect.TypeFor[msgpack.CustomDecoder](),
		reflect.TypeFor[msgpack.Marshaler](), reflect.TypeFor[msgpack.Unmarshaler](),
		reflect.TypeFor[encoding.BinaryMarshaler](), reflect.TypeFor[encoding.BinaryUnmarshaler](),
		reflect.TypeFor[encoding.TextMarshaler](), reflect.TypeFor[encoding.TextUnmarshaler](),
	}, p.Implements)
}

// newFields lists the fields of a struct under the names that the library gives them.
func newFields(t reflect.Type, above []reflect.Type) ([]field, error) {
	var fs []field
	for f := range t.Fields() {
		tag := f.Tag.Get("msgpack")
		if tag == "" {
			tag = f.Tag.Get(fallbackTag)
		}
		name, _, _ := strings.Cut(tag, ",")
		if name == "-" || !f.IsExported() && !f.Anonymous {
			continue
		}
		if name == "" {
			name = f.Name
		}
		switch {
		case f.Anonymous:
			return nil, fmt.Errorf("%s: %s is embedded, which is not taken", t, f.Name)
		case len(fs) == maxFields:
			return nil, fmt.Errorf("%s has more than %d fields", t, maxFields)
		case slices.ContainsFunc(fs, func(g field) bool { return g.name == name }):
			return nil, fmt.Errorf("%s has two fields %q", t, name)
		}
		s, err := newShape(f.Type, above)
		if err != nil {
			return nil, fmt.Errorf("%s.%s: %w", t, f.Name, err)
		}
		fs = append(fs, field{name, s})
	}
	return fs, nil
}
