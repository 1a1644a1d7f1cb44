package consensus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"lamina/cluster"
)

// network is a set of stream layers joined by net.Pipe, whose nodes can be cut off.
type network struct {
	mu     sync.Mutex
	layers map[string]*layer
	cut    map[string]bool
	conns  map[net.Conn][2]string
}

func newNetwork() *network {
	return &network{layers: map[string]*layer{}, cut: map[string]bool{}, conns: map[net.Conn][2]string{}}
}

// listen makes the stream layer of a node; its address is its name.
func (n *network) listen(name string) *layer {
	l := &layer{net: n, name: name, accept: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.layers[name] = l
	return l
}

// setCut cuts a node off, or heals it. Open connections break.
func (n *network) setCut(name string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[name] = cut
	for c, ends := range n.conns {
		if ends[0] == name || ends[1] == name {
			_ = c.Close()
			delete(n.conns, c)
		}
	}
}

type layer struct {
	net    *network
	name   string
	accept chan net.Conn
	done   chan struct{}
	once   sync.Once
}

type addr string

func (a addr) Network() string { return "pipe" }
func (a addr) String() string  { return string(a) }

func (l *layer) Addr() net.Addr { return addr(l.name) }

func (l *layer) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *layer) Accept() (net.Conn, error) {
	select {
	case c := <-l.accept:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *layer) Dial(to raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	l.net.mu.Lock()
	target := l.net.layers[string(to)]
	broken := l.net.cut[l.name] || l.net.cut[string(to)]
	l.net.mu.Unlock()
	if target == nil || broken {
		return nil, errors.New("unreachable")
	}
	a, b := net.Pipe()
	select {
	case target.accept <- b:
	case <-target.done:
		return nil, errors.New("refused")
	case <-time.After(timeout):
		return nil, errors.New("timeout")
	}
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.net.conns[a], l.net.conns[b] = [2]string{l.name, string(to)}, [2]string{l.name, string(to)}
	return a, nil
}

// lab is a cluster of logs on one network, each with a directory of its own that outlives restarts.
type lab struct {
	t    *testing.T
	net  *network
	dirs map[string]string
	logs map[string]*Log
	cfg  Config // template
}

func newLab(t *testing.T) *lab {
	return &lab{t: t, net: newNetwork(), dirs: map[string]string{}, logs: map[string]*Log{}, cfg: Config{NoSync: true}}
}

// open starts a node, for the first time or again.
func (l *lab) open(name string) *Log {
	l.t.Helper()
	if l.dirs[name] == "" {
		l.dirs[name] = l.t.TempDir()
	}
	cfg := l.cfg
	cfg.ID, cfg.Dir, cfg.Transport = name, l.dirs[name], l.net.listen(name)
	log, err := Open(cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.logs[name] = log
	return log
}

func (l *lab) close(name string) {
	l.t.Helper()
	if err := l.logs[name].Close(); err != nil {
		l.t.Fatal(name, err)
	}
	delete(l.logs, name)
}

func (l *lab) closeAll() {
	for name := range l.logs {
		l.close(name)
	}
}

// start makes a cluster of n1 to n<n> whose first voters vote.
func (l *lab) start(n, voters int) *Log {
	l.t.Helper()
	first := l.open("n1")
	if err := first.Bootstrap("n1"); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := deadline()
	defer cancel()
	l.leader()
	for i := 2; i <= n; i++ {
		name := fmt.Sprintf("n%d", i)
		l.open(name)
		add := first.AddVoter
		if i > voters {
			add = first.AddNonvoter
		}
		if err := add(ctx, name, name); err != nil {
			l.t.Fatal(err)
		}
	}
	return first
}

// leader waits until one of the running nodes leads and has applied all, and the others know it.
func (l *lab) leader() *Log {
	l.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	for _, log := range l.logs {
		for lead := range log.WatchLeader(ctx) {
			found := l.logs[lead.Leader]
			if found == nil {
				continue
			}
			if err := found.Barrier(ctx); err == nil {
				return found
			}
		}
		break
	}
	l.t.Fatal("no leader")
	return nil
}

// deadline bounds a wait, in virtual time.
func deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 2*time.Minute)
}

// await waits for a state at a node.
func (l *lab) await(name string, what string, ok func(cluster.State) bool) cluster.State {
	l.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	var last cluster.State
	for s := range l.logs[name].Watch(ctx) {
		if last = s; ok(s) {
			return s
		}
	}
	l.t.Fatalf("%s never saw %s; last state has index %d", name, what, last.Index)
	return last
}

func up(id string, incarnation uint64) cluster.Command {
	return cluster.MemberUp{Member: cluster.Member{ID: id, Peer: id, Incarnation: incarnation}, At: time.Now()}
}

// propose adds a member at the leader.
func (l *lab) propose(log *Log, c cluster.Command) uint64 {
	l.t.Helper()
	ctx, cancel := deadline()
	defer cancel()
	index, err := log.Propose(ctx, c)
	if err != nil {
		l.t.Fatal(err)
	}
	return index
}

func (l *lab) awaitAll(index uint64) {
	l.t.Helper()
	for name := range l.logs {
		l.await(name, fmt.Sprint("index ", index), func(s cluster.State) bool { return s.Index >= index })
	}
}
