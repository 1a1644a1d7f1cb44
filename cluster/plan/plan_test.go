package plan

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"lamina/cluster"
)

// drawShape draws a small model.
func drawShape(t *rapid.T, layers int) shape {
	return shape{
		layers: rapid.IntRange(1, layers).Draw(t, "layers"), layer: rapid.Int64Range(1, 100).Draw(t, "layer"),
		embed: rapid.Int64Range(1, 300).Draw(t, "embed"), head: rapid.Int64Range(1, 300).Draw(t, "head"), meta: 1,
		kv: rapid.Int64Range(1, 5).Draw(t, "kv"), tied: rapid.Bool().Draw(t, "tied"),
	}
}

func drawNodes(t *rapid.T, least, most int, memory int64) []node {
	var out []node
	for i := range rapid.IntRange(least, most).Draw(t, "nodes") {
		out = append(out, node{fmt.Sprint("n", i), rapid.Int64Range(0, memory).Draw(t, "memory"), rapid.SampledFrom([]float64{0.5, 1, 1, 1, 1.3, 3}).Draw(t, "speed")})
	}
	return out
}

// brute tries every order of every k nodes and every cut, and returns the time of the slowest stage of the best.
func brute(c *cost, nodes []node, k, first int, used map[string]bool) float64 {
	best := math.Inf(1)
	for _, n := range nodes {
		if used[n.id] {
			continue
		}
		used[n.id] = true
		for end := first + 1; end <= c.layers; end++ {
			if (k == 1) != (end == c.layers) || c.memory(first, end) > n.free {
				continue
			}
			t := c.time(first, end) / n.speed
			if k > 1 {
				t = max(t, brute(c, nodes, k-1, end, used))
			}
			best = min(best, t)
		}
		delete(used, n.id)
	}
	return best
}

// TestSplitAgainstBruteForce: what fits is found, and the slowest stage is within 5 % of the best.
func TestSplitAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 6)
		c := newCost(s.model("m"))
		nodes := drawNodes(t, 1, 4, 1000)
		for k := 1; k <= len(nodes); k++ {
			best := brute(&c, nodes, k, 0, map[string]bool{})
			hops, ok := split(&c, nodes, k)
			if ok != !math.IsInf(best, 1) {
				t.Fatalf("%d stages: found %v, the best is %v", k, hops, best)
			}
			if ok != fits(&c, nodes, k, k) {
				t.Fatalf("%d stages: fits disagrees with split, which found %v", k, hops)
			}
			if !ok {
				continue
			}
			checkHops(t, &c, nodes, hops, k)
			if got := slowest(&c, nodes, hops); got > 1.05*best {
				t.Fatalf("%d stages: %v takes %v, the best %v", k, hops, got, best)
			}
		}
	})
}

// TestSplitOnManyNodes: beyond exactNodes the cut need not be the best, but it must be one.
func TestSplitOnManyNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 40)
		c := newCost(s.model("m"))
		nodes := drawNodes(t, exactNodes+1, 30, 1000)
		k := rapid.IntRange(1, len(nodes)).Draw(t, "k")
		if hops, ok := split(&c, nodes, k); ok {
			checkHops(t, &c, nodes, hops, k)
		}
	})
}

// TestOrdersAgreeOnEqualNodes: on equal nodes the way for many nodes is as good as the exact one.
func TestOrdersAgreeOnEqualNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 30)
		c := newCost(s.model("m"))
		var nodes []node
		memory := rapid.Int64Range(0, 2000).Draw(t, "memory")
		for i := range 6 {
			nodes = append(nodes, node{fmt.Sprint("n", i), memory, 1})
		}
		k := rapid.IntRange(1, 6).Draw(t, "k")
		if k > c.layers {
			return
		}
		a, ta := narrow(&c, nodes, k, cutAnyOrder)
		b, tb := narrow(&c, nodes, k, cutInOrder)
		if (a == nil) != (b == nil) || math.Abs(ta-tb) > 1e-3*ta {
			t.Fatalf("%v (%v) and %v (%v)", a, ta, b, tb)
		}
	})
}

