package shard_test

import (
	"bytes"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"lamina/kernels"
	"lamina/shard"
	"lamina/shard/gguf"
)

// parts is a cut model in memory.
type parts map[string][]byte

func (p parts) Part(x shard.Part) ([]byte, error) {
	if b, ok := p[x.Name]; ok {
		return b, nil
	}
	return nil, fmt.Errorf("no part %s", x.Name)
}

func cut(t testing.TB, f *gguf.File) parts {
	t.Helper()
	p := parts{}
	if err := shard.Cut(f, func(x shard.Part, data []byte) error { p[x.Name] = bytes.Clone(data); return nil }); err != nil {
		t.Fatal(err)
	}
	return p
}

func parse(t testing.TB, data []byte) *gguf.File {
	t.Helper()
	f, err := gguf.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func workers(t testing.TB, n int) *kernels.Workers {
	w := kernels.NewWorkers(n)
	t.Cleanup(w.Close)
	return w
}

// pipe is a model's shards in line.
type pipe []*shard.Shard

// open opens the model split before each of the given layers.
func (p parts) open(t testing.TB, opt shard.Options, at ...int) pipe {
	t.Helper()
	meta := parse(t, p["meta"])
	info, err := shard.ReadInfo(meta)
	if err != nil {
		t.Fatal(err)
	}
	var line pipe
	first := 0
	for _, end := range append(at, info.Layers) {
		s, err := shard.Open(meta, p, shard.Span{First: first, End: end}, opt)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		line, first = append(line, s), end
	}
	return line
}

// flow is one sequence in all shards of a pipe.
type flow struct {
	seqs   []*shard.Seq
	tokens []int32 // yet to be stepped
	logits []float32
}

func (p pipe) flow(t testing.TB, tokens []int32, max int) *flow {
	t.Helper()
	f := &flow{tokens: tokens}
	for _, s := range p {
		f.seqs = append(f.seqs, newSeq(t, s, max))
	}
	return f
}

// newSeq opens a sequence and reserves all of it.
func newSeq(t testing.TB, s *shard.Shard, max int) *shard.Seq {
	t.Helper()
	q, err := s.NewSeq(max, nil)
	if err == nil {
		err = q.Reserve(max)
	}
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func (f *flow) free() {
	for _, q := range f.seqs {
		q.Free()
	}
}

// step carries up to chunk tokens of each flow, an encoder's all, through all shards and collects the logits of every
// row, or the embedding.
func (p pipe) step(t testing.TB, flows []*flow, chunk int) {
	t.Helper()
	encoder := p[0].Info().Encoder
	if encoder {
		chunk = math.MaxInt
	}
	var live []*flow
	var batch []shard.Rows
	for _, f := range flows {
		if n := min(chunk, len(f.tokens)); n > 0 {
			live = append(live, f)
			batch = append(batch, shard.Rows{Tokens: f.tokens[:n]})
			f.tokens = f.tokens[n:]
		}
	}
	for i, s := range p {
		for j, f := range live {
			batch[j].Seq = f.seqs[i]
			if i == len(p)-1 && !encoder {
				batch[j].Logits = max(len(batch[j].Tokens), len(batch[j].X)/s.Info().Hidden)
			}
		}
		out, err := s.Step(batch)
		if err != nil {
			t.Fatal(err)
		}
		for j := range live {
			batch[j] = shard.Rows{X: out[j]}
		}
	}
	for j, f := range live {
		f.logits = append(f.logits, batch[j].X...)
	}
}

// run steps the flows to their ends.
func (p pipe) run(t testing.TB, flows []*flow, chunk int) {
	t.Helper()
	for {
		left := 0
		for _, f := range flows {
			left += len(f.tokens)
		}
		if left == 0 {
			return
		}
		p.step(t, flows, chunk)
	}
}

// logits of tokens through a pipe, alone.
func (p pipe) alone(t testing.TB, tokens []int32, chunk int) []float32 {
	t.Helper()
	f := p.flow(t, tokens, len(tokens))
	defer f.free()
	p.run(t, []*flow{f}, chunk)
	return f.logits
}

func randomTokens(seed uint64, n, vocab int) []int32 {
	rng := rand.New(rand.NewPCG(seed, 1))
	out := make([]int32, n)
	for i := range out {
		out[i] = int32(rng.IntN(vocab))
	}
	return out
}

// sameBits fails unless a and b are equal bit for bit, and finite.
func sameBits(t testing.TB, what string, a, b []float32) {
	t.Helper()
	if len(a) != len(b) || len(a) == 0 {
		t.Fatalf("%s: %d and %d numbers", what, len(a), len(b))
	}
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) || math.IsNaN(float64(a[i])) {
			t.Fatalf("%s: number %d is %g (%08x), want %g (%08x)", what, i, a[i], math.Float32bits(a[i]), b[i], math.Float32bits(b[i]))
		}
	}
}

// model opens a real model file, or skips the test.
func model(t testing.TB, name string) *gguf.File {
	t.Helper()
	dir := os.Getenv("LAMINA_MODELS")
	if dir == "" {
		cache := os.Getenv("XDG_CACHE_HOME")
		if cache == "" {
			home, err := os.UserHomeDir()
			if err != nil {
				t.Fatal(err)
			}
			cache = filepath.Join(home, ".cache")
		}
		dir = filepath.Join(cache, "lamina", "models")
	}
	path := name
	if !filepath.IsAbs(name) {
		path = filepath.Join(dir, name)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("%s is not there; fetch it with: make models models-more models-large", path)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// quick skips a test of a larger model where only generic Go is at work: it would take minutes, and TestImplementations
// shows on small models that the bits are those of the others.
func quick(t testing.TB) {
	if kernels.Impl() == "generic" {
		t.Skip("takes minutes by generic Go")
	}
}

const (
	smol  = "SmolLM2-135M-Instruct.Q4_1.gguf"
	qwen  = "qwen2.5-coder-0.5b-instruct-Q4_K_M.gguf"
	gemma = "gemma-3-270m-Q4_K_M.gguf"
	large = "qwen2.5-coder-1.5b-instruct-Q4_K_M.gguf"
	nomic = "nomic-embed-text-v1.5.f16.gguf"
)
