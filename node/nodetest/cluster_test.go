package nodetest

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

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
