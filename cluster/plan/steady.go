package plan

import (
	"fmt"
	"math"
	"slices"
	"time"

	"lamina/cluster"
)

// worthwhile is how many times faster something must promise to be for a placement to be replaced by it, and harmless how
// many times slower it may be in what does not get faster. Their quotient is above one, so no two cuts replace each other in turn.
const (
	worthwhile = 1.15
	harmless   = 1.05
)

// doubt is how many times slower than estimated a stage may turn out on a node that has not run the model yet: a change must
// be worthwhile even so.
const doubt = 1.3

// settle is how long the placements of a model stay as they are after a change.
const settle = 2 * time.Minute

// An answer under load should be written at no less than a busy-th of its pace alone: beyond, another replica is worth a
// node. A replica that was added for the load is given back when the others would do at an idle-th.
const (
	busy = 4.0
	idle = 2.0
)

// measure prices a cut with what is known of its nodes now; nil if one of them is not usable.
func (p *planner) measure(digest string, hops []cluster.Hop) *chain {
	c := p.costs[digest]
	var at []*node
	for _, h := range hops {
		free, usable := p.free[h.Node]
		if !usable || c == nil || h.End > c.layers {
			return nil
		}
		n := p.node(digest, h.Node, free)
		at = append(at, &n)
	}
	return c.price(hops, at)
}

// doubted is measure with doubt of the nodes that have not run the model.
func (p *planner) doubted(digest string, hops []cluster.Hop) *chain {
	c := p.costs[digest]
	var at []*node
	for _, h := range hops {
		n := p.node(digest, h.Node, p.free[h.Node])
		if !p.ran(digest, h.Node) {
			n.pace, n.prompt, n.layer = n.pace*doubt, n.prompt*doubt, n.layer*doubt
		}
		at = append(at, &n)
	}
	return c.price(hops, at)
}

// ran reports whether the node has measured steps of the model.
func (p *planner) ran(digest, id string) bool { return p.live[id].Models[digest].One > 0 }

// better says how many times faster the new cut is, if that is worth a change, and what gets faster.
func better(old, new *chain) (gain float64, what string) {
	slow, one := old.slowest/new.slowest, old.total/new.total
	switch {
	case one > worthwhile && slow > 1/harmless:
		return one, "a single answer"
	case slow > worthwhile && one > 1/harmless:
		return slow, "many answers"
	}
	return 0, ""
}

// settled reports whether all placements of the model serve, and have for a while.
func (p *planner) settled(w *want) bool {
	return !w.replacing && len(w.added) == 0 && len(w.broken) == 0 && len(w.good) > 0 && !slices.ContainsFunc(w.good, func(pl cluster.Placement) bool {
		return pl.Phase != cluster.Ready || p.now.Sub(pl.Since) < settle
	})
}

// improve replaces one placement by a faster one in the room beside it, of as many stages as are asked for or else at most
// as many as it has: make before break, one after the other. One that has not been asked yet, so that nothing was measured,
// stays.
func (p *planner) improve(w *want) {
	if !p.settled(w) {
		return
	}
	for _, pl := range w.good {
		old := p.measure(w.model.Digest, pl.Hops)
		unknown := slices.ContainsFunc(pl.Hops, func(h cluster.Hop) bool { return !p.ran(w.model.Digest, h.Node) })
		if old == nil || unknown || w.stages != 0 && len(pl.Hops) != w.stages {
			continue
		}
		least := 1
		if w.stages != 0 {
			least = w.stages
		}
		for k := least; k <= len(pl.Hops); k++ {
			hops, ok := p.findIn(w, pl.Epoch, k, k)
			if !ok {
				continue
			}
			if gain, what := better(old, p.doubted(w.model.Digest, hops)); gain > 0 {
				p.commit(w, hops, pl.Epoch, fmt.Sprintf("%s would be written %.1f times as fast", what, gain))
				return
			}
		}
	}
}

// sequences is how many the model has open, over all its placements.
func (p *planner) sequences(w *want) float64 {
	var sum, hops float64
	for _, pl := range w.good {
		for _, h := range pl.Hops {
			hops++
			// A node of two placements counts its sequences twice, which two hops take back.
			sum += p.live[h.Node].Models[w.model.Digest].Sequences
		}
	}
	if hops == 0 {
		return 0
	}
	return sum / hops * float64(len(w.good))
}

// stretch is how many times longer than alone a token of an answer takes with n sequences on the placement.
func (p *planner) stretch(digest string, pl cluster.Placement, n float64) float64 {
	c, stages := p.costs[digest], float64(len(pl.Hops))
	var alone, loaded, slowest float64
	for i, h := range pl.Hops {
		r, layer := p.rates(digest, h.Node)
		bytes, extra := c.time(h.First, h.End), layer*float64(h.End-h.First)
		alone += bytes*r.step(1) + extra
		slowest = max(slowest, bytes*r.step(n/stages)+extra)
		if i > 0 {
			a, b := p.node(digest, pl.Hops[i-1].Node, 0), p.node(digest, h.Node, 0)
			hop := c.hop(&a, &b)
			alone, loaded = alone+hop, loaded+hop
		}
	}
	return max(1, (loaded+slowest*stages)/max(alone, math.SmallestNonzeroFloat64))
}

// load sets how many replicas the load is worth beside those asked for: one more or one less than there are, or as many.
func (p *planner) load(w *want) {
	if w.extra = max(0, len(w.good)-w.replicas); !w.auto {
		w.extra = 0
	}
	if !w.auto || !p.settled(w) {
		return
	}
	n, have := p.sequences(w), float64(len(w.good))
	switch {
	case p.stretch(w.model.Digest, w.good[0], n/have) > busy:
		w.extra = len(w.good) + 1 - w.replicas
	case w.extra > 0 && p.stretch(w.model.Digest, w.good[0], n/(have-1)) < idle:
		w.extra--
	}
}

// widen is for a model under load: if more stages promise more answers for each node that they take than another replica
// on the hops given (none, if there is no room for one), it replaces the only placement by one of more stages.
func (p *planner) widen(w *want, replica []cluster.Hop) bool {
	digest := w.model.Digest
	if w.stages != 0 || len(w.good) != 1 || len(w.added) > 0 {
		return false
	}
	old := p.measure(digest, w.good[0].Hops)
	if old == nil {
		return false
	}
	var best []cluster.Hop
	most := 0.0 // answers a nanosecond, in proportion, for each node more
	if replica != nil {
		most = 1 / p.measure(digest, replica).slowest / float64(len(replica))
	}
	for k := len(w.good[0].Hops) + 1; k <= exactNodes; k++ {
		hops, ok := p.findIn(w, w.good[0].Epoch, k, k)
		if !ok {
			continue
		}
		ch := p.measure(digest, hops)
		gain := (1/ch.slowest - 1/old.slowest) / float64(k-len(w.good[0].Hops))
		if old.slowest > worthwhile*ch.slowest && gain > most*(1+1e-9) {
			best, most = hops, gain
		}
	}
	if best == nil {
		return false
	}
	w.extra, w.stuck = 0, true // that is all for now
	p.commit(w, best, w.good[0].Epoch, fmt.Sprintf("the load: %d stages", len(best)))
	return true
}
