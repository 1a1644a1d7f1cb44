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
	id     cluster.NodeID
	free   int64
	pace   float64    // nanoseconds that a byte of weights takes for a token of an answer
	prompt float64    // and for its part of a prompt
	layer  float64    // nanoseconds that a layer costs beside its bytes
	where  [4]float64 // as Live.Where
	rate   float64    // as Live.Net
}

// exactNodes is up to how many nodes every order of them is considered. Of more nodes, pools of so many are tried.
const exactNodes = 8

// nearlyAsFast: of nodes that could hold a whole model, those within this part of the fastest are alike, and the
// one with the most room is taken, so that models spread. It is what a change must promise, see worthwhile.
const nearlyAsFast = 1 / worthwhile

// split cuts the model into k stages on k of the nodes so that the slowest stage, with the hop to it, is as fast as
// possible, and of the cuts that are about as good takes one without long hops. False: it does not fit.
func split(c *cost, nodes []node, k int) ([]cluster.Hop, bool) {
	if k < 1 || k > len(nodes) || k > c.layers {
		return nil, false
	}
	if k == 1 {
		return whole(c, nodes)
	}
	if len(nodes) > exactNodes {
		roomy := slices.Clone(nodes)
		if slices.SortFunc(roomy, roomiest); !fitsIn(c, roomy, k) {
			return nil, false
		}
	}
	var best *chain
	for _, s := range searches(c, nodes, k) {
		if ch := s.narrow(); ch != nil && (best == nil || ch.slowest < best.slowest) {
			best = ch
		}
	}
	if best == nil {
		return nil, false
	}
	return best.hops, true
}

// whole puts the model onto one node.
func whole(c *cost, nodes []node) ([]cluster.Hop, bool) {
	var fit []node
	top := math.Inf(1)
	for _, n := range nodes {
		if n.free >= c.memory(0, c.layers) {
			fit = append(fit, n)
			top = min(top, c.stage(&n, 0, c.layers))
		}
	}
	fit = slices.DeleteFunc(fit, func(n node) bool { return c.stage(&n, 0, c.layers) > top/nearlyAsFast })
	if len(fit) == 0 {
		return nil, false
	}
	slices.SortFunc(fit, roomiest)
	return []cluster.Hop{{Node: fit[0].id, First: 0, End: c.layers}}, true
}

func fastest(a, b node) int {
	return cmp.Or(cmp.Compare(a.pace+a.prompt, b.pace+b.prompt), cmp.Compare(b.free, a.free), cmp.Compare(a.id, b.id))
}

func roomiest(a, b node) int {
	return cmp.Or(cmp.Compare(b.free, a.free), cmp.Compare(a.pace+a.prompt, b.pace+b.prompt), cmp.Compare(a.id, b.id))
}

// chain is a cut and what it takes.
type chain struct {
	hops    []cluster.Hop
	slowest float64 // nanoseconds of the slowest stage with the hop to it
	total   float64 // nanoseconds of all stages and hops: a token of a single request
	longest float64 // hop
}

// search looks for cuts into k stages on some nodes: in any order of them, or in the order given.
type search struct {
	c     *cost
	nodes []node
	k     int
	any   bool
}

// price works out what a cut takes. at[i] is the node of hop i.
func (c *cost) price(hops []cluster.Hop, at []*node) *chain {
	ch := &chain{hops: hops}
	for i, h := range hops {
		t := c.stage(at[i], h.First, h.End)
		if i > 0 {
			hop := c.hop(at[i-1], at[i])
			ch.longest = max(ch.longest, hop)
			t += hop
		}
		ch.slowest = max(ch.slowest, t)
		ch.total += t
	}
	return ch
}

// slack is how much slower than the best the slowest stage may be for shorter hops.
const slack = 1.02

// narrow looks for the least limit for which there is a cut, by halving: a cut with a limit is a simple question,
// for there a stage should always take all it can. Then it shortens the longest hop in the same way. nil: it does not fit.
func (s *search) narrow() *chain {
	unbound := math.Inf(1)
	best := s.cut(unbound, unbound)
	if best == nil {
		return nil
	}
	for low := 0.0; best.slowest-low > best.slowest*1e-4; {
		mid := low + (best.slowest-low)/2
		if ch := s.cut(mid, unbound); ch != nil {
			best = ch
		} else {
			low = mid
		}
	}
	limit := best.slowest * slack
	for low := 0.0; best.longest-low > best.longest*0.05; {
		mid := low + (best.longest-low)/2
		if ch := s.cut(limit, mid); ch != nil {
			best = ch
		} else {
			low = mid
		}
	}
	return best
}

