package kernels

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"lamina/kernels/peak"
)

// The benchmarks measure the level in use (KERNELS takes another) and, in turns with it, what the machine can do at most: a busy
// neighbour then disturbs both. Rates are the best of many short samples, which others disturb least.

// benchMatrix is a matrix of random weights: one panel again and again, of at least some bytes, in huge pages.
func benchMatrix(b *testing.B, t Type, size, cols int) *Matrix {
	one, _ := randomMatrix(b, rand.New(rand.NewPCG(1, 1)), t, panelRows, cols)
	n := max(1, (size+len(one.Data)-1)/len(one.Data))
	data := hugeBytes(b, n*len(one.Data))
	for i := range n {
		copy(data[i*len(one.Data):], one.Data)
	}
	m, err := NewMatrix(t, n*panelRows, cols, data)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

// benchProduct returns a function that multiplies rows of random activations with m.
func benchProduct(w *Workers, m *Matrix, rows int) func() {
	x := randomActs(rand.New(rand.NewPCG(2, 2)), rows*m.Cols)
	y := [][]float32{make([]float32, rows*m.Rows)}
	a := new(Acts)
	a.Quantize(w, x, rows, m.Cols)
	return func() { MatMul(w, y, a, m) }
}

// ops is the number of operations of a product: 2 for each weight and row.
func (m *Matrix) ops(rows int) float64 { return 2 * float64(rows) * float64(m.Rows) * float64(m.Cols) }

// BenchmarkGEMM is prefill, many rows at once on one core, beside the peak of dots of bytes, or of multiply-adds for float weights.
func BenchmarkGEMM(b *testing.B) {
	loops := peak.Of(Impl())
	for _, t := range allTypes {
		b.Run(fmt.Sprintf("%s/%s", Impl(), t), func(b *testing.B) {
			const cols = 1536
			rows, out := 96, 64
			if active == generic {
				rows, out = 8, 16
			}
			w := NewWorkers(1)
			m := benchMatrix(b, t, out/panelRows*formOf(t).panelBytes(cols), cols)
			run := benchProduct(w, m, rows)
			best, top := 1e18, 0.0
			for b.Loop() {
				best = min(best, seconds(run))
				if formOf(t).quantised() {
					top = max(top, loops.Dot1(4))
				} else {
					top = max(top, loops.FMA1(4))
				}
			}
			reportRate(b, m.ops(rows)/best/1e9, "GOP/s", top)
		})
	}
}

// reportRate reports a rate and, if the machine's own is known, that and the share of it.
func reportRate(b *testing.B, rate float64, unit string, top float64) {
	b.ReportMetric(rate, unit)
	if top > 0 {
		b.ReportMetric(top, "peak-"+unit)
		b.ReportMetric(rate/top, "of-peak")
	}
	b.ReportMetric(0, "ns/op")
}

// memorySize is more than last-level caches hold.
const memorySize = 192 << 20

// BenchmarkGEMV is decode from the second-level cache and from memory, beside what only reads the same bytes.
func BenchmarkGEMV(b *testing.B) {
	for _, c := range []struct {
		name          string
		threads, size int
	}{{"cache", 1, 256 << 10}, {"memory", 1, memorySize}, {"memory", 2, memorySize}} {
		for _, t := range allTypes {
			b.Run(fmt.Sprintf("%s/t%d/%s/%s", c.name, c.threads, Impl(), t), func(b *testing.B) {
				w := NewWorkers(c.threads)
				defer w.Close()
				m := benchMatrix(b, t, c.size, 1536)
				run := benchProduct(w, m, 1)
				best, read := 1e18, 1e18
				for b.Loop() {
					best = min(best, seconds(run))
					read = min(read, readSeconds(w, m.Data))
				}
				reportRate(b, float64(len(m.Data))/best/1e9, "GB/s", float64(len(m.Data))/read/1e9)
			})
		}
	}
}

// readSeconds is the time that a team takes to read b, by the fastest way that there is.
func readSeconds(w *Workers, b []byte) float64 {
	loops := peak.Of(Impl())
	parts := 8 * w.N()
	best := 1e18
	for way := range loops.Reads {
		best = min(best, seconds(func() {
			w.Do(parts, func(p int) {
				part := b[len(b)*p/parts : len(b)*(p+1)/parts]
				for len(part) > 0 { // in pieces, between which the collector may stop it
					n := min(len(part), 256<<10)
					loops.Read(way, part[:n])
					part = part[n:]
					safepoint()
				}
			})
		}))
	}
	return best
}

// BenchmarkBatch multiplies several rows with weights that exceed the cache: how many times the rows of one alone it gives.
func BenchmarkBatch(b *testing.B) {
	for _, t := range []Type{Q4_0, Q4_1, Q5_0, Q8_0, Q4_K, Q6_K, MXFP4} {
		for threads := 1; threads <= 2; threads++ {
			w := NewWorkers(threads)
			m := benchMatrix(b, t, memorySize, 1536)
			for _, rows := range []int{2, 4, 8, 16} {
				b.Run(fmt.Sprintf("t%d/%s/%s/rows%d", threads, Impl(), t, rows), func(b *testing.B) {
					one, many := benchProduct(w, m, 1), benchProduct(w, m, rows)
					single, best := 1e18, 1e18
					for b.Loop() {
						single, best = min(single, seconds(one)), min(best, seconds(many))
					}
					b.ReportMetric(m.ops(rows)/best/1e9, "GOP/s")
					b.ReportMetric(float64(rows)*single/best, "x-one")
					b.ReportMetric(0, "ns/op")
				})
			}
			w.Close()
		}
	}
}

// BenchmarkQuantize is the quantising of activations, in elements for each nanosecond.
func BenchmarkQuantize(b *testing.B) {
	const rows, cols = 48, 576
	w := NewWorkers(1)
	x := randomActs(rand.New(rand.NewPCG(1, 1)), rows*cols)
	var a Acts
	best := 1e18
	for b.Loop() {
		best = min(best, seconds(func() { a.Quantize(w, x, rows, cols) }))
	}
	b.ReportMetric(rows*cols/best/1e9, "elem/ns")
	b.ReportMetric(0, "ns/op")
}

// seconds is the time that f takes.
func seconds(f func()) float64 {
	start := time.Now()
	f()
	return time.Since(start).Seconds()
}

// benchModel is the products of a model with random weights.
type benchModel struct {
	width, inner, kv, vocab int
	layers                  []benchLayer
	head                    *Matrix
}

type benchLayer struct{ q, k, v, o, gate, up, down *Matrix }

// smallModel is shaped like SmolLM2-135M, largeModel like Qwen2.5-0.5B, whose weights exceed the caches.
func smallModel(b *testing.B) *benchModel {
	return newBenchModel(b, Q4_1, benchModel{width: 576, inner: 1536, kv: 192, vocab: 49152}, 30)
}

func largeModel(b *testing.B) *benchModel {
	return newBenchModel(b, Q5_0, benchModel{width: 896, inner: 4864, kv: 128, vocab: 151936}, 24)
}

func newBenchModel(b *testing.B, t Type, m benchModel, layers int) *benchModel {
	matrix := func(t Type, rows, cols int) *Matrix {
		return benchMatrix(b, t, rows/panelRows*formOf(t).panelBytes(cols), cols)
	}
	for range layers {
		m.layers = append(m.layers, benchLayer{matrix(t, m.width, m.width), matrix(t, m.kv, m.width), matrix(t, m.kv, m.width),
			matrix(t, m.width, m.width), matrix(t, m.inner, m.width), matrix(t, m.inner, m.width), matrix(t, m.width, m.inner)})
	}
	m.head = matrix(Q8_0, m.vocab, m.width)
	return &m
}

// step returns a function that makes the products of a step of some rows, the last one's with the head.
func (m *benchModel) step(w *Workers, rows int) func() {
	x := randomActs(rand.New(rand.NewPCG(1, 1)), rows*m.inner)
	y := func(cols int) []float32 { return make([]float32, rows*cols) }
	q, k, v, gate, up := [][]float32{y(m.width)}, y(m.kv), y(m.kv), y(m.inner), y(m.inner)
	qkv, both, logits := [][]float32{q[0], k, v}, [][]float32{gate, up}, [][]float32{make([]float32, m.vocab)}
	a := new(Acts)
	return func() {
		for i := range m.layers {
			l := &m.layers[i]
			a.Quantize(w, x, rows, m.width)
			MatMul(w, qkv, a, l.q, l.k, l.v)
			a.Quantize(w, x, rows, m.width)
			MatMul(w, q, a, l.o)
			a.Quantize(w, x, rows, m.width)
			MatMul(w, both, a, l.gate, l.up)
			a.Quantize(w, x, rows, m.inner)
			MatMul(w, q, a, l.down)
		}
		a.Quantize(w, x, 1, m.width)
		MatMul(w, logits, a, m.head)
	}
}

// BenchmarkModel makes the products of one step of SmolLM2-135M with random weights: how many tokens a second they leave room for, in
// decode and in prefill.
func BenchmarkModel(b *testing.B) {
	m := smallModel(b)
	for _, rows := range []int{1, 4, 512} {
		for _, n := range []int{1, 2} {
			b.Run(fmt.Sprintf("%s/rows%d/workers%d", Impl(), rows, n), func(b *testing.B) {
				w := NewWorkers(n)
				defer w.Close()
				step := m.step(w, rows)
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
