package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/sample"
	"lamina/shard/tiny"
)

// tinyModel is a small real model cut into parts, with the shards of any split.
type tinyModel struct {
	t     testing.TB
	meta  *gguf.File
	info  shard.Info
	parts map[string][]byte
	w     *kernels.Workers
}

func newTiny(t testing.TB, file []byte) *tinyModel {
	f, err := gguf.Parse(file)
	if err != nil {
		t.Fatal(err)
	}
	return newModel(t, f)
}

func newModel(t testing.TB, f *gguf.File) *tinyModel {
	var err error
	m := &tinyModel{t: t, meta: f, parts: map[string][]byte{}, w: kernels.NewWorkers(2)}
	t.Cleanup(m.w.Close)
	if err := shard.Cut(f, func(p shard.Part, data []byte) error { m.parts[p.Name] = bytes.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	if m.info, err = shard.ReadInfo(f); err != nil {
		t.Fatal(err)
	}
	return m
}

// Part implements shard.Source.
func (m *tinyModel) Part(p shard.Part) ([]byte, error) {
	if b, ok := m.parts[p.Name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no part %s", p.Name)
}

func (m *tinyModel) open(first, end int, kv int64) *shard.Shard {
	s, err := shard.Open(m.meta, m, shard.Span{First: first, End: end}, shard.Options{Workers: m.w, KVBudget: kv})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { s.Close() })
	return s
}

// alone runs a request through the uncut model by itself, the prompt in one step.
func (m *tinyModel) alone(s *shard.Shard, r Request) []Token {
	q, err := s.NewSeq(len(r.Tokens)+r.MaxNew, nil)
	if err == nil {
		err = q.Reserve(len(r.Tokens) + r.MaxNew)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	defer q.Free()
	smp, sc := sample.New(r.Sampling, r.Tokens), new(sample.Scratch)
	var out []Token
	in, logits := r.Tokens, len(r.Tokens)
	for i := range r.MaxNew {
		res, err := s.Step([]shard.Rows{{Seq: q, Tokens: in, Logits: logits}})
		if err != nil {
			m.t.Fatal(err)
		}
		if i == 0 && r.PromptLogprobs {
			for p := 1; p < len(r.Tokens); p++ {
				t, err := sample.Score(sc, res[0][(p-1)*m.info.Vocab:p*m.info.Vocab], r.Tokens[p], r.Sampling.Logprobs)
				if err != nil {
					m.t.Fatal(err)
				}
				out = append(out, Token{Token: t, Index: p, Prompt: true})
			}
		}
		t, err := smp.Sample(sc, res[0][(logits-1)*m.info.Vocab:], len(r.Tokens)+i)
		if err != nil {
			m.t.Fatal(err)
		}
		e := Token{Token: t, Index: i}
		if i == r.MaxNew-1 {
			e.Last, e.Reason = true, ReasonLength
		}
		out = append(out, e)
		in, logits = []int32{t.ID}, 1
	}
	return out
}

func (m *tinyModel) request(seq uint64, route []Hop) Request {
	rng := rand.New(rand.NewPCG(seq, 2))
	r := Request{Seq: seq, Model: "m", Epoch: 5, Route: route, MaxNew: 4 + int(seq)%5, Sampling: sample.Default(), PromptLogprobs: seq%3 == 0}
	r.Sampling.Seed, r.Sampling.WantLogprobs, r.Sampling.Logprobs = seq, true, 3
	r.Sampling.RepeatPenalty = 1.1
	for range 1 + int(seq)*17%90 {
		r.Tokens = append(r.Tokens, rng.Int32N(int32(m.info.Vocab)))
	}
	return r
}

// TestModelsCutIntoStages: real arithmetic, every number of stages and chunk size, alone and beside others: the tokens and the bits
// of their log probabilities are those of the uncut model alone.
func TestModelsCutIntoStages(t *testing.T) {
	for name, file := range map[string][]byte{
		"llama": tiny.Llama(tiny.Config{Layers: 5, Seed: 1}), "qwen2": tiny.Qwen2(tiny.Config{Layers: 5, Seed: 2}),
	} {
		m := newTiny(t, file)
		whole := m.open(0, 5, 0)
		want := map[uint64][]Token{}
		for seq := range uint64(16) {
			want[seq+1] = m.alone(whole, m.request(seq+1, nil))
		}
		for _, hops := range []int{1, 2, 3, 5} {
			for _, chunk := range []int{1, 7, 32, 512} {
				for _, seqs := range []int{1, 5, 16} {
					if testing.Short() && seqs != 5 {
						continue
					}
					t.Run(fmt.Sprintf("%s, %d stages, chunks of %d, %d sequences", name, hops, chunk, seqs), func(t *testing.T) {
						m.cut(t, hops, chunk, seqs, want)
					})
				}
			}
		}
	}
}

func (m *tinyModel) cut(t *testing.T, hops, chunk, seqs int, want map[uint64][]Token) {
	l := &lab{t: t, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
	defer l.close()
	for i, sp := range spans(5, hops) {
		name := fmt.Sprintf("n%d", i)
		h := l.host(name, Limits{ChunkRows: chunk})
		if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, ForShard(m.open(sp[0], sp[1], 0))); err != nil {
			t.Fatal(err)
		}
		l.route = append(l.route, Hop{name, sp[0], sp[1]})
	}
	var wg sync.WaitGroup
	for i := range seqs {
		wg.Go(func() {
			r := m.request(uint64(i+1), l.route)
			got, _, err := l.generate(context.Background(), fmt.Sprintf("n%d", i%hops), r)
			if err == nil {
				err = sameTokens(got, want[r.Seq])
			}
			if err != nil {
				t.Errorf("sequence %d: %v", r.Seq, err)
			}
		})
	}
	wg.Wait()
}

// TestModelsReuseWhatIsCached: real arithmetic again. The same prompt, prompts that begin alike, and the next turn of a conversation
// take what is cached of those before, in every split; with memory for less than all, sequences are preempted. The tokens and the bits
// of their log probabilities stay those of the uncut model that computes everything.
func TestModelsReuseWhatIsCached(t *testing.T) {
	m := newTiny(t, tiny.Llama(tiny.Config{Layers: 5, Seed: 1, Context: 512}))
	whole := m.open(0, 5, 0)
	for _, hops := range []int{1, 2, 3} {
		for _, blocks := range []int{0, 8} {
			l := &lab{t: t, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
			for i, sp := range spans(5, hops) {
				name := fmt.Sprintf("n%d", i)
				budget := int64(0)
				if blocks > 0 {
					budget = m.info.KVBytes(shard.Span{First: sp[0], End: sp[1]}, blocks*BlockLen)
				}
				h := l.host(name, Limits{ChunkRows: 48})
				if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, ForShard(m.open(sp[0], sp[1], budget))); err != nil {
					t.Fatal(err)
				}
				l.route = append(l.route, Hop{name, sp[0], sp[1]})
			}
			m.turns(t, l, whole, hops, blocks)
			l.close()
		}
	}
}

func (m *tinyModel) turns(t *testing.T, l *lab, whole *shard.Shard, hops, blocks int) {
	var mu sync.Mutex
	attempts := 0
	ask := func(r Request, least int) []Token {
		got, stats, err := l.generate(context.Background(), "n0", r)
		if err == nil {
			mu.Lock()
			attempts += stats.Attempts
			err = sameTokens(got, m.alone(whole, r))
			mu.Unlock()
		}
		if err != nil || stats.Cached < least {
			t.Errorf("%d stages, %d blocks, sequence %d: %d tokens were cached, want %d; error %v", hops, blocks, r.Seq, stats.Cached, least, err)
		}
		return got
	}
	r := m.request(1, l.route)
	r.MaxNew, r.PromptLogprobs = 70, false
	for len(r.Tokens) < 150 {
		r.Tokens = append(r.Tokens, int32(len(r.Tokens)*7%m.info.Vocab))
	}
	got := ask(r, 0)
	r.Seq, r.Sampling.Seed = 2, 99
	ask(r, 128)
	r.Seq, r.Sampling.Seed = 3, 1
	for _, tok := range got {
		r.Tokens = append(r.Tokens, tok.ID)
	}
	r.Tokens = append(r.Tokens, 5, 6, 7)
	ask(r, 192) // of 150 and 70
	var wg sync.WaitGroup
	for i := range 5 {
		wg.Go(func() {
			r := r
			r.Seq, r.Sampling.Seed, r.MaxNew = uint64(10+i), uint64(i), 80
			r.Tokens = append(slices.Clone(r.Tokens[:100+20*i]), int32(i))
			ask(r, 0)
		})
	}
	wg.Wait()
	if blocks > 0 && attempts <= 8 {
		t.Errorf("%d stages: %d attempts for 8 sequences, with memory for less than three at a time", hops, attempts)
	}
	r.Seq, r.Tenant = 4, "another"
	if _, stats, err := l.generate(context.Background(), "n0", r); err != nil || stats.Cached != 0 {
		t.Errorf("another tenant: %d tokens were cached, error %v", stats.Cached, err)
	}
}

// TestModelsGuess: real arithmetic with as many guesses as can be made: greedy and sampled, with penalties and log probabilities, the
// tokens and bits are those of the uncut model without.
func TestModelsGuess(t *testing.T) {
	m := newTiny(t, tiny.Llama(tiny.Config{Layers: 5, Seed: 1}))
	whole := m.open(0, 5, 0)
	for _, hops := range []int{1, 2, 3} {
		l := &lab{t: t, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
		for i, sp := range spans(5, hops) {
			name, key := fmt.Sprintf("n%d", i), StageKey{Model: "m", Epoch: 5, Index: i}
			h := l.host(name, Limits{})
			if err := h.Serve(key, ForShard(m.open(sp[0], sp[1], 0))); err != nil {
				t.Fatal(err)
			}
			for _, r := range h.stages {
				r.st.eager = true
			}
			l.route = append(l.route, Hop{name, sp[0], sp[1]})
		}
		var wg sync.WaitGroup
		for seq := range uint64(6) {
			r := m.request(seq+1, l.route)
			r.MaxNew, r.PromptLogprobs = 60, false
			if seq%2 == 0 {
				r.Sampling = sample.Greedy()
				r.Sampling.WantLogprobs = true
			}
			for i := range r.Tokens {
				r.Tokens[i] %= 3 // much of it occurs again
			}
			r.Sampling.LogitBias = map[int32]float32{0: 6, 1: 6, 2: 6}
			wg.Go(func() {
				got, _, err := l.generate(context.Background(), "n0", r)
				if err == nil {
					err = sameTokens(got, m.alone(whole, r))
				}
				if err != nil {
					t.Errorf("%d stages, sequence %d: %v", hops, r.Seq, err)
				}
			})
			wg.Wait() // alone is one shard's
		}
		guessed := 0
		for _, r := range l.hosts["n0"].stages {
			guessed = r.st.guessed
		}
		if guessed < 30 {
			t.Errorf("%d stages: %d guesses were right: the test does not test", hops, guessed)
		}
		l.close()
	}
}

func TestForShardErrors(t *testing.T) {
	m := newTiny(t, tiny.Llama(tiny.Config{Seed: 1}))
	s := ForShard(m.open(0, 4, m.info.KVBytes(shard.Span{First: 0, End: 4}, 64)))
	if c := s.Capacity(); c != 64 {
		t.Errorf("a budget for %d positions, want 64", c)
	}
	q, err := s.NewSeq(100, nil)
	if err != nil || q.Reserve(64) != nil {
		t.Fatal(err)
	}
	if err := q.Reserve(65); !errors.Is(err, ErrNoMemory) {
		t.Errorf("over the budget: %v", err)
	}
	q.Free()
	if _, err := s.NewSeq(1<<30, nil); err == nil || errors.Is(err, ErrNoMemory) {
		t.Errorf("over the context: %v", err)
	}
	if _, err := s.Step([]Rows{{Seq: &idleSeq{}, Tokens: []int32{1}}}); err == nil {
		t.Error("a sequence of another kind is stepped")
	}
}

// smol is the packaged small model's file.
func smol(b *testing.B) *gguf.File {
	dir := os.Getenv("LAMINA_MODELS")
	if dir == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			b.Fatal(err)
		}
		dir = filepath.Join(cache, "lamina", "models")
	}
	f, err := gguf.Open(filepath.Join(dir, "SmolLM2-135M-Instruct.Q4_1.gguf"))
	if errors.Is(err, os.ErrNotExist) {
		b.Skipf("%v; fetch it with: make models", err)
	}
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// BenchmarkModel is greedy decoding of SmolLM2 after a prompt of 64: by a plain loop over one shard, and through
// pipelines whose stages share the machine. What it shows is the pipeline's share of the time.
func BenchmarkModel(b *testing.B) {
	m := newModel(b, smol(b))
	r := Request{Model: "m", Epoch: 5, Sampling: sample.Greedy(), MaxNew: 64}
	for i := range 64 {
		r.Tokens = append(r.Tokens, int32(1000+i*37))
	}
	b.Run("loop", func(b *testing.B) {
		s := m.open(0, m.info.Layers, 0)
		for range b.N {
			m.alone(s, r)
		}
		b.ReportMetric(float64(b.N*r.MaxNew)/b.Elapsed().Seconds(), "tokens/s")
	})
	for _, hops := range []int{1, 2, 3} {
		for _, seqs := range []int{1, 8} {
			b.Run(fmt.Sprintf("hops=%d/seqs=%d", hops, seqs), func(b *testing.B) {
				l := &lab{t: b, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
				defer l.close()
				r := r
				for i, sp := range spans(m.info.Layers, hops) {
					name := fmt.Sprintf("n%d", i)
					h := l.host(name, Limits{})
					if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, ForShard(m.open(sp[0], sp[1], 0))); err != nil {
						b.Fatal(err)
					}
					r.Route = append(r.Route, Hop{name, sp[0], sp[1]})
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for i := range seqs {
					wg.Go(func() {
						r := r
						for n := range b.N {
							r.Seq = uint64(i*b.N + n + 1)
							if _, _, err := l.generate(context.Background(), "n0", r); err != nil {
								b.Error(err)
							}
						}
					})
				}
				wg.Wait()
				b.ReportMetric(float64(b.N*seqs*r.MaxNew)/b.Elapsed().Seconds(), "tokens/s")
			})
		}
	}
}

// smolLab serves SmolLM2 in stages that share the machine, one goroutine of workers each.
func smolLab(b *testing.B, m *tinyModel, hops int, limits Limits) *lab {
	l := &lab{t: b, m: NewMemory(), hosts: map[string]*Host{}, closed: map[string]int{}}
	for i, sp := range spans(m.info.Layers, hops) {
		name := fmt.Sprintf("n%d", i)
		h := l.host(name, limits)
		m.w = kernels.NewWorkers(1)
		b.Cleanup(m.w.Close)
		if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, ForShard(m.open(sp[0], sp[1], 1<<31))); err != nil {
			b.Fatal(err)
		}
		l.route = append(l.route, Hop{name, sp[0], sp[1]})
	}
	return l
}

// times runs a request and tells when its tokens came.
func (l *lab) times(ctx context.Context, r Request) (start time.Time, at []time.Time) {
	start = time.Now()
	_, err := l.hosts["n0"].Generate(ctx, r, func(Token) error { at = append(at, time.Now()); return nil })
	if err != nil && ctx.Err() == nil {
		l.t.Error(err)
	}
	return start, at
}

func smolRequest(l *lab, seq uint64, prompt, maxNew int) Request {
	r := Request{Seq: seq, Model: "m", Epoch: 5, Route: l.route, Sampling: sample.Greedy(), MaxNew: maxNew}
	rng := rand.New(rand.NewPCG(seq, 5))
	for range prompt {
		r.Tokens = append(r.Tokens, 1000+rng.Int32N(20000))
	}
	return r
}

// BenchmarkLongPromptBeside is the 95th percentile of the gaps between the tokens of 4 running answers while a prompt of 4,000 is
// computed, over what it is without, and the prompt's time.
func BenchmarkLongPromptBeside(b *testing.B) {
	m := newModel(b, smol(b))
	for _, hops := range []int{1, 2} {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) {
			l := smolLab(b, m, hops, Limits{Guesses: -1})
			defer l.close()
			for n := range b.N {
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				var mu sync.Mutex
				var all [][]time.Time
				for i := range 4 {
					wg.Go(func() {
						_, at := l.times(ctx, smolRequest(l, uint64(n*100+i+1), 50, 4000))
						mu.Lock()
						defer mu.Unlock()
						all = append(all, at)
					})
				}
				time.Sleep(4 * time.Second)
				from, at := l.times(context.Background(), smolRequest(l, uint64(n*100+99), 4000, 1))
				cancel()
				wg.Wait()
				var idle, beside []time.Duration
				for _, times := range all {
					r := flowRide{times: times}
					idle = append(idle, r.gaps(from.Add(-2*time.Second), from)...)
					beside = append(beside, r.gaps(from, at[0])...)
				}
				was, is := quantile(idle, 0.95), quantile(beside, 0.95)
				b.ReportMetric(was.Seconds()*1e3, "idle-p95-ms")
				b.ReportMetric(is.Seconds()*1e3, "beside-p95-ms")
				b.ReportMetric(is.Seconds()/was.Seconds(), "x")
				b.ReportMetric(at[0].Sub(from).Seconds(), "prompt-s")
			}
		})
	}
}

// BenchmarkSharedPrefix is the time to the first token of a prompt of 522 tokens, cold and when 512 of them are cached.
func BenchmarkSharedPrefix(b *testing.B) {
	m := newModel(b, smol(b))
	for _, hops := range []int{1, 2} {
		b.Run(fmt.Sprintf("hops=%d", hops), func(b *testing.B) {
			l := smolLab(b, m, hops, Limits{})
			defer l.close()
			var cold, warm []time.Duration
			for n := range b.N {
				for turn := range 4 {
					r := smolRequest(l, uint64(n+1), 522, 2)
					r.Seq = uint64(10*n + turn + 1)
					r.Tokens[520] += int32(turn)
					start, at := l.times(context.Background(), r)
					if took := at[0].Sub(start); turn == 0 {
						cold = append(cold, took)
					} else {
						warm = append(warm, took)
					}
				}
			}
			b.ReportMetric(quantile(cold, 0.5).Seconds()*1e3, "cold-ms")
			b.ReportMetric(quantile(warm, 0.5).Seconds()*1e3, "warm-ms")
		})
	}
}

// BenchmarkGuesses is decoding of a text that repeats itself, with guesses and without.
func BenchmarkGuesses(b *testing.B) {
	m := newModel(b, smol(b))
	for _, hops := range []int{1, 2} {
		for _, guesses := range []int{-1, 7} {
			b.Run(fmt.Sprintf("hops=%d/guesses=%d", hops, guesses), func(b *testing.B) {
				l := smolLab(b, m, hops, Limits{Guesses: guesses})
				defer l.close()
				var took time.Duration
				for n := range b.N {
					r := smolRequest(l, 1, 40, 200)
					r.Tokens = slices.Concat(r.Tokens, r.Tokens, r.Tokens, r.Tokens[:20])
					r.Seq = uint64(n + 1)
					_, at := l.times(context.Background(), r)
					took += at[len(at)-1].Sub(at[0])
				}
				b.ReportMetric(float64(199*b.N)/took.Seconds(), "tokens/s")
			})
		}
	}
}
