package kernels

import (
	"fmt"
	"testing"
)

// BenchmarkAttentionPrefill is the attention of a prompt in one layer of SmolLM2-135M: 9 heads, 3 key-value heads, 64
// dimensions. A model of 30 layers takes 30 times as long.
func BenchmarkAttentionPrefill(b *testing.B) {
	w := NewWorkers(1)
	defer w.Close()
	for _, n := range []int{512, 4096} {
		c := newAttnCase(1, 9, 3, 64, n)
		kv := newKV(3, 64, n)
		kv.Append(c.k, c.v, n)
		out := make([]float32, len(c.q))
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				Attention(w, out, c.q, []AttnSeq{{kv, 0, n}}, 9, 64, c.scale())
			}
			flops := 4 * 64 * 9 * float64(n) * float64(n+1) / 2
			b.ReportMetric(flops*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
		})
	}
}

// BenchmarkAttentionDecode is one token at a position, in one layer of the same model.
func BenchmarkAttentionDecode(b *testing.B) {
	w := NewWorkers(1)
	defer w.Close()
	for _, n := range []int{32, 512, 4096} {
		c := newAttnCase(1, 9, 3, 64, n)
		kv := newKV(3, 64, n)
		kv.Append(c.k, c.v, n)
		out := make([]float32, 9*64)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				Attention(w, out, c.q[:9*64], []AttnSeq{{kv, n - 1, 1}}, 9, 64, c.scale())
			}
		})
	}
}

func BenchmarkKVAppend(b *testing.B) {
	c := newAttnCase(1, 3, 3, 64, 64)
	kv := newKV(3, 64, 64)
	b.SetBytes(2 * 64 * 3 * 64 * 4)
	for b.Loop() {
		kv.SetLen(0)
		kv.Append(c.k, c.v, 64)
	}
}
