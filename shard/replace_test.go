package shard_test

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"lamina/shard"
	"lamina/shard/tiny"
)

// TestReplaceBetweenSteps: parts are replaced again and again by copies while a shard steps; the old bytes are overwritten as soon as
// Replace returns. The logits stay those of a shard that is left alone, bit for bit.
func TestReplaceBetweenSteps(t *testing.T) {
	for _, untied := range []bool{false, true} {
		t.Run(fmt.Sprint("untied ", untied), func(t *testing.T) {
			p := cut(t, parse(t, tiny.Llama(tiny.Config{Layers: 3, Seed: 5, Untied: untied})))
			want := steps(t, p.open(t, shard.Options{Workers: workers(t, 1)})[0], nil)

			own := parts{}
			for name, data := range p {
				own[name] = bytes.Clone(data)
			}
			s := own.open(t, shard.Options{Workers: workers(t, 2)})[0]
			all := shard.PartsOf(s.Info(), s.Span(), s.Info().Tied)
			stop := make(chan struct{})
			var wg sync.WaitGroup
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					part := all[i%len(all)]
					data := bytes.Clone(p[part.Name])
					if err := s.Replace(part, data); err != nil {
						t.Errorf("part %s: %v", part.Name, err)
						return
					}
					if part.Kind == shard.Meta {
						continue
					}
					for j := range own[part.Name] {
						own[part.Name][j] = 0xa5
					}
					own[part.Name] = data
				}
			})
			got := steps(t, s, nil)
			close(stop)
			wg.Wait()
			for i := range want {
				sameBits(t, fmt.Sprint("step ", i), got[i], want[i])
			}
		})
	}
}

// steps prefills and decodes, and returns the logits of each step.
func steps(t *testing.T, s *shard.Shard, between func()) (out [][]float32) {
	t.Helper()
	q := newSeq(t, s, 200)
	defer q.Free()
	tokens := randomTokens(1, 200, s.Info().Vocab)
	for at := 0; at < len(tokens); {
		n := 1
		if at == 0 {
			n = 100
		}
		res, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens[at : at+n], Logits: 1}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, append([]float32{}, res[0]...))
		at += n
		if between != nil {
			between()
		}
	}
	return out
}

func TestReplaceRefuses(t *testing.T) {
	p := cut(t, parse(t, tiny.Llama(tiny.Config{Layers: 3, Seed: 5})))
	other := cut(t, parse(t, tiny.Llama(tiny.Config{Layers: 3, Seed: 5, Hidden: 128})))
	s := p.open(t, shard.Options{Workers: workers(t, 1)}, 1, 2)[1]
	want := steps2(t, s)
	layer := func(i int) shard.Part {
		return shard.Part{Kind: shard.Layer, Layer: i, Name: fmt.Sprintf("layer.%d", i)}
	}
	for name, c := range map[string]struct {
		part shard.Part
		data []byte
		err  error
	}{
		"another span's layer": {layer(2), p["layer.2"], shard.ErrSpan},
		"no head here":         {shard.Part{Kind: shard.Head, Name: "head"}, p["head"], shard.ErrSpan},
		"no embedding here":    {shard.Part{Kind: shard.Embed, Name: "embed"}, p["embed"], shard.ErrSpan},
		"cut short":            {layer(1), p["layer.1"][:100], nil},
		"of another model":     {layer(1), other["layer.1"], nil},
	} {
		if err := s.Replace(c.part, c.data); err == nil || c.err != nil && !errors.Is(err, c.err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	sameBits(t, "after refusals", steps2(t, s), want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Replace(layer(1), p["layer.1"]); !errors.Is(err, shard.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

// steps2 steps a span in the middle.
func steps2(t *testing.T, s *shard.Shard) []float32 {
	t.Helper()
	q := newSeq(t, s, 4)
	defer q.Free()
	x := make([]float32, s.Info().Hidden)
	for i := range x {
		x[i] = float32(i%7) - 3
	}
	res, err := s.Step([]shard.Rows{{Seq: q, X: x}})
	if err != nil {
		t.Fatal(err)
	}
	return append([]float32{}, res[0]...)
}
