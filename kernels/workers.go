package kernels

import (
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Workers is a fixed team of goroutines that runs the parts of a computation. The goroutine that calls
// Do is one of the team, so a team of one starts none.
//
// A member without work spins for about 0.3 ms, then sleeps: a step of a model finds its team awake, an idle model costs
// nothing. While other programs take too much of the team's processors, members rest (see truce): the team does not get slower than one
// goroutine, and programs that share cores each get their own. The team takes processors away from the
// scheduler while it computes, so a program that must answer meanwhile sets GOMAXPROCS to the number of
// CPUs plus the size of the team.
type Workers struct {
	n       int
	members []*member  // n-1: all but who calls Do
	turn    sync.Mutex // held for one Do; guards truce
	truce   truce
	job     atomic.Pointer[job]
	_       [64]byte

	resting atomic.Int32
	mu      sync.Mutex // guards the sleepers' look at job and closed
	wake    sync.Cond
	asleep  atomic.Int32
	closed  atomic.Bool
	quit    chan struct{} // closed by Close
	team    sync.WaitGroup
}

// member is one goroutine of a team.
type member struct {
	meter meter
	lost  atomic.Int64 // what its meter found since truce looked last
	rest  atomic.Int64 // time.Duration that it is to rest
	_     [64]byte
	last  respite // truce's
}

// job is one Do. Each part is taken by whoever is free, so a member that the system has put aside
// holds up nothing but the part it is at.
type job struct {
	f      func(part int)
	parts  int64
	broke  atomic.Pointer[any] // what a part panicked with first
	next   atomic.Int64        // the next part that nobody has taken
	_      [64]byte
	done   atomic.Int64  // parts that have been run
	asleep atomic.Bool   // the caller waits until end is closed
	end    chan struct{} // set before asleep
}

// NewWorkers starts a team of n, the caller of Do included. With n < 1 the team is as large as the
// number of cores that the process may use: its affinity, without second threads of a core, within
// the CPU quota of its control groups. Close ends it.
func NewWorkers(n int) *Workers {
	if n < 1 {
		n = usableCores()
	}
	w := &Workers{n: n, quit: make(chan struct{}), truce: truce{born: time.Now()}}
	w.wake.L = &w.mu
	for range n - 1 {
		m := new(member)
		w.members = append(w.members, m)
		w.team.Go(func() { w.work(m) })
	}
	return w
}

// N returns the size of the team.
func (w *Workers) N() int { return w.n }

// Do calls f(0) ... f(parts-1), each once, on the members of the team, in no fixed order, and returns
// when all have returned. Calls from several goroutines take turns. f must not call Do of the same team.
// After Close the caller runs all parts itself. If a part panics, Do panics with that in its caller, when all
// other parts have been run or have panicked, too; so does one that reads a mapped file which has become shorter or cannot
// be read, if debug.SetPanicOnFault is set for the caller.
func (w *Workers) Do(parts int, f func(part int)) {
	if w.n == 1 || parts < 2 {
		for i := range parts {
			f(i)
		}
		return
	}
	w.turn.Lock()
	defer w.turn.Unlock()
	if int(w.resting.Load()) == len(w.members) {
		for i := range parts {
			f(i)
		}
		return
	}
	j := &job{f: f, parts: int64(parts)}
	w.job.Store(j)
	if w.asleep.Load() != 0 {
		w.mu.Lock()
		w.wake.Broadcast()
		w.mu.Unlock()
	}
	j.run()
	j.wait()
	w.truce.keep(w.members)
	if broke := j.broke.Load(); broke != nil {
		panic(*broke)
	}
}

// Close ends the team and returns when its goroutines have ended. No Do may be running.
func (w *Workers) Close() {
	w.mu.Lock()
	if !w.closed.Swap(true) {
		close(w.quit)
	}
	w.wake.Broadcast()
	w.mu.Unlock()
	w.team.Wait()
}

// run takes parts until none is left.
func (j *job) run() {
	for !j.take() {
	}
}

// take runs parts until none is left (true) or one panics. Those it has run are reported in one sum: what the members
// share costs them more than what they do not.
func (j *job) take() (all bool) {
	ran := int64(0)
	defer func() {
		if !all { // f has panicked
			v := recover()
			j.broke.CompareAndSwap(nil, &v)
		}
		if ran != 0 && j.done.Add(ran) == j.parts && j.asleep.Load() {
			close(j.end)
		}
	}()
	for {
		i := j.next.Add(1) - 1
		if i >= j.parts {
			return true
		}
		ran++
		j.f(int(i))
	}
}

// wait returns when all parts of j have been run. After a while it sleeps. To yield instead would cost more: Linux takes a whole
// slice of some ms from who yields to a program that does not.
func (j *job) wait() {
	for s := range spins {
		if j.done.Load() == j.parts {
			return
		}
		relax(s)
	}
	j.end = make(chan struct{})
	j.asleep.Store(true)
	if j.done.Load() != j.parts {
		<-j.end
	}
}

// work is the life of a member; Close ends it.
func (w *Workers) work(m *member) {
	debug.SetPanicOnFault(true) // a fault in a part is its caller's to answer
	var seen *job
	for {
		j := w.await(m, seen)
		if j == nil {
			return
		}
		j.run()
		seen = j
		if d := m.meter.read(time.Since(w.truce.born)); d > 0 {
			m.lost.Add(int64(d))
		}
	}
}

// await returns the next job after seen, or nil once the team is closed. It looks without sleeping
// first: waking a sleeper takes up to 0.1 ms.
func (w *Workers) await(m *member, seen *job) *job {
	for s := range spins {
		if d := m.rest.Swap(0); d != 0 {
			w.rest(time.Duration(d))
		}
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

// rest leaves a member out of the team for some time.
func (w *Workers) rest(d time.Duration) {
	w.resting.Add(1)
	defer w.resting.Add(-1)
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-w.quit:
	}
}

// spins is how many times a member looks for work, or for the end of others' work, before it sleeps: about 0.3 ms. Looks are
// counted, not timed: a clock costs more than a look, and may stand still in tests.
const spins = 10000

// relax passes the time after look s of a loop that waits for another member.
func relax(s int) {
	pause(1)
	if s&15 == 0 {
		safepoint()
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
