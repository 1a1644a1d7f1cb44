package pipeline

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestHostThousandSequencesLeaveNothing: a thousand sequences from three gateways, many more at a time than there is memory for, most
// of them cancelled at a random moment: in the line, in the prompt, in the answer. Those that are not get their tokens. A second
// later nothing is left: no block, goroutine, credit, group or place in a line.
func TestHostThousandSequencesLeaveNothing(t *testing.T) {
	n := 1000
	if testing.Short() {
		n = 200
	}
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 3, Limits{ChunkRows: 16, Waiting: 40, Patience: 2 * time.Second})
		l.m.Hook = func(from, to string, f *Frame) Fate { return Fate{Delay: time.Millisecond} }
		for i, f := range l.fakes {
			f.budget = 12 + i
		}
		for from := range l.hosts { // so that no link's goroutine comes later
			for to := range l.hosts {
				if _, err := l.m.link(from, to); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		before := runtime.NumGoroutine()
		rng := rand.New(rand.NewPCG(1, 9))
		outcomes := map[string]int{}
		var mu sync.Mutex
		var wg sync.WaitGroup
		for i := range n {
			r := l.request(uint64(i+1), 1+rng.IntN(200), rng.IntN(60))
			if i%3 == 0 {
				copy(r.Tokens, make([]int32, 130)) // some begin alike
			}
			r.Tenant = []string{"", "a", "b"}[i%3]
			gateway, life := []string{"g", "n0", "n2"}[i%3], time.Duration(rng.IntN(2000))*time.Millisecond
			wg.Go(func() {
				ctx, cancel := context.WithTimeoutCause(t.Context(), life, errTest)
				defer cancel()
				if i%4 == 0 {
					ctx = t.Context()
				}
				got, _, err := l.generate(ctx, gateway, r)
				what := "done"
				var refused *Refused
				switch {
				case errors.As(err, &refused) && refused.Kind == Overloaded:
					what = "refused"
				case errors.Is(err, errTest):
					what = "cancelled"
				case err != nil:
					t.Errorf("sequence %d: %v", r.Seq, err)
				}
				want := oracle(t, l.layers, r)
				if len(got) > len(want) || sameTokens(got, want[:len(got)]) != nil || err == nil && len(got) < len(want) {
					t.Errorf("sequence %d: wrong tokens", r.Seq)
				}
				mu.Lock()
				outcomes[what]++
				mu.Unlock()
			})
			time.Sleep(time.Duration(rng.IntN(20)) * time.Millisecond)
		}
		wg.Wait()
		time.Sleep(time.Second)
		synctest.Wait()
		t.Log(outcomes)
		for _, what := range []string{"done", "cancelled", "refused"} {
			if outcomes[what] < n/50 {
				t.Errorf("%v: only so many are %s: the test does not test", outcomes, what)
			}
		}
		if after := runtime.NumGoroutine(); after > before { // fewer: those of an earlier test have ended
			t.Errorf("%d goroutines, %d before", after, before)
		}
		l.wantNothing()
		l.close()
	})
}

// wantNothing insists that no trace of any sequence is left.
func (l *lab) wantNothing() {
	for i, f := range l.fakes {
		if f.live.Load() != 0 || f.used != 0 {
			l.t.Errorf("stage %d: %d sequences, %d blocks", i, f.live.Load(), f.used)
		}
	}
	for name, h := range l.hosts {
		if load := h.Load(); load != (Load{}) || len(h.rides)+len(h.lines) != 0 {
			l.t.Errorf("host %s: %+v, %d rides, %d lines", name, load, len(h.rides), len(h.lines))
		}
		for _, r := range h.stages {
			if s := r.st; len(s.seqs)+len(s.decodes)+len(s.prompts)+len(s.kept)+len(s.freeing)+len(s.opening)+len(s.tenants)+s.rows+s.flying+s.circles != 0 {
				l.t.Errorf("stage %d: %d sequences, %d and %d rows, %d kept, %d to free, %d to open, %d tenants, %d flying, %d groups", s.key.Index,
					len(s.seqs), len(s.decodes), s.rows, len(s.kept), len(s.freeing), len(s.opening), len(s.tenants), s.flying, s.circles)
			}
		}
	}
}
