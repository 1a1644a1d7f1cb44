package kernels

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"
)

// benchImpls runs a benchmark for each type at each assembly level and in generic Go.
func benchImpls(b *testing.B, types []Type, f func(b *testing.B, t Type)) {
	best, old := bestLevel(), active
	defer func() { active = old }()
	for l := best; ; l-- {
		active = l
		for _, t := range types {
			b.Run(fmt.Sprintf("%s/%s", l, t), func(b *testing.B) { f(b, t) })
		}
		if l == generic {
			return
		}
	}
}

// benchRates reports the best of many short samples, which a busy machine disturbs least: operations
// (2 for each weight and row) and bytes of packed weights.
func benchRates(b *testing.B, m *Matrix, rows int, run func()) {
	best := 1e18
	for b.Loop() {
		best = min(best, seconds(run))
	}
	b.ReportMetric(2*float64(rows)*float64(m.Rows)*float64(m.Cols)/best/1e9, "GOP/s")
	b.ReportMetric(float64(len(m.Data))/best/1e9, "GB/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkGEMM is prefill: many rows at once, in samples of 0.1 ms or so.
func BenchmarkGEMM(b *testing.B) {
	benchImpls(b, allTypes, func(b *testing.B, t Type) {
		rng := rand.New(rand.NewPCG(1, 1))
		rows, out, cols := 96, 64, 1536
		if active == generic {
			rows, out = 8, 16
		}
		w := NewWorkers(1)
		m, _ := randomMatrix(b, rng, t, out, cols)
		x := randomActs(rng, rows*cols)
		y := [][]float32{make([]float32, rows*out)}
		var a Acts
		a.Quantize(w, x, rows, cols)
		benchRates(b, m, rows, func() { MatMul(w, y, &a, m) })
	})
}

// BenchmarkGEMV is decode, from the second-level cache and from memory, and a small batch from memory.
func BenchmarkGEMV(b *testing.B) {
	for _, c := range []struct {
		name       string
		rows, size int
	}{{"cache", 1, 256 << 10}, {"memory", 1, 64 << 20}, {"memory4", 4, 64 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			benchImpls(b, allTypes, func(b *testing.B, t Type) {
				rng := rand.New(rand.NewPCG(1, 1))
				const cols = 1536
				size := c.size
				if active == generic {
					size = 256 << 10
				}
				n, _ := PackedSize(t, 16, cols)
				out := max(1, size/int(n)) * 16
				w := NewWorkers(1)
				m, _ := randomMatrix(b, rng, t, out, cols)
				x := randomActs(rng, c.rows*cols)
				y := [][]float32{make([]float32, c.rows*out)}
				var a Acts
				a.Quantize(w, x, c.rows, cols)
				benchRates(b, m, c.rows, func() { MatMul(w, y, &a, m) })
			})
		})
	}
}

// BenchmarkQuantize is the quantising of activations, in elements for each nanosecond.
func BenchmarkQuantize(b *testing.B) {
	benchImpls(b, []Type{Q8_0}, func(b *testing.B, _ Type) {
		rng := rand.New(rand.NewPCG(1, 1))
		const rows, cols = 48, 576
		w := NewWorkers(1)
		x := randomActs(rng, rows*cols)
		var a Acts
		best := 1e18
		for b.Loop() {
			best = min(best, seconds(func() { a.Quantize(w, x, rows, cols) }))
		}
		b.ReportMetric(rows*cols/best/1e9, "elem/ns")
		b.ReportMetric(0, "ns/op")
	})
}

// seconds is the time that f takes.
func seconds(f func()) float64 {
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}

// BenchmarkModel makes the products of one step of SmolLM2-135M (30 layers of Q4_1, head of Q8_0) with
// random weights: how many tokens a second they leave room for, in decode and in prefill.
func BenchmarkModel(b *testing.B) {
	const width, inner, vocab, layers = 576, 1536, 49152, 30
	rng := rand.New(rand.NewPCG(1, 1))
	matrix := func(t Type, rows, cols int) *Matrix {
		m, _ := randomMatrix(b, rng, t, rows, cols)
		return m
	}
	type layer struct{ q, k, v, o, gate, up, down *Matrix }
	var model [layers]layer
	for i := range model {
		model[i] = layer{matrix(Q4_1, width, width), matrix(Q4_1, 192, width), matrix(Q4_1, 192, width),
			matrix(Q4_1, width, width), matrix(Q4_1, inner, width), matrix(Q4_1, inner, width),
			matrix(Q4_1, width, inner)}
	}
	head := matrix(Q8_0, vocab, width)
	for _, rows := range []int{1, 4, 512} {
		for _, n := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/rows%d/workers%d", Impl(), rows, n), func(b *testing.B) {
				w := NewWorkers(n)
				defer w.Close()
				x := randomActs(rng, rows*inner)
				y := func(cols int) []float32 { return make([]float32, rows*cols) }
				q, k, v, o, gate, up, logits := y(width), y(192), y(192), y(width), y(inner), y(inner), make([]float32, vocab)
				var a Acts
				step := func() {
					for _, l := range model {
						a.Quantize(w, x, rows, width)
						MatMul(w, [][]float32{q, k, v}, &a, l.q, l.k, l.v)
						a.Quantize(w, x, rows, width)
						MatMul(w, [][]float32{o}, &a, l.o)
						a.Quantize(w, x, rows, width)
						MatMul(w, [][]float32{gate, up}, &a, l.gate, l.up)
						a.Quantize(w, x, rows, inner)
						MatMul(w, [][]float32{o}, &a, l.down)
					}
					a.Quantize(w, x, 1, width)
					MatMul(w, [][]float32{logits}, &a, head)
				}
				best := 1e18
				for b.Loop() {
					best = min(best, seconds(step))
				}
				b.ReportMetric(float64(rows)/best, "tokens/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkStopTheWorld is the longest that the runtime waits for a goroutine which makes products
// without a break: what a garbage collection costs everyone else beside a running model.
func BenchmarkStopTheWorld(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	w := NewWorkers(1)
	m, _ := randomMatrix(b, rng, Q8_0, 4096, 4096)
	x := randomActs(rng, 4*4096)
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		var a Acts
		y := [][]float32{make([]float32, 4*4096)}
		for {
			select {
			case <-stop:
				return
			default:
				a.Quantize(w, x, 4, 4096)
				MatMul(w, y, &a, m)
			}
		}
	}()
	worst, sum := 0.0, 0.0
	var stats runtime.MemStats
	for b.Loop() {
		t := seconds(func() { runtime.ReadMemStats(&stats) })
		worst, sum = max(worst, t), sum+t
	}
	close(stop)
	<-stopped
	b.ReportMetric(worst*1e6, "us-worst")
	b.ReportMetric(sum/float64(b.N)*1e6, "us-mean")
	b.ReportMetric(0, "ns/op")
}
