// Package wire encodes and decodes MessagePack between peers and with clients.
//
// Coding is done by github.com/vmihailenco/msgpack, which is fast and complete but must not meet bytes from outside: in
// v5.4.1 five bytes ask for gigabytes, deep nesting overflows the stack, 2^32+5 becomes 5 in an int32 and -1 becomes
// 2^64-1 in a uint64, nil for a time panics, and the doubles that every Python client sends are refused for a float32. So
// Unmarshal goes over the bytes twice before the library does:
//
//   - Check knows no types and allocates nothing: nesting, the number of elements, and every length against the bytes
//     that are left.
//   - A walk of bytes and Go type side by side refuses unknown and repeated fields and keys, wrong types, numbers out of
//     range, strings that are not UTF-8, and what would take more memory than a fixed multiple of the input, with the path
//     of the field. It rewrites doubles for float32 fields, and decimal strings for the integer keys of a map.
//
// No input makes Unmarshal panic, recurse deep or allocate much (see FuzzUnmarshal). Marshal sends its output along the same
// walk, which sorts maps and replaces invalid UTF-8: what leaves is what the other side takes.
//
// Only typed values are taken: no interfaces, no embedded fields, no types that contain themselves or code themselves,
// at most 64 fields. Structs are maps keyed by field name, taken from the tag `msgpack:"name,omitempty"`, else from
// `json:"name,omitempty"`, else the Go name; "-" leaves a field out. Slices and arrays are arrays, []byte is bin, string is
// str (bin is read too), integers take their shortest form, time.Time is the timestamp extension (read into the local
// zone); maps have string or integer keys. Nil leaves the zero value, except for a time. Specification:
// github.com/msgpack/msgpack, spec.md.
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
