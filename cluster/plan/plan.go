package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"lamina/cluster"
)

// Live is what is known of a node at the moment.
type Live struct {
	// Memory is what the node gives to weights and KV caches in all, used or not, in bytes. What is used is
	// counted from the state.
	Memory int64
	// Rates are what the node measured of itself, on no model in particular.
	Rates
	// LayerCost is what a layer costs a step beside its bytes, on no model in particular.
	LayerCost time.Duration
	// Models is what the node measured of the models it runs, by digest.
	Models map[string]Measured
	// Where is the node's place in a space in which distance is round-trip time: three coordinates, and how far the node is
	// off from everybody, in nanoseconds. The round trip of two nodes is the distance of the coordinates and both of the last.
	// Zero where nothing is known.
	Where [4]float64
	// Net is how fast the node takes in bytes from others, in bytes a nanosecond; 0: not known.
	Net float64
	// Alive is false once the node has been silent for so long that its layers should be placed elsewhere.
	Alive bool
	// Silent says that the node is not heard of at the moment. While it counts as alive it keeps what it has loaded, for it may
	// be restarting, but gets nothing new, and what it has not begun to load goes elsewhere.
	Silent bool
}

// Failed loads are tried again on the same node after a pause that doubles from failure to failure.
const (
	firstPause = 10 * time.Second
	maxPause   = 10 * time.Minute
)

// Plan returns the commands that would bring the placements to what is wanted, for the leader to propose in
// order. A member that is not in live is unknown: it gets nothing and loses nothing, unless the state has it as
// down.
//
// Per model: as many replicas as asked for (if not: one, and more under load), on different nodes where possible; Stages
// stages where possible, else as few as possible (more under load, where that is worth more than a replica). What
// could be replaced by something faster is, if that promises enough: see worthwhile. A placement that needs a dead node is dropped when, and only when, it can be
// made anew; until then the node may come back. What cannot be placed is left out whole: see Problems.
func Plan(s cluster.State, live map[cluster.NodeID]Live, now time.Time) []cluster.Command {
	p := newPlanner(s, live, now)
	for _, w := range p.wanted() {
		p.tidy(w)
	}
	for w := p.neediest(); w != nil; w = p.neediest() {
		p.place(w)
	}
	for _, w := range p.wanted() {
		p.vacate(w)
		p.reshape(w)
		p.improve(w)
	}
	return p.out
}

// planner is one run of Plan.
type planner struct {
	state   cluster.State
	live    map[cluster.NodeID]Live
	now     time.Time
	free    map[cluster.NodeID]int64 // of usable nodes, less what this run has placed
	costs   map[string]*cost         // by digest
	factors map[string]Rates         // by digest, see factor
	want    []*want
	out     []cluster.Command
}

// want is what is asked for of one content, and what there is.
type want struct {
	model            cluster.Model
	stages, replicas int
	good             []cluster.Placement // active, no node of it dead, and not about to be replaced
	broken           []cluster.Placement // active, a node of it dead
	added            [][]cluster.Hop     // placed by this run
	replacing        bool                // one of good is on its way to replace another
	stuck            bool                // no room was found
	auto             bool                // nobody asked for a number of replicas
	extra            int                 // replicas for the load, beside those asked for
}

func (w *want) have() int { return len(w.good) + len(w.added) }

func (w *want) missing() int {
	if w.stuck {
		return 0
	}
	return w.replicas + w.extra - w.have()
}

func newPlanner(s cluster.State, live map[cluster.NodeID]Live, now time.Time) *planner {
	p := &planner{state: s, live: live, now: now, free: make(map[cluster.NodeID]int64), costs: make(map[string]*cost), factors: make(map[string]Rates)}
	for _, m := range s.Members {
		if l, ok := live[m.ID]; ok && l.Alive && !l.Silent && !m.Down && !m.Draining {
			p.free[m.ID] = l.Memory
		}
	}
	for _, m := range s.Models {
		p.add(m)
	}
	for _, pl := range s.Placements {
		if pl.Phase != cluster.Gone {
			p.take(pl.Model, pl.Hops, -1)
		}
	}
	return p
}

// add notes a model; several names of one content want what the greediest of them wants.
func (p *planner) add(m cluster.Model) {
	i := slices.IndexFunc(p.want, func(w *want) bool { return w.model.Digest == m.Digest })
	if i < 0 {
		i = len(p.want)
		p.want = append(p.want, &want{model: m, replicas: 1, auto: true})
		c := newCost(m)
		p.costs[m.Digest] = &c
	}
	w := p.want[i]
	w.stages, w.replicas, w.auto = max(w.stages, m.Stages), max(w.replicas, m.Replicas), w.auto && m.Replicas == 0
}

