package node

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// vigil keeps the Go runtime's monitor from deep sleep while a stage computes now and then. The monitor wakes from it with the next system call of
// the process and then looks around each 20 us for some ms. A stage that waits for others half of the time wakes it for every token: measured,
// 25 looks and 0.2 ms of the stage's core each time, where one process alone has none. So a goroutine passes the time of an answer in short system
// calls, as which a P counts as busy; it wakes some 100 times a second, and rests when no stage has computed for a tenth of a second.
type vigil struct {
	steps atomic.Uint64
	rests atomic.Bool
	wake  chan struct{}
	quit  chan struct{}
	done  sync.WaitGroup
}

// vigilNap is less than what the monitor takes the P of a system call for, 10 ms.
const vigilNap = 8 * time.Millisecond

func newVigil() *vigil {
	v := &vigil{wake: make(chan struct{}, 1), quit: make(chan struct{})}
	v.rests.Store(true)
	v.done.Go(v.keep)
	return v
}

// step says that a stage computes. A nil vigil keeps none.
func (v *vigil) step() {
	if v == nil {
		return
	}
	v.steps.Add(1)
	if v.rests.Load() {
		select {
		case v.wake <- struct{}{}:
		default:
		}
	}
}

func (v *vigil) close() {
	if v != nil {
		close(v.quit)
		v.done.Wait()
	}
}

func (v *vigil) keep() {
	for {
		select {
		case <-v.quit:
			return
		case <-v.wake:
		}
		v.rests.Store(false)
		seen := v.steps.Load()
		for still := 0; still < 12; still++ {
			t := unix.NsecToTimespec(int64(vigilNap))
			_ = unix.Nanosleep(&t, nil) // cut short by signals, which does no harm
			runtime.Gosched()           // a goroutine that runs for 10 ms in one piece loses its P, too
			if now := v.steps.Load(); now != seen {
				seen, still = now, 0
			}
		}
		v.rests.Store(true)
	}
}
