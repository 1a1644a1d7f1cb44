package peer

import (
	"fmt"
	"time"
)

// watched is a link that is up, in one of the two directions.
type watched struct {
	node string
	sock *socket
	in   *inLink  // or
	out  *outLink // this
}

// watch tells the keeper that there is a link.
func (l *Links) watch() { signal(l.some) }

// keep shows life on every link and ends those that are silent for too long, until the Links are closed. It waits for
// nobody: neither a full socket nor a step that takes long holds it up, so a node that works is never taken for a dead one.
func (l *Links) keep() {
	beat := l.cfg.Heartbeat
	timer := time.NewTimer(beat)
	defer timer.Stop()
	var links []watched
	gaps := make(gaps)
	due := time.Now().Add(beat) // the next sign of life
	for {
		select {
		case <-timer.C:
		case <-l.ctx.Done():
			return
		}
		now := time.Now()
		if links = l.watched(links); len(links) == 0 {
			select {
			case <-l.some:
			case <-l.ctx.Done():
				return
			}
			now = time.Now()
			due = now
		}
		if !now.Before(due) {
			showLife(links)
			due = now.Add(beat)
		}
		timer.Reset(min(due.Sub(now), l.judge(now, links, gaps)))
	}
}

// watched lists the links that are up into a list that is over.
func (l *Links) watched(list []watched) []watched {
	clear(list)
	list = list[:0]
	l.mu.Lock()
	defer l.mu.Unlock()
	for node, in := range l.mu.in {
		if in.live {
			list = append(list, watched{node: node, sock: in.sock, in: in})
		}
	}
	for node, o := range l.mu.out {
		if live := o.up(); live != nil {
			list = append(list, watched{node: node, sock: live.sock, out: o})
		}
	}
	return list
}

func showLife(links []watched) {
	for _, w := range links {
		if w.in != nil {
			w.in.showLife()
		} else {
			w.out.showLife()
		}
	}
}

// gap is the longest silence of a node that turned out to be none of its death.
type gap struct {
	longest time.Duration
	at      time.Time
}

// gaps remembers how regularly nodes are heard, over their links' lives: where packets are lost or CPU is short, silences are longer,
// and to take each for a death would break what works.
type gaps map[string]gap

// forget is how long it takes until half of a gap is forgotten.
const forget = time.Minute

// now is what is left of a node's gap.
func (g gaps) now(now time.Time, node string) time.Duration {
	d := g[node]
	for age := now.Sub(d.at); age >= forget && d.longest > 0; age -= forget {
		d.longest /= 2
	}
	return d.longest
}

// note takes a silence that has ended, one way or the other.
func (g gaps) note(now time.Time, node string, silent time.Duration) {
	if silent <= 0 || silent < g.now(now, node) {
		return
	}
	g[node] = gap{silent, now}
	for other, d := range g { // of nodes that are no more
		if now.Sub(d.at) > 20*forget {
			delete(g, other)
		}
	}
}

// judge ends the links that have been silent for too long, and says when the next may be. Too long is twice the longest silence of the
// node that was no death, but no less than Suspicion and no more than Silence. The silence that ends a link counts too: if the
// node is there again soon it was a false alarm, and if not it does not matter.
func (l *Links) judge(now time.Time, links []watched, gaps gaps) time.Duration {
	next := l.cfg.Heartbeat
	for _, w := range links {
		silent := w.sock.look(l.cfg.Heartbeat * 3 / 2)
		if ended := w.sock.over(); ended > l.cfg.Heartbeat*5/2 { // signs of life come up to two heartbeats after a frame; this is more
			gaps.note(now, w.node, ended)
		}
		limit := min(max(l.cfg.Suspicion, 2*gaps.now(now, w.node)), l.cfg.Silence)
		if silent >= limit && l.cfg.Busy != nil && !l.cfg.Busy(w.node) {
			limit = l.cfg.Silence
		}
		if silent >= limit {
			gaps.note(now, w.node, silent)
			w.sock.fail(fmt.Errorf("%w for %v", ErrSilent, silent.Round(time.Millisecond)))
			continue
		}
		next = min(next, limit-silent)
	}
	return next
}
