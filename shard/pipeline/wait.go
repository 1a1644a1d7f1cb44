package pipeline

import (
	"fmt"
	"time"
)

// wait is a ride's place in the line for memory, as Generate's goroutine sees it.
type wait struct {
	r        *ride
	place    *ticket
	in       bool        // the line
	parked   bool        // as last seen
	why      *Failure    // the last time a stage had no room
	retry    *time.Timer // runs while it is in front and may try again
	patience *time.Timer // runs while it waits and has not begun
}

func newWait(r *ride) *wait {
	w := &wait{r: r, retry: time.NewTimer(time.Hour), patience: time.NewTimer(time.Hour)}
	w.retry.Stop()
	w.patience.Stop()
	w.place = &ticket{born: r.d.born, seq: r.d.r.Seq, tokens: len(r.d.r.Tokens), turn: make(chan struct{}, 1)}
	return w
}

// enter begins the sequence, behind those that wait already. A line that is full refuses it.
func (w *wait) enter() error {
	if !w.r.h.queue(w.r.d.r.Epoch, func(l *line) bool { return len(l.waiting) > 0 }) {
		w.r.open()
		return nil
	}
	w.parked = true
	return w.join(0)
}

// join takes a place in the line. Who has begun is never sent away.
func (w *wait) join(given int) error {
	full := w.r.h.queue(w.r.d.r.Epoch, func(l *line) bool {
		if given == 0 && l.full(w.place.tokens, &w.r.h.cfg.Limits) {
			return true
		}
		l.join(w.place)
		return false
	})
	if full {
		return w.refusal("%d sequences wait for memory already", w.r.h.cfg.Limits.Waiting)
	}
	w.in = true
	if given == 0 {
		w.patience.Reset(w.r.h.cfg.Limits.Patience)
	}
	return nil
}

// update takes in how the ride stands.
func (w *wait) update(st rideState, given int) error {
	if st.why != nil {
		w.why = st.why
	}
	if st.parked && !w.in {
		if err := w.join(given); err != nil {
			return err
		}
	}
	if st.parked && w.front() {
		w.retry.Reset(w.place.pause())
	}
	if st.ready && w.in {
		w.end()
	}
	w.parked = st.parked
	return nil
}

func (w *wait) front() bool {
	return w.r.h.queue(w.r.d.r.Epoch, func(l *line) bool { return l.front(w.place) })
}

// try lets the ride try if it is in front.
func (w *wait) try() {
	if w.parked && w.front() {
		w.r.open()
	}
}

// end leaves the line.
func (w *wait) end() {
	w.retry.Stop()
	w.patience.Stop()
	if w.in {
		w.in = false
		w.place.tries = 0
		w.r.h.queue(w.r.d.r.Epoch, func(l *line) bool { l.leave(w.place); return false })
	}
}

// tired is why a sequence that has not begun does not wait any longer.
func (w *wait) tired() error {
	return w.refusal("it has waited %v for memory", w.r.h.cfg.Limits.Patience)
}

// refusal names the stage that had no room, if one was asked.
func (w *wait) refusal(format string, args ...any) error {
	r := &Refused{Node: w.r.h.cfg.Self, Kind: Overloaded, Text: fmt.Sprintf(format, args...)}
	if w.why != nil {
		r.Node, r.Text = w.why.Node, r.Text+"; "+w.why.Text
	}
	return r
}
