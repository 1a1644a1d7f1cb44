package nodetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
	"lamina/node"
	"lamina/node/infer"
	"lamina/node/server"
	"lamina/shard/sample"
	"lamina/shard/tiny"
)

// under runs f while clients ask the cluster, and judges what they got. strict says that nothing may be refused.
func under(c *Cluster, want [][]int32, seed uint64, strict bool, what string, f func(w *crowd)) {
	c.T.Helper()
	w := newCrowd(c, want)
	ctx, stop := context.WithCancel(c.T.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx, seed, 4) }()
	f(w)
	stop()
	<-done
	w.verdict(what)
	if strict && len(w.refused) > 0 {
		c.Fatalf("%s: refused %v", what, w.refused)
	}
	if w.answered < 20 {
		c.Fatalf("%s: only %d requests were answered", what, w.answered)
	}
}

// leader is the place of the node that leads, as the others see it.
func leader(c *Cluster) int {
	c.T.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		for _, n := range c.Nodes {
			if n == nil {
				continue
			}
			nodes, err := n.Admin().Nodes(c.T.Context())
			if err != nil {
				c.Fatalf("nodes: %v", err)
			}
			for _, x := range nodes {
				if i := slices.IndexFunc(c.cfgs, func(cfg node.Config) bool { return cfg.Name == x.Name }); x.Leader && c.Nodes[i] != nil {
					return i
				}
			}
		}
	}
	c.Fatalf("nobody leads")
	return 0
}

// voters are the places of the nodes that vote, once there are so many.
func voters(c *Cluster, want int) (out []int) {
	c.T.Helper()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-time.After(100 * time.Millisecond) {
		out = out[:0]
		nodes, err := c.Nodes[leader(c)].Admin().Nodes(c.T.Context())
		if err != nil {
			c.Fatalf("nodes: %v", err)
		}
		for _, x := range nodes {
			if x.Role == "voter" {
				out = append(out, slices.IndexFunc(c.cfgs, func(cfg node.Config) bool { return cfg.Name == x.Name }))
			}
		}
		if len(out) == want {
			return out
		}
	}
	c.Fatalf("%d nodes vote, not %d", len(out), want)
	return nil
}

// settled waits until every node sees all replicas of the model ready.
func settled(c *Cluster, model string, replicas int) {
	c.T.Helper()
	why := ""
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); <-time.After(50 * time.Millisecond) {
		why = ""
		for _, n := range c.Nodes {
			if n == nil {
				continue
			}
			m, err := n.Admin().ShowModel(c.T.Context(), model)
			ready := 0
			for _, r := range m.Replicas {
				if r.Phase == "ready" {
					ready++
				}
			}
			if err != nil || ready != replicas {
				why = fmt.Sprintf("%s sees %d of %d replicas ready: %+v %v", n.Name(), ready, replicas, m.Replicas, err)
			}
		}
		if why == "" {
			return
		}
	}
	c.Fatalf("%s", why)
}

// With two replicas, restarting one node after the other refuses nothing: by SIGTERM, and by kill -9.
func TestRollingRestart(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 21})
	want := oracle(t, file, 12)
	for name, end := range map[string]func(*Cluster, int){"stop": (*Cluster).Stop, "kill": (*Cluster).Kill} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := Start(t, 4)
				c.Add(0, "m", file, 2, 2)
				voters(c, 3)
				settled(c, "m", 2)
				c.Net.Delay(2 * time.Millisecond)
				under(c, want, 1, true, "rolling restart", func(w *crowd) {
					for i := range c.Nodes {
						w.set(i, nil)
						time.Sleep(2 * time.Second) // virtual: what it has taken ends
						end(c, i)
						time.Sleep(3 * time.Second)
						c.Up(i)
						settled(c, "m", 2)
						w.set(i, c.Nodes[i])
					}
				})
				c.Quiet()
			})
		})
	}
}

