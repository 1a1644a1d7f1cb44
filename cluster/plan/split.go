package plan

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"sort"

	"lamina/cluster"
)

// node is one that may get a stage.
type node struct {
	id    cluster.NodeID
	free  int64
	speed float64
}

// exactNodes is up to how many nodes every order of them is considered; above, they are taken in the order of
// speed (the fastest first, or last, where the head is) or of room, whichever gives the best cut.
const exactNodes = 10

// nearlyAsFast: of nodes that could hold a whole model, those within this part of the fastest are alike, and the
// one with the most room is taken, so that models spread. Measured speeds differ by more from start to start.
const nearlyAsFast = 0.96

// split cuts the model into k stages on k of the nodes so that the slowest stage is as fast as possible.
// False: it does not fit.
func split(c *cost, nodes []node, k int) ([]cluster.Hop, bool) {
	if k < 1 || k > len(nodes) || k > c.layers {
		return nil, false
	}
	if k == 1 {
		return whole(c, nodes)
	}
	orders := [][]node{slices.Clone(nodes)}
	slices.SortFunc(orders[0], fastest)
	cut := cutAnyOrder
	if len(nodes) > exactNodes {
		cut = cutInOrder
		orders = append(orders, slices.Clone(orders[0]), slices.Clone(nodes))
		slices.Reverse(orders[1])
		slices.SortFunc(orders[2], roomiest)
	}
	var best []cluster.Hop
	least := math.Inf(1)
	for _, list := range orders {
		if hops, t := narrow(c, list, k, cut); hops != nil && t < least {
			best, least = hops, t
		}
	}
	return best, best != nil
}

// whole puts the model onto one node.
func whole(c *cost, nodes []node) ([]cluster.Hop, bool) {
	var fit []node
	top := 0.0
	for _, n := range nodes {
		if n.free >= c.memory(0, c.layers) {
			fit = append(fit, n)
			top = max(top, n.speed)
		}
	}
	fit = slices.DeleteFunc(fit, func(n node) bool { return n.speed < nearlyAsFast*top })
	if len(fit) == 0 {
		return nil, false
	}
	slices.SortFunc(fit, roomiest)
	return []cluster.Hop{{Node: fit[0].id, First: 0, End: c.layers}}, true
}

func fastest(a, b node) int {
	return cmp.Or(cmp.Compare(b.speed, a.speed), cmp.Compare(b.free, a.free), cmp.Compare(a.id, b.id))
}

func roomiest(a, b node) int {
	return cmp.Or(cmp.Compare(b.free, a.free), cmp.Compare(b.speed, a.speed), cmp.Compare(a.id, b.id))
}

// cutter finds a cut into k stages none of which takes longer than limit, or nil.
type cutter func(c *cost, nodes []node, k int, limit float64) []cluster.Hop

// narrow looks for the least limit for which there is a cut, by halving: a cut with a limit is a simple question,
// for there a stage should always take all it can.
func narrow(c *cost, nodes []node, k int, cut cutter) ([]cluster.Hop, float64) {
	best := cut(c, nodes, k, math.Inf(1))
	if best == nil {
		return nil, 0
	}
	low, high := 0.0, slowest(c, nodes, best)
	for range 60 {
		if high-low <= high*1e-6 {
			break
		}
		mid := low + (high-low)/2
		if hops := cut(c, nodes, k, mid); hops != nil {
			best, high = hops, min(slowest(c, nodes, hops), mid)
		} else {
			low = mid
		}
	}
	return best, slowest(c, nodes, best)
}

// slowest is the time of the slowest stage.
func slowest(c *cost, nodes []node, hops []cluster.Hop) (t float64) {
	for _, h := range hops {
		i := slices.IndexFunc(nodes, func(n node) bool { return n.id == h.Node })
		t = max(t, c.time(h.First, h.End)/nodes[i].speed)
	}
	return t
}

// reach returns how far a stage from first on can go on the node without being the last one: at most to the
// layer most. first itself means that not even one layer fits.
func reach(c *cost, n node, first, most int, limit float64) int {
	return first + sort.Search(most-first, func(i int) bool {
		end := first + i + 1
		return c.memory(first, end) > n.free || c.time(first, end)/n.speed > limit
	})
}

// closes reports whether the node can take all layers from first on, and the head.
func closes(c *cost, n node, first int, limit float64) bool {
	return c.memory(first, c.layers) <= n.free && c.time(first, c.layers)/n.speed <= limit
}

// cutAnyOrder considers every order of every k nodes: far[set] is the farthest layer that the nodes of the set
// reach as the first stages, in their best order. To get farther never hurts the rest, so this is exact.
func cutAnyOrder(c *cost, nodes []node, k int, limit float64) []cluster.Hop {
	far := make([]int, 1<<len(nodes))
	last := make([]int, 1<<len(nodes)) // the node of the set that comes last, to read the order back
	for set := range far {
		stages := bits.OnesCount(uint(set))
		if stages >= k || set != 0 && far[set] == 0 {
			continue
		}
		for i, n := range nodes {
			switch {
			case set&(1<<i) != 0:
			case stages == k-1:
				if closes(c, n, far[set], limit) {
					return readBack(nodes, far, last, set, i, c.layers)
				}
			default:
				// The stages behind this one need a layer each.
				end := reach(c, n, far[set], c.layers-(k-1-stages), limit)
				if next := set | 1<<i; end > far[set] && end > far[next] {
					far[next], last[next] = end, i
				}
			}
		}
	}
	return nil
}

// readBack lists the stages that led to the set, and the closing one.
func readBack(nodes []node, far, last []int, set, closing, layers int) []cluster.Hop {
	hops := []cluster.Hop{{Node: nodes[closing].id, First: far[set], End: layers}}
	for set != 0 {
		i := last[set]
		before := set &^ (1 << i)
		hops = append(hops, cluster.Hop{Node: nodes[i].id, First: far[before], End: far[set]})
		set = before
	}
	slices.Reverse(hops)
	return hops
}

// cutInOrder takes k of the nodes in the order given: far[j] is the farthest layer that j stages reach on the
// nodes so far.
func cutInOrder(c *cost, nodes []node, k int, limit float64) []cluster.Hop {
	type best struct {
		far  int
		hops []cluster.Hop
	}
	far := make([]best, k)
	for _, n := range nodes {
		if (k == 1 || far[k-1].far > 0) && closes(c, n, far[k-1].far, limit) {
			return append(slices.Clone(far[k-1].hops), cluster.Hop{Node: n.id, First: far[k-1].far, End: c.layers})
		}
		for j := k - 2; j >= 0; j-- {
			if j > 0 && far[j].far == 0 {
				continue
			}
			first := far[j].far
			if end := reach(c, n, first, c.layers-(k-1-j), limit); end > first && end > far[j+1].far {
				far[j+1] = best{end, append(slices.Clone(far[j].hops), cluster.Hop{Node: n.id, First: first, End: end})}
			}
		}
	}
	return nil
}
