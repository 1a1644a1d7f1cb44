package plan

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
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
	far := rapid.SampledFrom([]float64{0, 0, 100, 10000}).Draw(t, "distances")
	for i := range rapid.IntRange(least, most).Draw(t, "nodes") {
		n := node{id: fmt.Sprint("n", i), free: rapid.Int64Range(0, memory).Draw(t, "memory"), pace: rapid.SampledFrom([]float64{0.3, 0.7, 1, 1, 1, 1, 2}).Draw(t, "pace")}
		n.prompt = n.pace * rapid.SampledFrom([]float64{0, 0.5, 2}).Draw(t, "prompt")
		n.layer = rapid.SampledFrom([]float64{0, 0, 10}).Draw(t, "layer cost")
		n.rate = rapid.SampledFrom([]float64{0, 0.1, 1}).Draw(t, "rate")
		for j := range n.where {
			n.where[j] = far * float64(rapid.IntRange(0, 3).Draw(t, "where"))
		}
		out = append(out, n)
	}
	return out
}

// brute tries every order of every k nodes and every cut, and returns the time of the slowest stage of the best.
func brute(c *cost, nodes []node, k, first int, before *node, used map[string]bool) float64 {
	best := math.Inf(1)
	for i := range nodes {
		n := &nodes[i]
		if used[n.id] {
			continue
		}
		used[n.id] = true
		for end := first + 1; end <= c.layers; end++ {
			if (k == 1) != (end == c.layers) || c.memory(first, end) > n.free {
				continue
			}
			t := c.stage(n, first, end)
			if before != nil {
				t += c.hop(before, n)
			}
			if k > 1 {
				t = max(t, brute(c, nodes, k-1, end, n, used))
			}
			best = min(best, t)
		}
		delete(used, n.id)
	}
	return best
}

// priced is the time of the slowest stage.
func priced(c *cost, nodes []node, hops []cluster.Hop) float64 {
	var at []*node
	for _, h := range hops {
		i := slices.IndexFunc(nodes, func(n node) bool { return n.id == h.Node })
		at = append(at, &nodes[i])
	}
	return c.price(hops, at).slowest
}

// TestSplitAgainstBruteForce: what fits is found, and the slowest stage is within 5 % of the best; a whole model may be
// on a node that is nearly as fast.
func TestSplitAgainstBruteForce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 6)
		c := newCost(s.model("m"))
		nodes := drawNodes(t, 1, 5, 1000)
		for k := 1; k <= len(nodes); k++ {
			best := brute(&c, nodes, k, 0, nil, map[string]bool{})
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
			most := 1.05
			if k == 1 {
				most = worthwhile
			}
			if got := priced(&c, nodes, hops); got > most*best*(1+1e-9) {
				t.Fatalf("%d stages: %v takes %v, the best %v", k, hops, got, best)
			}
		}
	})
}

// TestSplitOnManyNodes: beyond exactNodes the cut need not be the best, but it must be one, and what fits is found.
func TestSplitOnManyNodes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := drawShape(t, 40)
		c := newCost(s.model("m"))
		nodes := drawNodes(t, exactNodes+1, 40, 1000)
		k := rapid.IntRange(1, len(nodes)).Draw(t, "k")
		hops, ok := split(&c, nodes, k)
		if ok {
			checkHops(t, &c, nodes, hops, k)
		}
		if ok != fits(&c, nodes, k, k) {
			t.Fatalf("%d stages: fits disagrees with split, which found %v", k, hops)
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
			nodes = append(nodes, node{id: fmt.Sprint("n", i), free: memory, pace: 1})
		}
		k := rapid.IntRange(1, 6).Draw(t, "k")
		if k > c.layers {
			return
		}
		a, b := (&search{&c, nodes, k, true}).narrow(), (&search{&c, nodes, k, false}).narrow()
		if (a == nil) != (b == nil) || a != nil && math.Abs(a.slowest-b.slowest) > 1e-3*a.slowest {
			t.Fatalf("%v and %v", a, b)
		}
	})
}

