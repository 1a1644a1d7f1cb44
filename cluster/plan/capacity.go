package plan

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"lamina/cluster"
)

// ErrNoCapacity is what a *NoCapacity wraps.
var ErrNoCapacity = errors.New("not enough capacity in the cluster")

// NoCapacity says why a model cannot be placed. Sizes are in bytes.
type NoCapacity struct {
	Model string // name
	// Need is what the model takes on one node: Weights and KV room.
	Need, Weights, KV int64
	// Nodes are the usable nodes, Free their free memory in all, Largest that of the one with the most.
	Nodes         int
	Free, Largest int64
	// Missing is the least that must be added to one of the nodes for the model to fit; 0 if more memory on one
	// node alone would not do.
	Missing int64
	// Stages is what was asked for; NodesMissing how many nodes are too few for it.
	Stages, NodesMissing int
	// Failed names nodes that have room, but failed to load the model a moment ago.
	Failed []cluster.Failure
}

// Error implements error: the cause and what to do.
func (e *NoCapacity) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%v: model %q ", ErrNoCapacity, e.Model)
	switch {
	case e.NodesMissing > 0 && e.Stages > 0:
		fmt.Fprintf(&b, "is to have %d stages, but the number of usable nodes is %d; join %d more or ask for fewer stages", e.Stages, e.Nodes, e.NodesMissing)
	case e.NodesMissing > 0:
		b.WriteString("finds no usable node; join one")
	case len(e.Failed) > 0:
		f := e.Failed[0]
		fmt.Fprintf(&b, "could not be loaded by node %s (%s); it is tried again", f.Node, f.Reason)
	default:
		fmt.Fprintf(&b, "needs %s (weights %s, KV cache %s)", size(e.Need), size(e.Weights), size(e.KV))
		if e.Stages > 0 {
			fmt.Fprintf(&b, " in %d stages", e.Stages)
		}
		fmt.Fprintf(&b, "; free memory of all usable nodes (%d): %s, of the largest: %s; ", e.Nodes, size(e.Free), size(e.Largest))
		if e.Missing > 0 {
			fmt.Fprintf(&b, "missing: %s; ", size(e.Missing))
		}
		b.WriteString("remove a model, start a node with more --memory, or join another node")
	}
	return b.String()
}

// Unwrap returns ErrNoCapacity.
func (e *NoCapacity) Unwrap() error { return ErrNoCapacity }

// size writes a number of bytes for people.
func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d bytes", n)
}

// Fits says whether the model, which need not be in the state, could be placed now, with the stages it asks for
// and beside what is placed already: nil or a *NoCapacity. A content that has an active placement of as many stages fits.
func Fits(s cluster.State, m cluster.Model, live map[cluster.NodeID]Live, now time.Time) error {
	for _, pl := range s.PlacementsOf(m.Digest) {
		if pl.Phase.Active() && (m.Stages == 0 || m.Stages == len(pl.Hops)) {
			return nil
		}
	}
	heard := make(map[cluster.NodeID]Live, len(live))
	for id, l := range live {
		l.Silent = false
		heard[id] = l
	}
	return fitsNow(s, m, heard, now)
}

// fitsNow is Fits without the nodes that are silent.
func fitsNow(s cluster.State, m cluster.Model, live map[cluster.NodeID]Live, now time.Time) error {
	p := newPlanner(s, live, now)
	if p.costs[m.Digest] == nil {
		p.add(m)
	}
	c, nodes := p.costs[m.Digest], p.nodes(m.Digest)
	least, most := 1, len(nodes)
	if m.Stages > 0 {
		least, most = m.Stages, m.Stages
	}
	if fits(c, nodes, least, most) {
		return nil
	}
	return p.explain(m, least, most)
}

// Problem is a model that has fewer replicas than asked for, or a node that it should not.
type Problem struct {
	Model      string // name
	Want, Have int    // replicas; Have counts those that load, too
	Err        error  // wraps ErrNoCapacity
}

