package node

import (
	"context"
	"log/slog"
	"maps"
	"math"
	"sync"
	"time"

	"lamina/cluster"
	"lamina/cluster/consensus"
	"lamina/cluster/gossip"
	"lamina/cluster/plan"
)

// A leader does what one node must do for all, on every node, while that node leads: it keeps raft's servers equal to
// the members, places models, and ends placements that have drained. All it decides is decided by pure functions; it
// carries the facts to them and the commands to the log, one round after the other.
type leader struct {
	self    string
	log     *consensus.Log
	members func() []gossip.Peer
	dead    time.Duration // silence after which a node's layers are placed elsewhere
	drain   time.Duration // how long a draining placement may finish what it runs
	out     *slog.Logger

	wg   sync.WaitGroup
	stop context.CancelFunc
	mu   struct {
		sync.Mutex
		seen    map[cluster.NodeID]sighting
		load    map[loadKey]float64 // sequences, on average
		digests map[string]string   // of models, by gossip.ModelRates.Model
		weighed time.Time
	}
}

// loadKey is a node and a model, as gossip names it.
type loadKey struct{ node, model string }

// sighting is how a node has been seen, and since when. When the node itself says that it is here, that counts as being seen.
type sighting struct {
	alive bool
	since time.Time
	said  time.Time // Member.Since when it last said so
}

// round is how often the leader looks; changes of the state wake it at once.
const round = time.Second

// stable is how long a node must be seen alive or dead before it gains or loses its vote.
const stable = 3 * time.Second

// start runs the loop until close.
func (l *leader) start() {
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.mu.seen = map[cluster.NodeID]sighting{}
	l.wg.Go(func() { l.loop(ctx) })
}

func (l *leader) close() {
	if l.stop != nil {
		l.stop()
	}
	l.wg.Wait()
}

func (l *leader) loop(ctx context.Context) {
	states := l.log.Watch(ctx)
	tick := time.NewTicker(round)
	defer tick.Stop()
	led := false
	for {
		select {
		case <-ctx.Done():
			return
		case _, ok := <-states:
			if !ok {
				return
			}
		case <-tick.C:
		}
		now := time.Now()
		l.look(l.log.State(), now)
		if !l.log.IsLeader() {
			led = false
			continue
		}
		if !led {
			// What the last leader agreed on must be here before anything is decided.
			if err := l.log.Barrier(ctx); err != nil {
				continue
			}
			led = true
			l.out.Info("this node leads")
		}
		l.round(ctx, now)
	}
}

