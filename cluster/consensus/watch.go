package consensus

import (
	"context"
	"sync"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// hub keeps the latest of something and sends it to watchers, who may miss older ones.
type hub[T any] struct {
	mu struct {
		sync.Mutex
		value  T
		closed bool
		subs   map[chan T]func() bool // with what stops the wait for the watcher's context
	}
}

func (h *hub[T]) last() T {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.mu.value
}

func (h *hub[T]) publish(v T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.value = v
	for ch := range h.mu.subs {
		select { // only publish sends, under the lock: after this the buffer is free
		case <-ch:
		default:
		}
		ch <- v
	}
}

func (h *hub[T]) watch(ctx context.Context) <-chan T {
	ch := make(chan T, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	ch <- h.mu.value
	if h.mu.closed {
		close(ch)
		return ch
	}
	if h.mu.subs == nil {
		h.mu.subs = make(map[chan T]func() bool)
	}
	h.mu.subs[ch] = context.AfterFunc(ctx, func() { h.drop(ch) })
	return ch
}

func (h *hub[T]) drop(ch chan T) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.mu.subs[ch]; ok {
		delete(h.mu.subs, ch)
		close(ch)
	}
}

func (h *hub[T]) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.mu.closed = true
	for ch, stop := range h.mu.subs {
		stop()
		close(ch)
	}
	h.mu.subs = nil
}

// Leadership says who leads, as this peer knows it. Leader is empty while none is elected. Self says that it
// is this peer; it should call Barrier before it decides anything from the state.
type Leadership struct {
	Leader cluster.NodeID
	Addr   string
	Self   bool
}

// Leader returns who leads.
func (l *Log) Leader() Leadership {
	addr, id := l.raft.LeaderWithID()
	return Leadership{Leader: cluster.NodeID(id), Addr: string(addr), Self: l.IsLeader()}
}

// IsLeader reports whether this peer leads, as far as it knows.
func (l *Log) IsLeader() bool { return l.raft.State() == raft.Leader }

// WatchLeader sends who leads, now and after each change, like Watch.
func (l *Log) WatchLeader(ctx context.Context) <-chan Leadership { return l.leaders.watch(ctx) }

// observe starts the goroutine that follows leadership; Close ends it.
func (l *Log) observe() {
	// One pending observation is enough: it says that something changed, what is asked for afterwards.
	ch := make(chan raft.Observation, 1)
	l.observer = raft.NewObserver(ch, false, func(o *raft.Observation) bool {
		switch o.Data.(type) {
		case raft.LeaderObservation, raft.RaftState:
			return true
		}
		return false
	})
	l.raft.RegisterObserver(l.observer)
	l.leaders.publish(l.Leader())
	l.wg.Go(func() { l.watchLeader(ch) })
}

func (l *Log) watchLeader(changed <-chan raft.Observation) {
	for {
		select {
		case <-l.done:
			l.raft.DeregisterObserver(l.observer)
			return
		case <-changed:
			if now := l.Leader(); now != l.leaders.last() {
				l.leaders.publish(now)
			}
		}
	}
}
