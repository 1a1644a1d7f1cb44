package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// oneRoute is a Router with a single route that stays what it is.
type oneRoute struct{ oneModel }

func (o oneRoute) Pick(_ string, _ []byte, skip ...uint64) (Route, error) {
	if slices.Contains(skip, 1) {
		return Route{}, fmt.Errorf("%w: the only route is skipped", ErrModelLoading)
	}
	return Route{Epoch: 1, Hops: hops, Release: func() {}}, nil
}
func (o oneRoute) Changed() <-chan struct{} { return nil } // never

// flaky is a Driver that loses the route after some tokens, some times in a row; each loss takes a while to be noticed.
type flaky struct {
	losses []int // tokens before each loss
	calls  int
}

func (f *flaky) Generate(ctx context.Context, r pipeline.Request, emit func(pipeline.Token) error) (pipeline.Stats, error) {
	tokens := r.MaxNew
	if f.calls < len(f.losses) {
		tokens = f.losses[f.calls]
	}
	f.calls++
	for i := range tokens {
		if err := emit(pipeline.Token{Token: sample.Token{ID: 'A'}, Index: i, Last: i == r.MaxNew-1, Reason: pipeline.ReasonLength}); err != nil {
			return pipeline.Stats{}, err
		}
	}
	if tokens == r.MaxNew {
		return pipeline.Stats{}, nil
	}
	time.Sleep(300 * time.Millisecond) // virtual
	return pipeline.Stats{}, &pipeline.Broken{Node: "n1", Err: errors.New("silent")}
}

// A line that is bad again and again costs time, not the answer, as long as tokens come; one that stays bad costs the answer after
// Patience.
func TestTheOnlyRouteIsTriedAgain(t *testing.T) {
	for _, c := range []struct {
		name   string
		losses []int
		want   error
		most   time.Duration
	}{
		{"once", []int{2}, nil, time.Second},
		{"after every token", []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, nil, 12 * time.Second},
		{"for five seconds", []int{3, 0, 0, 0, 0, 0}, nil, 7 * time.Second},
		{"for good", make([]int, 1000), ErrNodeLost, 18 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			o := oneRoute{oneModel{tinyModel(t)}}
			o.m.Context = 64
			d := &flaky{losses: c.losses}
			s := New(Config{Catalog: o, Router: o, Driver: d, Tracer: o, Log: slog.New(slog.DiscardHandler)})
			text := ""
			begun := time.Now()
			_, err := s.Generate(t.Context(), Request{Model: "m", Prompt: "x", MaxTokens: 20, Sampling: sample.Default()}, func(Started) error { return nil }, func(e Event) error { text += e.Text; return nil })
			took := time.Since(begun)
			if !errors.Is(err, c.want) || took > c.most || c.want == nil && text != "AAAAAAAAAAAAAAAAAAAA" {
				t.Errorf("%s: %q after %v and %d tries: %v", c.name, text, took, d.calls, err)
			}
		})
	}
}
