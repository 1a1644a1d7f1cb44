package kernels

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Workers is a fixed team of goroutines that runs the parts of a computation. The goroutine that calls
// Do is one of the team, so a team of one starts none.
//
// A member without work spins for about 50 us, then gives its processor to others at each look for
// another half a millisecond, then sleeps: a step of a model finds its team awake, an idle model costs
// nothing, and two programs on the same cores take turns. The team takes processors away from the
// scheduler while it computes, so a program that must answer meanwhile sets GOMAXPROCS to the number
// of CPUs plus the size of the team.
type Workers struct {
	n    int
	turn sync.Mutex // held for one Do
	job  atomic.Pointer[job]
	_    [64]byte

	mu     sync.Mutex // guards the sleepers' look at job and closed
	wake   sync.Cond
	asleep atomic.Int32
	closed atomic.Bool
	team   sync.WaitGroup
}

// job is one Do. Each part is taken by whoever is free, so a member that the system has put aside
// holds up nothing but the part it is at.
type job struct {
	f     func(part int)
	parts int64
	next  atomic.Int64 // the next part that nobody has taken
	_     [64]byte
	done  atomic.Int64 // parts that have been run
}

// NewWorkers starts a team of n, the caller of Do included. With n < 1 the team is as large as the
// number of cores that the process may use: its affinity, without second threads of a core, within
// the CPU quota of its control groups. Close ends it.
func NewWorkers(n int) *Workers {
	if n < 1 {
		n = usableCores()
	}
	w := &Workers{n: n}
	w.wake.L = &w.mu
	for range n - 1 {
		w.team.Go(w.member)
	}
	return w
}

// N returns the size of the team.
func (w *Workers) N() int { return w.n }

// Do calls f(0) ... f(parts-1), each once, on the members of the team, in no fixed order, and returns
// when all have returned. Calls from several goroutines take turns. f must not call Do of the same team.
// After Close the caller runs all parts itself.
func (w *Workers) Do(parts int, f func(part int)) {
	if w.n == 1 || parts < 2 {
		for i := range parts {
			f(i)
		}
		return
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	j := &job{f: f, parts: int64(parts)}
	w.job.Store(j)
	if w.asleep.Load() != 0 {
		w.mu.Lock()
		w.wake.Broadcast()
		w.mu.Unlock()
	}
	j.run()
	for s := 0; j.done.Load() != j.parts; s++ {
		relax(s)
	}
}

// Close ends the team and returns when its goroutines have ended. No Do may be running.
func (w *Workers) Close() {
	w.mu.Lock()
	w.closed.Store(true)
	w.wake.Broadcast()
	w.mu.Unlock()
	w.team.Wait()
}

// run takes parts until none is left. Those it has run are reported in one sum: what the members share
// costs them more than what they do not.
func (j *job) run() {
	ran := int64(0)
	for {
		i := j.next.Add(1) - 1
		if i >= j.parts {
			break
		}
		j.f(int(i))
		ran++
	}
	if ran != 0 {
		j.done.Add(ran)
	}
}

// member is one goroutine of the team; Close ends it.
func (w *Workers) member() {
	var seen *job
	for {
		j := w.await(seen)
		if j == nil {
			return
		}
		j.run()
		seen = j
	}
}

// await returns the next job after seen, or nil once the team is closed. It looks without sleeping
// first: waking a sleeper takes up to 0.1 ms.
func (w *Workers) await(seen *job) *job {
	for s := 0; s < spins+yields; s++ {
		if j := w.job.Load(); j != seen {
			return j
		}
		if w.closed.Load() {
			return nil
		}
		relax(s)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asleep.Add(1)
	defer w.asleep.Add(-1)
	for w.job.Load() == seen {
		if w.closed.Load() {
			return nil
		}
		w.wake.Wait()
	}
	return w.job.Load()
}

const (
	spins  = 2000 // looks with a pause between them
	yields = 400  // looks with a yield between them
)

// relax passes the time after look s of a loop that waits for another member. Looks are counted, not
// timed: a clock costs more than a look, and may stand still in tests.
func relax(s int) {
	pause(1)
	if s&15 == 0 {
		safepoint()
	}
	if s >= spins {
		runtime.Gosched()
		yieldThread()
	}
}

// safepoint lets the scheduler interrupt a loop that does little but call assembly. A goroutine is not
// stopped inside assembly, so without this a garbage collection waits until chance ends the loop (up
// to two seconds were seen).
//
//go:noinline
func safepoint() { checkpoint() }

// checkpoint is what makes safepoint no leaf: only a function that calls another checks its stack, and
// only there the scheduler gets hold of it.
//
//go:noinline
func checkpoint() {}
