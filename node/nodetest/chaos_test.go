package nodetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
	"lamina/node"
	"lamina/node/infer"
	"lamina/shard/pipeline"
	"lamina/shard/tiny"
)

// seeds are the random schedules to run: LAMINA_SEEDS=N runs N of them (2 without it), LAMINA_SEED=S begins with S.
func seeds(t *testing.T, few int) (out []uint64) {
	t.Helper()
	number := func(name string, def int) int {
		s := os.Getenv(name)
		if s == "" {
			return def
		}
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			t.Fatalf("%s=%s is no number", name, s)
		}
		return n
	}
	first := number("LAMINA_SEED", 1)
	for i := range number("LAMINA_SEEDS", few) {
		out = append(out, uint64(first+i))
	}
	return out
}

// told are the errors that a request may end with; anything else is none that a client could understand.
var told = []error{
	infer.ErrNodeLost, infer.ErrModelLoading, infer.ErrNoCapacity, infer.ErrOverloaded,
}

// patience is the deadline of a request, in virtual time. None may come to it: the gateway tries four routes, waits
// up to 15 s for each, and must notice in moments that one is lost.
const patience = 2 * time.Minute

// crowd is clients that ask while the cluster suffers, and what became of their requests.
type crowd struct {
	c    *Cluster
	want [][]int32
	mu   sync.Mutex
	// By the lock: the nodes that take requests, nil where one is down, and the outcomes.
	up       []*node.Node
	answered int
	refused  map[string]int
	wrong    []string
}

func newCrowd(c *Cluster, want [][]int32) *crowd {
	return &crowd{c: c, want: want, up: slices.Clone(c.Nodes), refused: map[string]int{}}
}

// set tells which node takes requests in place i: nil for none.
func (w *crowd) set(i int, n *node.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.up[i] = n
}

func (w *crowd) pick(rng *rand.Rand) (int, *node.Node) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i := rng.IntN(len(w.up))
	return i, w.up[i]
}

// run asks at random nodes until ctx ends, and waits for the answers under way.
func (w *crowd) run(ctx context.Context, seed uint64, clients int) {
	var wg sync.WaitGroup
	for k := range clients {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(seed, uint64(k)))
			for ctx.Err() == nil {
				at, n := w.pick(rng)
				if n != nil {
					w.one(at, n, rng.IntN(len(w.want)))
				}
				time.Sleep(time.Duration(rng.IntN(400)) * time.Millisecond) // virtual
			}
		})
	}
	wg.Wait()
}

// one asks once and judges the outcome.
func (w *crowd) one(at int, n *node.Node, i int) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	begun := time.Now()
	tokens, route, err := Ask(ctx, n, request(i))
	took := time.Since(begun)
	w.mu.Lock()
	defer w.mu.Unlock()
	same := w.up[at] == n // else the gateway was stopped meanwhile: what it says last counts little
	fault := func(format string, args ...any) {
		w.wrong = append(w.wrong, fmt.Sprintf("request %d at %s over %q after %v: ", i, n.Name(), route, took)+fmt.Sprintf(format, args...))
	}
	known := slices.ContainsFunc(told, func(k error) bool { return errors.Is(err, k) })
	switch {
	case took >= patience:
		fault("it hung: %v", err)
	case err == nil && !slices.Equal(tokens, w.want[i]):
		fault("tokens %v, one node gives %v", tokens, w.want[i])
	case len(tokens) > len(w.want[i]) || !slices.Equal(tokens, w.want[i][:len(tokens)]):
		fault("tokens %v before %v, one node gives %v", tokens, err, w.want[i])
	case err != nil && same && !known && !errors.Is(err, pipeline.ErrClosed):
		fault("no error that a client could understand: %v", err)
	case err == nil:
		w.answered++
	default:
		w.refused[reason(err)]++
	}
}

// reason is a short name of an error.
func reason(err error) string {
	for _, k := range told {
		if errors.Is(err, k) {
			return k.Error()
		}
	}
	return err.Error()
}

// verdict fails the test for what went wrong.
func (w *crowd) verdict(what string) {
	w.c.T.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.c.T.Logf("%s: %d answered, refused %v", what, w.answered, w.refused)
	for _, s := range w.wrong {
		w.c.T.Errorf("%s: %s", what, s)
	}
	if w.c.T.Failed() {
		w.c.Fatalf("%s", what)
	}
}

