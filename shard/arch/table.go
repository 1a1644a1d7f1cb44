package arch

import (
	"fmt"
	"strings"
)

// Arch is an entry of the table: what a file calls it, how a layer of it is made, and which numbers it has beside
// those of all.
type Arch struct {
	Name    string
	Layer   func() Layer               // an empty one, its weights yet to be bound
	Numbers func(r *reader, p *Params) // nil: none
	Encoder func() Embedding           // an encoder's embedding, likewise empty; nil: a decoder, whose is Embed
}

// Embedding is an empty embedding.
func (a Arch) Embedding() Embedding {
	if a.Encoder != nil {
		return a.Encoder()
	}
	return new(Embed)
}

// Layer is one block of a Transformer.
type Layer interface {
	// Forward carries the rows of s through the layer: it updates s.X and the sequences' caches.
	Forward(s *Step)
}

// Table lists the supported architectures.
func Table() []Arch {
	return []Arch{
		{"llama", func() Layer { return new(llama) }, nil, nil},
		{"qwen2", func() Layer { return new(qwen2) }, nil, nil},
		{"qwen3", func() Layer { return new(qwen3) }, nil, nil},
		{"qwen3moe", func() Layer { return new(qwen3moe) }, mixtureNumbers, nil},
		{"gemma2", func() Layer { return new(gemma2) }, gemma2Numbers, nil},
		{"gemma3", func() Layer { return new(gemma3) }, gemma3Numbers, nil},
		{"phi3", func() Layer { return new(phi3) }, phi3Numbers, nil},
		{"smollm3", func() Layer { return new(smollm3) }, nil, nil},
		{"gpt-oss", func() Layer { return new(gptoss) }, gptossNumbers, nil},
		{"bert", func() Layer { return new(bert) }, nil, func() Embedding { return new(placedEmbed) }},
		{"nomic-bert", func() Layer { return new(nomicbert) }, nomicbertNumbers, func() Embedding { return new(typedEmbed) }},
	}
}

// Lookup finds an architecture; the error wraps ErrModel and lists those there are.
func Lookup(name string) (Arch, error) {
	var names []string
	for _, a := range Table() {
		if a.Name == name {
			return a, nil
		}
		names = append(names, a.Name)
	}
	return Arch{}, fmt.Errorf("%w: architecture %.40q; supported are %s", ErrModel, name, strings.Join(names, ", "))
}
