package nodetest

import (
	"errors"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster"
	"lamina/node"
	"lamina/node/server"
	"lamina/shard/tiny"
)

// names are the members that node i knows, with an asterisk where one is alive.
func names(c *Cluster, i int) (out []string) {
	c.T.Helper()
	nodes, err := c.Nodes[i].Admin().Nodes(c.T.Context())
	if err != nil {
		c.Fatalf("nodes: %v", err)
	}
	for _, n := range nodes {
		if n.Alive {
			n.Name += "*"
		}
		out = append(out, n.Name)
	}
	return out
}

// until waits for something to be so.
func until(c *Cluster, what string, ok func() bool) {
	c.T.Helper()
	for end := time.Now().Add(time.Minute); !ok(); <-time.After(50 * time.Millisecond) {
		if time.Now().After(end) {
			c.Fatalf("it is not so after a minute: %s", what)
		}
	}
}

// A node that is gone for good is taken out: it is listed nowhere, votes no more, and its name may be used again.
func TestRemoveNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		voters(c, 3)
		adm := c.Nodes[0].Admin()
		if err := adm.RemoveNode(t.Context(), "n4"); !errors.Is(err, server.ErrNodeAlive) {
			c.Fatalf("removed a node that runs: %v", err)
		}
		if err := adm.RemoveNode(t.Context(), "n9"); !errors.Is(err, cluster.ErrNotFound) {
			c.Fatalf("removed no node: %v", err)
		}
		c.Stop(1)
		until(c, "n2 is gone", func() bool { return slices.Contains(names(c, 0), "n2") })
		if err := adm.RemoveNode(t.Context(), "n2"); err != nil {
			c.Fatalf("remove: %v", err)
		}
		for _, i := range []int{0, 2, 3} {
			until(c, "n2 is not listed", func() bool { return reflect.DeepEqual(names(c, i), []string{"n1*", "n3*", "n4*"}) })
		}
		voters(c, 3) // n4 has taken the place
		c.dir = t.TempDir()
		c.cfgs[1].Data = c.dir
		join, err := c.Nodes[0].JoinString(t.Context())
		if err != nil {
			c.Fatalf("join string: %v", err)
		}
		c.cfgs[1].Join = join
		c.Up(1)
		c.Meet()
	})
}

// What a backup holds can be restored in another cluster that has the parts of the models.
func TestBackupAndRestore(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 5})
	synctest.Test(t, func(t *testing.T) {
		old := Start(t, 1)
		old.Add(0, "m", file, 1, 1)
		key, err := old.Nodes[0].Admin().CreateKey(t.Context(), "alice", cluster.User)
		if err != nil {
			old.Fatalf("key: %v", err)
		}
		saved, err := old.Nodes[0].Admin().Backup(t.Context())
		if err != nil || len(saved.Models) != 1 {
			old.Fatalf("backup: %+v %v", saved, err)
		}

		fresh := Start(t, 2)
		adm := fresh.Nodes[0].Admin()
		got, err := adm.Restore(t.Context(), saved)
		if err != nil || len(got.Models) != 0 || len(got.Refused) != 1 || !slices.Contains(got.Keys, key.Key.ID) {
			fresh.Fatalf("restored without the parts: %+v %v", got, err)
		}
		if k, ok := adm.LookupKey(key.Key.ID); !ok || k.Role != cluster.User {
			fresh.Fatalf("alice's key is not known: %+v", k)
		}
		if err := fresh.TryAdd(0, "other-name", file, 1, 1); err != nil { // brings the parts
			fresh.Fatalf("add: %v", err)
		}
		if got, err = adm.Restore(t.Context(), saved); err != nil || len(got.Refused) != 0 {
			fresh.Fatalf("restored with the parts: %+v %v", got, err)
		}
		fresh.Serves("m")
	})
}

