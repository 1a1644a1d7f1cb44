package wire

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/vmihailenco/msgpack/v5"
)

// walk goes along a value and the shape it should have side by side. It refuses what the library would take wrongly, and
// rewrites what the library refuses although it is meant well. Unless there is a map or something to rewrite it allocates
// nothing. Every length in b is known to lie inside b: Check has passed it, or the library has just written it.
type walk struct {
	b      []byte
	pos    int
	memory int  // still allowed
	own    bool // b is our own encoding: it is put in order, not refused
	out    []byte
	from   int // out stands for b[:from]
}

// bytes is what b has become; it is b if nothing was rewritten.
func (w *walk) bytes() []byte {
	if w.out == nil {
		return w.b
	}
	w.mark()
	return w.out
}

// mark brings out up to pos and returns its length.
func (w *walk) mark() int {
	w.out = append(w.out, w.b[w.from:w.pos]...)
	w.from = w.pos
	return len(w.out)
}

// replace puts v in the place of b[at:pos].
func (w *walk) replace(at int, v any) error {
	b, err := msgpack.Marshal(v)
	w.out = append(append(w.out, w.b[w.from:at]...), b...)
	w.from = w.pos
	return err
}

func (w *walk) take(n int) error {
	if n > w.memory {
		return fmt.Errorf("%w: it would take too much memory for its size", ErrLimit)
	}
	w.memory -= n
	return nil
}

// next reads a header and, for values without elements, the content.
func (w *walk) next() (h header, body []byte) {
	h = parseHeader(w.b[w.pos:])
	w.pos += h.size
	if h.kind != kindArray && h.kind != kindMap {
		body = w.b[w.pos : w.pos+h.n]
		w.pos += h.n
	}
	return h, body
}

func wrong(h header, place string) error { return misfit("%s where %s belongs", h.kind, place) }

func outOfRange(s *shape) error { return misfit("a number out of the range of %s", s.kind) }

func (w *walk) value(s *shape) error {
	at := w.pos
	h, body := w.next()
	if h.kind == kindNil && (s.typ != timeType || s.behind > 0) { // the library panics on nil for a time
		return nil
	}
	if err := w.take(s.behind + len(body)); err != nil {
		return err
	}
	switch {
	case s.typ == timeType:
		return isTime(h, body)
	case s.integer():
		return w.integer(s, h, at, body)
	}
	switch s.kind {
	case reflect.Bool:
		if h.kind != kindBool {
			return wrong(h, "a bool")
		}
	case reflect.Float32, reflect.Float64:
		return w.float(s, h, at, body)
	case reflect.String:
		return w.text(h, at, body)
	case reflect.Slice, reflect.Array:
		return w.array(s, h)
	case reflect.Map:
		return w.mapping(s, h)
	default:
		return w.structure(s, h)
	}
	return nil
}

// integer reads a number whose header begins with code; big says that n holds the bits of a uint64 above the int64 range.
func integer(code byte, body []byte) (n int64, big bool) {
	if len(body) == 0 {
		return int64(int8(code)), false
	}
	var u uint64
	for _, c := range body {
		u = u<<8 | uint64(c)
	}
	if code >= 0xd0 { // signed
		unused := 64 - 8*len(body)
		return int64(u<<unused) >> unused, false
	}
	return int64(u), u > math.MaxInt64
}

// integer refuses numbers out of range, which the library cuts or wraps.
func (w *walk) integer(s *shape, h header, at int, body []byte) error {
	if h.kind != kindInt {
		return wrong(h, "an integer")
	}
	if n, big := integer(w.b[at], body); !s.holds(n, big) {
		return outOfRange(s)
	}
	return nil
}

// float rewrites float64 for float32, which the library refuses, and integers from 2^63, which it wraps.
func (w *walk) float(s *shape, h header, at int, body []byte) error {
	var f float64
	switch {
	case h.kind == kindInt:
		n, big := integer(w.b[at], body)
		if !big {
			return nil
		}
		f = float64(uint64(n))
	case h.kind != kindFloat:
		return wrong(h, "a number")
	case len(body) == 4 || s.kind == reflect.Float64:
		return nil
	default:
		f = math.Float64frombits(binary.BigEndian.Uint64(body))
	}
	if s.typ.OverflowFloat(f) {
		return outOfRange(s)
	}
	if s.kind == reflect.Float32 {
		return w.replace(at, float32(f))
	}
	return w.replace(at, f)
}

// text takes str, and bin from clients that know no str. Invalid UTF-8 is refused, and replaced in what we send.
func (w *walk) text(h header, at int, body []byte) error {
	switch {
	case h.kind != kindStr && h.kind != kindBin:
		return wrong(h, "a string")
	case utf8.Valid(body):
		return nil
	case w.own:
		return w.replace(at, string(bytes.ToValidUTF8(body, []byte("\uFFFD"))))
	}
	return misfit("a string that is not valid UTF-8")
}