// Problems lists what Plan could not do, for people to see, in the order in which models were added. Models
// whose missing replicas Plan would place now are not among them.
func Problems(s cluster.State, live map[cluster.NodeID]Live, now time.Time) []Problem {
	p := newPlanner(s, live, now)
	for _, w := range p.wanted() {
		p.tidy(w)
	}
	for w := p.neediest(); w != nil; w = p.neediest() {
		p.place(w)
	}
	var out []Problem
	for _, w := range p.wanted() {
		if err := p.stays(w); err != nil {
			out = append(out, Problem{w.model.Name, w.replicas, w.have(), err})
			continue
		}
		if !w.stuck {
			continue
		}
		err := fmt.Errorf("%w: replica %d of %d of model %q waits for another node with enough memory", ErrNoCapacity, w.have()+1, w.replicas, w.model.Name)
		if w.have() == 0 {
			err = p.explain(w.model, 1, len(p.free))
		}
		if w.have() >= w.replicas {
			continue // what the load would like, nobody has asked for
		}
		out = append(out, Problem{w.model.Name, w.replicas, w.have(), err})
	}
	return out
}

// explain finds out what is missing for a model that does not fit in least to most stages.
func (p *planner) explain(m cluster.Model, least, most int) error {
	c, nodes := p.costs[m.Digest], p.nodes(m.Digest)
	e := &NoCapacity{Model: m.Name, Weights: c.weights(0, c.layers), KV: c.kv * int64(c.layers), Nodes: len(p.free), Stages: m.Stages}
	e.Need = e.Weights + e.KV
	for id, free := range p.free {
		e.Free += max(free, 0)
		e.Largest = max(e.Largest, free)
		if f := p.pausing(m.Digest, id); f != nil {
			e.Failed = append(e.Failed, *f)
			nodes = append(nodes, p.node(m.Digest, id, free))
		}
	}
	if !fits(c, nodes, least, most) {
		e.Failed = nil // they are not the cause
	}
	slices.SortFunc(e.Failed, func(a, b cluster.Failure) int { return strings.Compare(a.Node, b.Node) })
	if e.NodesMissing = max(0, least-len(p.free)); e.NodesMissing == 0 && len(e.Failed) == 0 {
		e.Missing = missing(c, nodes, least, most)
	}
	return e
}

// missing looks, by halving, for the least memory that one of the nodes must have more.
func missing(c *cost, nodes []node, least, most int) int64 {
	best := int64(math.MaxInt64)
	enough := func(i int, extra int64) bool {
		list := slices.Clone(nodes)
		list[i].free += extra
		return fits(c, list, least, most)
	}
	slices.SortFunc(nodes, roomiest)
	for i := range nodes[:min(len(nodes), 2*exactNodes)] { // of many, one with the most room is as near as any
		low, high := int64(0), min(best, c.memory(0, c.layers)+max(0, -nodes[i].free))
		if !enough(i, high) {
			continue
		}
		for low+1 < high {
			if mid := low + (high-low)/2; enough(i, mid) {
				high = mid
			} else {
				low = mid
			}
		}
		best = min(best, high)
	}
	if best == math.MaxInt64 {
		return 0
	}
	return best
}

// fits reports whether there is a cut into least to most stages, however slow.
func fits(c *cost, nodes []node, least, most int) bool {
	list := slices.Clone(nodes)
	slices.SortFunc(list, roomiest)
	for k := least; k <= min(most, len(list), c.layers); k++ {
		if fitsIn(c, list, k) {
			return true
		}
	}
	return false
}

// fitsIn reports whether there is a cut into k stages on nodes that are sorted by room.
func fitsIn(c *cost, roomy []node, k int) bool {
	room := int64(0)
	for i := range roomy[:min(k, len(roomy))] {
		room += roomy[i].free
	}
	if room < c.memory(0, c.layers) {
		return false
	}
	for _, s := range inRoom(c, roomy, k) {
		if s.cut(math.Inf(1), math.Inf(1)) != nil {
			return true
		}
	}
	return false
}