// Of seven nodes five vote; two of these may die at once, the leader among them, and the cluster goes on deciding. Their votes
// go to others.
func TestTwoVotersDieAtOnce(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 22})
	want := oracle(t, file, 4)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 7)
		vote := voters(c, 5)
		first := leader(c)
		second := vote[0]
		if second == first {
			second = vote[1]
		}
		c.Kill(first)
		c.Kill(second)
		var up []int
		for i := range c.Nodes {
			if c.Nodes[i] != nil {
				up = append(up, i)
			}
		}
		begun := time.Now()
		c.Add(up[0], "m", file, 0, 0)
		t.Logf("a model was added and served %v after the deaths", time.Since(begun))
		got, _ := askAll(c, up, len(want))
		check(c, "after two deaths", got, want)
		for _, i := range voters(c, 5) {
			if c.Nodes[i] == nil {
				time.Sleep(20 * time.Second)
			}
		}
		for _, i := range voters(c, 5) {
			if c.Nodes[i] == nil {
				c.Fatalf("%s is dead and votes", c.cfgs[i].Name)
			}
		}
	})
}

// The leader dies while a model is added, at every moment of it: the model is there afterwards and whole, or it is not and
// can be added again.
func TestLeaderDiesDuringAdd(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 23})
	want := oracle(t, file, 4)
	for _, after := range []time.Duration{0, time.Millisecond, 12 * time.Millisecond, 40 * time.Millisecond, 150 * time.Millisecond, 600 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			c := Start(t, 4)
			voters(c, 3)
			c.Net.Delay(4 * time.Millisecond)
			lead := leader(c)
			at := (lead + 1) % 4
			failed := make(chan error, 1)
			go func() { failed <- c.TryAdd(at, "m", file, 2, 1) }()
			time.Sleep(after)
			c.Kill(lead)
			err := <-failed
			if err != nil {
				if !errors.Is(err, server.ErrNoQuorum) {
					c.Fatalf("after %v: no error that a client could understand: %v", after, err)
				}
				if err = c.TryAdd(at, "m", file, 2, 1); err != nil {
					c.Fatalf("after %v: again: %v", after, err)
				}
			}
			c.Serves("m")
			c.Up(lead)
			c.Serves("m")
			got, _ := askAll(c, []int{0, 1, 2, 3}, len(want))
			check(c, fmt.Sprint("after ", after), got, want)
			c.Quiet()
		})
	}
}

// Models come and go while another one is asked: it does not notice, and nothing of them stays.
func TestModelsComeAndGoUnderLoad(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 24})
	want := oracle(t, file, 12)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		c.Add(0, "m", file, 2, 2)
		settled(c, "m", 1+1)
		c.Net.Delay(2 * time.Millisecond)
		rng := rand.New(rand.NewPCG(24, 0))
		under(c, want, 2, true, "models come and go", func(*crowd) {
			for i := range 8 {
				name := fmt.Sprint("other", i)
				c.Add(rng.IntN(3), name, tiny.Qwen2(tiny.Config{Layers: 3, Seed: uint64(100 + i)}), 1+rng.IntN(3), 1)
				var wg sync.WaitGroup
				for k := range 3 { // some run when the model is taken away
					wg.Go(func() {
						_, _, err := c.Ask(k, infer.Request{Model: name, Prompt: "x", MaxTokens: 200, Sampling: sample.Default(), IgnoreEOS: true})
						if err != nil && !errors.Is(err, infer.ErrModelNotFound) && !errors.Is(err, infer.ErrNodeLost) {
							t.Errorf("%s while it is removed: %v", name, err)
						}
					})
				}
				time.Sleep(time.Duration(rng.IntN(1000)) * time.Millisecond)
				if err := c.Nodes[rng.IntN(3)].Admin().RemoveModel(t.Context(), name); err != nil {
					c.Fatalf("remove %s: %v", name, err)
				}
				wg.Wait()
			}
		})
		c.Quiet()
		if models, err := c.Nodes[1].Admin().ListModels(t.Context()); err != nil || len(models) != 1 {
			c.Fatalf("%v %v", models, err)
		}
	})
}

