package shard_test

import (
	"testing"

	"lamina/shard"
)

// BenchmarkLongContext is what attention to 4,096 positions makes of a token of an answer and of 64 rows of a prompt.
func BenchmarkLongContext(b *testing.B) {
	const depth = 4096
	for _, file := range []string{smol, qwen} {
		b.Run(file[:5], func(b *testing.B) {
			s := cut(b, model(b, file)).open(b, shard.Options{Workers: workers(b, 1)})[0]
			q := newSeq(b, s, depth+64)
			tokens := randomTokens(1, depth+64, s.Info().Vocab)
			for from := 0; from < depth; from += 512 {
				if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens[from : from+512]}}); err != nil {
					b.Fatal(err)
				}
			}
			for name, rows := range map[string]int{"decode": 1, "prefill64": 64} {
				b.Run(name, func(b *testing.B) {
					clock := startClock()
					for b.Loop() {
						q.Rewind(depth)
						if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens[depth : depth+rows], Logits: 1}}); err != nil {
							b.Fatal(err)
						}
					}
					clock.report(b, rows*b.N)
				})
			}
		})
	}
}

// BenchmarkPrefix is what it costs to find 512 tokens of a real model's cache again: the keys of the tokens (at the gateway),
// and a sequence that shares the blocks and lets go of them (in each stage). Computing them is prefill512 of BenchmarkModel.
func BenchmarkPrefix(b *testing.B) {
	tokens := randomTokens(1, 512, 49152)
	b.Run("keys", func(b *testing.B) {
		for b.Loop() {
			shard.Keys(scope, tokens)
		}
	})
	s := cut(b, model(b, smol)).open(b, shard.Options{Workers: workers(b, 1)})[0]
	keys := shard.Keys(scope, tokens)
	q := newSeq(b, s, 512)
	if _, err := s.Step([]shard.Rows{{Seq: q, Tokens: tokens}}); err != nil {
		b.Fatal(err)
	}
	q.Name(keys)
	q.Free()
	b.Run("share", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			q, err := s.NewSeq(1024, keys)
			if err != nil || q.Len() != 512 {
				b.Fatal(q.Len(), err)
			}
			q.Free()
		}
	})
	b.Run("reserve", func(b *testing.B) { // and a block of its own for what follows
		b.ReportAllocs()
		for b.Loop() {
			q, err := s.NewSeq(1024, keys)
			if err == nil {
				err = q.Reserve(513)
			}
			if err != nil {
				b.Fatal(err)
			}
			q.Free()
		}
	})
	b.Run("copy", func(b *testing.B) { // a block is copied on write
		q, err := s.NewSeq(1024, keys)
		if err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			q.Rewind(500)
			q.Free()
			if q, err = s.NewSeq(1024, keys); err != nil || q.Len() != 512 {
				b.Fatal(q.Len(), err)
			}
		}
	})
}
