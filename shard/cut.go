package shard

import (
	"bytes"
	"fmt"
	"strings"

	"lamina/kernels"
	"lamina/shard/arch"
	"lamina/shard/gguf"
	"lamina/shard/packed"
)

// PartKind tells what a part holds.
type PartKind uint8

// The kinds of parts.
const (
	Meta  PartKind = iota // a GGUF file of all key-value pairs and no tensors: numbers, tokenizer, template
	Embed                 // the token embedding
	Layer                 // one layer
	Head                  // the last norm, and the output matrix unless the embedding serves as it
)

// Part names a piece of a model that is stored and fetched as one.
type Part struct {
	Kind  PartKind
	Layer int    // of a Layer
	Name  string // "meta", "embed", "layer.0", "head"
}

var (
	metaPart  = Part{Kind: Meta, Name: "meta"}
	embedPart = Part{Kind: Embed, Name: "embed"}
	headPart  = Part{Kind: Head, Name: "head"}
)

func layerPart(i int) Part { return Part{Kind: Layer, Layer: i, Name: fmt.Sprintf("layer.%d", i)} }

const outputName = "output.weight"

// PartsOf lists the parts that the stage of a span needs, metadata first. Where the model is tied, the
// last stage needs the embedding too. An encoder has no head.
func PartsOf(info Info, span Span, tied bool) []Part {
	parts := []Part{metaPart}
	last := span.End == info.Layers
	if span.First == 0 || last && tied {
		parts = append(parts, embedPart)
	}
	for i := span.First; i < span.End; i++ {
		parts = append(parts, layerPart(i))
	}
	if last && !info.Encoder {
		parts = append(parts, headPart)
	}
	return parts
}

// Cut turns a model file into its parts: metadata, embedding, layers, head. It first checks the whole
// model: that every tensor of the architecture is there with its shape, and none that the architecture
// does not know, which would be left out of the computation. Then it calls emit for one part after the
// other; data is good only during the call, so that memory stays bounded by the largest part. Equal
// files give equal parts. A file that shrinks meanwhile is an error, no fault.
func Cut(f *gguf.File, emit func(p Part, data []byte) error) error {
	c, err := NewCutter(f)
	if err != nil {
		return err
	}
	var buf []byte
	for i, p := range c.Parts() {
		if buf, err = c.Encode(i, buf); err != nil {
			return err
		}
		if err := emit(p, buf); err != nil {
			return err
		}
	}
	return nil
}

// Cutter turns a checked model file into its parts, in any order and several at once. The file must stay open.
type Cutter struct {
	file   *gguf.File
	params arch.Params
	meta   []byte
	pieces []piece
	used   map[string]bool // only while the file is checked
}

// NewCutter checks the whole model as Cut does, before anything is packed.
func NewCutter(f *gguf.File) (*Cutter, error) {
	c, err := newCutter(f)
	if err != nil {
		return nil, err
	}
	c.meta, err = c.encodeMeta()
	return c, err
}

// Parts lists the parts, metadata first.
func (c *Cutter) Parts() []Part {
	parts := []Part{metaPart}
	for _, pc := range c.pieces {
		parts = append(parts, pc.part)
	}
	return parts
}

// Size returns the bytes of part i of Parts.
func (c *Cutter) Size(i int) (int64, error) {
	if i == 0 {
		return int64(len(c.meta)), nil
	}
	n, err := packed.Size(c.pieces[i-1].items)
	if err != nil {
		return 0, fmt.Errorf("part %s: %w", c.pieces[i-1].part.Name, err)
	}
	return n, nil
}