// A part of the cluster without a majority agrees on nothing, whether the leader is in it or not; what its nodes serve among
// themselves goes on. Healed, all nodes know the same, and those that were taken for lost are there again.
func TestMinorityWritesNothing(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 25})
	want := oracle(t, file, 4)
	for _, withLeader := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c := Start(t, 5)
			voters(c, 5)
			c.Add(0, "m", file, 1, 5) // every node has it
			settled(c, "m", 5)
			lead := leader(c)
			few := []int{lead, (lead + 1) % 5}
			if !withLeader {
				few = []int{(lead + 1) % 5, (lead + 2) % 5}
			}
			many := (lead + 3) % 5
			c.Part(few...)
			for _, i := range few {
				if err := c.TryAdd(i, "wrong", tiny.Llama(tiny.Config{Seed: 5}), 0, 0); !errors.Is(err, server.ErrNoQuorum) {
					c.Fatalf("a minority added a model: %v", err)
				}
				if got, route, err := c.Ask(i, request(0)); err != nil || !slices.Equal(got, want[0]) {
					c.Fatalf("%s in the minority: %v over %q, %v", c.cfgs[i].Name, got, route, err)
				}
			}
			if err := c.TryAdd(many, "right", tiny.Llama(tiny.Config{Seed: 6}), 0, 0); err != nil {
				c.Fatalf("the majority cannot add: %v", err)
			}
			time.Sleep(15 * time.Second) // virtual: the majority takes the others for lost
			for i, n := range c.Nodes {
				_, wrong := n.State().Model("wrong")
				if _, right := n.State().Model("right"); wrong || right == slices.Contains(few, i) {
					c.Fatalf("parted, %s knows right: %t, wrong: %t", c.cfgs[i].Name, right, wrong)
				}
			}
			c.HealAll()
			c.Meet()
			c.Serves("right")
			settled(c, "m", 5)
			time.Sleep(5 * time.Second) // what was still on its way may be agreed on now
			state := string(encode(c, c.Nodes[0]))
			for _, n := range c.Nodes {
				if other := string(encode(c, n)); other != state {
					c.Fatalf("%s knows %s, %s knows %s", c.Nodes[0].Name(), state, n.Name(), other)
				}
				if s := n.State(); slices.ContainsFunc(s.Members, func(m cluster.Member) bool { return m.Down }) {
					c.Fatalf("%s has members down: %+v", n.Name(), s.Members)
				}
			}
			got, _ := askAll(c, []int{0, 1, 2, 3, 4}, len(want))
			check(c, "healed", got, want)
			c.Quiet()
		})
	}
}

func encode(c *Cluster, n *node.Node) []byte {
	b, err := n.State().Encode()
	if err != nil {
		c.Fatalf("state of %s: %v", n.Name(), err)
	}
	return b
}

// A node that the cluster wrongly took for lost says that it is here, and serves what it still has loaded without reading it again.
func TestReappear(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 26})
	want := oracle(t, file, 4)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3, func(cfg *node.Config) {
			if cfg.Name != "n2" {
				cfg.Memory = 1000 // the model fits n2 only: its layers cannot go elsewhere
			}
		})
		voters(c, 3)
		c.Add(0, "m", file, 0, 0)
		epoch := c.Nodes[0].State().Placements[0].Epoch
		c.Part(1)
		time.Sleep(30 * time.Second) // virtual
		if m, _ := c.Nodes[0].State().Member("n2"); !m.Down {
			c.Fatalf("n2 is not taken for lost: %+v", m)
		}
		if _, _, err := c.Ask(0, request(0)); !errors.Is(err, infer.ErrModelLoading) && !errors.Is(err, infer.ErrNodeLost) {
			c.Fatalf("asking for what only a lost node has: %v", err)
		}
		c.HealAll()
		c.Serves("m")
		if p := c.Nodes[0].State().Placements; len(p) != 1 || p[0].Epoch != epoch {
			c.Fatalf("it was placed anew: %+v", p)
		}
		got, _ := askAll(c, []int{0, 1, 2}, len(want))
		check(c, "reappeared", got, want)
		c.Quiet()
	})
}

// A part that went bad on the disk of a node is noticed when it is read, and comes again from a peer.
func TestCorruptPartIsFetchedAgain(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 27})
	want := oracle(t, file, 4)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		c.Add(0, "m", file, 2, 1)
		voters(c, 3)
		p := c.Nodes[0].State().Placements[0]
		bad := slices.IndexFunc(c.cfgs, func(cfg node.Config) bool { return cfg.Name == p.Hops[1].Node })
		if bad == 0 { // the first node took the upload: nobody else has it all
			bad = slices.IndexFunc(c.cfgs, func(cfg node.Config) bool { return cfg.Name == p.Hops[0].Node })
		}
		c.Stop(bad)
		spoilt := 0
		err := filepath.WalkDir(filepath.Join(c.cfgs[bad].Data, "blobs"), func(path string, d os.DirEntry, err error) error {
			if err != nil || !d.Type().IsRegular() {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil || len(b) < 100 {
				return err
			}
			b[len(b)/2] ^= 4
			spoilt++
			if err := os.Chmod(path, 0o600); err != nil {
				return err
			}
			return os.WriteFile(path, b, 0o600)
		})
		if err != nil || spoilt < 3 {
			c.Fatalf("%d parts were spoilt: %v", spoilt, err)
		}
		c.Up(bad)
		settled(c, "m", 1)
		got, _ := askAll(c, []int{0, 1, 2}, len(want))
		check(c, "after the disk went bad", got, want)
		c.Quiet()
	})
}