func checkHops(t *rapid.T, c *cost, nodes []node, hops []cluster.Hop, k int) {
	free := map[string]int64{}
	for _, n := range nodes {
		free[n.id] = n.free
	}
	next, used := 0, map[string]bool{}
	for _, h := range hops {
		if h.First != next || h.End <= h.First || used[h.Node] {
			t.Fatalf("hops %v", hops)
		}
		if c.memory(h.First, h.End) > free[h.Node] {
			t.Fatalf("hop %v takes %d of %d bytes", h, c.memory(h.First, h.End), free[h.Node])
		}
		next, used[h.Node] = h.End, true
	}
	if next != c.layers || len(hops) != k {
		t.Fatalf("hops %v of %d layers, %d stages", hops, c.layers, k)
	}
}

// TestPlanProperties drives a cluster through random events: a plan is deterministic, applies without a refusal,
// leaves nothing to do, puts nothing on unusable nodes and no node over its memory.
func TestPlanProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld()
		for range rapid.IntRange(1, 25).Draw(t, "events") {
			w.event(t)
			// A replacement frees nodes for other replicas, so a second round may go on; a fourth may not.
			for round := range 4 {
				commands := Plan(w.state, w.live, w.now)
				if again := Plan(w.state, w.live, w.now); !reflect.DeepEqual(commands, again) {
					t.Fatalf("%v, then %v", commands, again)
				}
				if round == 3 && len(commands) > 0 {
					t.Fatalf("the fourth plan in a row wants %v", commands)
				}
				for _, c := range commands {
					if err := w.apply(c); err != nil {
						t.Fatalf("%T was refused: %v", c, err)
					}
					if p, ok := c.(cluster.Place); ok {
						w.checkPlaced(t, p)
					}
				}
			}
			w.checkWanted(t)
		}
	})
}

// event changes something.
func (w *world) event(t *rapid.T) {
	id := fmt.Sprint("n", rapid.IntRange(1, 5).Draw(t, "node"))
	w.now = w.now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "wait")) * time.Second)
	switch rapid.IntRange(0, 9).Draw(t, "event") {
	case 0, 1, 2:
		w.live[id] = Live{
			Memory: rapid.Int64Range(0, 3000).Draw(t, "memory"), Speed: rapid.Float64Range(0, 4).Draw(t, "speed"),
			Alive: rapid.IntRange(0, 3).Draw(t, "alive") > 0, Silent: rapid.IntRange(0, 3).Draw(t, "silent") == 0,
		}
		_ = w.apply(cluster.MemberUp{Member: cluster.Member{ID: id, Peer: id, Incarnation: w.index + 1}, At: w.now})
	case 3, 4:
		s := drawShape(t, 8)
		s.stages = rapid.IntRange(0, min(3, s.layers)).Draw(t, "stages")
		s.replicas = rapid.IntRange(0, 3).Draw(t, "replicas")
		_ = w.apply(cluster.AddModel{Model: s.model(fmt.Sprint("m", rapid.IntRange(1, 3).Draw(t, "model"))), At: w.now})
	case 5:
		_ = w.apply(cluster.RemoveModel{Name: fmt.Sprint("m", rapid.IntRange(1, 3).Draw(t, "model")), At: w.now})
	case 6:
		l := w.live[id]
		l.Alive = !l.Alive
		w.live[id] = l
	case 7:
		if m, ok := w.state.Member(id); ok {
			_ = w.apply(cluster.MemberDown{Node: id, Incarnation: m.Incarnation, At: w.now})
		}
	case 8:
		for _, p := range w.state.Placements {
			if p.Phase == cluster.Draining {
				_ = w.apply(cluster.Drop{Epoch: p.Epoch, At: w.now})
			}
		}
	case 9:
		for _, p := range w.state.Placements {
			for _, h := range p.Hops {
				m, _ := w.state.Member(h.Node)
				if rapid.IntRange(0, 9).Draw(t, "fails") == 0 {
					_ = w.apply(cluster.HopFailed{Epoch: p.Epoch, Node: h.Node, Incarnation: m.Incarnation, Reason: "disk", At: w.now})
				} else {
					_ = w.apply(cluster.HopReady{Epoch: p.Epoch, Node: h.Node, Incarnation: m.Incarnation, At: w.now})
				}
			}
		}
	}
}

