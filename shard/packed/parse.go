package packed

import (
	"encoding/binary"
	"fmt"
	"math"

	"lamina/kernels"
)

// Part is a parsed part. It refers to the bytes it was parsed from.
type Part struct {
	entries []entry
	byName  map[string]int
}

type entry struct {
	Item        // Src unused
	data []byte // packed
}

// Parse reads a part. data must stay unchanged while the Part and its matrices are used. Errors wrap
// ErrFormat. The weights themselves are not looked at: whoever brings the bytes has checked their digest.
func Parse(data []byte) (*Part, error) {
	le := binary.LittleEndian
	if len(data) < fixed || string(data[:4]) != magic {
		return nil, fmt.Errorf("%w: it does not start with %s", ErrFormat, magic)
	}
	if v := le.Uint32(data[4:]); v != version {
		return nil, fmt.Errorf("%w: version %d, this program reads %d: add the model again", ErrFormat, v, version)
	}
	count, head := le.Uint32(data[8:]), int64(le.Uint32(data[12:]))
	if count > maxEntries || head%align != 0 || head > int64(len(data)) || head < fixed {
		return nil, fmt.Errorf("%w: %d entries in a header of %d bytes", ErrFormat, count, head)
	}
	p := &Part{byName: make(map[string]int, min(count, uint32(head/entryBytes)))}
	rest, at := data[fixed:head], head
	for range count {
		var err error
		if rest, at, err = p.entry(data, rest, at); err != nil {
			return nil, err
		}
	}
	if at != int64(len(data)) {
		return nil, fmt.Errorf("%w: %d bytes where %d are declared", ErrFormat, len(data), at)
	}
	return p, nil
}

// entry reads the next entry from rest; its data must be at at. It returns what follows both.
func (p *Part) entry(data, rest []byte, at int64) ([]byte, int64, error) {
	le := binary.LittleEndian
	if len(rest) < 2 || len(rest) < entryBytes+int(le.Uint16(rest)) {
		return nil, 0, fmt.Errorf("%w: the header ends in an entry", ErrFormat)
	}
	n := int(le.Uint16(rest))
	name, f := string(rest[2:2+n]), rest[2+n:]
	it := Item{Name: name, Type: kernels.Type(le.Uint32(f)), Rows: int(le.Uint32(f[4:])), Cols: int(le.Uint32(f[8:]))}
	offset, size := le.Uint64(f[12:]), le.Uint64(f[20:])
	if _, dup := p.byName[name]; dup || n == 0 || n > maxName {
		return nil, 0, fmt.Errorf("%w: the name %.40q is empty, too long or there twice", ErrFormat, name)
	}
	want, err := it.size()
	if err != nil {
		return nil, 0, fmt.Errorf("%w: %.80q: %w", ErrFormat, name, err)
	}
	end := at + want
	if it.Rows == 0 && it.Type != kernels.F32 || offset != uint64(at) || size != uint64(want) || end > int64(len(data)) {
		return nil, 0, fmt.Errorf("%w: %.80q: %d bytes at %d do not fit its shape or the part", ErrFormat, name, size, offset)
	}
	p.byName[name] = len(p.entries)
	p.entries = append(p.entries, entry{it, data[at:end:end]})
	return f[28:], roundUp(end), nil
}

// Names lists the entries in the order they were encoded.
func (p *Part) Names() []string {
	names := make([]string, len(p.entries))
	for i, e := range p.entries {
		names[i] = e.Name
	}
	return names
}

// Shape returns the type, rows and columns of an entry; zero rows for a vector.
func (p *Part) Shape(name string) (t kernels.Type, rows, cols int, ok bool) {
	i, ok := p.byName[name]
	if !ok {
		return 0, 0, 0, false
	}
	e := p.entries[i]
	return e.Type, e.Rows, e.Cols, true
}

// Matrix returns a matrix that refers to the part's bytes.
func (p *Part) Matrix(name string) (*kernels.Matrix, error) {
	i, ok := p.byName[name]
	if !ok || p.entries[i].Rows == 0 {
		return nil, fmt.Errorf("%w: no matrix %q", ErrFormat, name)
	}
	e := p.entries[i]
	return kernels.NewMatrix(e.Type, e.Rows, e.Cols, e.data)
}

// Vector returns a copy of a vector.
func (p *Part) Vector(name string) ([]float32, error) {
	i, ok := p.byName[name]
	if !ok || p.entries[i].Rows != 0 {
		return nil, fmt.Errorf("%w: no vector %q", ErrFormat, name)
	}
	e := p.entries[i]
	v := make([]float32, e.Cols)
	for j := range v {
		v[j] = math.Float32frombits(binary.LittleEndian.Uint32(e.data[4*j:]))
	}
	return v, nil
}
