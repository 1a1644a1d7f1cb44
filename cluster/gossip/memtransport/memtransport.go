// Package memtransport is a network in memory for tests of gossip: memberlist transports that are joined by
// channels and net.Pipe, work in a testing/synctest bubble, and can be cut. Unlike memberlist's own mock, a node
// that is gone blocks nobody: packets to it are lost and streams are refused or time out, as on a real network.
package memtransport

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// Network joins the transports that Listen makes. The zero value is ready.
type Network struct {
	mu struct {
		sync.Mutex
		nodes map[string]*Transport
		cut   map[[2]string]bool // from, to
		delay time.Duration
	}
}

// Transport is one node's end.
type Transport struct {
	net     *Network
	addr    netip.AddrPort
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
}

var _ memberlist.Transport = (*Transport)(nil)

// queue is how many packets wait for a node before more are lost.
const queue = 1024

// Listen makes the transport of the node at ip:port. A node that listened there before is gone.
func (n *Network) Listen(addr string) (*Transport, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("memtransport: %w", err)
	}
	t := &Transport{net: n, addr: ap, packets: make(chan *memberlist.Packet, queue), streams: make(chan net.Conn), done: make(chan struct{})}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.mu.nodes == nil {
		n.mu.nodes = make(map[string]*Transport)
		n.mu.cut = make(map[[2]string]bool)
	}
	n.mu.nodes[ap.String()] = t
	return t, nil
}

// Cut stops everything new from one address to the other, in that direction only, or lets it pass again.
func (n *Network) Cut(from, to string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.cut[[2]string{from, to}] = cut
}

// Delay makes every packet take a time one way.
func (n *Network) Delay(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mu.delay = d
}

// route finds the receiver. found: somebody listens there; open: nothing is cut.
func (t *Transport) route(to string) (dest *Transport, open bool) {
	t.net.mu.Lock()
	defer t.net.mu.Unlock()
	return t.net.mu.nodes[to], !t.net.mu.cut[[2]string{t.addr.String(), to}]
}

// FinalAdvertiseAddr implements memberlist.Transport.
func (t *Transport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.Addr().AsSlice(), int(t.addr.Port()), nil
}

// WriteTo implements memberlist.Transport. A packet to nobody is lost.
func (t *Transport) WriteTo(b []byte, to string) (time.Time, error) {
	now := time.Now()
	dest, open := t.route(to)
	if dest == nil || !open {
		return now, nil
	}
	deliver := func() {
		p := &memberlist.Packet{Buf: b, From: net.UDPAddrFromAddrPort(t.addr), Timestamp: time.Now()}
		select {
		case dest.packets <- p:
		default: // lost
		}
	}
	b = append([]byte{}, b...)
	t.net.mu.Lock()
	delay := t.net.mu.delay
	t.net.mu.Unlock()
	if delay > 0 {
		time.AfterFunc(delay, deliver)
	} else {
		deliver()
	}
	return now, nil
}

// PacketCh implements memberlist.Transport.
func (t *Transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// StreamCh implements memberlist.Transport.
func (t *Transport) StreamCh() <-chan net.Conn { return t.streams }

// DialTimeout implements memberlist.Transport. Nobody there is refused at once; a cut is silence.
func (t *Transport) DialTimeout(to string, timeout time.Duration) (net.Conn, error) {
	dest, open := t.route(to)
	if dest == nil {
		return nil, errors.New("memtransport: connection refused by " + to)
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	var accept chan net.Conn // nil, that is never, behind a cut
	if open {
		accept = dest.streams
	}
	near, far := net.Pipe()
	select {
	case accept <- &conn{far, dest.addr, t.addr}:
		return &conn{near, t.addr, dest.addr}, nil
	case <-dest.done:
		return nil, errors.New("memtransport: connection refused by " + to)
	case <-t.done:
		return nil, net.ErrClosed
	case <-timer.C:
		return nil, errors.New("memtransport: timeout of " + to)
	}
}

// Shutdown implements memberlist.Transport.
func (t *Transport) Shutdown() error {
	t.once.Do(func() {
		close(t.done)
		t.net.mu.Lock()
		defer t.net.mu.Unlock()
		if t.net.mu.nodes[t.addr.String()] == t {
			delete(t.net.mu.nodes, t.addr.String())
		}
	})
	return nil
}

// conn is a pipe with the addresses of its ends.
type conn struct {
	net.Conn
	local, remote netip.AddrPort
}

// LocalAddr implements net.Conn.
func (c *conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