// wanted lists the models, oldest first, so that a new one takes nothing from an old one.
func (p *planner) wanted() []*want {
	slices.SortStableFunc(p.want, func(a, b *want) int {
		return cmp.Or(a.model.Created.Compare(b.model.Created), cmp.Compare(a.model.Name, b.model.Name))
	})
	return p.want
}

// neediest returns the model that is next to get a replica: the one with the fewest, so that no model takes the
// room of another's first one; of those the oldest.
func (p *planner) neediest() (next *want) {
	for _, w := range p.wanted() {
		if w.missing() > 0 && (next == nil || w.have() < next.have()) {
			next = w
		}
	}
	return next
}

// take changes the free room of the hops' nodes by their spans: sign -1 takes, +1 gives back.
func (p *planner) take(digest string, hops []cluster.Hop, sign int64) {
	c := p.costs[digest]
	if c == nil {
		return
	}
	for _, h := range hops {
		if _, usable := p.free[h.Node]; usable && h.End <= c.layers {
			p.free[h.Node] += sign * c.memory(h.First, h.End)
		}
	}
}

// dead reports whether the node is lost for good, as far as one can tell.
func (p *planner) dead(id cluster.NodeID) bool {
	if l, ok := p.live[id]; ok {
		return !l.Alive
	}
	m, member := p.state.Member(id)
	return !member || m.Down
}

// deadNode returns the first dead node of a placement; for one of which nothing is loaded yet, one that is silent will do.
func (p *planner) deadNode(pl cluster.Placement) (cluster.NodeID, bool) {
	for _, h := range pl.Hops {
		if p.dead(h.Node) || pl.Phase == cluster.Planned && p.live[h.Node].Silent {
			return h.Node, true
		}
	}
	return "", false
}

// tidy sorts a model's placements, ends those that are too many, and drops broken ones that are not needed.
func (p *planner) tidy(w *want) {
	var active []cluster.Placement
	replaced := make(map[uint64]bool)
	for _, pl := range p.state.PlacementsOf(w.model.Digest) {
		if !pl.Phase.Active() {
			continue
		}
		active = append(active, pl)
		if _, dead := p.deadNode(pl); !dead && pl.Replaces != 0 {
			replaced[pl.Replaces] = true
		}
	}
	for _, pl := range active {
		switch _, dead := p.deadNode(pl); {
		case dead:
			w.broken = append(w.broken, pl)
		case !replaced[pl.Epoch]:
			w.good = append(w.good, pl)
		default:
			w.replacing = true
		}
	}
	// Those on nodes that stay rather than those on a draining one, ready ones rather than those that load, old ones rather than
	// new ones.
	leaves := func(pl cluster.Placement) int {
		if _, yes := p.draining(pl); yes {
			return 1
		}
		return 0
	}
	slices.SortFunc(w.good, func(a, b cluster.Placement) int {
		return cmp.Or(cmp.Compare(leaves(a), leaves(b)), cmp.Compare(b.Phase, a.Phase), cmp.Compare(a.Epoch, b.Epoch))
	})
	p.load(w)
	for len(w.good) > w.replicas+w.extra {
		last := w.good[len(w.good)-1]
		w.good = w.good[:len(w.good)-1]
		reason := fmt.Sprintf("wanted replicas: %d", w.replicas+w.extra)
		if last.Phase == cluster.Ready {
			p.out = append(p.out, cluster.Drain{Epoch: last.Epoch, Reason: reason, At: p.now})
		} else {
			p.drop(last, reason)
		}
	}
	if w.missing() <= 0 {
		p.dropBroken(w)
	}
}

// dropBroken drops the broken placements of a model that has enough good ones.
func (p *planner) dropBroken(w *want) {
	for _, pl := range w.broken {
		node, _ := p.deadNode(pl)
		p.drop(pl, "node "+node+" is lost")
	}
	w.broken = nil
}

// drop ends a placement and gives its room back.
func (p *planner) drop(pl cluster.Placement, reason string) {
	p.out = append(p.out, cluster.Drop{Epoch: pl.Epoch, Reason: reason, At: p.now})
	p.take(pl.Model, pl.Hops, +1)
}

// place makes one more placement of a model, in the room of a broken one if there is one: that is dropped for it.
func (p *planner) place(w *want) {
	var old cluster.Placement // zero: takes no room
	if len(w.broken) > 0 {
		old = w.broken[0]
	}
	p.take(old.Model, old.Hops, +1)
	hops, ok := p.find(w, 0)
	p.take(old.Model, old.Hops, -1)
	if w.have() >= w.replicas && p.widen(w, hops) {
		return
	}
	if !ok {
		w.stuck = true
		return
	}
	reason := "wanted"
	if w.have() >= w.replicas {
		reason = "the load"
	}
	if len(w.broken) > 0 {
		node, _ := p.deadNode(old)
		reason = "node " + node + " is lost"
		p.drop(old, reason)
		w.broken = w.broken[1:]
	}
	p.commit(w, hops, 0, reason)
	if w.missing() <= 0 {
		p.dropBroken(w)
	}
}