// All nodes die and come back in any order, some of them late: it serves again with nothing given anew.
func TestRestartOfAllInAnyOrder(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 6, Seed: 28})
	want := oracle(t, file, 6)
	for _, seed := range seeds(t, 2) {
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 28))
			c := Start(t, 4)
			c.Add(0, "m", file, 3, 1)
			voters(c, 3)
			for round := range 3 {
				end := (*Cluster).Kill
				if rng.IntN(2) == 0 {
					end = (*Cluster).Stop
				}
				for _, i := range rng.Perm(4) {
					end(c, i)
					time.Sleep(time.Duration(rng.IntN(2)*rng.IntN(500)) * time.Millisecond)
				}
				for _, i := range rng.Perm(4) {
					c.Boot(i)
					time.Sleep(time.Duration(rng.IntN(2)*rng.IntN(4000)) * time.Millisecond)
				}
				begun := time.Now()
				c.Serves("m")
				took := time.Since(begun)
				t.Logf("seed %d: serves %v after the last node's start", seed, took)
				if took > 10*time.Second {
					c.Fatalf("seed %d, round %d: it took %v", seed, round, took)
				}
				got, _ := askAll(c, []int{0, 1, 2, 3}, len(want))
				check(c, "after the restart of all", got, want)
			}
			c.Quiet()
		})
	}
}

// Nodes join while the cluster is asked; they are gateways at once, and take a replica that waited for them.
func TestJoinUnderLoad(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 29})
	want := oracle(t, file, 12)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 2)
		c.Add(0, "m", file, 1, 3)
		c.Net.Delay(2 * time.Millisecond)
		under(c, want, 3, true, "join under load", func(w *crowd) {
			for range 3 {
				time.Sleep(2 * time.Second)
				i := c.Join()
				if got, route, err := c.Ask(i, request(0)); err != nil || !slices.Equal(got, want[0]) {
					c.Fatalf("the new node %s: %v over %q, %v", c.cfgs[i].Name, got, route, err)
				}
			}
			settled(c, "m", 3)
			time.Sleep(2 * time.Second)
		})
		c.Quiet()
	})
}

// A model takes the place of another on a node that has memory for one of them only, also while the first is busy.
func TestMemoryForOneAtATime(t *testing.T) {
	first, second := tiny.Llama(tiny.Config{Layers: 8, Seed: 30, Context: 64}), tiny.Llama(tiny.Config{Layers: 8, Seed: 31, Context: 64})
	want := oracle(t, first, 4)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 2, func(cfg *node.Config) {
			cfg.Memory = 600 << 10
			if cfg.Name == "n1" {
				cfg.Memory = 1000
			}
		})
		c.Net.Delay(2 * time.Millisecond)
		for range 3 {
			c.Add(0, "m", first, 0, 0)
			if err := c.TryAdd(0, "other", second, 0, 0); !errors.Is(err, infer.ErrNoCapacity) {
				c.Fatalf("both fit: %v", err)
			}
			got, _ := askAll(c, []int{0, 1}, len(want))
			check(c, "the first", got, want)
			busy := make(chan error, 1)
			go func() {
				_, _, err := c.Ask(0, infer.Request{Model: "m", Prompt: "x", MaxTokens: 50, Sampling: sample.Default(), IgnoreEOS: true})
				busy <- err
			}()
			time.Sleep(20 * time.Millisecond)
			for _, change := range [][2]string{{"m", "other"}, {"other", "m"}} {
				if err := c.Nodes[0].Admin().RemoveModel(t.Context(), change[0]); err != nil {
					c.Fatalf("remove %s: %v", change[0], err)
				}
				file := second
				if change[1] == "m" {
					file = first
				}
				begun := time.Now()
				c.Add(0, change[1], file, 0, 0)
				if took := time.Since(begun); took > 10*time.Second {
					c.Fatalf("%s serves %v after it was added", change[1], took)
				}
			}
			if err := <-busy; err != nil && !errors.Is(err, infer.ErrModelNotFound) && !errors.Is(err, infer.ErrNodeLost) {
				c.Fatalf("what ran when its model was removed: %v", err)
			}
			if err := c.Nodes[1].Admin().RemoveModel(t.Context(), "m"); err != nil {
				c.Fatalf("remove: %v", err)
			}
			c.Quiet()
		}
	})
}

