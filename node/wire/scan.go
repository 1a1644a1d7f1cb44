package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// kind is the family of a value, as its first byte tells.
type kind uint8

const (
	kindInvalid kind = iota
	kindNil
	kindBool
	kindInt
	kindFloat
	kindStr
	kindBin
	kindArray
	kindMap
	kindTime
)

var kindNames = [...]string{"an invalid code", "nil", "a bool", "an integer", "a float", "a string", "bytes", "an array", "a map", "a time"}

func (k kind) String() string { return kindNames[k] }

// header describes the first bytes of a value: size bytes of header, then n bytes of content
// (str, bin, time and numbers) or n elements (array) or n entries (map).
type header struct {
	kind kind
	size int
	n    int
}

// extTime is the type number of the timestamp extension; the only extension that is taken.
const extTime = 0xff

// headerSize says how many bytes, the code included, must be at hand before parseHeader is called; 0 for a code
// that is not taken.
func headerSize(c byte) int {
	switch {
	case c < 0xc0 || c >= 0xe0, c == 0xc0, c == 0xc2, c == 0xc3, c >= 0xca && c <= 0xd3:
		return 1
	case c == 0xc4, c == 0xd9, c == 0xd6, c == 0xd7:
		return 2
	case c == 0xc5, c == 0xda, c == 0xdc, c == 0xde, c == 0xc7:
		return 3
	case c == 0xc6, c == 0xdb, c == 0xdd, c == 0xdf:
		return 5
	}
	return 0
}

// parseHeader reads the header at the start of b, which holds headerSize(b[0]) bytes or more.
func parseHeader(b []byte) header {
	c := b[0]
	switch {
	case c < 0x80 || c >= 0xe0:
		return header{kindInt, 1, 0}
	case c < 0x90:
		return header{kindMap, 1, int(c & 15)}
	case c < 0xa0:
		return header{kindArray, 1, int(c & 15)}
	case c < 0xc0:
		return header{kindStr, 1, int(c & 31)}
	}
	switch c {
	case 0xc0:
		return header{kindNil, 1, 0}
	case 0xc2, 0xc3:
		return header{kindBool, 1, 0}
	case 0xc4, 0xc5, 0xc6:
		return sized(kindBin, b, c-0xc4)
	case 0xca, 0xcb:
		return header{kindFloat, 1, 4 << (c - 0xca)}
	case 0xcc, 0xcd, 0xce, 0xcf:
		return header{kindInt, 1, 1 << (c - 0xcc)}
	case 0xd0, 0xd1, 0xd2, 0xd3:
		return header{kindInt, 1, 1 << (c - 0xd0)}
	case 0xd9, 0xda, 0xdb:
		return sized(kindStr, b, c-0xd9)
	case 0xdc, 0xdd:
		return sized(kindArray, b, c-0xdc+1)
	case 0xde, 0xdf:
		return sized(kindMap, b, c-0xde+1)
	case 0xd6, 0xd7:
		if b[1] == extTime {
			return header{kindTime, 2, 4 << (c - 0xd6)}
		}
	case 0xc7:
		if b[1] == 12 && b[2] == extTime {
			return header{kindTime, 3, 12}
		}
	}
	return header{kind: kindInvalid}
}

// sized reads a length of 1<<width bytes behind the code.
func sized(k kind, b []byte, width byte) header {
	switch width {
	case 0:
		return header{k, 2, int(b[1])}
	case 1:
		return header{k, 3, int(binary.BigEndian.Uint16(b[1:]))}
	}
	return header{k, 5, int(binary.BigEndian.Uint32(b[1:]))}
}

// Check walks b without allocating and says whether it is exactly one MessagePack value within lim:
// nil, or an error that wraps ErrMalformed or ErrLimit.
func Check(b []byte, lim Limits) error {
	lim = lim.orPeer()
	if len(b) > lim.Bytes {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrLimit, len(b), lim.Bytes)
	}
	s := scanner{b: b, depth: lim.Depth, elements: lim.Elements}
	if err := s.value(0); err != nil {
		return err
	}
	if s.pos != len(b) {
		return fmt.Errorf("%w: %d bytes after the value", ErrMalformed, len(b)-s.pos)
	}
	return nil
}

