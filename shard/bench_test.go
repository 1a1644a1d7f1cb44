package shard_test

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"lamina/shard"
	"lamina/shard/tiny"
)

// BenchmarkModel prints tokens per second of real models in one process: prefill of 512 tokens, decode of one
// sequence after 128 positions, decode of 8 sequences together.
func BenchmarkModel(b *testing.B) {
	for _, file := range []string{smol, qwen, gemma} {
		b.Run(file[:5], func(b *testing.B) {
			p := cut(b, model(b, file))
			for _, threads := range []int{1, 2} {
				s := p.open(b, shard.Options{Workers: workers(b, threads)})[0]
				b.Run(fmt.Sprintf("prefill512/t%d", threads), func(b *testing.B) { benchPrefill(b, s, 512) })
				b.Run(fmt.Sprintf("decode1/t%d", threads), func(b *testing.B) { benchDecode(b, s, 1) })
				b.Run(fmt.Sprintf("decode8/t%d", threads), func(b *testing.B) { benchDecode(b, s, 8) })
			}
		})
	}
}

func benchPrefill(b *testing.B, s *shard.Shard, n int) {
	tokens := randomTokens(1, n, s.Info().Vocab)
	q := newSeq(b, s, n)
	defer q.Free()
	clock := startClock()
	for b.Loop() {
		q.Rewind(0)
		if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens, Logits: 1}}); err != nil {
			b.Fatal(err)
		}
	}
	clock.report(b, n*b.N)
}

func benchDecode(b *testing.B, s *shard.Shard, seqs int) {
	const depth, run = 128, 128
	batch := make([]shard.Rows, seqs)
	for i := range batch {
		q := newSeq(b, s, depth+run)
		defer q.Free()
		batch[i] = shard.Rows{Seq: q, Tokens: randomTokens(uint64(i), depth, s.Info().Vocab)}
	}
	if _, err := s.Step(batch); err != nil {
		b.Fatal(err)
	}
	for i := range batch {
		batch[i].Tokens, batch[i].Logits = batch[i].Tokens[:1], 1
	}
	clock := startClock()
	for b.Loop() {
		if batch[0].Seq.Len() == depth+run {
			for i := range batch {
				batch[i].Seq.Rewind(depth)
			}
		}
		if _, err := s.Step(batch); err != nil {
			b.Fatal(err)
		}
	}
	clock.report(b, seqs*b.N)
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
		q := newSeq(t, s, 128)
		batch[i] = shard.Rows{Seq: q, Tokens: randomTokens(uint64(i), 2, vocab), Logits: 1} // room for 62 in the first page
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
