package kernels

import "time"

// truce sends members of a team to rest when other programs want their processors. Each time that the system puts a member aside for
// another program, all others wait for it: with one busy neighbour on two cores, a team of two gets less done than one
// goroutine, which the system leaves a core of its own. What members lose so is measured (meter); it may be a small part of the time, less
// than what a member is worth.
type truce struct {
	born  time.Time
	meter meter // of the caller of Do
	owed  time.Duration
	at    time.Duration // when owed was reckoned
}

// respite is a member's last rest.
type respite struct{ length, until time.Duration }

const (
	worth     = 8                      // all together may lose an eighth of the time
	owedMost  = 12 * time.Millisecond  // and this much at once: bursts pass
	restFirst = 128 * time.Millisecond // a member then rests, twice as long if it is no better after that
	restMost  = time.Second            // others may have gone meanwhile
	readEvery = 4 * time.Millisecond   // a reading takes 5 us
)

// keep is called after each Do.
func (t *truce) keep(members []*member) {
	now := time.Since(t.born)
	if now-t.at < readEvery {
		return
	}
	lost := t.meter.read(now)
	var most *member
	var by time.Duration
	for _, m := range members {
		l := time.Duration(m.lost.Swap(0))
		lost += l
		if now > m.last.until && l >= by {
			most, by = m, l
		}
	}
	if t.broken(now, lost) && most != nil {
		most.rest.Store(int64(most.last.next(now)))
	}
}

// broken reckons what was lost until now and says whether it has become too much.
func (t *truce) broken(now, lost time.Duration) bool {
	t.owed = max(0, t.owed-(now-t.at)/worth) + lost
	t.at = now
	if t.owed < owedMost {
		return false
	}
	t.owed = 0
	return true
}

// next returns how long to rest from now on.
func (r *respite) next(now time.Duration) time.Duration {
	if r.length == 0 || now-r.until > r.length {
		r.length = restFirst
	} else {
		r.length = min(2*r.length, restMost)
	}
	r.until = now + r.length
	return r.length
}

// meter finds how long the thread of the goroutine that reads it has been kept from running. A goroutine changes threads now and
// then; nothing is known of the time in which it did.
type meter struct {
	at     time.Duration
	thread int
	sum    time.Duration
}

// read returns what was lost since the last reading; it reads each readEvery only.
func (m *meter) read(now time.Duration) time.Duration {
	if now-m.at < readEvery {
		return 0
	}
	thread, sum := runDelay()
	lost := sum - m.sum
	if thread != m.thread || thread == 0 {
		lost = 0
	}
	m.at, m.thread, m.sum = now, thread, sum
	return lost
}
