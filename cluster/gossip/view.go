package gossip

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// view is what memberlist's events add up to. Its methods are called by memberlist under a lock of its own:
// they must be short and must not call back.
type view struct {
	self string
	log  *slog.Logger

	mu struct {
		sync.Mutex
		peers  map[string]Peer
		subs   map[chan []Peer]func() bool // with what stops the wait for the watcher's context
		place  place                       // of this node
		told   place                       // what the others know of it
		trips  map[string][]float64        // the last round trips to each peer
		closed bool
	}
}

var (
	_ memberlist.EventDelegate = (*view)(nil)
	_ memberlist.PingDelegate  = (*view)(nil)
)

// maxPeers bounds what is kept of dead nodes.
const maxPeers = 1024

func (v *view) init(self string, log *slog.Logger) {
	v.self, v.log = self, log
	v.mu.peers = make(map[string]Peer)
	v.mu.subs = make(map[chan []Peer]func() bool)
	v.mu.place, v.mu.trips = newPlace(), make(map[string][]float64)
}

// NotifyJoin implements memberlist.EventDelegate: a node is here, for the first time or again.
func (v *view) NotifyJoin(n *memberlist.Node) { v.heard(n) }

// NotifyUpdate implements memberlist.EventDelegate: a node tells something else about itself.
func (v *view) NotifyUpdate(n *memberlist.Node) { v.heard(n) }

// heard takes a living node in. Metadata that cannot be read leaves the node with what was known before.
func (v *view) heard(n *memberlist.Node) {
	meta, err := decodeMeta(n.Meta)
	now := time.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	p, known := v.mu.peers[n.Name]
	if !known || !p.Alive {
		p.ID, p.Alive, p.Since = n.Name, true, now
	}
	if err == nil {
		p.Meta = meta
	} else {
		v.log.Warn("gossip: metadata of a node is ignored", "peer", n.Name, "err", err)
	}
	p.Addr, p.LastContact = n.Address(), now
	v.mu.peers[n.Name] = p
	v.prune()
	v.publish()
}

// NotifyLeave implements memberlist.EventDelegate: a node left or was found dead; memberlist does not say which.
func (v *view) NotifyLeave(n *memberlist.Node) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, ok := v.mu.peers[n.Name]; ok && p.Alive {
		delete(v.mu.trips, n.Name)
		p.Alive, p.Since = false, time.Now()
		v.mu.peers[n.Name] = p
		v.publish()
	}
}

// forget drops a node that is not alive.
func (v *view) forget(id string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if p, ok := v.mu.peers[id]; ok && !p.Alive {
		delete(v.mu.peers, id)
		v.publish()
	}
}

// AckPayload implements memberlist.PingDelegate: whoever probes this node learns its place.
func (v *view) AckPayload() []byte {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.place.append(nil)
}

// NotifyPingComplete implements memberlist.PingDelegate: a node answered this one directly.
func (v *view) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	v.mu.Lock()
	defer v.mu.Unlock()
	p, ok := v.mu.peers[n.Name]
	if !ok {
		return
	}
	p.LastContact = time.Now()
	v.mu.peers[n.Name] = p
	if other, ok := readPlace(payload); ok && p.Alive {
		t := append(v.mu.trips[n.Name], float64(rtt))
		t = t[max(0, len(t)-samples):]
		v.mu.trips[n.Name] = t
		v.mu.place.pull(slices.Min(t), other)
	}
}

// where returns the place that the others are to be told, and whether it is news.
func (v *view) where() (at [4]float64, news bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.place.moved(v.mu.told) {
		v.mu.told, news = v.mu.place, true
	}
	return v.mu.told.where(), news
}

// prune forgets the longest dead while there are too many.
func (v *view) prune() {
	for len(v.mu.peers) > maxPeers {
		oldest := ""
		for id, p := range v.mu.peers {
			if !p.Alive && (oldest == "" || p.Since.Before(v.mu.peers[oldest].Since)) {
				oldest = id
			}
		}
		if oldest == "" {
			return
		}
		delete(v.mu.peers, oldest)
	}
}

// addrs returns where somebody is alive.
func (v *view) addrs() map[string]bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := make(map[string]bool, len(v.mu.peers))
	for _, p := range v.mu.peers {
		if p.Alive {
			out[p.Addr] = true
		}
	}
	return out
}

func (v *view) peers() []Peer {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.sorted()
}

// sorted lists the peers; the lock is held.
func (v *view) sorted() []Peer {
	out := make([]Peer, 0, len(v.mu.peers))
	for _, p := range v.mu.peers {
		if p.ID == v.self {
			p.LastContact = time.Now()
		}
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b Peer) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

// publish sends the peers to the watchers; the lock is held, so nobody else sends.
func (v *view) publish() {
	for ch := range v.mu.subs {
		select {
		case <-ch:
		default:
		}
		ch <- v.sorted()
	}
}

func (v *view) watch(ctx context.Context) <-chan []Peer {
	ch := make(chan []Peer, 1)
	v.mu.Lock()
	defer v.mu.Unlock()
	ch <- v.sorted()
	if v.mu.closed {
		close(ch)
		return ch
	}
	v.mu.subs[ch] = context.AfterFunc(ctx, func() { v.drop(ch) })
	return ch
}

func (v *view) drop(ch chan []Peer) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if _, ok := v.mu.subs[ch]; ok {
		delete(v.mu.subs, ch)
		close(ch)
	}
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.closed = true
	for ch, stop := range v.mu.subs {
		stop()
		close(ch)
	}
	v.mu.subs = nil
}
