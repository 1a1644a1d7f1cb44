package gguf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"slices"

	"lamina/kernels"
)

// Limits of what a file may declare.
const (
	maxPairs     = 65536
	maxTensors   = 65536
	maxArray     = 2 << 20 // elements of one array: vocabulary and merges
	maxNesting   = 2       // arrays of arrays
	maxKey       = 65535
	maxName      = 255
	maxString    = 64 << 20
	maxDims      = 4
	maxAlignment = 1 << 20
)

// Reasons for refusing a file; each error wraps one.
var (
	// ErrFormat: the bytes are not a well-formed GGUF file. Download or convert it again.
	ErrFormat = errors.New("gguf: malformed file")
	// ErrTruncated: the file ends before what it declares. Download it again.
	ErrTruncated = errors.New("gguf: file is cut short")
	// ErrLimit: the file declares more than a model needs.
	ErrLimit = errors.New("gguf: limit exceeded")
	// ErrUnsupported: a well-formed file of a version, byte order or tensor type that is not supported.
	ErrUnsupported = errors.New("gguf: not supported")
)

// Tensor is a named array in the file. Dims are in the file's order: Dims[0] is the length of a row.
// Data is a part of the file and valid until it is closed.
type Tensor struct {
	Name string
	Type kernels.Type
	Dims []int
	Data []byte
}

// Rows returns the number of rows, the product of all dimensions but the first.
func (t Tensor) Rows() int {
	n := 1
	for _, d := range t.Dims[1:] {
		n *= d
	}
	return n
}

// Cols returns the length of a row.
func (t Tensor) Cols() int { return t.Dims[0] }

// File is a parsed GGUF file. It may be read by several goroutines.
type File struct {
	Version int
	KV      KV
	Tensors []Tensor // in file order

	byName map[string]int
	unmap  func() error
}

// Tensor returns the tensor of a name.
func (f *File) Tensor(name string) (Tensor, bool) {
	i, ok := f.byName[name]
	if !ok {
		return Tensor{}, false
	}
	return f.Tensors[i], true
}

// Close releases the mapping of a File from Open; tensor data must not be touched afterwards.
// It does nothing for a File from Parse.
func (f *File) Close() error {
	if f.unmap == nil {
		return nil
	}
	u := f.unmap
	f.unmap = nil
	return u()
}

// Parse reads a file from memory. The File refers to data, which must stay unchanged while it is used.
// Errors wrap ErrFormat, ErrTruncated, ErrLimit or ErrUnsupported.
func Parse(data []byte) (*File, error) {
	r := &reader{data: data}
	f := &File{}
	nTensors, nPairs := f.header(r)
	f.pairs(r, nPairs)
	entries := f.entries(r, nTensors)
	if r.err != nil {
		return nil, r.err
	}
	if err := f.place(data, r.at, entries); err != nil {
		return nil, err
	}
	return f, nil
}

func (f *File) header(r *reader) (tensors, pairs uint64) {
	if string(r.take(4)) != "GGUF" && r.err == nil {
		r.fail(ErrFormat, "it does not start with GGUF: not a model file, or a failed download")
	}
	v := r.u32()
	if r.err == nil && v != 2 && v != 3 {
		what := "versions 2 and 3 are; convert the model with a current llama.cpp"
		if be := bits.ReverseBytes32(v); be == 2 || be == 3 {
			what = "the file is big endian; little endian is"
		}
		r.fail(ErrUnsupported, "version %d: %s", v, what)
	}
	f.Version = int(v)
	tensors, pairs = r.u64(), r.u64()
	if tensors > maxTensors {
		r.fail(ErrLimit, "%d tensors, at most %d", tensors, maxTensors)
	}
	if pairs > maxPairs {
		r.fail(ErrLimit, "%d key-value pairs, at most %d", pairs, maxPairs)
	}
	return tensors, pairs
}