// Encode packs part i of Parts, into buf's memory if that is large enough. The result is the caller's. Calls with different
// buffers may run at the same time. Besides a file that shrinks, only a weight itself can be wrong (an infinite scale).
func (c *Cutter) Encode(i int, buf []byte) ([]byte, error) {
	if i == 0 {
		return append(buf[:0], c.meta...), nil
	}
	pc := c.pieces[i-1]
	err := gguf.Guard(func() (err error) {
		buf, err = packed.Encode(buf, pc.items)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("part %s: %w", pc.part.Name, err)
	}
	return buf, nil
}

// piece is a part and what goes into it.
type piece struct {
	part  Part
	items []packed.Item
}

func newCutter(f *gguf.File) (*Cutter, error) {
	p, err := arch.Read(f.KV)
	if err != nil {
		return nil, err
	}
	a, err := arch.Lookup(p.Arch)
	if err != nil {
		return nil, err
	}
	c := &Cutter{file: f, params: p, used: make(map[string]bool)}
	if err := c.add(embedPart, a.Embedding(), ""); err != nil {
		return nil, err
	}
	for i := range p.Layers {
		if err := c.add(layerPart(i), a.Layer(), fmt.Sprintf("blk.%d.", i)); err != nil {
			return nil, err
		}
	}
	if a.Encoder == nil {
		if err := c.add(headPart, new(arch.Head), ""); err != nil {
			return nil, err
		}
	}
	err = c.unknown()
	c.used = nil
	return c, err
}

// add finds the tensors of a part in the file. prefix stands before the names of a layer's own.
func (c *Cutter) add(p Part, target any, prefix string) error {
	list, err := arch.Tensors(target, c.params)
	if err != nil {
		return err
	}
	pc := piece{part: p}
	for _, want := range list {
		name := prefix + want.Name
		if want.Model {
			name = want.Name
		}
		t, ok := c.file.Tensor(name)
		if !ok && want.Optional {
			continue
		}
		if !ok {
			return fmt.Errorf("%w: tensor %s is missing: the file is incomplete, or a variant of %s that is not supported",
				arch.ErrModel, name, c.params.Arch)
		}
		if err := check(t, want); err != nil {
			return err
		}
		c.used[name] = true
		pc.items = append(pc.items, packed.Item{Name: want.Name, Type: t.Type, Rows: want.Rows, Cols: want.Cols, Src: t.Data})
	}
	c.pieces = append(c.pieces, pc)
	return nil
}

// check holds a tensor against what is wanted.
func check(t gguf.Tensor, want arch.Tensor) error {
	shape := want.Dims
	ok := len(t.Dims) >= len(shape)
	for i, d := range t.Dims {
		if i < len(shape) {
			ok = ok && d == shape[i]
		} else {
			ok = ok && d == 1
		}
	}
	if !ok {
		return fmt.Errorf("%w: tensor %s has shape %v, its metadata ask for %v", arch.ErrModel, t.Name, t.Dims, shape)
	}
	if want.Rows == 0 && t.Type != kernels.F32 && t.Type != kernels.F16 && t.Type != kernels.BF16 {
		return fmt.Errorf("%w: tensor %s is a vector of type %v; F32, F16 and BF16 are supported", arch.ErrModel, t.Name, t.Type)
	}
	return nil
}

// unknown refuses a file with tensors that no part takes up.
func (c *Cutter) unknown() error {
	var names []string
	more := 0
	for _, t := range c.file.Tensors {
		switch {
		case c.used[t.Name]:
		case len(names) < 3:
			names = append(names, fmt.Sprintf("%.80q", t.Name))
		default:
			more++
		}
	}
	if len(names) == 0 {
		return nil
	}
	list := strings.Join(names, ", ")
	if more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("%w: the file has tensors that %s does not use (%s): a variant that is not supported", arch.ErrModel, c.params.Arch, list)
}

// encodeMeta makes the metadata part.
func (c *Cutter) encodeMeta() ([]byte, error) {
	var pairs []gguf.Pair
	err := gguf.Guard(func() error {
		for _, p := range c.file.KV.Pairs() {
			if p.Key != tiedKey {
				pairs = append(pairs, p)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	pairs = append(pairs, gguf.Pair{Key: tiedKey, Value: gguf.Bool(tied(c.file))})
	var b bytes.Buffer
	err = gguf.Guard(func() error { return gguf.Write(&b, pairs, nil) })
	return b.Bytes(), err
}