var (
	errShort    = fmt.Errorf("%w: it ends in the middle of a value", ErrMalformed)
	errCode     = fmt.Errorf("%w: a code or extension that is not taken", ErrMalformed)
	errDepth    = fmt.Errorf("%w: nested too deep", ErrLimit)
	errElements = fmt.Errorf("%w: too many elements", ErrLimit)
)

type scanner struct {
	b        []byte
	pos      int
	depth    int
	elements int // still allowed
}

func (s *scanner) value(depth int) error {
	h, err := headerAt(s.b[s.pos:])
	if err != nil {
		return err
	}
	s.pos += h.size
	count := h.n
	switch h.kind {
	case kindArray:
	case kindMap:
		count = 2 * h.n
	default:
		if h.n > len(s.b)-s.pos {
			return errShort
		}
		s.pos += h.n
		return nil
	}
	switch {
	case count > len(s.b)-s.pos: // every element takes a byte at least
		return errShort
	case depth >= s.depth:
		return errDepth
	case h.n > s.elements:
		return errElements
	}
	s.elements -= h.n
	for range count {
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// headerAt reads a header from b with all its checks.
func headerAt(b []byte) (header, error) {
	if len(b) == 0 {
		return header{}, errShort
	}
	size := headerSize(b[0])
	if size == 0 {
		return header{}, errCode
	}
	if len(b) < size {
		return header{}, errShort
	}
	h := parseHeader(b)
	if h.kind == kindInvalid {
		return header{}, errCode
	}
	return h, nil
}

// Read takes exactly one value from a stream of values and returns its bytes, appended to buf[:0]. It reads no
// further than the value, and takes memory only as bytes arrive. At the end of the stream between two values the error
// is io.EOF; inside a value it wraps io.ErrUnexpectedEOF.
func Read(r *bufio.Reader, buf []byte, lim Limits) ([]byte, error) {
	lim = lim.orPeer()
	s := reader{r: r, b: buf[:0], max: lim.Bytes, depth: lim.Depth, elements: lim.Elements}
	if _, err := r.Peek(1); err != nil {
		return s.b, err
	}
	err := s.value(0)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return s.b, err
}

type reader struct {
	r        *bufio.Reader
	b        []byte
	max      int
	depth    int
	elements int
}

func (s *reader) value(depth int) error {
	c, err := s.r.Peek(1)
	if err != nil {
		return err
	}
	size := headerSize(c[0])
	if size == 0 {
		return errCode
	}
	head, err := s.r.Peek(size)
	if err != nil {
		return err
	}
	h := parseHeader(head)
	if h.kind == kindInvalid {
		return errCode
	}
	if h.kind != kindArray && h.kind != kindMap {
		return s.take(h.size + h.n)
	}
	switch {
	case depth >= s.depth:
		return errDepth
	case h.n > s.elements:
		return errElements
	}
	if err := s.take(h.size); err != nil {
		return err
	}
	s.elements -= h.n
	count := h.n
	if h.kind == kindMap {
		count = 2 * h.n
	}
	for range count {
		if err := s.value(depth + 1); err != nil {
			return err
		}
	}
	return nil
}

// take moves n bytes from the stream to the buffer, at most 64 KiB at a time so that a claimed length costs nothing.
func (s *reader) take(n int) error {
	if n > s.max-len(s.b) {
		return fmt.Errorf("%w: more than %d bytes", ErrLimit, s.max)
	}
	for n > 0 {
		part := min(n, 64<<10)
		at := len(s.b)
		s.b = append(s.b, make([]byte, part)...)
		got, err := io.ReadFull(s.r, s.b[at:])
		if err != nil {
			s.b = s.b[:at+got]
			return err
		}
		n -= part
	}
	return nil
}
