package shard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"lamina/kernels"
	"lamina/kernels/peak"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/tiny"
)

// BenchmarkModel prints tokens per second of real models in one process, at 1 and 2 threads: pp512 is prefill of 512 tokens, tg128 decode
// of 128 tokens from an empty cache, batchN decode of N sequences together after 64 positions. Decode is set beside what only reads as
// many bytes of memory, in turns with it. LAMINA_BENCH_MODEL names another file.
func BenchmarkModel(b *testing.B) {
	files := []string{smol, qwen, gemma, large}
	if f := os.Getenv("LAMINA_BENCH_MODEL"); f != "" {
		files = []string{f}
	}
	for _, file := range files {
		b.Run(strings.TrimSuffix(filepath.Base(file), ".gguf"), func(b *testing.B) {
			p, tokenBytes := hugeParts(b, model(b, file))
			for _, threads := range []int{1, 2} {
				b.Run(fmt.Sprintf("t%d", threads), func(b *testing.B) { benchModel(b, p, threads, tokenBytes) })
			}
		})
	}
}

func benchModel(b *testing.B, p parts, threads, tokenBytes int) {
	old := runtime.GOMAXPROCS(runtime.NumCPU() + threads) // as in a node
	defer runtime.GOMAXPROCS(old)
	w := workers(b, threads)
	s := p.open(b, shard.Options{Workers: w})[0]
	b.Run("pp512", func(b *testing.B) { benchPrefill(b, s, 512) })
	b.Run("tg128", func(b *testing.B) { benchDecode(b, s, w, tokenBytes) })
	for _, n := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprintf("batch%d", n), func(b *testing.B) { benchBatch(b, s, n) })
	}
}

// hugeParts cuts a model into memory as a node holds it, in huge pages, and returns the bytes of weights that one token reads.
func hugeParts(b *testing.B, f *gguf.File) (p parts, tokenBytes int) {
	p = parts{}
	err := shard.Cut(f, func(x shard.Part, data []byte) error {
		p[x.Name] = hugeBytes(b, len(data))
		copy(p[x.Name], data)
		if x.Kind == shard.Layer || x.Kind == shard.Head {
			tokenBytes += len(data)
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	if len(p["head"]) < len(p["embed"])/2 { // the output matrix is the embedding
		tokenBytes += len(p["embed"])
	}
	return p, tokenBytes
}

func mustStep(b *testing.B, s *shard.Shard, batch []shard.Rows) {
	if _, err := s.Step(batch); err != nil {
		b.Fatal(err)
	}
}

func benchPrefill(b *testing.B, s *shard.Shard, n int) {
	q := newSeq(b, s, n)
	b.Cleanup(q.Free)
	batch := []shard.Rows{{Seq: q, Tokens: randomTokens(1, n, s.Info().Vocab), Logits: 1}}
	mustStep(b, s, batch)
	clock := startClock()
	for b.Loop() {
		q.Rewind(0)
		mustStep(b, s, batch)
	}
	clock.report(b, n*b.N)
}

func benchDecode(b *testing.B, s *shard.Shard, w *kernels.Workers, tokenBytes int) {
	const n = 128
	q := newSeq(b, s, n)
	b.Cleanup(q.Free)
	tokens := randomTokens(1, n, s.Info().Vocab)
	read := hugeBytes(b, max(tokenBytes, 64<<20))
	for i := range read {
		read[i] = byte(i) // pages that nobody has written to are all one page of zeros
	}
	run := func() {
		q.Rewind(0)
		for i := range n {
			mustStep(b, s, []shard.Rows{{Seq: q, Tokens: tokens[i : i+1], Logits: 1}})
		}
	}
	run()
	var clock clock
	var spent, reading []float64
	for b.Loop() {
		reading = append(reading, readSeconds(w, read))
		begun, cpu := time.Now(), cpuTime()
		run()
		spent = append(spent, time.Since(begun).Seconds())
		clock.cpu += cpuTime() - cpu
		reading = append(reading, readSeconds(w, read))
	}
	rate := n / median(spent)
	gbs, top := rate*float64(tokenBytes)/1e9, float64(len(read))/median(reading)/1e9
	b.ReportMetric(rate, "tok/s")
	b.ReportMetric(float64(n*b.N)/clock.cpu.Seconds(), "tok/cpu-s")
	b.ReportMetric(gbs, "GB/s")
	b.ReportMetric(top, "read-GB/s")
	b.ReportMetric(gbs/top, "of-read")
	b.ReportMetric(0, "ns/op")
}

// readSeconds is the time that a team takes to read b in the fastest way that there is.
func readSeconds(w *kernels.Workers, b []byte) float64 {
	loops := peak.Of(kernels.Impl())
	parts := len(b) >> 20
	best := 1e18
	for way := range loops.Reads {
		begun := time.Now()
		w.Do(parts, func(p int) { loops.Read(way, b[len(b)*p/parts:len(b)*(p+1)/parts]) })
		best = min(best, time.Since(begun).Seconds())
	}
	return best
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

func benchBatch(b *testing.B, s *shard.Shard, seqs int) {
	const depth, steps = 64, 32
	batch := make([]shard.Rows, seqs)
	for i := range batch {
		q := newSeq(b, s, depth+steps)
		b.Cleanup(q.Free)
		batch[i] = shard.Rows{Seq: q, Tokens: randomTokens(uint64(i), depth, s.Info().Vocab)}
	}
	mustStep(b, s, batch)
	for i := range batch {
		batch[i].Tokens, batch[i].Logits = batch[i].Tokens[:1], 1
	}
	clock := startClock()
	for b.Loop() {
		for i := range batch {
			batch[i].Seq.Rewind(depth)
		}
		for range steps {
			mustStep(b, s, batch)
		}
	}
	clock.report(b, seqs*steps*b.N)
}

// clock measures processor time besides the passing one: on a busy machine only it says anything.
type clock struct{ cpu time.Duration }

func startClock() clock { return clock{cpuTime()} }

func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (c clock) report(b *testing.B, tokens int) {
	b.ReportMetric(float64(tokens)/b.Elapsed().Seconds(), "tok/s")
	b.ReportMetric(float64(tokens)/(cpuTime()-c.cpu).Seconds(), "tok/cpu-s")
	b.ReportMetric(0, "ns/op")
}

// Steps reuse their buffers: after the first, a step takes little from the heap.
func TestStepReusesBuffers(t *testing.T) {
	p := cut(t, parse(t, tiny.Llama(tiny.Config{FFN: 4096})))
	s := p.open(t, shard.Options{Workers: workers(t, 1)})[0]
	batch := make([]shard.Rows, 24)
	for i := range batch {
		batch[i] = shard.Rows{Seq: newSeq(t, s, 128), Tokens: randomTokens(uint64(i), 2, vocab), Logits: 1} // room for 62 in the first page
	}
	step := func() {
		if _, err := s.Step(batch); err != nil {
			t.Fatal(err)
		}
	}
	step()
	const steps, floats = 20, 24 * (8*64 + 2*4096 + vocab) // what the rows of one step need
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range steps {
		step()
	}
	runtime.ReadMemStats(&after)
	per := (after.TotalAlloc - before.TotalAlloc) / steps
	t.Logf("%d bytes a step", per)
	if per > 4*floats/2 {
		t.Errorf("a step takes %d bytes; its buffers are %d and should be reused", per, 4*floats)
	}
}
