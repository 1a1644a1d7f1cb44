package arch

import (
	"fmt"
	"strings"
)

// Arch is an entry of the table: what a file calls it and how a layer of it is made.
type Arch struct {
	Name  string
	Layer func() Layer // an empty one, its weights yet to be bound
}

// Layer is one block of a Transformer.
type Layer interface {
	// Forward carries the rows of s through the layer: it updates s.X and the sequences' caches.
	Forward(s *Step)
}

// Table lists the supported architectures.
func Table() []Arch {
	return []Arch{
		{"llama", func() Layer { return new(llama) }},
		{"qwen2", func() Layer { return new(qwen2) }},
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
