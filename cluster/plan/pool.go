package plan

import (
	"cmp"
	"math"
	"slices"
)

// How many places a large cluster is looked at from, and how many nodes a long pipeline is chosen from, for each of its stages.
const (
	seeds      = 6
	perStage   = 4
	fewestLong = 64
)

// searches lists what is tried for a cut into k stages: all orders of all nodes where they are few; else all orders of some
// pools, or for long pipelines some orders.
func searches(c *cost, nodes []node, k int) []*search {
	if len(nodes) <= exactNodes {
		list := slices.Clone(nodes)
		slices.SortFunc(list, fastest)
		return []*search{{c, list, k, true}}
	}
	roomy, quick := slices.Clone(nodes), slices.Clone(nodes)
	slices.SortFunc(roomy, roomiest)
	slices.SortFunc(quick, fastest)
	out := append(inRoom(c, roomy, k), &search{c, quick, k, false})
	size := exactNodes
	if k > exactNodes {
		size = min(len(nodes), max(fewestLong, perStage*k))
	} else {
		out = append(out, &search{c, quick[:exactNodes], k, true})
	}
	for _, seed := range spread(c, nodes, k) {
		pool := around(c, nodes, seed, k, size)
		if k > exactNodes {
			slices.SortFunc(pool, fastest)
			back := slices.Clone(pool)
			slices.Reverse(back)
			out = append(out, &search{c, pool, k, false}, &search{c, back, k, false})
			pool = tour(c, slices.Clone(pool))
		}
		out = append(out, &search{c, pool, k, k <= exactNodes})
	}
	return out
}

// inRoom lists the searches that see whether k stages fit at all, on nodes sorted by room.
func inRoom(c *cost, roomy []node, k int) []*search {
	if len(roomy) <= exactNodes {
		return []*search{{c, roomy, k, true}}
	}
	out := []*search{{c, roomy, k, false}}
	if k <= exactNodes {
		out = append(out, &search{c, roomy[:exactNodes], k, true})
	}
	return out
}

// share is how long the node would take for its part of k equal stages, or in proportion more if it has not the room.
func share(c *cost, n *node, k int) float64 {
	layers := max(1, (c.layers+k-1)/k)
	room := float64(n.free-c.meta) / float64(max(1, (c.sum[c.layers]+c.kv*int64(c.layers))/int64(c.layers)))
	if room < 1 {
		return math.Inf(1)
	}
	t := (float64(c.sum[c.layers])/float64(c.layers)*(n.pace+n.prompt) + n.layer) * float64(layers)
	return t * max(1, float64(layers)/room)
}

// spread chooses nodes far from each other, each the best for its part of the model among those near it.
func spread(c *cost, nodes []node, k int) []*node {
	shares := make([]float64, len(nodes))
	away := make([]float64, len(nodes)) // hop to the nearest chosen one
	best := -1
	for i := range nodes {
		shares[i], away[i] = share(c, &nodes[i], k), math.Inf(1)
		if !math.IsInf(shares[i], 1) && (best < 0 || shares[i] < shares[best]) {
			best = i
		}
	}
	var out []*node
	for best >= 0 && len(out) < seeds {
		out = append(out, &nodes[best])
		last, gain := &nodes[best], 0.0
		best = -1
		for i := range nodes {
			away[i] = min(away[i], c.hop(last, &nodes[i]))
			// Being away counts for as much as being quick.
			if g := away[i] / shares[i]; &nodes[i] != last && g > gain {
				best, gain = i, g
			}
		}
	}
	return out
}

// around returns the seed and the nodes that would serve best beside it, by the time for their part and the hop.
func around(c *cost, nodes []node, seed *node, k, size int) []node {
	type scored struct {
		n *node
		t float64
	}
	list := make([]scored, len(nodes))
	for i := range nodes {
		n := &nodes[i]
		list[i] = scored{n, share(c, n, k) + c.hop(seed, n)}
		if n == seed {
			list[i].t = -1
		}
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(cmp.Compare(a.t, b.t), cmp.Compare(b.n.free, a.n.free), cmp.Compare(a.n.id, b.n.id))
	})
	var out []node
	for _, s := range list[:min(size, len(list))] {
		out = append(out, *s.n)
	}
	return out
}

// tour orders nodes so that each is followed by the nearest of those left.
func tour(c *cost, nodes []node) []node {
	for i := 1; i < len(nodes); i++ {
		next := i
		for j := i + 1; j < len(nodes); j++ {
			if c.hop(&nodes[i-1], &nodes[j]) < c.hop(&nodes[i-1], &nodes[next]) {
				next = j
			}
		}
		nodes[i], nodes[next] = nodes[next], nodes[i]
	}
	return nodes
}