func (s *search) cut(limit, hop float64) *chain {
	if s.any {
		return s.cutAnyOrder(limit, hop)
	}
	return s.cutInOrder(limit, hop)
}

// reach returns how far a stage from first on can go on the node within a time without being the last one: at most to the
// layer most. first itself means that not even one layer fits.
func (c *cost) reach(n *node, first, most int, limit float64) int {
	return first + sort.Search(most-first, func(i int) bool {
		end := first + i + 1
		return c.memory(first, end) > n.free || c.stage(n, first, end) > limit
	})
}

// closes reports whether the node can take all layers from first on, and the head.
func (c *cost) closes(n *node, first int, limit float64) bool {
	return c.memory(first, c.layers) <= n.free && c.stage(n, first, c.layers) <= limit
}

// cutAnyOrder considers every order of every k nodes: far[set][last] is the farthest layer that the nodes of the set
// reach as the first stages, with that one last, in their best order. To get farther never hurts the rest, so this is
// exact (after Held and Karp, "A dynamic programming approach to sequencing problems", 1962).
func (s *search) cutAnyOrder(limit, longest float64) *chain {
	n := len(s.nodes)
	far := make([]int, n<<n)
	before := make([]int8, n<<n) // which node came before the last, to read the order back
	for set := range 1 << n {
		stages := bits.OnesCount(uint(set))
		if stages >= s.k {
			continue
		}
		for last := n - 1; last >= 0; last-- { // of equals, the order of the nodes as given
			if set == 0 {
				last = 0 // no node is last yet
			}
			at := set*n + last
			if set != 0 && (set&(1<<last) == 0 || far[at] == 0) {
				continue
			}
			for i := range s.nodes {
				hop := 0.0
				if set != 0 {
					hop = s.c.hop(&s.nodes[last], &s.nodes[i])
				}
				if set&(1<<i) != 0 || hop > longest {
					continue
				}
				if stages == s.k-1 {
					if s.c.closes(&s.nodes[i], far[at], limit-hop) {
						return s.readBack(far, before, set, last, i)
					}
					continue
				}
				// The stages behind this one need a layer each.
				end := s.c.reach(&s.nodes[i], far[at], s.c.layers-(s.k-1-stages), limit-hop)
				if next := (set|1<<i)*n + i; end > far[at] && end > far[next] {
					far[next], before[next] = end, int8(last)
				}
			}
		}
	}
	return nil
}

// readBack lists the stages that led to the set, and the closing one.
func (s *search) readBack(far []int, before []int8, set, last, closing int) *chain {
	n := len(s.nodes)
	end := s.c.layers
	var hops []cluster.Hop
	var at []*node
	for i := closing; ; {
		first := 0
		if set != 0 {
			first = far[set*n+last]
		}
		hops, at = append(hops, cluster.Hop{Node: s.nodes[i].id, First: first, End: end}), append(at, &s.nodes[i])
		if set == 0 {
			break
		}
		end, i = first, last
		last, set = int(before[set*n+last]), set&^(1<<last)
	}
	slices.Reverse(hops)
	slices.Reverse(at)
	return s.c.price(hops, at)
}

// link is a stage and those before it.
type link struct {
	node       *node
	first, end int
	before     *link
}

// cutInOrder takes k of the nodes in the order given: far[j] is the farthest that j stages reach on the nodes so far.
func (s *search) cutInOrder(limit, longest float64) *chain {
	far := make([]*link, s.k) // far[0] stays nil: no stage yet
	for i := range s.nodes {
		n := &s.nodes[i]
		for j := s.k - 1; j >= 0; j-- {
			first, hop := 0, 0.0
			if j > 0 {
				if far[j] == nil {
					continue
				}
				first, hop = far[j].end, s.c.hop(far[j].node, n)
			}
			if hop > longest {
				continue
			}
			if j == s.k-1 {
				if s.c.closes(n, first, limit-hop) {
					return s.unlink(&link{n, first, s.c.layers, far[j]})
				}
				continue
			}
			if end := s.c.reach(n, first, s.c.layers-(s.k-1-j), limit-hop); end > first && (far[j+1] == nil || end > far[j+1].end) {
				far[j+1] = &link{n, first, end, far[j]}
			}
		}
	}
	return nil
}

func (s *search) unlink(l *link) *chain {
	var hops []cluster.Hop
	var at []*node
	for ; l != nil; l = l.before {
		hops, at = append(hops, cluster.Hop{Node: l.node.id, First: l.first, End: l.end}), append(at, l.node)
	}
	slices.Reverse(hops)
	slices.Reverse(at)
	return s.c.price(hops, at)
}