// A gateway that dies, or a client that goes away, leaves no memory held in any stage, and no sequence.
func TestLostGatewayFreesCaches(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 6, Seed: 32})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(0, "m", file, 3, 1)
		c.Net.Delay(20 * time.Millisecond)
		_, route, err := c.Ask(0, request(0))
		if err != nil {
			c.Fatalf("ask: %v", err)
		}
		gate := 0
		for i := range c.Nodes {
			if !strings.Contains(route, c.cfgs[i].Name+"[") {
				gate = i
			}
		}
		long := infer.Request{Model: "m", Prompt: "x", MaxTokens: 300, Sampling: sample.Default(), IgnoreEOS: true}
		for _, end := range []func(cancel func()){func(cancel func()) { cancel() }, func(func()) { c.Kill(gate) }} {
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			for range 8 {
				wg.Go(func() { _, _, _ = Ask(ctx, c.Nodes[gate], long) }) // how it ends at a dead gateway nobody hears
			}
			time.Sleep(700 * time.Millisecond) // virtual: all stages are at it
			if c.holds() == "" {
				c.Fatalf("no stage holds anything: the test says nothing")
			}
			end(cancel)
			begun := time.Now()
			c.Quiet()
			if took := time.Since(begun); took > time.Second {
				c.Fatalf("the caches were freed after %v", took)
			}
			cancel()
			wg.Wait()
		}
	})
}

// Deaths, partings and clients that go away leave no goroutine behind: after four rounds there are about as many as after one.
func TestGoroutinesDoNotGrow(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 33})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(0, "m", file, 2, 2)
		voters(c, 3)
		c.Net.Delay(2 * time.Millisecond)
		rng := rand.New(rand.NewPCG(33, 0))
		var after []int
		for range 4 {
			var wg sync.WaitGroup
			ctx, cancel := context.WithCancel(t.Context())
			for k := range 16 {
				wg.Go(func() {
					_, _, _ = Ask(ctx, c.Nodes[k%2], infer.Request{Model: "m", Prompt: "x", MaxTokens: 100, Sampling: sample.Default(), IgnoreEOS: true})
				})
			}
			time.Sleep(200 * time.Millisecond)
			c.Kill(2 + rng.IntN(2))
			c.Part(1)
			time.Sleep(3 * time.Second)
			cancel()
			wg.Wait()
			c.HealAll()
			for i := range c.Nodes {
				if c.Nodes[i] == nil {
					c.Up(i)
				}
			}
			c.Meet()
			settled(c, "m", 2)
			c.Quiet()
			time.Sleep(20 * time.Second) // virtual
			after = append(after, runtime.NumGoroutine())
		}
		t.Logf("goroutines of four nodes after each round: %v", after)
		if after[3] > after[0]+20 {
			c.Fatalf("goroutines grow: %v", after)
		}
	})
}

// A node that has just started, alone of its cluster, does not know what was agreed on: a model that is there is loading,
// not unknown.
func TestBehindIsNotUnknown(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 34})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		c.Add(0, "m", file, 0, 0)
		voters(c, 3)
		for i := range c.Nodes {
			c.Kill(i)
		}
		c.Boot(1)
		time.Sleep(5 * time.Second) // virtual
		if _, _, err := c.Ask(1, request(0)); !errors.Is(err, infer.ErrModelLoading) {
			c.Fatalf("asking a node that is behind: %v", err)
		}
		if c.Nodes[1].Ready() == nil {
			c.Fatalf("it calls itself ready")
		}
		c.Boot(0)
		c.Boot(2)
		c.Serves("m")
	})
}
