// Package packed is the container of a model's parts: named matrices in the layout that the kernels
// read, and named vectors of float32. It is what a node stores, sends and maps; opening one converts
// nothing. Equal input gives equal bytes, so that a part can be named by its digest.
//
// Layout, little endian: "LAMP", version u32, entries u32, header bytes u32; then for each entry its
// name (u16 length, bytes), type u32, rows u32 (0 for a vector), cols u32, offset u64, size u64. The data
// of the entries follow in the same order, each at the next multiple of 64 bytes, the gaps zero.
package packed

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"lamina/kernels"
)

const (
	magic      = "LAMP"
	version    = 1
	align      = 64
	fixed      = 16 // bytes before the first entry
	maxEntries = 4096
	maxName    = 255
	entryBytes = 2 + 4 + 4 + 4 + 8 + 8 // and the name
)

// ErrFormat: the bytes are not a well-formed part. It was damaged or made by another version; add the
// model again.
var ErrFormat = errors.New("packed: malformed part")

// Item is a tensor to be encoded. Src holds Rows GGUF rows of Cols elements, or for Rows == 0 one
// vector, which is stored as float32 whatever its Type.
type Item struct {
	Name       string
	Type       kernels.Type
	Rows, Cols int
	Src        []byte
}

// size returns the bytes that the item takes in a part.
func (it Item) size() (int64, error) {
	if it.Rows == 0 {
		if it.Cols <= 0 || it.Cols > math.MaxInt32 {
			return 0, fmt.Errorf("%w: a vector of %d elements", ErrFormat, it.Cols)
		}
		return 4 * int64(it.Cols), nil
	}
	return kernels.PackedSize(it.Type, it.Rows, it.Cols)
}

func roundUp(n int64) int64 { return (n + align - 1) / align * align }

// Size returns the bytes of the part that Encode makes of the items.
func Size(items []Item) (int64, error) {
	places, err := layout(items)
	if err != nil {
		return 0, err
	}
	return places[len(items)], nil
}

// layout returns where the items' data begin, and the end of the part.
func layout(items []Item) ([]int64, error) {
	head := int64(fixed)
	for _, it := range items {
		if it.Name == "" || len(it.Name) > maxName {
			return nil, fmt.Errorf("%w: a name of %d bytes", ErrFormat, len(it.Name))
		}
		head += entryBytes + int64(len(it.Name))
	}
	if len(items) > maxEntries {
		return nil, fmt.Errorf("%w: %d entries, at most %d", ErrFormat, len(items), maxEntries)
	}
	places := make([]int64, len(items)+1)
	places[0] = roundUp(head)
	for i, it := range items {
		n, err := it.size()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", it.Name, err)
		}
		places[i+1] = roundUp(places[i] + n)
	}
	return places, nil
}

// Encode packs the items into a part. It writes into buf's memory if that is large enough; the caller
// owns the result. Errors name the item and wrap those of kernels.Pack.
func Encode(buf []byte, items []Item) ([]byte, error) {
	places, err := layout(items)
	if err != nil {
		return nil, err
	}
	total := places[len(items)]
	if int64(cap(buf)) < total {
		buf = make([]byte, total)
	}
	buf = buf[:total]
	end, err := putHeader(buf[:0], items, places)
	if err != nil {
		return nil, err
	}
	clear(buf[end:places[0]])
	for i, it := range items {
		n, _ := it.size()
		slot := buf[places[i]:places[i+1]]
		if err := put(slot[:n:n], it); err != nil {
			return nil, fmt.Errorf("%s: %w", it.Name, err)
		}
		clear(slot[n:])
	}
	return buf, nil
}

func putHeader(b []byte, items []Item, places []int64) (int, error) {
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint32(b, version)
	b = le.AppendUint32(b, uint32(len(items)))
	b = le.AppendUint32(b, uint32(places[0]))
	for i, it := range items {
		n, err := it.size()
		if err != nil {
			return 0, err
		}
		t := it.Type
		if it.Rows == 0 {
			t = kernels.F32
		}
		b = le.AppendUint16(b, uint16(len(it.Name)))
		b = append(b, it.Name...)
		b = le.AppendUint32(b, uint32(t))
		b = le.AppendUint32(b, uint32(it.Rows))
		b = le.AppendUint32(b, uint32(it.Cols))
		b = le.AppendUint64(b, uint64(places[i]))
		b = le.AppendUint64(b, uint64(n))
	}
	return len(b), nil
}

func put(dst []byte, it Item) error {
	if it.Rows > 0 {
		return kernels.Pack(dst, it.Src, it.Type, it.Rows, it.Cols)
	}
	v := make([]float32, it.Cols)
	if err := kernels.Dequantize(v, it.Type, it.Src); err != nil {
		return err
	}
	for i, x := range v {
		binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(x))
	}
	return nil
}
