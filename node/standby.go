package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"lamina/cluster"
	"lamina/router"
)

// Standbys keep the parts of every span on the disks of at least two nodes, while there are two: who loses a machine loses no
// weights. Nobody decides who stands by; it follows from the agreed state and from who lives, by rendezvous, so every node knows
// without asking, and the number is mended after a loss.

// span is what a stand-by keeps: the layers that a placement's hop has.
type span struct {
	model cluster.Model
	hop   cluster.Hop
}

// holders are the living nodes that have a hop's parts anyway: those whose hops cover it, and the one that took the upload.
func holders(s cluster.State, m cluster.Model, h cluster.Hop, alive []cluster.NodeID) (out []cluster.NodeID) {
	add := func(id cluster.NodeID) {
		if slices.Contains(alive, id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	add(h.Node)
	for _, p := range s.PlacementsOf(m.Digest) {
		for _, o := range p.Hops {
			if p.Phase.Active() && o.First <= h.First && o.End >= h.End {
				add(o.Node)
			}
		}
	}
	add(m.Origin)
	return out
}

// standby is the node that keeps a hop's parts beside the one that runs it; ok is false if there is no other node.
func standby(s cluster.State, m cluster.Model, h cluster.Hop, alive []cluster.NodeID) (id cluster.NodeID, ok bool) {
	key := fmt.Sprintf("%s %d:%d", m.Digest, h.First, h.End)
	have := holders(s, m, h, alive)
	if len(have) >= 2 {
		return router.Order(key, slices.DeleteFunc(have, func(id cluster.NodeID) bool { return id == h.Node }))[0], true
	}
	free := slices.DeleteFunc(slices.Clone(alive), func(id cluster.NodeID) bool {
		x, known := s.Member(id)
		return !known || x.Draining || id == h.Node || slices.Contains(have, id)
	})
	if len(free) == 0 {
		return "", false
	}
	return router.Order(key, free)[0], true
}

// duties are the spans that a node keeps for others.
func duties(s cluster.State, self cluster.NodeID, alive []cluster.NodeID) (out []span) {
	for _, p := range s.Placements {
		m, known := s.ModelByDigest(p.Model)
		if !known || !p.Phase.Active() {
			continue
		}
		for _, h := range p.Hops {
			if id, ok := standby(s, m, h, alive); ok && id == self && h.Node != self {
				out = append(out, span{m, h})
			}
		}
	}
	return out
}

// standbys brings the parts of this node's duties to its disk.
type standbys struct {
	self   cluster.NodeID
	state  func() cluster.State
	alive  func() []cluster.NodeID
	ensure func(context.Context, cluster.Model, cluster.Blob) error
	grace  time.Duration // a duty must have lasted so long: a node that restarts is back sooner
	out    *slog.Logger

	since map[string]time.Time // by duty: since when
}

// keepStandbys runs until the node closes.
func (n *Node) keepStandbys() {
	b := &standbys{self: n.cfg.Name, state: n.log.State, alive: n.alive, ensure: n.source.Ensure, grace: n.cfg.DeadAfter, out: n.out}
	b.run(n.run)
}

// standbyRound is how often a node looks at its duties.
const standbyRound = 5 * time.Second

// run looks at the duties now and then until ctx ends.
func (b *standbys) run(ctx context.Context) {
	tick := time.NewTicker(standbyRound)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			b.round(ctx, now)
		}
	}
}

// round fetches what is missing for the duties that have lasted, one part after the other: serving comes first. What cannot be had now
// is tried again in the next round.
func (b *standbys) round(ctx context.Context, now time.Time) {
	since := make(map[string]time.Time)
	for _, d := range duties(b.state(), b.self, b.alive()) {
		key := fmt.Sprintf("%s %d:%d", d.model.Digest, d.hop.First, d.hop.End)
		begun, known := b.since[key]
		if !known {
			begun = now
		}
		since[key] = begun
		if now.Sub(begun) < b.grace {
			continue
		}
		for _, part := range d.model.SpanBlobs(d.hop.First, d.hop.End) {
			if err := b.ensure(ctx, d.model, part); err != nil {
				if ctx.Err() == nil {
					b.out.Warn("a part that this node keeps for another cannot be had", "model", d.model.Name, "part", part.Name, "for", d.hop.Node, "err", err)
				}
				break
			}
		}
	}
	b.since = since
}