// look notes how each member has been seen, and since when. One that left gossip on purpose is not there either.
func (l *leader) look(s cluster.State, now time.Time) {
	alive := map[cluster.NodeID]bool{}
	for _, p := range l.members() {
		alive[p.ID] = p.Alive
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.weigh(s, now)
	for _, m := range s.Members {
		v, ok := l.mu.seen[m.ID]
		if said := !m.Down && !m.Since.Equal(v.said); !ok || v.alive != alive[m.ID] || said {
			v = sighting{alive[m.ID], now, v.said}
			if said {
				v.said = m.Since
			}
			l.mu.seen[m.ID] = v
		}
	}
}

// round makes one round of decisions.
func (l *leader) round(ctx context.Context, now time.Time) {
	s := l.log.State()
	l.voters(ctx, s, now)
	live := l.live(now)
	for _, m := range s.Members {
		if v, ok := live[m.ID]; ok && !v.Alive && !m.Down {
			l.do(ctx, cluster.MemberDown{Node: m.ID, Incarnation: m.Incarnation, At: now})
		}
	}
	for _, p := range s.Placements {
		if p.Phase == cluster.Draining && now.Sub(p.Since) > l.drain {
			l.do(ctx, cluster.Drop{Epoch: p.Epoch, At: now})
		}
	}
	for _, c := range plan.Plan(l.log.State(), live, now) {
		l.do(ctx, c)
	}
}

// do proposes here; a refusal means that the facts have changed, and the next round sees them.
func (l *leader) do(ctx context.Context, c cluster.Command) {
	if _, err := l.log.Propose(ctx, c); err != nil && ctx.Err() == nil {
		l.out.Warn("a decision was not agreed on", "kind", c.Kind(), "err", err)
		return
	}
	if p, ok := c.(cluster.Place); ok {
		l.out.Info("placing a model", "model", p.Model, "stages", len(p.Hops), "why", p.Reason)
	}
}

// voters changes raft's configuration, one step after the other.
func (l *leader) voters(ctx context.Context, s cluster.State, now time.Time) {
	if _, ok := s.Member(l.self); !ok {
		return // a cluster in its first moments: this node has not announced itself yet
	}
	health := map[cluster.NodeID]consensus.Health{}
	for id, v := range l.sightings() {
		health[id] = consensus.Health{Alive: v.alive, For: now.Sub(v.since)}
	}
	for _, c := range consensus.Voters(l.self, l.log.Configuration(), s.Members, health, stable) {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		err := l.log.Change(ctx, c)
		cancel()
		if err != nil {
			l.out.Warn("the voters could not be changed", "node", c.ID, "op", c.Op.String(), "err", err)
			return
		}
		l.out.Info("the voters have changed", "node", c.ID, "op", c.Op.String())
	}
}

// live is what the planner may count on. A node that has been silent for a moment still keeps its layers: a restart is shorter
// than moving them.
func (l *leader) live(now time.Time) map[cluster.NodeID]plan.Live {
	out := map[cluster.NodeID]plan.Live{}
	peers := map[cluster.NodeID]gossip.Peer{}
	for _, p := range l.members() {
		peers[p.ID] = p
	}
	for id, v := range l.sightings() {
		p := peers[id]
		out[id] = plan.Live{
			Memory: p.MemoryTotal, Rates: plan.Rates{One: p.Speed, Eight: p.Eight, Many: p.Many}, LayerCost: p.LayerCost, Models: l.measured(p),
			Where: p.Where, Net: p.Net, Alive: v.alive || now.Sub(v.since) < l.dead, Silent: !v.alive,
		}
	}
	return out
}

// measured is what the node says of the models it runs, by their digests, with their sequences on average.
func (l *leader) measured(p gossip.Peer) map[string]plan.Measured {
	var out map[string]plan.Measured
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range p.ModelRates() {
		digest, ok := l.mu.digests[r.Model]
		if !ok {
			continue
		}
		if out == nil {
			out = map[string]plan.Measured{}
		}
		out[digest] = plan.Measured{Rates: plan.Rates{One: r.One, Eight: r.Eight, Many: r.Many}, Sequences: l.mu.load[loadKey{p.ID, r.Model}]}
	}
	return out
}

// loadTime is over how long sequences are averaged: a burst must not make replicas.
const loadTime = 30 * time.Second

// weigh keeps the average of the sequences that each node has open of each model, and the models' digests by what gossip says of them.
func (l *leader) weigh(s cluster.State, now time.Time) {
	load := map[loadKey]float64{}
	share := 1.0
	if !l.mu.weighed.IsZero() {
		share = 1 - math.Exp(-float64(max(0, now.Sub(l.mu.weighed)))/float64(loadTime))
	}
	for _, p := range l.members() {
		for _, r := range p.ModelRates() {
			k := loadKey{p.ID, r.Model}
			if load[k] = l.mu.load[k]; p.Alive {
				load[k] += share * (float64(r.Sequences) - load[k])
			}
		}
	}
	l.mu.load, l.mu.weighed, l.mu.digests = load, now, map[string]string{}
	for _, m := range s.Models {
		l.mu.digests[gossip.ModelName(m.Digest)] = m.Digest
	}
}

func (l *leader) sightings() map[cluster.NodeID]sighting {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.mu.seen)
}
