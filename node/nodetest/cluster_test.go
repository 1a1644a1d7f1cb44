package nodetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
	"lamina/node"
	"lamina/node/infer"
	"lamina/shard/sample"
	"lamina/shard/tiny"
)

func request(i int) infer.Request {
	p := sample.Default()
	p.Temperature = 0
	if i%2 == 1 {
		p.Temperature, p.Seed = 1, uint64(i)
	}
	return infer.Request{Model: "m", Prompt: fmt.Sprintf("request number %d says hello", i), MaxTokens: 6 + i%7, Sampling: p, IgnoreEOS: true}
}

// oracle answers the requests on one node, one after the other.
func oracle(t *testing.T, file []byte, n int) (want [][]int32) {
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 1)
		c.Add(0, "m", file, 0, 0)
		for i := range n {
			tokens, _, err := c.Ask(0, request(i))
			if err != nil {
				c.Fatalf("request %d: %v", i, err)
			}
			want = append(want, tokens)
		}
	})
	return want
}

func askAll(c *Cluster, gateways []int, n int) ([][]int32, []string) {
	got, routes := make([][]int32, n), make([]string, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var err error
			if got[i], routes[i], err = c.Ask(gateways[i%len(gateways)], request(i)); err != nil {
				c.T.Errorf("request %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	return got, routes
}

func check(c *Cluster, what string, got, want [][]int32) {
	c.T.Helper()
	for i := range want {
		if len(want[i]) == 0 || !slices.Equal(got[i], want[i]) {
			c.Fatalf("%s: request %d gave %v, one node %v", what, i, got[i], want[i])
		}
	}
}

// A model over three nodes answers at every gateway with the tokens of one node; after a node's death its layers are
// placed elsewhere; after the death of all they serve again from their disks.
func TestClusterLife(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 5, Seed: 3})
	want := oracle(t, file, 16)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(1, "m", file, 3, 1)
		got, routes := askAll(c, []int{0, 1, 2, 3}, 16)
		check(c, "three stages", got, want)
		if n := strings.Count(routes[0], "["); n != 3 {
			c.Fatalf("the route is %q, not of three stages", routes[0])
		}

		time.Sleep(10 * time.Second) // virtual: until there are three voters

		// The node that holds the first stage dies for good: the fourth takes its layers.
		victim := int(routes[0][1] - '1')
		c.Kill(victim)
		var up []int
		for i := range 4 {
			if i != victim {
				up = append(up, i)
			}
		}
		time.Sleep(time.Minute) // virtual
		got, routes = askAll(c, up, 16)
		check(c, "after a death", got, want)
		if strings.Contains(routes[0], c.cfgs[victim].Name) {
			c.Fatalf("the route %q has the dead node", routes[0])
		}

		for i := range 4 {
			c.Kill(i)
		}
		for i := range 4 {
			c.Boot(i)
		}
		c.Serves("m")
		got, _ = askAll(c, []int{0, 1, 2, 3}, 16)
		check(c, "after the death of all", got, want)
	})
}

// An answer whose stage dies in the middle goes on over the other replica with the same tokens.
func TestAnswerOutlivesAStage(t *testing.T) {
	file := tiny.Qwen2(tiny.Config{Layers: 4, Seed: 9})
	want := oracle(t, file, 8)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 5)
		c.Add(0, "m", file, 2, 2)
		c.Net.Delay(5 * time.Millisecond)
		var gateway, victim int
		_, route, err := c.Ask(0, request(0))
		if err != nil {
			c.Fatalf("ask: %v", err)
		}
		for i := range c.Nodes { // a gateway that is in no route of this request, a victim that is in it
			if strings.Contains(route, c.cfgs[i].Name+"[") {
				victim = i
			} else {
				gateway = i
			}
		}
		done := make(chan struct{})
		var got [][]int32
		go func() {
			defer close(done)
			got, _ = askAll(c, []int{gateway}, 8)
		}()
		time.Sleep(40 * time.Millisecond) // virtual: some tokens are out
		c.Kill(victim)
		<-done
		check(c, "over a death", got, want)
	})
}

// A model that fits nowhere is refused with what is missing, and nothing of it stays; one that fits two nodes only
// together is cut over them without being asked to.
func TestMemoryDecides(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 8, Seed: 5, Context: 64}) // 340 KB of weights, 64 KB of cache
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 2, func(cfg *node.Config) { cfg.Memory = 100 << 10 })
		err := c.TryAdd(0, "m", file, 0, 0)
		if !errors.Is(err, infer.ErrNoCapacity) || !strings.Contains(err.Error(), "missing") {
			c.Fatalf("a model that fits nowhere: %v", err)
		}
		if models, err := c.Nodes[1].Admin().ListModels(t.Context()); err != nil || len(models) != 0 {
			c.Fatalf("something stays: %v %v", models, err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 2, func(cfg *node.Config) { cfg.Memory = 300 << 10 })
		c.Add(0, "m", file, 0, 0)
		_, route, err := c.Ask(1, infer.Request{Model: "m", Prompt: "hello", MaxTokens: 2, Sampling: sample.Default()})
		if err != nil || strings.Count(route, "[") != 2 {
			c.Fatalf("route %q: %v", route, err)
		}
	})
}

// What a non-leader is asked to change goes to the leader, and refusals come back as what they are.
func TestChangesAtAnyNode(t *testing.T) {
	file, other := tiny.Llama(tiny.Config{Seed: 1}), tiny.Llama(tiny.Config{Seed: 2})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		c.Add(2, "m", file, 0, 0)
		if err := c.TryAdd(1, "m", other, 0, 0); !errors.Is(err, cluster.ErrExists) {
			c.Fatalf("another model under the same name: %v", err)
		}
		if err := c.TryAdd(1, "m", file, 0, 0); err != nil {
			c.Fatalf("the same model again: %v", err)
		}
		if err := c.Nodes[1].Admin().RemoveModel(t.Context(), "nonesuch"); !errors.Is(err, infer.ErrModelNotFound) {
			c.Fatalf("removing what is not there: %v", err)
		}
		if err := c.Nodes[2].Admin().RemoveModel(t.Context(), "m"); err != nil {
			c.Fatalf("remove: %v", err)
		}
		if _, _, err := c.Ask(0, infer.Request{Model: "m", Prompt: "x", Sampling: sample.Default()}); !errors.Is(err, infer.ErrModelNotFound) {
			c.Fatalf("asking what was removed: %v", err)
		}
	})
}

// A join string is good for one node.
func TestJoinStringIsGoodOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 2)
		cfg := c.cfgs[1] // its join string is spent
		cfg.Name, cfg.Data = "n9", t.TempDir()
		cfg.Peer, cfg.HTTP, cfg.Network = "10.0.0.9:7946", "127.0.0.9:8080", c.Net.Host("n9")
		n, err := node.New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "lamina token create") {
			c.Fatalf("a second node joined with the same string: %v", err)
		}
	})
}