// Two of three nodes are lost for good. The third goes on alone, serves what it can, and new nodes join it.
func TestRecoverLostQuorum(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 2, Seed: 6})
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		voters(c, 3)
		c.Add(0, "m", file, 1, 3) // a replica, and so the parts, on each
		settled(c, "m", 3)
		want := c.Nodes[2].State().Models
		c.Stop(0)
		c.Stop(1)
		c.Kill(2)
		if _, err := node.Recover(node.Config{Data: t.TempDir()}); err == nil {
			c.Fatalf("recovered an empty folder")
		}
		s, err := node.Recover(c.cfgs[2])
		if err != nil || len(s.Members) != 3 || !reflect.DeepEqual(s.Models, want) {
			c.Fatalf("recover: %+v %v", s, err)
		}
		c.cfgs[2].Join = ""
		c.Up(2)
		for _, lost := range []string{"n1", "n2"} {
			if err := c.Nodes[2].Admin().RemoveNode(t.Context(), lost); err != nil {
				c.Fatalf("remove %s: %v", lost, err)
			}
		}
		until(c, "it is alone", func() bool { return reflect.DeepEqual(names(c, 2), []string{"n3*"}) })
		c.Serves("m")
		join, err := c.Nodes[2].JoinString(t.Context())
		if err != nil {
			c.Fatalf("join string: %v", err)
		}
		c.cfgs[0].Join, c.cfgs[0].Data = join, t.TempDir()
		c.Up(0)
		c.Serves("m")
	})
}

// Nodes are drained, stopped, started and taken back in turn, under load, with one replica only: nothing is refused and every
// answer is right, since what a node serves is served elsewhere before it is stopped.
func TestRollingDrain(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 32})
	want := oracle(t, file, 12)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 4)
		c.Add(0, "m", file, 2, 1)
		voters(c, 3)
		settled(c, "m", 1)
		c.Net.Delay(2 * time.Millisecond)
		under(c, want, 3, true, "rolling drain", func(w *crowd) {
			for i := range c.Nodes {
				at := c.Nodes[(i+1)%4].Admin()
				name := c.cfgs[i].Name
				if _, err := at.DrainNode(t.Context(), name, false); err != nil {
					c.Fatalf("drain %s: %v", name, err)
				}
				until(c, name+" serves nothing", func() bool {
					d, err := at.Drained(t.Context(), name)
					return err == nil && d.Draining && len(d.Spans) == 0
				})
				w.set(i, nil)
				time.Sleep(2 * time.Second) // virtual: what it has taken ends
				c.Stop(i)
				time.Sleep(15 * time.Second) // longer than a silent node keeps its layers
				c.Up(i)
				if d, err := at.Drained(t.Context(), name); err != nil || !d.Draining {
					c.Fatalf("%s after its restart: %+v %v", name, d, err)
				}
				if d, err := at.DrainNode(t.Context(), name, true); err != nil || d.Draining {
					c.Fatalf("take it back: %+v %v", d, err)
				}
				settled(c, "m", 1)
				w.set(i, c.Nodes[i])
			}
		})
		c.Quiet()
	})
}

// The node that serves a model and took its upload is lost for good, with its disk. Another one has kept the parts and serves.
func TestStandbySaves(t *testing.T) {
	file := tiny.Llama(tiny.Config{Layers: 4, Seed: 34})
	want := oracle(t, file, 4)
	synctest.Test(t, func(t *testing.T) {
		c := Start(t, 3)
		voters(c, 3)
		c.Add(0, "m", file, 1, 1)
		at := func() (string, string) {
			m, err := c.Nodes[1].Admin().ShowModel(t.Context(), "m")
			if err != nil || len(m.Replicas) != 1 {
				c.Fatalf("%+v %v", m, err)
			}
			return m.Replicas[0].Hops[0].Node, m.Replicas[0].Hops[0].Standby
		}
		runs, by := at()
		if by == "" || by == runs {
			c.Fatalf("%s runs it, %q stands by", runs, by)
		}
		time.Sleep(30 * time.Second) // virtual: the parts are fetched
		gone := map[string]bool{runs: true, "n1": true}
		if len(gone) == 2 { // the one that runs it, and the one that took the upload, are two: one lives on
			delete(gone, runs)
		}
		for i, cfg := range c.cfgs {
			if gone[cfg.Name] {
				c.Kill(i)
			}
		}
		c.Serves("m")
		var up []int
		for i, n := range c.Nodes {
			if n != nil {
				up = append(up, i)
			}
		}
		got, _ := askAll(c, up, len(want))
		check(c, "from the standby's disk", got, want)
	})
}
