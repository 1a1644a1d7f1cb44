package consensus

import (
	"errors"
	"net"
	"sync"

	"github.com/hashicorp/raft"
)

// tracked is a stream layer that closes the connections it accepted when it is closed. raft's transport
// leaves them open: their goroutines would wait for the other side for ever.
type tracked struct {
	raft.StreamLayer

	mu struct {
		sync.Mutex
		closed bool
		conns  map[*trackedConn]struct{}
	}
}

func newTracked(s raft.StreamLayer) *tracked {
	t := &tracked{StreamLayer: s}
	t.mu.conns = make(map[*trackedConn]struct{})
	return t
}

// Accept implements net.Listener.
func (t *tracked) Accept() (net.Conn, error) {
	c, err := t.StreamLayer.Accept()
	if err != nil {
		return nil, err
	}
	tc := &trackedConn{Conn: c, owner: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.mu.closed {
		return nil, errors.Join(net.ErrClosed, c.Close())
	}
	t.mu.conns[tc] = struct{}{}
	return tc, nil
}

// Close implements net.Listener.
func (t *tracked) Close() error {
	err := t.StreamLayer.Close()
	t.mu.Lock()
	conns := t.mu.conns
	t.mu.closed, t.mu.conns = true, nil
	t.mu.Unlock()
	for c := range conns {
		_ = c.Conn.Close()
	}
	return err
}

type trackedConn struct {
	net.Conn
	owner *tracked
}

// Close implements net.Conn.
func (c *trackedConn) Close() error {
	c.owner.mu.Lock()
	delete(c.owner.mu.conns, c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
