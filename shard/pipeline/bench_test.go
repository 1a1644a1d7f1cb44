package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"

	"lamina/shard/sample"
)

// idleStepper computes nothing, so that what is left to measure is the pipeline itself.
type idleStepper struct {
	shape Shape
	out   [][]float32
	x     []float32
}

type idleSeq struct{ n int }

func (q *idleSeq) Len() int          { return q.n }
func (q *idleSeq) Rewind(n int)      { q.n = n }
func (q *idleSeq) Free()             {}
func (q *idleSeq) Reserve(int) error { return nil }
func (q *idleSeq) Name([]Key)        {}

func (s *idleStepper) Shape() Shape                   { return s.shape }
func (s *idleStepper) NewSeq(int, []Key) (Seq, error) { return &idleSeq{}, nil }
func (s *idleStepper) Capacity() int                  { return 0 }

func (s *idleStepper) Step(batch []Rows) ([][]float32, error) {
	s.out = s.out[:0]
	for _, r := range batch {
		n := len(r.Tokens) * s.shape.Hidden
		if s.shape.First > 0 {
			n = len(r.X)
		}
		if s.shape.End == s.shape.Layers {
			n = r.Logits * s.shape.Vocab
		}
		s.out = append(s.out, s.x[:n])
	}
	return s.out, nil
}

// BenchmarkToken is the time from token to token that the pipeline adds to the stages' computing, with links in
// memory: one sequence, and 16 at once.
func BenchmarkToken(b *testing.B) {
	const hidden, vocab = 2048, 128
	for _, hops := range []int{1, 2, 3, 5} {
		for _, seqs := range []int{1, 16} {
			b.Run(fmt.Sprintf("hops=%d/seqs=%d", hops, seqs), func(b *testing.B) {
				l := &lab{t: b, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
				for i, sp := range spans(5, hops) {
					name := fmt.Sprintf("n%d", i)
					h := NewHost(HostConfig{Self: name, Send: l.m.Sender(name)})
					l.m.Attach(name, h)
					l.hosts[name] = h
					s := &idleStepper{shape: Shape{First: sp[0], End: sp[1], Layers: 5, Hidden: hidden, Vocab: vocab, Context: MaxContext}}
					s.x = make([]float32, 64*hidden)
					if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, s); err != nil {
						b.Fatal(err)
					}
					l.route = append(l.route, Hop{name, sp[0], sp[1]})
				}
				defer l.close()
				b.ReportAllocs()
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range seqs {
					wg.Go(func() {
						r := Request{Seq: uint64(i + 1), Model: "m", Epoch: 5, Route: l.route, Tokens: []int32{1}, MaxNew: b.N, Sampling: sample.Greedy()}
						if _, err := l.hosts["n0"].Generate(context.Background(), r, func(Token) error { return nil }); err != nil {
							b.Error(err)
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(hops), "ns/round/hop")
			})
		}
	}
}

// BenchmarkStage is the core alone: a decoding row in, a frame out.
func BenchmarkStage(b *testing.B) {
	const hidden = 2048
	s := &idleStepper{shape: Shape{First: 1, End: 2, Layers: 3, Hidden: hidden, Vocab: 10, Context: MaxContext}, x: make([]float32, hidden)}
	st := newStage(StageKey{Model: "m", Epoch: 5, Index: 1}, "n1", s, Limits{}.withDefaults(), new(counters))
	open := &OpenRequest{Model: "m", Gateway: "g", Positions: MaxContext, Prompt: 1, Known: 1, MaxNew: 1, Sampling: sample.Greedy(),
		Route: []Hop{{"n0", 0, 1}, {"n1", 1, 2}, {"n2", 2, 3}}}
	st.deliver(epoch0, "n0", &Frame{Kind: KindOpen, Seq: 1, Epoch: 5, Stage: 1, Open: open})
	st.settle()
	var pool FramePool
	b.ReportAllocs()
	for i := range b.N {
		f := pool.Get()
		f.Kind, f.Seq, f.Epoch, f.Stage, f.Pos, f.Count, f.X = KindStep, 1, 5, 1, uint32(i%MaxContext), 1, append(f.X, s.x...)
		if i > 0 && i%MaxContext == 0 {
			st.seqs[1].queued = 0
		}
		st.deliver(epoch0, "n0", f)
		out, _ := s.Step(st.next(epoch0))
		st.done(epoch0, out, nil)
		if len(st.take()) == 0 {
			b.Fatal("nothing came out")
		}
	}
}
