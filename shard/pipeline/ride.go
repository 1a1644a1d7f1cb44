package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// ride owns a driver while Generate waits for it. It has no goroutine: frames change the core from the goroutine that
// delivers them, and Generate's goroutine hands the tokens over.
type ride struct {
	cell
	h    *Host
	d    *driver
	wake chan struct{} // holds one token: something has changed
	ends time.Time
}

func newRide(h *Host, d *driver) *ride {
	r := &ride{h: h, d: d, wake: make(chan struct{}, 1)}
	r.idle.L = &r.mu
	return r
}

// with calls f with the core, sends what came of it, and wakes Generate.
func (r *ride) with(f func(d *driver)) {
	r.mu.Lock()
	f(r.d)
	r.mu.Unlock()
	r.flush(r.h, r.d, false)
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

func (r *ride) deliver(from string, f *Frame) {
	now := r.h.cfg.Clock()
	r.with(func(d *driver) { d.deliver(now, from, f) })
}

func (r *ride) peerDown(node string, err error) {
	r.with(func(d *driver) { d.peerDown(node, err) })
}

func (r *ride) cancel(err error) {
	r.with(func(d *driver) { d.finish(err) })
}

// run drives the sequence to its end.
func (r *ride) run(ctx context.Context, emit func(Token) error) (Stats, error) {
	now := r.h.cfg.Clock()
	ttl := r.h.cfg.Limits.Life
	if t := r.d.r.Deadline; !t.IsZero() {
		ttl = min(ttl, t.Sub(now))
	}
	if ttl <= 0 {
		return Stats{}, fmt.Errorf("%w before it was begun: %w", ErrDeadline, context.DeadlineExceeded)
	}
	r.ends = now.Add(ttl)
	timer := time.NewTimer(ttl)
	defer timer.Stop()
	r.with(func(d *driver) { d.begin(r.h.cfg.Self, now) })
	w := newWait(r)
	defer w.end()
	if err := w.enter(); err != nil {
		return Stats{}, err
	}
	var tokens []Token
	given := 0
	for {
		var st rideState
		tokens, st = r.take(tokens)
		for i := range tokens {
			if !tokens[i].Prompt {
				given++
			}
			if err := emit(tokens[i]); err != nil {
				return r.quit(given, fmt.Errorf("the sequence was stopped: %w", err))
			}
		}
		if st.over {
			return r.result()
		}
		if err := w.update(st, given); err != nil {
			return r.quit(given, err)
		}
		select {
		case <-r.wake:
		case <-w.place.turn:
			w.try()
		case <-w.retry.C:
			w.try()
		case <-w.patience.C:
			return r.quit(given, w.tired())
		case <-ctx.Done():
			return r.quit(given, fmt.Errorf("the sequence was cancelled: %w", context.Cause(ctx)))
		case <-timer.C:
			r.with((*driver).expire)
		}
	}
}

// open begins an attempt. The stages give up a little later than the gateway: its word should be the one that counts.
func (r *ride) open() {
	now := r.h.cfg.Clock()
	r.with(func(d *driver) {
		if d.parked && !d.over {
			d.open(now, r.ends.Sub(now)+graceTTL)
		}
	})
}

// graceTTL is how much longer than the gateway a stage waits before it gives a sequence up.
const graceTTL = 5 * time.Second

// rideState is what Generate's goroutine has to know of the driver.
type rideState struct {
	over, parked, ready bool
	why                 *Failure
}

// take returns the tokens that have come and how it stands; spare is used again.
func (r *ride) take(spare []Token) (tokens []Token, st rideState) {
	r.mu.Lock()
	defer r.mu.Unlock()
	tokens = r.d.results
	clear(spare)
	r.d.results = spare[:0]
	return tokens, rideState{r.d.over, r.d.parked, r.d.ready, r.d.why}
}

// quit ends a sequence that nobody waits for, of which so many tokens were handed over.
func (r *ride) quit(given int, err error) (Stats, error) {
	r.cancel(err)
	stats, _ := r.result()
	if given < stats.Tokens {
		stats.Tokens, stats.Reason = given, ReasonNone
	}
	if errors.Is(err, ErrStop) {
		err = nil
	}
	return stats, err
}

func (r *ride) result() (Stats, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.d.stats, r.d.err
}

func (r *ride) pace() pace {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.d.pace
}
