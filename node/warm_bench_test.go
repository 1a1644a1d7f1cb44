package node

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"lamina/shard/pipeline"
)

// BenchmarkWarmStart opens a whole model whose blobs are in the page cache, as a process that has just started: until its first
// step of one token is done, on files and (settle) in memory, and how fast it decodes on either. LAMINA_BENCH_MODEL names a
// GGUF file; LAMINA_BENCH_DIR a folder for its blobs, so that they need not be written for each run.
func BenchmarkWarmStart(b *testing.B) {
	path, dir := os.Getenv("LAMINA_BENCH_MODEL"), os.Getenv("LAMINA_BENCH_DIR")
	if path == "" {
		b.Skip("LAMINA_BENCH_MODEL names no GGUF file")
	}
	if dir == "" {
		dir = b.TempDir()
	}
	var ready, settled, onFiles, inMemory time.Duration
	const tokens = 32
	for b.Loop() {
		k, st := loader(b, path, filepath.Join(dir, "blobs"), runtime.NumCPU())
		begun := time.Now()
		l := k.mustOpen(b, st)
		s := pipeline.ForShard(l.shard)
		decode(b, s, 1)
		ready += time.Since(begun)
		onFiles += decode(b, s, tokens)
		begun = time.Now()
		if err := k.settle(b.Context(), st, l, k.log); err != nil {
			b.Fatal(err)
		}
		settled += time.Since(begun)
		inMemory += decode(b, s, tokens)
		l.free()
		l.frees, l.shard = nil, nil
	}
	n := float64(b.N)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ready.Seconds()/n, "s-to-first-step")
	b.ReportMetric(settled.Seconds()/n, "s-to-move")
	b.ReportMetric(tokens*n/onFiles.Seconds(), "tokens/s-on-files")
	b.ReportMetric(tokens*n/inMemory.Seconds(), "tokens/s-in-memory")
}

// decode steps one sequence token by token.
func decode(b *testing.B, s pipeline.Stepper, tokens int) time.Duration {
	q, err := s.NewSeq(tokens, nil)
	if err != nil {
		b.Fatal(err)
	}
	defer q.Free()
	if err := q.Reserve(tokens); err != nil {
		b.Fatal(err)
	}
	begun := time.Now()
	for i := range tokens {
		if _, err := s.Step([]pipeline.Rows{{Seq: q, Tokens: []int32{int32(i + 100)}, Logits: 1}}); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begun)
}
