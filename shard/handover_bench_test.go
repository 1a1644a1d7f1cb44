package shard_test

import (
	"runtime"
	"testing"
	"time"

	"lamina/shard"
)

// BenchmarkHandOver decodes with a model cut in two, as two stages with a core each do, but without anything between them: by one goroutine on one
// core; by two on a core each, the one that waits asleep; by two that spin. What the second way takes longer than the first is what a core loses by
// pausing, the least that two stages of one request cost.
func BenchmarkHandOver(b *testing.B) {
	if runtime.NumCPU() < 2 {
		b.Skip("takes two cores")
	}
	p, _ := hugeParts(b, model(b, smol))
	line := p.open(b, shard.Options{Workers: workers(b, 1)}, 15)
	stage := make([]func(x []float32) []float32, 2)
	for i, s := range line {
		q := newSeq(b, s, 128)
		b.Cleanup(q.Free)
		stage[i] = func(x []float32) []float32 {
			if q.Len() == 128 {
				q.Rewind(0)
			}
			r := shard.Rows{Seq: q, X: x}
			if i == 0 {
				r.X, r.Tokens = nil, []int32{7}
			} else {
				r.Logits = 1
			}
			out, err := s.Step([]shard.Rows{r})
			if err != nil {
				b.Error(err)
			}
			return out[0]
		}
	}
	const steps = 64
	alone := func(core int) float64 {
		return on(core, func() {
			for range steps {
				stage[1](stage[0](nil))
			}
		})
	}
	var ones, sleeps, spins []float64
	for b.Loop() {
		ones = append(ones, (alone(0)+alone(1))/2)
		sleeps = append(sleeps, passing(stage, steps, false))
		spins = append(spins, passing(stage, steps, true))
	}
	one := median(ones)
	b.ReportMetric(steps/one, "one-tokens/s")
	b.ReportMetric(one/median(sleeps), "asleep/one")
	b.ReportMetric(one/median(spins), "spinning/one")
	b.ReportMetric(0, "ns/op")
}

// on runs f on a core and returns the seconds it took.
func on(core int, f func()) float64 {
	done := make(chan float64)
	go func() {
		pin(core)
		begun := time.Now()
		f()
		done <- time.Since(begun).Seconds()
	}()
	return <-done
}

// passing runs steps of two stages on a core each.
func passing(stage []func([]float32) []float32, steps int, spin bool) float64 {
	to, back := make(chan []float32, 1), make(chan []float32, 1)
	take := func(c chan []float32) []float32 {
		for spin {
			select {
			case x := <-c:
				return x
			default:
			}
		}
		return <-c
	}
	go func() {
		pin(1)
		for range steps {
			back <- stage[1](take(to))
		}
	}()
	return on(0, func() {
		for range steps {
			to <- stage[0](nil)
			take(back)
		}
	})
}
