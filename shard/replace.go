package shard

import (
	"fmt"

	"lamina/shard/arch"
	"lamina/shard/packed"
)

// Replace puts other bytes in the place of a part's: a copy of them that is read faster than where they were. It may be called
// while steps run, from another goroutine, and waits for the running one; when it returns no step reads the old bytes any
// more. data then belongs to the Shard as that of Open does. The copy must be equal, or the bits change; what does not fit
// the model is an error, and nothing has changed. A part that the span does not hold is ErrSpan.
func (s *Shard) Replace(p Part, data []byte) error {
	if p.Kind == Meta {
		return nil // read and let go at Open
	}
	a, err := arch.Lookup(s.params.Arch)
	if err != nil {
		return err
	}
	part, err := packed.Parse(data)
	if err != nil {
		return fmt.Errorf("part %s: %w", p.Name, err)
	}
	fill := func(target any) error {
		if err := arch.Bind(target, s.params, part); err != nil {
			return fmt.Errorf("part %s: %w", p.Name, err)
		}
		return nil
	}
	switch p.Kind {
	case Layer:
		l := a.Layer()
		if err := fill(l); err != nil {
			return err
		}
		return s.swap(p, p.Layer >= s.span.First && p.Layer < s.span.End, func() { s.layers[p.Layer-s.span.First] = l })
	case Head:
		h := new(arch.Head)
		if err := fill(h); err != nil {
			return err
		}
		return s.swap(p, s.last() && !s.info.Encoder, func() {
			if s.tied {
				h.Output = s.head.Output
			}
			s.head = h
		})
	case Embed:
		e := a.Embedding()
		if err := fill(e); err != nil {
			return err
		}
		return s.swap(p, s.span.First == 0 || s.tied, func() {
			if s.span.First == 0 {
				s.embed = e
			}
			if s.tied {
				s.head.Output = e.Words()
			}
		})
	}
	return fmt.Errorf("%w: no part %s", ErrSpan, p.Name)
}

// swap calls change between two steps.
func (s *Shard) swap(p Part, held bool, change func()) error {
	if !held {
		return fmt.Errorf("%w: span %v has no part %s", ErrSpan, s.span, p.Name)
	}
	s.stepping.Lock()
	defer s.stepping.Unlock()
	if s.closed {
		return ErrClosed
	}
	change()
	return nil
}
