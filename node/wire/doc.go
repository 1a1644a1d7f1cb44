// Package wire encodes and decodes MessagePack between peers and with clients.
//
// The decoder trusts nothing. Unmarshal first walks the bytes without allocating (Check): nesting, the
// number of elements, and every length against the bytes that are left. Only then is memory taken, and never
// more than a fixed multiple of the input. Values go into typed Go values; unknown and repeated fields,
// numbers that do not fit and bytes after the value are refused with the path of the field. No input makes
// it panic, recurse deep or allocate much (see FuzzUnmarshal).
//
// It is a codec of its own because the usual one, vmihailenco/msgpack v5.4.1, needs the walk in front of it
// anyway (5 bytes make it ask for gigabytes), and behind the walk still cuts 2^32+5 to 5 in an int32 field, wraps
// -1 to 2^64-1 in a uint64 field, and refuses the float64 that every Python client sends for a float32 field.
//
// Mapping: structs are maps keyed by field name, taken from the tag `msgpack:"name,omitempty"`, else from
// `json:"name,omitempty"`, else the Go name; "-" leaves a field out; embedded structs are flattened. Slices and
// arrays are arrays, []byte is bin, string is str (valid UTF-8), time.Time is the timestamp extension; maps have
// string or integer keys and are written in key order. Into an `any` go nil, bool, int64, uint64 (only above the
// int64 range), float64, string, []byte, []any, map[string]any and time.Time. Nil leaves the zero value.
// Specification: github.com/msgpack/msgpack, spec.md.
package wire

import "errors"

// Errors of decoding, wrapped with the particulars.
var (
	// ErrMalformed: the bytes are not one MessagePack value.
	ErrMalformed = errors.New("malformed msgpack")
	// ErrLimit: the value is larger than the limits allow.
	ErrLimit = errors.New("msgpack over limit")
	// ErrField: the value does not fit the type: an unknown or repeated field, a wrong type, a number out of range.
	ErrField = errors.New("msgpack does not fit")
)

// Limits bounds a value before anything is allocated for it. A field that is zero takes its value from Peer.
type Limits struct {
	Bytes    int // of the whole encoding
	Depth    int // of nested arrays and maps; at most 256
	Elements int // array elements and map entries, all together
}

// Peer is the limit of headers between peers: 64 KiB, depth 8, 4,096 elements.
func Peer() Limits { return Limits{Bytes: 64 << 10, Depth: 8, Elements: 4096} }

// maxDepth keeps recursion shallow whatever the caller asks for.
const maxDepth = 256

func (l Limits) orPeer() Limits {
	p := Peer()
	if l.Bytes <= 0 {
		l.Bytes = p.Bytes
	}
	if l.Depth <= 0 {
		l.Depth = p.Depth
	}
	if l.Elements <= 0 {
		l.Elements = p.Elements
	}
	l.Depth = min(l.Depth, maxDepth)
	return l
}

// Marshaler is a type with an encoding of its own. MarshalMsgpack returns exactly one MessagePack value.
type Marshaler interface {
	MarshalMsgpack() ([]byte, error)
}

// Unmarshaler is a type with a decoding of its own. UnmarshalMsgpack gets exactly one MessagePack value, already
// checked against the limits, and must not keep it.
type Unmarshaler interface {
	UnmarshalMsgpack(b []byte) error
}
