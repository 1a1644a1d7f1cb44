package kernels

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestTruce: a little that is lost all the time, or much at once now and then, is borne; half of the time is not.
func TestTruce(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name        string
		lost, every time.Duration
		broken      bool
	}{
		{"nothing", 0, 4 * ms, false},
		{"a tenth", 400 * time.Microsecond, 4 * ms, false},
		{"a burst of 10 ms in 100", 10 * ms, 100 * ms, false},
		{"a quarter", ms, 4 * ms, true},
		{"half", 2 * ms, 4 * ms, true},
		{"one of 12 ms", 12 * ms, time.Hour, true},
	} {
		var tr truce
		broken := false
		for now := c.every; now < 500*ms+c.every; now += c.every {
			broken = broken || tr.broken(now, c.lost)
		}
		if broken != c.broken {
			t.Errorf("%s lost: broken is %v, want %v", c.name, broken, c.broken)
		}
	}
}

// TestRespite: rests double while there is no peace after them, and begin anew once there was.
func TestRespite(t *testing.T) {
	var r respite
	now := time.Duration(0)
	for _, want := range []time.Duration{restFirst, 2 * restFirst, 4 * restFirst, restMost, restMost} {
		if got := r.next(now); got != want {
			t.Errorf("at %v: %v, want %v", now, got, want)
		}
		now = r.until + 20*time.Millisecond
	}
	if got := r.next(r.until + 2*r.length); got != restFirst {
		t.Errorf("after peace: %v, want %v", got, restFirst)
	}
}

// TestMemberRests: Do does without a member that rests, and Close does not wait for the rest's end.
func TestMemberRests(t *testing.T) {
	w := NewWorkers(2)
	w.members[0].rest.Store(int64(time.Hour))
	for w.resting.Load() == 0 {
		w.Do(2, func(int) {}) // wakes the member if it sleeps
		runtime.Gosched()
	}
	var n atomic.Int32
	w.Do(10, func(int) { n.Add(1) })
	if n.Load() != 10 {
		t.Errorf("%d of 10 parts ran", n.Load())
	}
	w.Close()
}

// TestMeter: no reading is counted twice, and none over a change of threads.
func TestMeter(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	m := meter{at: -readEvery}
	m.read(0)
	if thread, _ := runDelay(); m.thread != thread {
		t.Errorf("read on thread %d, want %d", m.thread, thread)
	}
	m.thread++
	if got := m.read(readEvery); got != 0 {
		t.Errorf("%v lost by a thread that is not this one", got)
	}
	if got := m.read(readEvery + 1); got != 0 {
		t.Errorf("%v lost since a reading just before", got)
	}
}
