package peer

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// RaftConfig says who may take part in consensus.
type RaftConfig struct {
	// Member says whether a node is a server of this node's present raft configuration. A certificate alone opens nothing: raft
	// itself believes everyone who gets a stream. A node that is about to be added has no configuration yet; Member must then
	// let the leader in (say yes while the configuration is empty).
	Member func(node string) bool
	// Resolve turns a raft.ServerAddress into the node that must answer and where it is. Nil: the address is HOST:PORT, and any member may answer.
	Resolve func(address string) (node, addr string, err error)
}

// RaftLayer is a raft.StreamLayer on the peer port.
type RaftLayer struct {
	mux  *Mux
	cfg  RaftConfig
	in   chan net.Conn
	done chan struct{}
	once sync.Once

	mu struct {
		sync.Mutex
		conns map[*raftConn]struct{}
	}
}

var _ raft.StreamLayer = (*RaftLayer)(nil)

// Raft registers raft's protocol.
func (m *Mux) Raft(cfg RaftConfig) *RaftLayer {
	l := &RaftLayer{mux: m, cfg: cfg, in: make(chan net.Conn), done: make(chan struct{})}
	l.mu.conns = map[*raftConn]struct{}{}
	m.Handle(ProtoRaft, l.serve)
	m.onClose(func() { _ = l.Close() })
	return l
}

func (l *RaftLayer) serve(c *Conn) {
	if !l.cfg.Member(c.Node) {
		l.mux.cfg.Log.Warn("raft connection refused", "err", ErrNotMember, "node", c.Node)
		_ = c.Close()
		return
	}
	rc := l.track(c)
	select {
	case l.in <- rc:
	case <-l.done:
		_ = rc.Close()
	}
}

// Accept implements net.Listener for raft.
func (l *RaftLayer) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Dial implements raft.StreamLayer.
func (l *RaftLayer) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	node, addr := "", string(address)
	if l.cfg.Resolve != nil {
		var err error
		if node, addr, err = l.cfg.Resolve(addr); err != nil {
			return nil, err
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := l.mux.Dial(ctx, ProtoRaft, node, addr)
	if err != nil {
		return nil, err
	}
	if node == "" && !l.cfg.Member(c.Node) {
		_ = c.Close()
		return nil, fmt.Errorf("node %s at %s: %w", c.Node, addr, ErrNotMember)
	}
	return l.track(c), nil
}

// Recheck closes the connections of nodes that are members no longer. To be called when the configuration has changed.
func (l *RaftLayer) Recheck() {
	l.mu.Lock()
	conns := slices.Collect(maps.Keys(l.mu.conns))
	l.mu.Unlock()
	for _, c := range conns {
		if !l.cfg.Member(c.Node) {
			_ = c.Close()
		}
	}
}

// Close ends all connections and wakes Accept.
func (l *RaftLayer) Close() error {
	l.once.Do(func() {
		close(l.done)
		l.mu.Lock()
		conns := slices.Collect(maps.Keys(l.mu.conns))
		l.mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
	})
	return nil
}

// Addr is the bound address.
func (l *RaftLayer) Addr() net.Addr { return l.mux.Addr() }

// raftConn takes itself off the list when it is closed.
type raftConn struct {
	*Conn
	layer *RaftLayer
}

func (l *RaftLayer) track(c *Conn) *raftConn {
	rc := &raftConn{Conn: c, layer: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.mu.conns[rc] = struct{}{}
	return rc
}

func (c *raftConn) Close() error {
	c.layer.mu.Lock()
	delete(c.layer.mu.conns, c)
	c.layer.mu.Unlock()
	return c.Conn.Close()
}
