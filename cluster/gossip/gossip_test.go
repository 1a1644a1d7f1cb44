package gossip

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"lamina/cluster/gossip/memtransport"
)

// lab is a set of nodes on one network in memory. Node i listens at 10.0.0.i:7946.
type lab struct {
	t     *testing.T
	net   memtransport.Network
	nodes map[string]*Gossip
}

func newLab(t *testing.T) *lab { return &lab{t: t, nodes: map[string]*Gossip{}} }

func at(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i) }

func name(i int) string { return fmt.Sprint("n", i) }

// config is that of node i.
func (l *lab) config(i int) Config {
	l.t.Helper()
	tr, err := l.net.Listen(at(i))
	if err != nil {
		l.t.Fatal(err)
	}
	return Config{
		Name: name(i), Advertise: at(i), Key: bytes.Repeat([]byte{7}, 32), ClusterID: "lab", Transport: tr,
		Meta: Meta{HTTP: at(i), Version: "v1", MemoryTotal: 1 << 30, MemoryFree: 1 << 29, Speed: 10},
	}
}

func (l *lab) start(i int, seeds ...string) *Gossip {
	l.t.Helper()
	g, err := New(l.config(i))
	if err != nil {
		l.t.Fatal(err)
	}
	g.Join(seeds)
	l.nodes[name(i)] = g
	return g
}

// startAll starts n nodes that join by the first, and waits until all see all.
func (l *lab) startAll(n int) {
	l.t.Helper()
	for i := 1; i <= n; i++ {
		l.start(i, at(1))
	}
	for id := range l.nodes {
		l.await(id, fmt.Sprint(n, " alive"), func(p []Peer) bool { return alive(p) == n })
	}
}

// stopAll stops the nodes, and lets memberlist's running probes end: they wait for their own timers, and time
// stands still in a bubble whose main goroutine has ended.
func (l *lab) stopAll() {
	for _, g := range l.nodes {
		_ = g.Close()
	}
	time.Sleep(10 * time.Second) // virtual
}

// kill stops a node without a word.
func (l *lab) kill(id string) {
	l.t.Helper()
	if err := l.nodes[id].Close(); err != nil {
		l.t.Fatal(err)
	}
	delete(l.nodes, id)
}

// await waits until a node sees something, and returns how long it took.
func (l *lab) await(id, what string, ok func([]Peer) bool) time.Duration {
	l.t.Helper()
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for peers := range l.nodes[id].Watch(ctx) {
		if ok(peers) {
			return time.Since(began)
		}
	}
	l.t.Fatalf("%s never saw %s: %+v", id, what, l.nodes[id].Members())
	return 0
}

func alive(peers []Peer) (n int) {
	for _, p := range peers {
		if p.Alive {
			n++
		}
	}
	return n
}

func find(peers []Peer, id string) Peer {
	for _, p := range peers {
		if p.ID == id {
			return p
		}
	}
	return Peer{}
}

func TestJoinIsSeenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(4)
		l.start(5, at(9), at(3)) // the first seed is not there
		for id := range l.nodes {
			if d := l.await(id, "n5", func(p []Peer) bool { return alive(p) == 5 }); d > 500*time.Millisecond {
				t.Errorf("%s saw the new node after %v", id, d)
			}
		}
		p := find(l.nodes["n2"].Members(), "n5")
		want := Meta{HTTP: at(5), Version: "v1", MemoryTotal: 1 << 30, MemoryFree: 1 << 29, Speed: 10}
		if p.Meta != want || p.Addr != at(5) {
			t.Errorf("n2 sees %+v", p)
		}
	})
}

func TestDeathIsSeen(t *testing.T) {
	for _, n := range []int{2, 3, 5, 8} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			defer l.stopAll()
			l.startAll(n)
			l.kill("n2")
			var longest time.Duration
			for id := range l.nodes {
				d := l.await(id, "the death", func(p []Peer) bool { return !find(p, "n2").Alive })
				longest = max(longest, d)
			}
			t.Logf("%d nodes: the last saw the death after %v", n, longest)
			if longest > 5*time.Second {
				t.Errorf("%d nodes: a death took %v to be seen", n, longest)
			}
			if p := find(l.nodes["n1"].Members(), "n2"); p.ID == "" || p.LastContact.After(p.Since) {
				t.Errorf("the dead node is shown as %+v", p)
			}
		})
	}
}

func TestRejoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(3)
		l.kill("n3")
		l.await("n1", "the death", func(p []Peer) bool { return !find(p, "n3").Alive })
		// It comes back knowing one peer that is gone and one that is here.
		l.start(3, at(9), at(2))
		l.await("n1", "the return", func(p []Peer) bool { return find(p, "n3").Alive })
		// And again, so soon that nobody has noticed, at another address.
		l.kill("n3")
		c := l.config(4)
		c.Name = "n3"
		g, err := New(c)
		if err != nil {
			t.Fatal(err)
		}
		l.nodes["n3"] = g
		g.Join([]string{at(1)})
		l.await("n2", "the new address", func(p []Peer) bool { x := find(p, "n3"); return x.Alive && x.Addr == at(4) })
	})
}