func (f *File) pairs(r *reader, n uint64) {
	var pairs []Pair // grown by what is there, not by what is announced
	seen := make(map[string]bool)
	for i := uint64(0); i < n && r.err == nil; i++ {
		key := string(r.str(maxKey, "a key"))
		r.what = key
		t := ValueType(r.u32())
		v := r.value(t, 1)
		if r.err == nil && seen[key] {
			r.fail(ErrFormat, "the key occurs twice")
		}
		r.what = ""
		seen[key] = true
		pairs = append(pairs, Pair{key, v})
	}
	f.KV = NewKV(pairs)
}

// entry is a tensor's description before its place in the file is checked.
type entry struct {
	tensor Tensor
	offset uint64
	size   uint64
}

func (f *File) entries(r *reader, n uint64) []entry {
	var list []entry
	f.byName = make(map[string]int)
	for i := uint64(0); i < n && r.err == nil; i++ {
		name := string(r.str(maxName, "a tensor's name"))
		r.what = "tensor " + name
		e := r.entry(name)
		if _, dup := f.byName[name]; dup && r.err == nil {
			r.fail(ErrFormat, "the name occurs twice")
		}
		r.what = ""
		f.byName[name] = len(list)
		list = append(list, e)
	}
	return list
}

func (r *reader) entry(name string) entry {
	nd := r.u32()
	if nd < 1 || nd > maxDims {
		r.fail(ErrFormat, "%d dimensions, 1 to %d are possible", nd, maxDims)
		return entry{}
	}
	e := entry{tensor: Tensor{Name: name, Dims: make([]int, nd)}}
	count := uint64(1)
	for i := range e.tensor.Dims {
		d := r.u64()
		hi, lo := bits.Mul64(count, d)
		if d == 0 || d > math.MaxInt32 || hi != 0 || lo > 1<<46 {
			r.fail(ErrFormat, "dimension %d is %d: empty or too large", i, d)
			return entry{}
		}
		count, e.tensor.Dims[i] = lo, int(d)
	}
	e.tensor.Type = kernels.Type(r.u32())
	e.offset = r.u64()
	if r.err == nil {
		e.size = r.bytes(e.tensor, count)
	}
	return e
}

// bytes returns the size of a tensor of count elements.
func (r *reader) bytes(t Tensor, count uint64) uint64 {
	if !t.Type.Valid() {
		r.fail(ErrUnsupported, "type %d; supported are %s: requantise the model to one of them",
			uint32(t.Type), supportedTypes())
		return 0
	}
	block := uint64(t.Type.Block())
	if uint64(t.Dims[0])%block != 0 {
		r.fail(ErrFormat, "rows of %d elements are no multiple of the %d of a %v block", t.Dims[0], block, t.Type)
		return 0
	}
	hi, size := bits.Mul64(count/block, uint64(t.Type.BlockBytes()))
	if hi != 0 {
		r.fail(ErrFormat, "too large")
	}
	return size
}

// place finds the data of every tensor and checks that it lies inside the file and on no other tensor's.
func (f *File) place(data []byte, headerEnd int, entries []entry) error {
	align, err := f.alignment()
	if err != nil || len(entries) == 0 {
		return err
	}
	start := (uint64(headerEnd) + align - 1) / align * align
	size := uint64(len(data))
	if start > size {
		return fmt.Errorf("%w: it ends at byte %d, before the tensor data at %d: fetch it again", ErrTruncated, size, start)
	}
	room := size - start
	f.Tensors = make([]Tensor, len(entries))
	for i, e := range entries {
		name := e.tensor.Name
		if e.offset%align != 0 {
			return fmt.Errorf("%w: tensor %s: offset %d is no multiple of the alignment %d", ErrFormat, name, e.offset, align)
		}
		if e.offset > room || e.size > room-e.offset {
			return fmt.Errorf("%w: tensor %s: %d bytes at offset %d end past the end of the file (%d bytes of data): fetch it again",
				ErrTruncated, name, e.size, e.offset, room)
		}
		at := start + e.offset
		e.tensor.Data = data[at : at+e.size : at+e.size]
		f.Tensors[i] = e.tensor
	}
	return overlaps(entries)
}

