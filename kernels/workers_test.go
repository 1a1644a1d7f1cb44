package kernels

import (
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
)

func TestWorkersEveryPartOnce(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		w := NewWorkers(n)
		if w.N() != n {
			t.Errorf("N() = %d, want %d", w.N(), n)
		}
		for parts := range 40 {
			ran := make([]atomic.Int32, parts)
			w.Do(parts, func(p int) { ran[p].Add(1) })
			for p := range ran {
				if c := ran[p].Load(); c != 1 {
					t.Fatalf("%d workers: part %d of %d ran %d times", n, p, parts, c)
				}
			}
		}
		w.Close()
	}
}

// TestWorkersTurns calls Do from several goroutines: no two of their parts run at once.
func TestWorkersTurns(t *testing.T) {
	w := NewWorkers(3)
	defer w.Close()
	var owner, sum atomic.Int64 // the caller whose parts run now, from 1
	var callers sync.WaitGroup
	for c := range int64(4) {
		callers.Go(func() {
			for range 200 {
				var left atomic.Int32
				left.Store(7)
				w.Do(7, func(int) {
					if !owner.CompareAndSwap(0, c+1) && owner.Load() != c+1 {
						t.Error("parts of two calls run at once")
					}
					sum.Add(1)
					if left.Add(-1) == 0 {
						owner.Store(0)
					}
				})
			}
		})
	}
	callers.Wait()
	if got := sum.Load(); got != 4*200*7 {
		t.Errorf("%d parts ran, want %d", got, 4*200*7)
	}
}

// TestWorkersSleep: members that have gone to sleep are woken, and help.
func TestWorkersSleep(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	for range 20 {
		for w.asleep.Load() == 0 {
			runtime.Gosched()
		}
		var met sync.WaitGroup
		met.Add(2) // neither part can end without the other's running beside it
		w.Do(2, func(int) { met.Done(); met.Wait() })
	}
}

func TestWorkersAfterClose(t *testing.T) {
	w := NewWorkers(3)
	w.Close()
	var n atomic.Int32
	w.Do(10, func(int) { n.Add(1) })
	if n.Load() != 10 {
		t.Errorf("%d parts ran after Close, want 10", n.Load())
	}
}

func TestWorkersDefaultCount(t *testing.T) {
	w := NewWorkers(0)
	defer w.Close()
	if w.N() < 1 || w.N() > runtime.NumCPU() {
		t.Errorf("a default team has %d members on %d CPUs", w.N(), runtime.NumCPU())
	}
}

// TestWorkersWithCollector lets the garbage collector stop the world beside a team that computes.
func TestWorkersWithCollector(t *testing.T) {
	w := NewWorkers(2)
	defer w.Close()
	stop := make(chan struct{})
	var collector sync.WaitGroup
	collector.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
				runtime.GC()
			}
		}
	})
	var sum atomic.Int64
	for range 2000 {
		w.Do(8, func(p int) { sum.Add(int64(p)) })
	}
	close(stop)
	collector.Wait()
	if sum.Load() != 2000*28 {
		t.Errorf("sum %d, want %d", sum.Load(), 2000*28)
	}
}

func TestChoose(t *testing.T) {
	for _, c := range []struct {
		name       string
		best, want level
	}{
		{"", avx512, avx512}, {"", generic, generic}, {"generic", avx512, generic}, {"avx2", avx512, avx2},
		{"avx512", avx2, avx2}, {"avx2", generic, generic}, {"neon", avx2, avx2}, {"neon", avx512, avx512},
		{"neon", neondot, neon}, {"neondot", neon, neon}, {"avx2", neondot, neondot}, {"generic", neon, generic},
		{"avx512bw", avx512, avx512bw}, {"avx512", avx512bw, avx512bw}, {"avx512bw", avx2, avx2}, {"avx512bw", neon, neon},
		{"neoni8mm", neoni8mm, neoni8mm}, {"neoni8mm", neondot, neondot}, {"neondot", neoni8mm, neondot},
	} {
		if got := choose(c.name, c.best); got != c.want {
			t.Errorf("KERNELS=%s where the best is %s: %s, want %s", c.name, c.best, got, c.want)
		}
	}
}

// TestRequired fails when the implementation that KERNELS_REQUIRE names is not in use, so that a
// machine on which a level is to be tested cannot pass without it.
func TestRequired(t *testing.T) {
	if want := os.Getenv("KERNELS_REQUIRE"); want != "" && want != Impl() {
		t.Errorf("%s is in use, KERNELS_REQUIRE is %s", Impl(), want)
	}
}
