package node

import (
	"context"
	"time"

	"lamina/cluster"
	"lamina/shard/pipeline"
)

// drainQuiet is how long the first stage of a draining placement must have been without sequences for the placement to end: nodes
// that have not heard yet that it drains still send to it for a moment.
const drainQuiet = 2 * time.Second

// drains ends placements that have nothing left to finish. The first stage sees every sequence of a placement, so its node is the
// one that says so. If that node is lost, the leader ends the placement when its time is over.
type drains struct {
	self    string
	load    func(pipeline.StageKey) pipeline.Load
	propose func(context.Context, cluster.Command) error

	busy map[uint64]time.Time // by epoch: when it was last seen with sequences, or first seen draining
}

// finishDrains runs until the node closes.
func (n *Node) finishDrains() {
	d := &drains{self: n.cfg.Name, load: n.host.StageLoad, propose: n.prop.Propose}
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-n.run.Done():
			return
		case now := <-tick.C:
			d.tick(n.run, n.log.State(), now)
		}
	}
}

// tick looks at what drains, and proposes the end of what is quiet. A proposal that fails is made again at a later tick.
func (d *drains) tick(ctx context.Context, s cluster.State, now time.Time) {
	seen := make(map[uint64]time.Time)
	for _, p := range s.Placements {
		if p.Phase != cluster.Draining || p.Hops[0].Node != d.self {
			continue
		}
		last, ok := d.busy[p.Epoch]
		if l := d.load(pipeline.StageKey{Model: p.Model, Epoch: p.Epoch}); !ok || l.Sequences > 0 {
			last = now
		}
		seen[p.Epoch] = last
		if now.Sub(last) >= drainQuiet {
			_ = d.propose(ctx, cluster.Drop{Epoch: p.Epoch, At: now}) // refused: the facts have changed; else: again
		}
	}
	d.busy = seen
}
