package shard

import (
	"lamina/kernels"
	"lamina/shard/arch"
	"lamina/shard/gguf"
)

// tiedKey marks in a metadata part that the model has no output matrix of its own; a file shows it by
// its tensors.
const tiedKey = "lamina.tied"

// Info is what a model's metadata says about it; planning needs no more.
type Info struct {
	Name    string // as its makers call it; may be empty
	Arch    string
	Layers  int
	Hidden  int // elements of a row of activations between layers
	Vocab   int
	Context int
	Heads   int
	KVHeads int
	HeadDim int
	Params  int64
	Tied    bool // the embedding serves as output matrix
	Encoder bool // gives one embedding of Hidden elements for a text, no logits; it has no head
}

// ReadInfo reads the metadata of a model: of a whole file or of its metadata part. Every number is
// within bounds in which sizes computed of it do not overflow. Errors wrap arch.ErrModel.
func ReadInfo(meta *gguf.File) (Info, error) {
	p, err := arch.Read(meta.KV)
	if err != nil {
		return Info{}, err
	}
	i := Info{Arch: p.Arch, Layers: p.Layers, Hidden: p.Hidden, Vocab: p.Vocab, Context: p.Context,
		Heads: p.Heads, KVHeads: p.KVHeads, HeadDim: p.HeadDim, Encoder: p.Pooling != 0}
	i.Tied = !i.Encoder && tied(meta)
	i.Name, _ = meta.KV.String("general.name")
	i.Params, err = countParams(p, i.Tied)
	return i, err
}

func tied(f *gguf.File) bool {
	if len(f.Tensors) == 0 {
		t, _ := f.KV.Bool(tiedKey)
		return t
	}
	_, own := f.Tensor("output.weight")
	return !own
}

func countParams(p arch.Params, tied bool) (int64, error) {
	a, err := arch.Lookup(p.Arch)
	if err != nil {
		return 0, err
	}
	var sum int64
	add := func(target any, times int) error {
		list, err := arch.Tensors(target, p)
		for _, t := range list {
			if !t.Optional || t.Name == outputName && !tied {
				sum += int64(times) * int64(max(t.Rows, 1)) * int64(t.Cols)
			}
		}
		return err
	}
	if err := add(a.Embedding(), 1); err != nil {
		return 0, err
	}
	if err := add(a.Layer(), p.Layers); err != nil {
		return 0, err
	}
	if a.Encoder == nil {
		if err := add(new(arch.Head), 1); err != nil {
			return 0, err
		}
	}
	return sum, nil
}

// KVBytes is the memory that a sequence of a number of positions takes in the layers of a span: whole blocks.
func (i Info) KVBytes(span Span, positions int) int64 {
	return int64(span.Layers()) * kernels.KVBytes(i.KVHeads, i.HeadDim, positions)
}