// Quiet waits until no node holds memory for a sequence, and none for weights but those that the placements name.
func (c *Cluster) Quiet() {
	c.T.Helper()
	for end := time.Now().Add(20 * time.Second); ; {
		why := c.holds()
		if why == "" {
			return
		}
		if time.Now().After(end) {
			c.Fatalf("memory is not given back: %s", why)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// holds names memory that a node holds and should not.
func (c *Cluster) holds() string {
	for _, n := range c.Nodes {
		if n == nil {
			continue
		}
		s := n.State()
		var want int64
		for _, p := range s.Placements {
			m, ok := s.ModelByDigest(p.Model)
			hop, _, on := p.On(n.Name())
			if ok && on && p.Phase != cluster.Gone {
				for _, b := range m.SpanBlobs(hop.First, hop.End) {
					want += b.Size
				}
			}
		}
		if weights, caches := n.Memory(); weights != want || caches != 0 {
			return fmt.Sprintf("%s holds %d bytes of weights (its placements have %d) and %d of caches", n.Name(), weights, want, caches)
		}
	}
	return ""
}

// havoc does one random thing to the cluster.
func havoc(c *Cluster, w *crowd, rng *rand.Rand) string {
	i, j := rng.IntN(len(c.Nodes)), rng.IntN(len(c.Nodes))
	a, b := c.cfgs[i].Name, c.cfgs[j].Name
	switch k := rng.IntN(12); {
	case k < 3 && c.Nodes[i] != nil:
		w.set(i, nil)
		c.Kill(i)
		return "kill " + a
	case k == 3 && c.Nodes[i] != nil:
		w.set(i, nil)
		c.Stop(i)
		return "stop " + a
	case k < 7 && c.Nodes[i] == nil:
		c.Boot(i)
		w.set(i, c.Nodes[i])
		return "boot " + a
	case k < 8 && i != j:
		c.Net.Cut(a, b)
		return "cut " + a + " to " + b
	case k == 8 && i != j:
		c.Part(i)
		return "part " + a
	case k == 9:
		d := time.Duration(rng.IntN(60)) * time.Millisecond
		c.Net.Delay(d)
		return fmt.Sprintf("delay %v", d)
	default:
		c.HealAll()
		return "heal"
	}
}

// Part cuts some nodes off from all others, in both directions.
func (c *Cluster) Part(some ...int) {
	for i := range c.cfgs {
		for j := range c.cfgs {
			if slices.Contains(some, i) != slices.Contains(some, j) {
				c.Net.Cut(c.cfgs[i].Name, c.cfgs[j].Name)
			}
		}
	}
}

// HealAll ends all cuts.
func (c *Cluster) HealAll() {
	for i := range c.cfgs {
		for j := range c.cfgs {
			c.Net.Heal(c.cfgs[i].Name, c.cfgs[j].Name)
		}
	}
}

// Under a random schedule of deaths, stops, starts, cuts one way and both, and delays, every request ends in the tokens of
// one node or in one error that says why, in time; when all is whole again, everything serves and no memory is kept.
func TestRandomFaults(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 6, Seed: 11})
	want := oracle(t, file, 12)
	for _, seed := range seeds(t, 2) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { randomFaults(t, seed, file, want) })
		})
	}
}

func randomFaults(t *testing.T, seed uint64, file []byte, want [][]int32) {
	rng := rand.New(rand.NewPCG(seed, 0))
	nodes := 3 + rng.IntN(3)
	stages, replicas := 1+rng.IntN(3), 1+rng.IntN(2)
	c := Start(t, nodes)
	c.Add(rng.IntN(nodes), "m", file, stages, replicas)
	t.Logf("seed %d: %d nodes, %d stages, %d replicas", seed, nodes, stages, replicas)
	c.Net.Delay(3 * time.Millisecond)
	w := newCrowd(c, want)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx, seed, 4) }()
	begun := time.Now()
	for range 14 {
		time.Sleep(time.Duration(rng.IntN(8000)) * time.Millisecond) // virtual
		what := havoc(c, w, rng)
		c.Say(what)
		t.Logf("%6.2f s: %s", time.Since(begun).Seconds(), what)
	}
	c.HealAll()
	c.Net.Delay(0)
	for i := range c.Nodes {
		if c.Nodes[i] == nil {
			c.Boot(i)
			w.set(i, c.Nodes[i])
		}
	}
	c.Say("all is whole again")
	time.Sleep(20 * time.Second) // virtual
	stop()
	<-done
	w.verdict(fmt.Sprint("seed ", seed))
	c.Meet()
	c.Serves("m")
	all := make([]int, nodes)
	for i := range all {
		all[i] = i
	}
	got, _ := askAll(c, all, len(want))
	check(c, "when all is whole again", got, want)
	c.Quiet()
}