// TestPartHeals cuts a cluster in two until each side has given the other up; the retries bring them together.
func TestPartHeals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(4)
		for _, i := range []int{1, 2, 3, 4} {
			l.nodes[name(i)].Join([]string{at(1), at(2), at(3), at(4)})
		}
		cut := func(on bool) {
			for _, a := range []int{1, 2} {
				for _, b := range []int{3, 4} {
					l.net.Cut(at(a), at(b), on)
					l.net.Cut(at(b), at(a), on)
				}
			}
		}
		cut(true)
		for id := range l.nodes {
			l.await(id, "the parting", func(p []Peer) bool { return alive(p) == 2 })
		}
		cut(false)
		for id := range l.nodes {
			l.await(id, "the others", func(p []Peer) bool { return alive(p) == 4 })
		}
	})
}

func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(3)
		if err := l.nodes["n2"].Leave(); err != nil {
			t.Fatal(err)
		}
		delete(l.nodes, "n2")
		for id := range l.nodes {
			if d := l.await(id, "the leave", func(p []Peer) bool { return alive(p) == 2 }); d > time.Second {
				t.Errorf("%s saw a polite leave after %v", id, d)
			}
		}
		l.nodes["n1"].Forget("n2", at(2))
		if p := find(l.nodes["n1"].Members(), "n2"); p.ID != "" {
			t.Errorf("forgotten, but shown as %+v", p)
		}
		l.nodes["n1"].Forget("n3", at(3)) // alive: stays
		if p := find(l.nodes["n1"].Members(), "n3"); !p.Alive {
			t.Error("a living node was forgotten")
		}
	})
}

func TestMetaSpreads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(3)
		m := Meta{HTTP: "h:1", Version: "v2", MemoryTotal: 100, MemoryFree: 7, Load: 3, Speed: 2.5}
		l.nodes["n1"].SetMeta(m)
		l.nodes["n1"].SetMeta(m)
		for id := range l.nodes {
			if d := l.await(id, "the news", func(p []Peer) bool { return find(p, "n1").Meta == m }); d > 500*time.Millisecond {
				t.Errorf("%s saw the news after %v", id, d)
			}
		}
	})
}

// TestStrangers: neither another key nor another cluster's label gets in, and the log says why.
func TestStrangers(t *testing.T) {
	for what, change := range map[string]func(*Config){
		"key":   func(c *Config) { c.Key = bytes.Repeat([]byte{8}, 32) },
		"label": func(c *Config) { c.ClusterID = "other" },
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t)
			defer l.stopAll()
			l.startAll(2)
			var out strings.Builder
			c := l.config(3)
			change(&c)
			c.Log = slog.New(slog.NewTextHandler(&out, nil))
			g, err := New(c)
			if err != nil {
				t.Fatal(err)
			}
			g.Join([]string{at(1)})
			time.Sleep(time.Minute) // virtual: enough for many tries
			if n := alive(l.nodes["n1"].Members()); n != 2 {
				t.Errorf("%s: %d nodes are alive at n1", what, n)
			}
			if n := len(g.Members()); n != 1 {
				t.Errorf("%s: the stranger sees %d nodes", what, n)
			}
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestOneWayCut: packets from n1 to n2 are lost, the others' ways are open; indirect probes keep both alive.
func TestOneWayCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		defer l.stopAll()
		l.startAll(4)
		l.net.Cut(at(1), at(2), true)
		time.Sleep(time.Minute)
		for id := range l.nodes {
			if n := alive(l.nodes[id].Members()); n != 4 {
				t.Errorf("%s sees %d of 4 alive", id, n)
			}
		}
	})
}

func TestConfigIsChecked(t *testing.T) {
	l := newLab(t)
	for what, change := range map[string]func(*Config){
		"short key":    func(c *Config) { c.Key = c.Key[:5] },
		"no name":      func(c *Config) { c.Name = "" },
		"no transport": func(c *Config) { c.Transport = nil },
		"no port":      func(c *Config) { c.Advertise = "10.0.0.1" },
		"bad port":     func(c *Config) { c.Advertise = "10.0.0.1:0" },
		"any address":  func(c *Config) { c.Advertise = "0.0.0.0:7946" },
		"long label":   func(c *Config) { c.ClusterID = strings.Repeat("x", 300) },
	} {
		c := l.config(1)
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s passes", what)
		}
	}
}

func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		g := l.start(1)
		ctx, cancel := context.WithCancel(context.Background())
		w, other := g.Watch(ctx), g.Watch(context.Background())
		cancel()
		for range w {
		}
		l.stopAll()
		for range other {
		}
		if peers, ok := <-g.Watch(context.Background()); !ok || len(peers) != 1 {
			t.Error("a late watcher gets no last value")
		}
		g.SetMeta(Meta{}) // after the end: nothing happens
		if err := g.Leave(); err != nil {
			t.Error(err)
		}
	})
}
