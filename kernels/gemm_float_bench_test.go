package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// flops reports the best of many samples of f, which does some floating-point operations: GFLOP/s, and percent of what the loop of
// multiply-adds in registers reaches beside it. A sample alternates between the two, so that both meet the same machine.
func flops(b *testing.B, operations int, f func()) {
	best, peak := 1e18, 1e18
	for b.Loop() {
		for range 20 {
			peak = min(peak, peakSeconds())
		}
		best = min(best, seconds(f))
	}
	b.ReportMetric(float64(operations)/best/1e9, "GFLOP/s")
	b.ReportMetric(100*float64(operations)/best*peak, "%peak")
	b.ReportMetric(0, "ns/op")
}

// eachFast runs a benchmark at the levels that have assembly.
func eachFast(b *testing.B, f func(b *testing.B)) {
	best, old := bestLevel(), active
	defer func() { active = old }()
	for l := range levels {
		if l.runs(best) && (l != generic || best == generic) {
			active = l
			b.Run(l.String(), f)
		}
	}
}

// BenchmarkFloatGEMM multiplies rows (M) with a packed matrix of N x K, on one worker.
func BenchmarkFloatGEMM(b *testing.B) {
	w := NewWorkers(1)
	for _, s := range [][3]int{
		{504, 1536, 576}, {256, 256, 256}, {512, 512, 512}, {1024, 1024, 1024}, {64, 512, 512}, {16, 512, 512},
		{7, 512, 512}, {4, 512, 512}, {3, 512, 512}, {2, 512, 512}, {1, 256, 256}, {1, 512, 512}, {1, 1024, 1024}, {1, 4096, 4096},
	} {
		rows, n, k := s[0], s[1], s[2]
		b.Run(fmt.Sprintf("%dx%dx%d", rows, n, k), func(b *testing.B) {
			m := PackFloats(w, nil, normals(1, n*k), k, n, k, false)
			x, y := normals(2, rows*k), make([]float32, rows*n)
			eachFast(b, func(b *testing.B) {
				flops(b, 2*rows*n*k, func() { GEMM(w, y, n, x, k, rows, m, Fuse{}) })
			})
		})
	}
}

// BenchmarkPackFloats packs a right operand on the way, as MatMul of two activations does.
func BenchmarkPackFloats(b *testing.B) {
	w := NewWorkers(1)
	x := normals(1, 512*512)
	for _, byColumn := range []bool{false, true} {
		b.Run(fmt.Sprintf("512x512/byColumn=%t", byColumn), func(b *testing.B) {
			m := PackFloats(w, nil, x, 512, 512, 512, byColumn)
			perElement(b, len(x), func() { PackFloats(w, m, x, 512, 512, 512, byColumn) })
		})
	}
}

// BenchmarkFloatTypes multiplies with weights of each float type, on one worker and on two.
func BenchmarkFloatTypes(b *testing.B) {
	const rows, n, k = 504, 512, 512
	x, y := normals(2, rows*k), make([]float32, rows*n)
	for _, typ := range []Type{F32, F16, BF16} {
		m, _ := randomMatrix(b, rand.New(rand.NewPCG(1, 1)), typ, n, k)
		for _, workers := range []int{1, 2} {
			w := NewWorkers(workers)
			b.Run(fmt.Sprintf("%s/%dx%dx%d/workers=%d", typ, rows, n, k, workers), func(b *testing.B) {
				eachFast(b, func(b *testing.B) {
					flops(b, 2*rows*n*k, func() { GEMM(w, y, n, x, k, rows, m, Fuse{}) })
				})
			})
			w.Close()
		}
	}
}
