package shard_test

import (
	"crypto/sha256"
	"testing"

	"lamina/shard"
)

// BenchmarkCut packs a whole model file, from the page cache into a reused buffer: what `lamina add` computes on one core but for
// the digests. sha256 is what the digests cost on the same bytes.
func BenchmarkCut(b *testing.B) {
	for _, file := range []string{smol, qwen, gemma, "qwen2.5-coder-1.5b-instruct-Q4_K_M.gguf"} {
		b.Run(file[:min(len(file), 18)], func(b *testing.B) {
			f := model(b, file)
			var n int64
			b.Run("pack", func(b *testing.B) {
				for b.Loop() {
					n = 0
					if err := shard.Cut(f, func(_ shard.Part, data []byte) error { n += int64(len(data)); return nil }); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(n)
			})
			b.Run("pack+sha256", func(b *testing.B) {
				for b.Loop() {
					if err := shard.Cut(f, func(_ shard.Part, data []byte) error { sha256.Sum256(data); return nil }); err != nil {
						b.Fatal(err)
					}
				}
				b.SetBytes(n)
			})
		})
	}
}

func BenchmarkSHA256(b *testing.B) {
	data := make([]byte, 64<<20)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		sha256.Sum256(data)
	}
}
