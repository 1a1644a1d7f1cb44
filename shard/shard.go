// Package shard computes spans of a language model's layers. A model file is cut into parts (Cut); a
// node opens a Shard over the parts of a span and steps sequences through it: tokens or activations in,
// activations or logits out. Strung together, the spans of a model give the logits of the whole, bit for
// bit, however the rows are batched or chunked.
//
// DESIGN.md tells how it works; gguf, packed, arch, text, sample and pipeline are its parts.
package shard

import (
	"errors"
	"fmt"
	"sync"

	"lamina/kernels"
	"lamina/shard/arch"
	"lamina/shard/gguf"
	"lamina/shard/packed"
)

// Reasons for refusing; every error of this package wraps one of these, or one of gguf, packed or arch.
var (
	// ErrNoMemory: the sequence's cache does not fit the budget, or was not reserved. Try again when others have
	// ended, or with fewer positions.
	ErrNoMemory = errors.New("no memory for the sequence")
	// ErrContext: more positions than the sequence was opened for, or than the model has.
	ErrContext = errors.New("context length exceeded")
	// ErrInput: the rows of a step do not fit the span or the model.
	ErrInput = errors.New("invalid step")
	// ErrSpan: no such layers in the model.
	ErrSpan = errors.New("invalid span")
	// ErrClosed: the shard or the sequence was closed.
	ErrClosed = errors.New("shard is closed")
)

// Span is a half-open range of layers. The span that starts at zero owns the embedding, the one that
// ends at the last layer the output head.
type Span struct{ First, End int }

// Layers returns the number of layers.
func (s Span) Layers() int { return s.End - s.First }

// String is the form that users see: "[0:10]".
func (s Span) String() string { return fmt.Sprintf("[%d:%d]", s.First, s.End) }

// Source brings the parts of a model. The bytes stay valid and unchanged until the Shard is closed; they
// may be a read-only mapping.
type Source interface {
	Part(p Part) ([]byte, error)
}

// Options of a Shard.
type Options struct {
	// Workers does the arithmetic. It stays the caller's and outlives the Shard.
	Workers *kernels.Workers
	// KVBudget bounds the bytes of the KV cache: of all sequences and of what is kept for later ones; 0 means no
	// bound, and then all that is named is kept until TrimKV or Close.
	KVBudget int64
	// KVMemory, if set, takes the place of KVBudget: memory shared with other shards.
	KVMemory *KVMemory
	// MaxRows is the most rows that go through the layers together; a larger step is cut into slices of
	// that many, so that buffers stay bounded. 0 means 512.
	MaxRows int
}

const defaultMaxRows = 512

// Shard is a loaded span of one model. Step is not safe for concurrent use; the stage that owns the
// Shard serialises it. NewSeq, and what is done to sequences that are not in the step, may go on in other goroutines
// meanwhile; KVStats and TrimKV may at any time.
type Shard struct {
	info   Info
	params arch.Params
	span   Span
	opt    Options

	embed  arch.Embedding // first span
	layers []arch.Layer
	head   *arch.Head // last span of a decoder
	tied   bool       // head's output is an embedding's
	step   stepState

	stepping sync.Mutex // held by a Step, and to change what it reads
	closed   bool
	pool     *pool
}

// Open loads the span of a model: meta is its metadata part, src brings the others. Nothing is copied
// but vectors. Errors name the part and the tensor.
func Open(meta *gguf.File, src Source, span Span, opt Options) (*Shard, error) {
	info, err := ReadInfo(meta)
	if err != nil {
		return nil, err
	}
	params, err := arch.Read(meta.KV)
	if err != nil {
		return nil, err
	}
	if span.First < 0 || span.First >= span.End || span.End > info.Layers {
		return nil, fmt.Errorf("%w: %v of %d layers", ErrSpan, span, info.Layers)
	}
	if opt.Workers == nil {
		return nil, fmt.Errorf("%w: Options.Workers is not set", ErrInput)
	}
	if opt.MaxRows <= 0 {
		opt.MaxRows = defaultMaxRows
	}
	s := &Shard{info: info, params: params, span: span, opt: opt}
	s.step.arch = arch.NewStep(params, span.First, opt.Workers)
	if err := s.load(src); err != nil {
		return nil, err
	}
	if opt.KVMemory == nil {
		opt.KVMemory = NewKVMemory(opt.KVBudget)
	}
	s.pool = newPool(opt.KVMemory, int(info.KVBytes(span, BlockLen)))
	return s, nil
}

func (s *Shard) load(src Source) error {
	a, err := arch.Lookup(s.params.Arch)
	if err != nil {
		return err
	}
	for i := s.span.First; i < s.span.End; i++ {
		l := a.Layer()
		if err := s.bind(src, layerPart(i), l); err != nil {
			return err
		}
		s.layers = append(s.layers, l)
	}
	if s.last() && !s.info.Encoder {
		s.head = new(arch.Head)
		if err := s.bind(src, headPart, s.head); err != nil {
			return err
		}
	}
	s.tied = s.head != nil && s.head.Output == nil
	if s.span.First > 0 && !s.tied {
		return nil
	}
	e := a.Embedding()
	if err := s.bind(src, embedPart, e); err != nil {
		return err
	}
	if s.span.First == 0 {
		s.embed = e
	}
	if s.tied {
		s.head.Output = e.Words()
	}
	return nil
}

// bind fills target from a part.
func (s *Shard) bind(src Source, p Part, target any) error {
	data, err := src.Part(p)
	if err != nil {
		return fmt.Errorf("part %s: %w", p.Name, err)
	}
	part, err := packed.Parse(data)
	if err != nil {
		return fmt.Errorf("part %s: %w", p.Name, err)
	}
	if err := arch.Bind(target, s.params, part); err != nil {
		return fmt.Errorf("part %s: %w", p.Name, err)
	}
	return nil
}

// Info describes the model.
func (s *Shard) Info() Info { return s.info }

// last is true if the Shard holds the model's last layer.
func (s *Shard) last() bool { return s.span.End == s.info.Layers }

// Span returns the layers that the Shard holds.
func (s *Shard) Span() Span { return s.span }

// Close ends the use of the parts and gives the KV cache's memory back: no Step may be running, and none succeeds
// afterwards. The sequences need not be freed before.
func (s *Shard) Close() error {
	s.pool.close()
	s.stepping.Lock()
	defer s.stepping.Unlock()
	s.closed = true
	s.embed, s.layers, s.head, s.step = nil, nil, nil, stepState{}
	return nil
}
