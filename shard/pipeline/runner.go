package pipeline

import (
	"fmt"
	"runtime/debug"
	"time"
)

// runner owns a stage: its goroutine (run) is the only one that touches the Stepper; others deliver frames.
type runner struct {
	cell
	h    *Host
	st   *stage
	wake chan struct{} // holds one token: something has changed
	done chan struct{} // closed when run has ended
}

func newRunner(h *Host, key StageKey, sh Stepper) *runner {
	r := &runner{h: h, wake: make(chan struct{}, 1), done: make(chan struct{})}
	r.idle.L = &r.mu
	r.st = newStage(key, h.cfg.Self, sh, h.cfg.Limits, &h.dropped)
	return r
}

// with calls f with the core and then sends what came of it.
func (r *runner) with(f func(s *stage)) {
	r.mu.Lock()
	f(r.st)
	notes := r.st.takeNotes()
	r.mu.Unlock()
	r.report(notes)
	r.flush(r.h, r.st, false)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *runner) deliver(from string, f *Frame) (kept bool) {
	now := r.h.cfg.Clock()
	r.with(func(s *stage) { kept = s.deliver(now, from, f) })
	return kept
}

func (r *runner) peerDown(node string, err error) {
	r.with(func(s *stage) { s.peerDown(node, err) })
}

func (r *runner) stop(reason string) {
	r.with(func(s *stage) { s.stop(reason) })
}

func (r *runner) load() Load {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.st.load()
}

// run steps the stage until it is stopped.
func (r *runner) run() {
	defer close(r.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		now := r.h.cfg.Clock()
		ready, stopped, expires := r.tidy(now)
		r.flush(r.h, r.st, true)
		if ready {
			r.compute()
			continue
		}
		if stopped {
			return
		}
		wait := time.Hour
		if !expires.IsZero() {
			wait = max(expires.Sub(now), 0)
		}
		timer.Reset(wait)
		select {
		case <-r.wake:
		case <-timer.C:
		}
	}
}

// tidy settles and expires sequences, and says what is to be done next.
func (r *runner) tidy(now time.Time) (ready, stopped bool, expires time.Time) {
	r.mu.Lock()
	expires = r.st.expire(now)
	r.settle()
	ready, stopped = r.st.ready(now), r.st.stopped != ""
	if until, wait := r.st.awaits(now); wait && !until.IsZero() && (expires.IsZero() || until.Before(expires)) {
		expires = until
	}
	notes := r.st.takeNotes()
	r.mu.Unlock()
	r.report(notes)
	return ready, stopped, expires
}

// settle calls the core's settle; a panic in the Stepper fails the sequences. The lock is held.
func (r *runner) settle() {
	defer r.rescue(nil)
	r.st.settle()
}

// compute steps one group. The lock is free during the step, so frames keep coming in.
func (r *runner) compute() {
	r.h.compute.Lock()
	r.mu.Lock()
	r.settle()
	batch := r.st.next(r.h.cfg.Clock())
	r.mu.Unlock()
	var out [][]float32
	var err error
	if len(batch) > 0 {
		out, err = r.step(batch)
	}
	r.h.compute.Unlock()

	r.mu.Lock()
	r.st.done(r.h.cfg.Clock(), out, err)
	notes := r.st.takeNotes()
	r.mu.Unlock()
	r.flush(r.h, r.st, true) // the frames refer to the step's results
	r.report(notes)
}

// step runs the Stepper and samples. A panic becomes an error after the stage's sequences have failed.
func (r *runner) step(batch []Rows) (out [][]float32, err error) {
	defer r.rescue(&err)
	if out, err = r.st.step.Step(batch); err != nil {
		return nil, err
	}
	if len(out) != len(batch) {
		return nil, fmt.Errorf("a step of %d entries gave %d results", len(batch), len(out))
	}
	r.st.choose(out)
	return out, nil
}

// rescue is deferred around calls of the Stepper. What panicked may have left any sequence of the stage half done, so all of
// them fail; the process and the other stages go on. With err the lock is free and is taken, else it is held.
func (r *runner) rescue(err *error) {
	p := recover()
	if p == nil {
		return
	}
	text := fmt.Sprintf("panic: %v", p)
	if err != nil {
		*err = fmt.Errorf("%s", text)
		r.mu.Lock()
		defer r.mu.Unlock()
	}
	r.st.crash(text, p, debug.Stack())
}

// report calls the events; no lock is held.
func (r *runner) report(notes []note) {
	e := &r.h.cfg.Events
	for i := range notes {
		switch n := &notes[i]; {
		case n.panic != nil:
			if e.Panicked != nil {
				e.Panicked(n.info, n.panic, n.stack)
			}
		case n.decode.Outcome != 0:
			if e.Closed != nil {
				e.Closed(n.info, n.decode)
			}
		case e.Chunk != nil:
			e.Chunk(n.info, n.chunk)
		}
	}
}