// checkPlaced looks at the nodes of a new placement.
func (w *world) checkPlaced(t *rapid.T, p cluster.Place) {
	used := map[string]int64{}
	for _, pl := range w.state.Placements {
		m, _ := w.state.ModelByDigest(pl.Model)
		for _, h := range pl.Hops {
			if pl.Phase != cluster.Gone {
				weights, kv := SpanBytes(m, h.First, h.End)
				used[h.Node] += weights + kv
			}
		}
	}
	for _, h := range p.Hops {
		m, _ := w.state.Member(h.Node)
		if l := w.live[h.Node]; !l.Alive || m.Down {
			t.Fatalf("layers were put on the unusable node %s", h.Node)
		}
		if used[h.Node] > w.live[h.Node].Memory {
			t.Fatalf("node %s has %d bytes for %d", h.Node, w.live[h.Node].Memory, used[h.Node])
		}
	}
}

// checkWanted: no more placements than wanted, but for one that is being replaced; and Problems agrees with
// what is missing.
func (w *world) checkWanted(t *rapid.T) {
	problems := map[string]Problem{}
	for _, p := range Problems(w.state, w.live, w.now) {
		if !errors.Is(p.Err, ErrNoCapacity) {
			t.Fatalf("problem %v", p)
		}
		problems[p.Model] = p
	}
	p := newPlanner(w.state, w.live, w.now)
	for _, want := range p.wanted() {
		p.tidy(want)
		if len(want.good) > want.replicas {
			t.Fatalf("%s has %d of %d replicas", want.model.Name, len(want.good), want.replicas)
		}
		pr, bad := problems[want.model.Name]
		if bad != (len(want.good) < want.replicas) || bad && (pr.Have != len(want.good) || pr.Want != want.replicas) {
			t.Fatalf("%s has %d of %d replicas; the problem is %+v", want.model.Name, len(want.good), want.replicas, pr)
		}
		if err := fitsNow(w.state, want.model, w.live, w.now); err == nil && len(want.good) == 0 && len(want.broken) == 0 {
			t.Fatalf("%s fits and is not placed", want.model.Name)
		}
	}
}

func TestSpanBytes(t *testing.T) {
	s := defaultShape()
	s.tied = true
	m := s.model("m")
	for _, c := range []struct {
		first, end  int
		weights, kv int64
	}{{0, 10, 1101, 100}, {0, 3, 351, 30}, {3, 5, 201, 20}, {5, 10, 601, 50}, {5, 5, 0, 0}, {-1, 3, 0, 0}, {3, 11, 0, 0}} {
		weights, kv := SpanBytes(m, c.first, c.end)
		if weights != c.weights || kv != c.kv {
			t.Errorf("[%d:%d] takes %d and %d, want %d and %d", c.first, c.end, weights, kv, c.weights, c.kv)
		}
		var sum int64
		for _, b := range m.SpanBlobs(c.first, c.end) {
			sum += b.Size
		}
		if sum != weights {
			t.Errorf("[%d:%d] loads blobs of %d bytes, counted as %d", c.first, c.end, sum, weights)
		}
	}
	m.Context = 1 << 20
	if got := Positions(m); got != 8192 {
		t.Errorf("room for %d positions", got)
	}
}

func TestNoCapacityIsTyped(t *testing.T) {
	w := newWorld()
	err := Fits(w.state, defaultShape().model("m"), w.live, w.now)
	var no *NoCapacity
	if !errors.Is(err, ErrNoCapacity) || !errors.As(err, &no) || no.NodesMissing != 1 || no.Need != 1201 {
		t.Errorf("got %#v", err)
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, n := range []int{3, 10, 64} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			w := newWorld()
			for i := range n {
				id := fmt.Sprint("n", i)
				w.live[id] = Live{Memory: 1000, Speed: 1 + float64(i%5)/10, Alive: true}
				_ = w.apply(cluster.MemberUp{Member: cluster.Member{ID: id, Peer: id, Incarnation: 1}, At: w.now})
			}
			s := defaultShape()
			s.layers, s.layer = 80, 20
			_ = w.apply(cluster.AddModel{Model: s.model("m"), At: w.now})
			for b.Loop() {
				if len(Plan(w.state, w.live, w.now)) != 1 {
					b.Fatal("not placed")
				}
			}
		})
	}
}
