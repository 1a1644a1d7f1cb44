// Package peak holds loops that do nothing but one thing: multiply-adds, dots of bytes, reading. They find what a machine can do at
// most, and the benchmarks put the kernels beside that. The loops are written by kernels/gen, like the kernels.
package peak

import "time"

// Loops are the loops of one implementation of package kernels. A loop that there is none of is nil.
type Loops struct {
	FMA    func(n int) // n times Flops floating-point operations on one core, a multiplication and an addition counting as two
	Flops  float64
	Dot    func(n int) // n times Ops integer operations, counted likewise
	Ops    float64
	Reads  []func(p *byte, n int) // ways to read n times Stride bytes: the fastest counts
	Stride int
}

// Of returns the loops of the implementation of package kernels of that name (kernels.Impl).
func Of(impl string) Loops { return of(impl) }

const sample = 40 * time.Microsecond // short enough to find a moment in which nothing disturbs

// FMA1 returns the floating-point operations of a second on one core, in 1e9, as the best of some samples; 0 if there is no loop.
func (l Loops) FMA1(samples int) float64 { return rate(l.FMA, l.Flops, samples) }

// Dot1 returns the integer operations of a second on one core, likewise.
func (l Loops) Dot1(samples int) float64 { return rate(l.Dot, l.Ops, samples) }

func rate(f func(n int), ops float64, samples int) float64 {
	if f == nil {
		return 0
	}
	n, best := 64, 0.0
	for range samples {
		begun := time.Now()
		f(n)
		d := time.Since(begun)
		best = max(best, ops*float64(n)/float64(max(d, 1)))
		if d < sample {
			n *= 2
		}
	}
	return best
}

// Read reads b once by the i-th way.
func (l Loops) Read(i int, b []byte) {
	if n := len(b) / l.Stride; n > 0 {
		l.Reads[i](&b[0], n)
	}
}
