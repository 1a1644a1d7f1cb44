package node

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"lamina/cluster/plan"
	"lamina/kernels"
	"lamina/node/ingest"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// tinyShard opens layers of a model of four over a budget's memory.
func tinyShard(t testing.TB, b *budget, first, end int) *shard.Shard {
	t.Helper()
	f, err := gguf.Parse(tiny.Llama(tiny.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	p := partMap{}
	if err := shard.Cut(f, func(x shard.Part, data []byte) error { p[x.Name] = bytes.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	w := kernels.NewWorkers(1)
	t.Cleanup(w.Close)
	s, err := shard.Open(f, p, shard.Span{First: first, End: end}, shard.Options{Workers: w, KVMemory: b.kv})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func TestBudgetSharesWhatWeightsLeave(t *testing.T) {
	b := newBudget(100 << 20)
	if err := b.takeWeights(60 << 20); err != nil {
		t.Fatal(err)
	}
	var room errNoRoom
	if err := b.takeWeights(50 << 20); !errors.As(err, &room) || !strings.Contains(err.Error(), "40 MiB") {
		t.Errorf("weights over the budget: %v", err)
	}
	one, two := tinyShard(t, b, 0, 1), tinyShard(t, b, 1, 4)
	if err := b.takeWeights(40<<20 - two.KVStats().BlockBytes); err != nil {
		t.Fatal(err)
	}
	q, err := two.NewSeq(100, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Reserve(64); err != nil {
		t.Fatal(err)
	}
	r, err := one.NewSeq(10, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Reserve(1); !errors.Is(err, shard.ErrNoMemory) {
		t.Errorf("a cache over the budget: %v", err)
	}
	if got := b.free(); got != 0 {
		t.Errorf("%d bytes are free of nothing", got)
	}
	q.Free()
	if err := r.Reserve(1); err != nil {
		t.Errorf("after the other's end: %v", err)
	}
	r.Free()
	b.giveWeights(100<<20 - two.KVStats().BlockBytes)
	if got := b.free(); got != 100<<20 {
		t.Errorf("%d bytes are free when everything was given back", got)
	}
}

// Whatever is taken and given back, caches never grow over what weights leave, weights never over the total, and all of it
// comes back.
func TestBudgetNeverExceeded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		b := newBudget(1 << 20)
		s := tinyShard(t, b, 0, 4)
		defer s.Close()
		size := s.KVStats().BlockBytes
		var weights []int64
		var caches []*shard.Seq
		var out, blocks int64
		for range rapid.IntRange(1, 50).Draw(rt, "steps") {
			n := rapid.Int64Range(0, 400<<10).Draw(rt, "bytes")
			switch rapid.IntRange(0, 3).Draw(rt, "what") {
			case 0: // may push out room that caches have reserved: those keep it until they end
				if fits := n <= b.total-out; (b.takeWeights(n) == nil) != fits {
					rt.Fatalf("%d bytes of weights beside %d of %d", n, out, b.total)
				} else if fits {
					weights, out = append(weights, n), out+n
				}
			case 1:
				q, err := s.NewSeq(512, nil)
				if err != nil {
					rt.Fatal(err)
				}
				k := 1 + n%8
				if fits := out+(blocks+k)*size <= b.total; (q.Reserve(int(k)*shard.BlockLen) == nil) != fits {
					rt.Fatalf("%d blocks beside %d, and %d of %d bytes of weights", k, blocks, out, b.total)
				} else if fits {
					caches, blocks = append(caches, q), blocks+k
				}
			case 2:
				if k := len(weights); k > 0 {
					b.giveWeights(weights[k-1])
					out -= weights[k-1]
					weights = weights[:k-1]
				}
			case 3:
				for _, q := range caches {
					q.Free()
				}
				caches, blocks = nil, 0
			}
			if got := b.free(); got != max(0, b.total-out-blocks*size) {
				rt.Fatalf("%d bytes are free of %d; weights take %d, %d blocks %d", got, b.total, out, blocks, blocks*size)
			}
		}
	})
}

// A node that idles gives the memory of its caches back.
func TestBudgetRests(t *testing.T) {
	b := newBudget(1 << 20)
	s := tinyShard(t, b, 0, 4)
	synctest.Test(t, func(t *testing.T) {
		q, err := s.NewSeq(512, nil)
		if err == nil {
			err = q.Reserve(512)
		}
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); b.rest(ctx) }()
		time.Sleep(3 * restEvery) // virtual
		if st := s.KVStats(); st.InUse != 8 {
			t.Errorf("a sequence has lost memory: %+v", st)
		}
		q.Free()
		time.Sleep(2*restEvery + 1)
		if held, used := b.kv.Bytes(); held != 0 || used != 0 {
			t.Errorf("%d bytes are held after idling, %d used", held, used)
		}
		cancel()
		<-done
	})
}

// The planner's room for caches is what the shards of its spans take.
func TestPlannerAndShardsCountAlike(t *testing.T) {
	for _, context := range []int{1, 64, 100, 2048, 8192, 8200, 1 << 20} {
		info := shard.Info{Arch: "llama", Layers: 7, Context: context, KVHeads: 3, HeadDim: 40}
		for _, c := range []shard.Span{{First: 0, End: 7}, {First: 2, End: 3}, {First: 3, End: 7}} {
			want := info.KVBytes(c, min(context, 8192))
			if _, kv := plan.SpanBytes(ingest.Describe(info), c.First, c.End); kv != want {
				t.Errorf("context %d, layers %v: the planner counts on %d bytes, a sequence takes %d", context, c, kv, want)
			}
		}
	}
}
