package gguf

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Write writes a version 3 file of pairs and tensors, in the order given, aligned as
// "general.alignment" among the pairs says (32 without it). Equal input gives equal bytes.
func Write(w io.Writer, pairs []Pair, tensors []Tensor) error {
	align, err := (&File{KV: NewKV(pairs)}).alignment()
	if err != nil {
		return err
	}
	head, err := appendHeader(nil, pairs, tensors, align)
	if err != nil {
		return err
	}
	b := bufio.NewWriterSize(w, 1<<16)
	at := uint64(len(head))
	b.Write(head) // a bufio.Writer keeps its first error for Flush
	for _, t := range tensors {
		at += zeros(b, at, align)
		b.Write(t.Data)
		at += uint64(len(t.Data))
	}
	return b.Flush()
}

func appendHeader(b []byte, pairs []Pair, tensors []Tensor, align uint64) ([]byte, error) {
	le := binary.LittleEndian
	b = append(b, "GGUF"...)
	b = le.AppendUint32(b, 3)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(pairs)))
	for _, p := range pairs {
		b = appendString(b, p.Key)
		b = appendValue(b, p.Value)
	}
	offset := uint64(0)
	for _, t := range tensors {
		if len(t.Dims) < 1 || len(t.Dims) > maxDims || !t.Type.Valid() {
			return nil, fmt.Errorf("%w: tensor %s: type %v with %d dimensions cannot be written", ErrFormat, t.Name, t.Type, len(t.Dims))
		}
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Dims)))
		count := 1
		for _, d := range t.Dims {
			b = le.AppendUint64(b, uint64(d))
			count *= d
		}
		if want := count / t.Type.Block() * t.Type.BlockBytes(); want != len(t.Data) {
			return nil, fmt.Errorf("%w: tensor %s: %d bytes given, its shape needs %d", ErrFormat, t.Name, len(t.Data), want)
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, offset)
		offset += (uint64(len(t.Data)) + align - 1) / align * align
	}
	return b, nil
}

func appendString(b []byte, s string) []byte {
	b = binary.LittleEndian.AppendUint64(b, uint64(len(s)))
	return append(b, s...)
}

func appendValue(b []byte, v Value) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(v.Type))
	switch v.Type {
	case TypeString:
		b = binary.LittleEndian.AppendUint64(b, uint64(len(v.raw)))
	case TypeArray:
		b = binary.LittleEndian.AppendUint32(b, uint32(v.elem))
		b = binary.LittleEndian.AppendUint64(b, uint64(v.n))
	}
	return append(b, v.raw...)
}

// zeros pads from position at to the next multiple of align and returns how many bytes that took.
func zeros(w *bufio.Writer, at, align uint64) uint64 {
	n := (align - at%align) % align
	for range n {
		w.WriteByte(0)
	}
	return n
}
