package plan

import (
	"fmt"
	"slices"

	"lamina/cluster"
)

// draining returns the first node of a placement that is to be emptied.
func (p *planner) draining(pl cluster.Placement) (cluster.NodeID, bool) {
	for _, h := range pl.Hops {
		if m, ok := p.state.Member(h.Node); ok && m.Draining {
			return h.Node, true
		}
	}
	return "", false
}

// vacate replaces one placement that uses a draining node by one that does without, make before break, one after the other. A
// replica that no other node has room for ends, if another serves: who drains a node means it.
func (p *planner) vacate(w *want) {
	if w.replacing || len(w.added) > 0 {
		return
	}
	i := slices.IndexFunc(w.good, func(pl cluster.Placement) bool { _, yes := p.draining(pl); return yes })
	if i < 0 {
		return
	}
	old := w.good[i]
	node, _ := p.draining(old)
	if hops, ok := p.find(w, old.Epoch); ok {
		p.commit(w, hops, old.Epoch, "node "+node+" drains")
		return
	}
	serves := slices.ContainsFunc(w.good, func(pl cluster.Placement) bool {
		_, yes := p.draining(pl)
		return pl.Phase == cluster.Ready && !yes
	})
	if serves {
		p.out = append(p.out, cluster.Drain{Epoch: old.Epoch, Reason: "node " + node + " drains, and no other has room for this replica", At: p.now})
		w.good = slices.Delete(w.good, i, i+1)
	}
}

// stays is why a draining node goes on serving a model, or nil.
func (p *planner) stays(w *want) error {
	if w.replacing || len(w.added) > 0 {
		return nil
	}
	for _, pl := range w.good {
		node, yes := p.draining(pl)
		if !yes {
			continue
		}
		if _, ok := p.find(w, pl.Epoch); !ok {
			return fmt.Errorf("%w: node %s drains, but the other nodes have no room for model %q beside what they hold; it goes on serving", ErrNoCapacity, node, w.model.Name)
		}
	}
	return nil
}