// TestPoolsAreNearTheBest: on clusters a little too large for all orders, the way for large ones stays near what all orders give.
func TestPoolsAreNearTheBest(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	var sum, worst float64
	const clusters = 100
	for i := range clusters {
		s := shape{layers: 24, layer: 20 + r.Int64N(100), embed: r.Int64N(300), head: r.Int64N(300), meta: 1, kv: 1}
		c := newCost(s.model("m"))
		far := math.Pow(10, 4*r.Float64())
		var nodes []node
		for j := range 11 {
			n := node{id: fmt.Sprint("n", j), free: 300 + r.Int64N(1500), pace: 0.3 + 2*r.Float64(), rate: 1}
			n.where = [4]float64{far * r.Float64(), far * r.Float64(), 0, far / 10 * r.Float64()}
			nodes = append(nodes, n)
		}
		k := 2 + i%4
		best := (&search{&c, nodes, k, true}).narrow()
		hops, ok := split(&c, nodes, k)
		if ok != (best != nil) {
			t.Errorf("%d stages: found %v, the best is %v", k, hops, best)
		} else if ok {
			ratio := priced(&c, nodes, hops) / best.slowest
			sum, worst = sum+ratio-1, max(worst, ratio)
		}
	}
	t.Logf("%.4f times the best on average, at worst %.3f times", 1+sum/clusters, worst)
	if worst > 1.25 || sum/clusters > 0.03 {
		t.Error("that is too far from the best")
	}
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
	switch rapid.IntRange(0, 11).Draw(t, "event") {
	case 10:
		w.now = w.now.Add(time.Hour)
	case 11:
		l := w.live[id]
		l.Models = map[string]Measured{}
		for _, m := range w.state.Models {
			l.Models[m.Digest] = Measured{Rates{rapid.Float64Range(0, 4).Draw(t, "one"), rapid.Float64Range(0, 4).Draw(t, "eight"), rapid.Float64Range(0, 4).Draw(t, "many")}, rapid.Float64Range(0, 99).Draw(t, "sequences")}
		}
		w.live[id] = l
	case 0, 1, 2:
		w.live[id] = Live{
			Memory: rapid.Int64Range(0, 3000).Draw(t, "memory"), Rates: Rates{One: rapid.Float64Range(0, 4).Draw(t, "speed")},
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
	}{{0, 10, 561, 640}, {0, 3, 189, 192}, {3, 5, 93, 128}, {5, 10, 331, 320}, {5, 5, 0, 0}, {-1, 3, 0, 0}, {3, 11, 0, 0}} {
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
	if m.Context = 65; Positions(m) != 128 {
		t.Errorf("room for %d positions of a context of 65, in blocks of 64", Positions(m))
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

// BenchmarkPlan places a model of 80 layers on nodes at different places and speeds, few of which have room for a tenth of
// it, or (long) for a fortieth.
func BenchmarkPlan(b *testing.B) {
	for _, long := range []string{"", "long"} {
		for _, n := range []int{3, 8, 64, 2000} {
			b.Run(fmt.Sprint(n, long), func(b *testing.B) {
				w := newWorld()
				s := defaultShape()
				s.layers = 80
				room := s.model("m").KVBytes*64 + s.layer
				for i := range n {
					id := fmt.Sprint("n", i)
					memory := room * int64(80/min(n, 8)+2+i%3)
					if long != "" {
						memory = room * int64(80/min(n, 40)+1+i%3)
					}
					w.live[id] = Live{Memory: memory, Rates: Rates{One: 1 + float64(i%5)/10}, Where: [4]float64{float64(i * i % 1009), float64(i * 7 % 503), 0, 10}, Net: 1, Alive: true}
					_ = w.apply(cluster.MemberUp{Member: cluster.Member{ID: id, Peer: id, Incarnation: 1}, At: w.now})
				}
				_ = w.apply(cluster.AddModel{Model: s.model("m"), At: w.now})
				for b.Loop() {
					c := Plan(w.state, w.live, w.now)
					if len(c) != 1 {
						b.Fatal("not placed")
					}
					b.ReportMetric(float64(len(c[0].(cluster.Place).Hops)), "stages")
				}
			})
		}
	}
}