func isTime(h header, body []byte) error {
	if h.kind != kindTime {
		return wrong(h, "a time")
	}
	nsec := uint32(0)
	switch len(body) {
	case 8:
		nsec = uint32(binary.BigEndian.Uint64(body) >> 34)
	case 12:
		nsec = binary.BigEndian.Uint32(body)
	}
	if nsec >= 1e9 {
		return misfit("a time with %d nanoseconds", nsec)
	}
	return nil
}

func (w *walk) array(s *shape, h header) error {
	if s.elem.typ.Kind() == reflect.Uint8 && s.elem.behind == 0 {
		if h.kind != kindBin && h.kind != kindStr {
			return wrong(h, "bytes")
		}
	} else if h.kind != kindArray {
		return wrong(h, "an array")
	}
	if s.kind == reflect.Array && h.n != s.typ.Len() {
		return misfit("%d elements where %d belong", h.n, s.typ.Len())
	}
	if h.kind != kindArray {
		return nil
	}
	if err := w.take(h.n * s.elem.size); err != nil {
		return err
	}
	for i := range h.n {
		if err := w.value(s.elem); err != nil {
			return within(strconv.Itoa(i), err)
		}
	}
	return nil
}

func (w *walk) structure(s *shape, h header) error {
	if h.kind != kindMap {
		return wrong(h, "a map")
	}
	var seen uint64 // bits of the fields
	for range h.n {
		h, key := w.next()
		if h.kind != kindStr {
			return wrong(h, "a field name")
		}
		i := slices.IndexFunc(s.fields, func(f field) bool { return f.name == string(key) })
		switch {
		case i < 0:
			return misfit("unknown field %.64q", key)
		case seen&(1<<i) != 0:
			return misfit("field %q stands twice", key)
		}
		seen |= 1 << i
		if err := w.value(s.fields[i].shape); err != nil {
			return within(s.fields[i].name, err)
		}
	}
	return nil
}

// entry is one of a map: its key, and where it stands in out.
type entry struct {
	text    []byte
	num     int64
	at, end int
}

func (e entry) compare(f entry) int {
	return cmp.Or(cmp.Compare(e.num, f.num), bytes.Compare(e.text, f.text))
}

func (e entry) String() string {
	if e.text != nil {
		return string(e.text)
	}
	return strconv.FormatInt(e.num, 10)
}

// entryMemory is what an entry of a map takes besides its key and value: 16 bytes or so in the map, the rest here.
const entryMemory = 16 + 56

// mapping refuses repeated keys. Our own maps are sorted: the library sorts only three types of them.
func (w *walk) mapping(s *shape, h header) error {
	if h.kind != kindMap {
		return wrong(h, "a map")
	}
	if err := w.take(h.n * (s.key.size + s.elem.size + entryMemory)); err != nil {
		return err
	}
	entries := make([]entry, h.n)
	for i := range entries {
		e := &entries[i]
		if w.own {
			e.at = w.mark()
		}
		if err := w.key(s.key, e); err != nil {
			return err
		}
		if err := w.value(s.elem); err != nil {
			return within(e.String(), err)
		}
		if w.own {
			e.end = w.mark()
		}
	}
	if !slices.IsSortedFunc(entries, entry.compare) {
		from := entries[0].at
		slices.SortFunc(entries, entry.compare)
		if w.own {
			w.reorder(from, entries)
		}
	}
	for i := 1; i < len(entries); i++ {
		if entries[i-1].compare(entries[i]) == 0 {
			return misfit("key %.64q stands twice", entries[i].String())
		}
	}
	return nil
}

func (w *walk) reorder(from int, entries []entry) {
	unsorted := bytes.Clone(w.out[from:])
	sorted := w.out[:from]
	for _, e := range entries {
		sorted = append(sorted, unsorted[e.at-from:e.end-from]...)
	}
}

// key reads the key of a map entry. Where integers belong it takes decimals too, since in JSON keys are strings, and rewrites
// them.
func (w *walk) key(s *shape, e *entry) error {
	at := w.pos
	h, body := w.next()
	switch {
	case s.kind == reflect.String && h.kind == kindStr && utf8.Valid(body):
		e.text = body
		return w.take(len(body))
	case s.kind == reflect.String:
		return wrong(h, "a key of valid UTF-8")
	case h.kind == kindInt:
		n, big := integer(w.b[at], body)
		if !s.holds(n, big) {
			return outOfRange(s)
		}
		e.num = n
		return nil
	}
	n, err := strconv.ParseInt(string(body), 10, 64)
	if h.kind != kindStr || err != nil || !s.holds(n, false) {
		return wrong(h, "a key in the range of "+s.kind.String())
	}
	e.num = n
	return w.replace(at, int(n))
}
