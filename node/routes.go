package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"lamina/cluster"
	"lamina/node/infer"
	"lamina/node/peer"
	"lamina/router"
	"lamina/shard/pipeline"
)

// routes joins the router, which counts and chooses, with the state and with what gossip says of the nodes.
type routes struct {
	r     *router.Router
	state func() cluster.State

	mu struct {
		sync.Mutex
		changed chan struct{}
	}
}

var _ infer.Router = (*routes)(nil)

func newRoutes(seed uint64, state func() cluster.State) *routes {
	rs := &routes{r: router.New(seed), state: state}
	rs.mu.changed = make(chan struct{})
	return rs
}

// update swaps the table. dead says which nodes cannot be reached; a placement that needs one is left out. Where no
// placement would be left, all stay: gossip may be wrong, and a try costs less than a refusal.
func (rs *routes) update(s cluster.State, dead func(cluster.NodeID) bool) {
	t := router.TableOf(s, func(p cluster.Placement) bool {
		for _, h := range p.Hops {
			if dead(h.Node) {
				return false
			}
		}
		return true
	})
	all := router.TableOf(s, nil)
	for name, list := range t {
		if len(list) == 0 {
			t[name] = all[name]
		}
	}
	rs.r.Update(t)
	rs.mu.Lock()
	close(rs.mu.changed)
	rs.mu.changed = make(chan struct{})
	rs.mu.Unlock()
}

// Changed implements infer.Router.
func (rs *routes) Changed() <-chan struct{} {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	return rs.mu.changed
}

// Pick implements infer.Router.
func (rs *routes) Pick(model string, key []byte, skip ...uint64) (infer.Route, error) {
	p, err := rs.r.Pick(model, key, skip...)
	if errors.Is(err, router.ErrUnknownModel) {
		if _, known := rs.state().Model(model); known { // added a moment ago: the table follows the state
			err = router.ErrNotReady
		}
	}
	switch {
	case errors.Is(err, router.ErrUnknownModel):
		return infer.Route{}, fmt.Errorf("%w: %.140q", infer.ErrModelNotFound, model)
	case errors.Is(err, router.ErrNotReady):
		return infer.Route{}, fmt.Errorf("%w: %q has no replica that is ready; see lamina ps, and try again in a few seconds", infer.ErrModelLoading, model)
	case err != nil:
		return infer.Route{}, err
	}
	route := infer.Route{Epoch: p.Placement.Epoch, Release: p.Release, Hops: make([]pipeline.Hop, len(p.Placement.Hops))}
	for i, h := range p.Placement.Hops {
		route.Hops[i] = pipeline.Hop{Node: h.Node, First: h.First, End: h.End}
	}
	return route, nil
}

// driver runs sequences once this node has links to all nodes of the route. A stage that cannot reach the gateway cannot
// tell it so, but ends the link that the gateway has made to it: that is how the gateway learns that no answer will come.
type driver struct {
	host  *pipeline.Host
	links *peer.Links
	self  string
}

var _ infer.Driver = driver{}

// Generate implements infer.Driver.
func (d driver) Generate(ctx context.Context, r pipeline.Request, emit func(pipeline.Token) error) (pipeline.Stats, error) {
	nodes := make([]string, 0, len(r.Route))
	for _, h := range r.Route {
		if h.Node != d.self && !slices.Contains(nodes, h.Node) {
			nodes = append(nodes, h.Node)
		}
	}
	if node, err := d.links.Await(ctx, nodes...); err != nil {
		if ctx.Err() != nil {
			return pipeline.Stats{}, err
		}
		return pipeline.Stats{}, &pipeline.Broken{Node: node, Err: err}
	}
	return d.host.Generate(ctx, r, emit)
}