// overlaps refuses tensors that share bytes: a small file could otherwise stand for any number of
// layers, each to be converted and stored.
func overlaps(entries []entry) error {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b entry) int { return cmp.Compare(a.offset, b.offset) })
	for i := 1; i < len(sorted); i++ {
		if p := sorted[i-1]; p.offset+p.size > sorted[i].offset {
			return fmt.Errorf("%w: tensors %s and %s share bytes", ErrFormat, p.tensor.Name, sorted[i].tensor.Name)
		}
	}
	return nil
}

func (f *File) alignment() (uint64, error) {
	const key = "general.alignment"
	if _, ok := f.KV.Get(key); !ok {
		return 32, nil
	}
	a, ok := f.KV.Uint(key)
	if !ok || a == 0 || a > maxAlignment || bits.OnesCount64(a) != 1 {
		return 0, fmt.Errorf("%w: %s is %d; a power of two from 1 to %d is possible", ErrFormat, key, a, maxAlignment)
	}
	return a, nil
}

// supportedTypes lists the tensor types that can be read, for error messages.
func supportedTypes() string {
	s := ""
	for t := kernels.Type(0); t < 64; t++ {
		if t.Valid() {
			if s != "" {
				s += ", "
			}
			s += t.String()
		}
	}
	return s
}

// reader walks the header; after the first error every read returns zero.
type reader struct {
	data []byte
	at   int
	what string // what is being read, for errors
	err  error
}

func (r *reader) fail(kind error, format string, args ...any) {
	if r.err != nil {
		return
	}
	text := fmt.Sprintf(format, args...)
	if r.what != "" {
		text = fmt.Sprintf("%.80q: %s", r.what, text)
	}
	r.err = fmt.Errorf("%w: %s (byte %d)", kind, text, r.at)
}

func (r *reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.data)-r.at) {
		r.fail(ErrTruncated, "%d bytes are needed and %d are left: fetch it again", n, len(r.data)-r.at)
	}
	if r.err != nil {
		return nil
	}
	b := r.data[r.at : r.at+int(n) : r.at+int(n)]
	r.at += int(n)
	return b
}

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) u64() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

func (r *reader) str(limit uint64, what string) []byte {
	n := r.u64()
	if n > limit {
		r.fail(ErrLimit, "%s of %d bytes, at most %d", what, n, limit)
	}
	return r.take(n)
}

// value reads one value; arrays at the given nesting.
func (r *reader) value(t ValueType, nesting int) Value {
	switch {
	case t.size() > 0:
		return Value{Type: t, raw: r.take(uint64(t.size()))}
	case t == TypeString:
		return Value{Type: t, raw: r.str(maxString, "a string")}
	case t == TypeArray:
		return r.array(nesting)
	}
	r.fail(ErrFormat, "unknown value type %d", uint32(t))
	return Value{}
}

func (r *reader) array(nesting int) Value {
	elem, n := ValueType(r.u32()), r.u64()
	if nesting > maxNesting {
		r.fail(ErrLimit, "arrays nested deeper than %d", maxNesting)
	}
	if n > maxArray {
		r.fail(ErrLimit, "an array of %d elements, at most %d", n, maxArray)
	}
	if r.err != nil {
		return Value{}
	}
	v := Value{Type: TypeArray, elem: elem, n: int(n)}
	if size := elem.size(); size > 0 {
		v.raw = r.take(n * uint64(size))
		return v
	}
	start := r.at
	for i := uint64(0); i < n && r.err == nil; i++ {
		r.value(elem, nesting+1)
	}
	if n == 0 && elem != TypeString && elem != TypeArray {
		r.fail(ErrFormat, "unknown element type %d", uint32(elem))
	}
	v.raw = r.data[start:r.at:r.at]
	return v
}