func (p *planner) commit(w *want, hops []cluster.Hop, replaces uint64, reason string) {
	p.out = append(p.out, cluster.Place{Model: w.model.Digest, Hops: hops, Replaces: replaces, Reason: reason, At: p.now})
	p.take(w.model.Digest, hops, -1)
	w.added = append(w.added, hops)
}

// find looks for the hops of one more replica, or of one in place of that of an epoch: in as few stages as possible, on nodes
// without another replica if it can be; or in as many stages as asked for, then in fewer (to serve beats to serve as asked), then
// in more.
func (p *planner) find(w *want, epoch uint64) ([]cluster.Hop, bool) {
	if w.stages == 0 {
		return p.findIn(w, epoch, 1, len(p.free))
	}
	for k := w.stages; k >= 1; k-- {
		if hops, ok := p.findIn(w, epoch, k, k); ok {
			return hops, true
		}
	}
	return p.findIn(w, epoch, w.stages+1, len(p.free))
}

// findIn looks for hops in least to most stages, the fewest first: on nodes without another replica than the one
// of epoch; else on nodes of which one at least has none, for a replica that shares all its nodes is no gain.
func (p *planner) findIn(w *want, epoch uint64, least, most int) ([]cluster.Hop, bool) {
	taken := make(map[cluster.NodeID]bool)
	mark := func(hops []cluster.Hop) {
		for _, h := range hops {
			taken[h.Node] = true
		}
	}
	for _, pl := range w.good {
		if pl.Epoch != epoch {
			mark(pl.Hops)
		}
	}
	for _, hops := range w.added {
		mark(hops)
	}
	all := p.nodes(w.model.Digest)
	fresh := slices.DeleteFunc(slices.Clone(all), func(n node) bool { return taken[n.id] })
	choices := [][]node{fresh, all}
	if epoch == 0 && w.have() >= w.replicas {
		choices = choices[:1] // for the load: nodes that bear it already are no help
	}
	for _, nodes := range choices {
		for k := least; k <= min(most, len(nodes)); k++ {
			hops, ok := split(p.costs[w.model.Digest], nodes, k)
			if ok && slices.ContainsFunc(hops, func(h cluster.Hop) bool { return !taken[h.Node] }) {
				return hops, true
			}
		}
	}
	return nil, false
}

// nodes lists the usable nodes for a model, without those that have just failed to load it, in order of names.
func (p *planner) nodes(digest string) []node {
	var out []node
	for id, free := range p.free {
		if p.pausing(digest, id) == nil {
			out = append(out, p.node(digest, id, free))
		}
	}
	slices.SortFunc(out, func(a, b node) int { return strings.Compare(a.id, b.id) })
	return out
}

func (p *planner) node(digest, id string, free int64) node {
	l := p.live[id]
	r, layer := p.rates(digest, id)
	return node{id, free, 1 / r.One, promptTokens / r.Many, layer, l.Where, l.Net}
}

// pausing returns the failure for which the node does not get the model at the moment, or nil.
func (p *planner) pausing(digest string, id cluster.NodeID) *cluster.Failure {
	for _, f := range p.state.Failures {
		if f.Model != digest || f.Node != id {
			continue
		}
		pause := maxPause
		if f.Count < 8 {
			pause = min(firstPause<<max(f.Count-1, 0), maxPause)
		}
		if age := p.now.Sub(f.At); age < pause && age > -pause { // a clock far ahead must not pause for hours
			return &f
		}
	}
	return nil
}

// reshape replaces one placement that has not the number of stages that was asked for, if that is possible now.
// One after the other: the old one serves until the new one is ready.
func (p *planner) reshape(w *want) {
	if w.stages == 0 || w.replacing || len(w.added) > 0 {
		return
	}
	i := slices.IndexFunc(w.good, func(pl cluster.Placement) bool {
		return pl.Phase == cluster.Ready && len(pl.Hops) != w.stages
	})
	if i < 0 || slices.ContainsFunc(w.good, func(pl cluster.Placement) bool { return pl.Phase != cluster.Ready }) {
		return
	}
	if hops, ok := p.findIn(w, w.good[i].Epoch, w.stages, w.stages); ok {
		p.commit(w, hops, w.good[i].Epoch, fmt.Sprintf("wanted stages: %d", w.stages))
	}
}
