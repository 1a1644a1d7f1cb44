package kernels

import "testing"

// perElement reports elements per nanosecond.
func perElement(b *testing.B, n int, f func()) {
	for b.Loop() {
		f()
	}
	b.ReportMetric(float64(n)*float64(b.N)/float64(b.Elapsed().Nanoseconds()), "elem/ns")
}

// BenchmarkVector has rows as long as those of SmolLM2-135M.
func BenchmarkVector(b *testing.B) {
	x, y, z := normals(1, 1536), normals(2, 1536), make([]float32, 1536)
	half, table := make([]uint16, 1536), NewRopeTable(64, 10000, RopeScaling{})
	logits := normals(3, 49152)
	b.Run("RMSNorm", func(b *testing.B) { perElement(b, 576, func() { RMSNorm(z[:576], x, y, 1, 576, 1e-5) }) })
	b.Run("SiluMul", func(b *testing.B) { perElement(b, 1536, func() { SiluMul(z, x, y) }) })
	b.Run("Add", func(b *testing.B) { perElement(b, 576, func() { Add(z[:576], x) }) })
	b.Run("RopeInterleaved", func(b *testing.B) { perElement(b, 768, func() { table.Apply(x, 12, 64, 77, Interleaved) }) })
	b.Run("RopeHalves", func(b *testing.B) { perElement(b, 768, func() { table.Apply(x, 12, 64, 77, Halves) }) })
	b.Run("toHalves", func(b *testing.B) { perElement(b, 1536, func() { toHalves(half, x) }) })
	b.Run("Argmax", func(b *testing.B) { perElement(b, len(logits), func() { Argmax(logits) }) })
	b.Run("LogSumExp", func(b *testing.B) { perElement(b, len(logits), func() { LogSumExp(logits) }) })
	b.Run("Softmax", func(b *testing.B) { perElement(b, len(logits), func() { Softmax(logits) }) })
}
