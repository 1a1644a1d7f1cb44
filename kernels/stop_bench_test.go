package kernels

import (
	"math"
	"runtime"
	"runtime/metrics"
	"testing"

	"lamina/kernels/peak"
)

// BenchmarkStopTheWorld is how long a collection waits for a goroutine that computes without a break, until the world stands still: what it costs
// everyone else beside a running model. Besides products there are bare loops over some assembly, with safepoints between the calls and without,
// which is what safepoint is for: without, only chance ends the wait.
func BenchmarkStopTheWorld(b *testing.B) {
	w := NewWorkers(1)
	product := benchProduct(w, benchMatrix(b, Q8_0, 16<<20, 4096), 4)
	b.Run("products", func(b *testing.B) { benchStops(b, product) })
	dot := peak.Of(Impl()).Dot
	if dot == nil {
		return
	}
	const n = 4000 // some 30 us
	b.Run("safepoints", func(b *testing.B) { benchStops(b, func() { loopWith(dot, n) }) })
	b.Run("none", func(b *testing.B) { benchStops(b, func() { loopWithout(dot, n) }) })
}

func loopWith(f func(int), n int) {
	for range 1000 {
		f(n)
		safepoint()
	}
}

func loopWithout(f func(int), n int) {
	for range 1000 {
		f(n)
	}
}

// benchStops collects garbage beside a goroutine that computes, and reports the stops.
func benchStops(b *testing.B, compute func()) {
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				compute()
			}
		}
	}()
	before := stops()
	for b.Loop() {
		runtime.GC()
	}
	after := stops()
	close(stop)
	<-stopped
	longest, count, sum := 0.0, uint64(0), 0.0
	for i, n := range after.Counts {
		if n -= before.Counts[i]; n > 0 {
			longest = after.Buckets[i+1]
			if math.IsInf(longest, 1) {
				longest = after.Buckets[i]
			}
			count += n
			sum += float64(n) * longest
		}
	}
	b.ReportMetric(longest*1e6, "us-longest")
	b.ReportMetric(sum/float64(max(count, 1))*1e6, "us-mean")
	b.ReportMetric(0, "ns/op")
}

// stops is the runtime's histogram of the time from the wish to stop the world until it stands, in collections.
func stops() *metrics.Float64Histogram {
	s := []metrics.Sample{{Name: "/sched/pauses/stopping/gc:seconds"}}
	metrics.Read(s)
	h := *s[0].Value.Float64Histogram()
	h.Counts = append([]uint64(nil), h.Counts...)
	return &h
}
