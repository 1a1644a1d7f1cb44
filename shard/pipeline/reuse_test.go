package pipeline

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lamina/shard"
	"lamina/shard/tiny"
)

// TestAnyMixReusesRightly: any requests that begin alike or not, of several tenants, some of them cancelled, at once over three
// stages whose memory may hold one of them or all, give the tokens of the uncut model, and in the end nothing is in use.
func TestAnyMixReusesRightly(t *testing.T) {
	m := newTiny(t, tiny.Llama(tiny.Config{Layers: 5, Seed: 1, Context: 512}))
	whole := m.open(0, 5, 0)
	known := map[string][]Token{}
	rapid.Check(t, func(rt *rapid.T) {
		l := &lab{t: t, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
		limits := Limits{ChunkRows: rapid.SampledFrom([]int{13, 64, 200}).Draw(rt, "chunk"), Patience: time.Hour} // a machine may be slow
		var shards []*shard.Shard
		for i, sp := range spans(5, 3) {
			name, blocks := fmt.Sprintf("n%d", i), rapid.IntRange(5, 20).Draw(rt, "blocks")
			s := m.open(sp[0], sp[1], m.info.KVBytes(shard.Span{First: sp[0], End: sp[1]}, blocks*BlockLen))
			if err := l.host(name, limits).Serve(StageKey{Model: "m", Epoch: 5, Index: i}, ForShard(s)); err != nil {
				t.Fatal(err)
			}
			shards, l.route = append(shards, s), append(l.route, Hop{name, sp[0], sp[1]})
		}
		seq := uint64(0)
		for range rapid.IntRange(1, 3).Draw(rt, "waves") {
			var wg sync.WaitGroup
			for range rapid.IntRange(1, 6).Draw(rt, "sequences") {
				seq++
				r, cancel := m.mixed(rt, seq, l.route)
				key := fmt.Sprint(r.Tokens, r.MaxNew)
				if known[key] == nil {
					known[key] = m.alone(whole, r)
				}
				want := known[key]
				gateway := fmt.Sprintf("n%d", rapid.IntRange(0, 2).Draw(rt, "gateway"))
				wg.Go(func() { l.mixed(r, gateway, cancel, want) })
			}
			wg.Wait()
		}
		l.close()
		for i, s := range shards {
			if st := s.KVStats(); st.InUse != 0 || st.Bytes > st.Budget {
				t.Errorf("stage %d in the end: %+v", i, st)
			}
			_ = s.Close() // frees memory only
		}
	})
}

// mixed is a request that begins like others, and after how many tokens it is cancelled; -1: never.
func (m *tinyModel) mixed(rt *rapid.T, seq uint64, route []Hop) (r Request, cancel int) {
	r = m.request(1, route)
	r.Seq, r.Tenant, r.PromptLogprobs = seq, rapid.SampledFrom([]string{"", "a"}).Draw(rt, "tenant"), false
	r.Tokens = nil
	fork := rapid.SampledFrom([]int{0, 64, 100, 128, 200}).Draw(rt, "fork")
	kind := rapid.Int32Range(1, 2).Draw(rt, "kind")
	for i := range rapid.SampledFrom([]int{1, 63, 64, 65, 128, 130, 192, 230}).Draw(rt, "prompt") {
		if i < fork {
			r.Tokens = append(r.Tokens, int32(i*7%m.info.Vocab))
		} else {
			r.Tokens = append(r.Tokens, kind)
		}
	}
	r.MaxNew = rapid.SampledFrom([]int{1, 2, 40, 70}).Draw(rt, "new")
	return r, rapid.SampledFrom([]int{-1, -1, -1, 0, 1, 30}).Draw(rt, "cancel")
}

// mixed asks and compares, up to where the asker goes.
func (l *lab) mixed(r Request, gateway string, cancel int, want []Token) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var got []Token
	_, err := l.hosts[gateway].Generate(ctx, r, func(t Token) error {
		if len(got) == cancel {
			stop()
		}
		if ctx.Err() == nil {
			got = append(got, t)
		}
		return nil
	})
	if ctx.Err() != nil {
		want = want[:min(len(got), len(want))]
	} else if err != nil {
		l.t.Errorf("sequence %d: %v", r.Seq, err)
		return
	}
	if err := sameTokens(got, want); err != nil {
		l.t.Errorf("sequence %d of %d tokens by %q: %v", r.Seq, len(r.Tokens), r.Tenant, err)
	}
}
