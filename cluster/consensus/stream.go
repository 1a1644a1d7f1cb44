package consensus

import (
	"errors"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// tracked is a stream layer that closes its connections when it is closed. raft's transport leaves them open:
// its goroutines would wait for the other side, for seconds or for ever.
type tracked struct {
	raft.StreamLayer

	mu struct {
		sync.Mutex
		closed bool
		conns  map[*trackedConn]struct{}
	}
}

// dialTime bounds how long a peer may take to answer a dial, and so how long it can hold up Close.
const dialTime = time.Second

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
	return t.track(c)
}

// Dial implements raft.StreamLayer.
func (t *tracked) Dial(address raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	c, err := t.StreamLayer.Dial(address, min(timeout, dialTime))
	if err != nil {
		return nil, err
	}
	return t.track(c)
}

func (t *tracked) track(c net.Conn) (net.Conn, error) {
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
