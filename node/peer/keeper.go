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
		timer.Reset(min(due.Sub(now), l.judge(links)))
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

// judge ends the links that have been silent for too long, and says when the next may be.
func (l *Links) judge(links []watched) time.Duration {
	next := l.cfg.Heartbeat
	for _, w := range links {
		silent := w.sock.look(l.cfg.Heartbeat * 3 / 2)
		limit := l.cfg.Suspicion
		if silent >= limit && l.cfg.Busy != nil && !l.cfg.Busy(w.node) {
			limit = l.cfg.Silence
		}
		if silent >= limit {
			w.sock.fail(fmt.Errorf("%w for %v", ErrSilent, silent.Round(time.Millisecond)))
			continue
		}
		next = min(next, limit-silent)
	}
	return next
}
