package peer

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Memory is a network inside the process for tests. Its hosts have addresses of their own (IP:PORT); a direction between two
// hosts can be cut, every byte and packet can be delayed, a host can die. It keeps to virtual time inside a testing/synctest bubble.
type Memory struct {
	mu struct {
		sync.Mutex
		listeners map[string]*memListener
		packets   map[string]*memPackets
		conns     map[*memConn]struct{}
		cuts      map[direction]bool
		dead      map[string]bool
		delay     time.Duration
		port      uint16
	}
}

// direction names what goes from one host to another.
type direction struct{ from, to string }

// NewMemory returns a network without hosts.
func NewMemory() *Memory {
	m := &Memory{}
	m.mu.listeners = map[string]*memListener{}
	m.mu.packets = map[string]*memPackets{}
	m.mu.conns = map[*memConn]struct{}{}
	m.mu.cuts = map[direction]bool{}
	m.mu.dead = map[string]bool{}
	m.mu.port = 40000
	return m
}

// Host returns the network as one host sees it. Names are for Cut, Heal and Kill.
func (m *Memory) Host(name string) *MemoryHost { return &MemoryHost{net: m, name: name} }

// Delay sets how long bytes and packets travel from now on.
func (m *Memory) Delay(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.delay = d
}

// Cut stops everything from one host to another without a sign: bytes wait (as TCP would send them again), packets are lost,
// new connections between the two hang.
func (m *Memory) Cut(from, to string) { m.setCut(from, to, true) }

// Heal ends a Cut; bytes that waited arrive.
func (m *Memory) Heal(from, to string) { m.setCut(from, to, false) }

func (m *Memory) setCut(from, to string, cut bool) {
	m.mu.Lock()
	m.mu.cuts[direction{from, to}] = cut
	conns := slices.Collect(maps.Keys(m.mu.conns))
	m.mu.Unlock()
	for _, c := range conns {
		c.in.wakeAll()
		c.out.wakeAll()
	}
}

func (m *Memory) isCut(from, to string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.mu.cuts[direction{from, to}]
}

// Kill ends a host as kill -9 ends a process: its listeners are gone and its connections are reset. The other side of a connection
// learns of it unless that direction is cut. The host reaches nobody until it listens again.
func (m *Memory) Kill(host string) {
	m.mu.Lock()
	m.mu.dead[host] = true
	var conns []*memConn
	for c := range m.mu.conns {
		if c.local == host {
			conns = append(conns, c)
		}
	}
	var closers []interface{ Close() error }
	for _, l := range m.mu.listeners {
		if l.host == host {
			closers = append(closers, l)
		}
	}
	for _, p := range m.mu.packets {
		if p.host == host {
			closers = append(closers, p)
		}
	}
	m.mu.Unlock()
	for _, c := range closers {
		_ = c.Close()
	}
	for _, c := range conns {
		c.kill()
	}
}

// MemoryHost is a Network for one host of a Memory.
type MemoryHost struct {
	net  *Memory
	name string
}

var _ Network = (*MemoryHost)(nil)

// Listen implements Network. The address must be IP:PORT.
func (h *MemoryHost) Listen(addr string) (net.Listener, PacketConn, error) {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("peer address: %w", err)
	}
	m := h.net
	m.mu.Lock()
	defer m.mu.Unlock()
	if ap.Port() == 0 {
		m.mu.port++
		ap = netip.AddrPortFrom(ap.Addr(), m.mu.port)
	}
	if m.mu.listeners[ap.String()] != nil {
		return nil, nil, &net.OpError{Op: "listen", Net: "tcp", Addr: net.TCPAddrFromAddrPort(ap), Err: syscall.EADDRINUSE}
	}
	l := &memListener{net: m, host: h.name, addr: ap, queue: make(chan net.Conn, 64), done: make(chan struct{})}
	p := &memPackets{net: m, host: h.name, addr: ap, queue: make(chan memPacket, 256), done: make(chan struct{})}
	m.mu.listeners[ap.String()], m.mu.packets[ap.String()] = l, p
	delete(m.mu.dead, h.name)
	return l, p, nil
}

// Dial implements Network. It hangs until ctx is done when one of the directions is cut, as a lost SYN would.
func (h *MemoryHost) Dial(ctx context.Context, addr string) (net.Conn, error) {
	refused := &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
	m := h.net
	m.mu.Lock()
	l, delay, dead := m.mu.listeners[addr], m.mu.delay, m.mu.dead[h.name]
	m.mu.port++
	port := m.mu.port
	m.mu.Unlock()
	if l == nil || dead {
		return nil, refused
	}
	if m.isCut(h.name, l.host) || m.isCut(l.host, h.name) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if err := sleep(ctx, 2*delay); err != nil {
		return nil, err
	}
	from := netip.AddrPortFrom(l.addr.Addr(), port)
	client, server := m.pair(h.name, l.host, from, l.addr)
	select {
	case l.queue <- server:
		select {
		case <-l.done: // nobody will accept it
			client.kill()
			return nil, refused
		default:
			return client, nil
		}
	case <-l.done:
		client.kill()
		return nil, refused
	case <-ctx.Done():
		client.kill()
		return nil, ctx.Err()
	}
}

// sleep waits, or returns the context's error when it is done first.
func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pair makes the two ends of a connection.
func (m *Memory) pair(client, server string, ca, sa netip.AddrPort) (*memConn, *memConn) {
	up, down := newHalf(m, client, server), newHalf(m, server, client)
	c := &memConn{net: m, local: client, remote: server, la: ca, ra: sa, in: down, out: up}
	s := &memConn{net: m, local: server, remote: client, la: sa, ra: ca, in: up, out: down}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.conns[c], m.mu.conns[s] = struct{}{}, struct{}{}
	return c, s
}

type memListener struct {
	net   *Memory
	host  string
	addr  netip.AddrPort
	queue chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (l *memListener) Accept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, net.ErrClosed
	default:
	}
	select {
	case c := <-l.queue:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *memListener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

func (l *memListener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		if l.net.mu.listeners[l.addr.String()] == l {
			delete(l.net.mu.listeners, l.addr.String())
		}
		l.net.mu.Unlock()
		close(l.done)
		for {
			select {
			case c := <-l.queue: // never accepted
				c.(*memConn).kill()
				continue
			default:
			}
			return
		}
	})
	return nil
}

type memPacket struct {
	data []byte
	from net.Addr
}

type memPackets struct {
	net   *Memory
	host  string
	addr  netip.AddrPort
	queue chan memPacket
	once  sync.Once
	done  chan struct{}
}

func (p *memPackets) ReadFrom(b []byte) (int, net.Addr, error) {
	select {
	case q := <-p.queue:
		return copy(b, q.data), q.from, nil
	case <-p.done:
		return 0, nil, net.ErrClosed
	}
}

func (p *memPackets) WriteTo(b []byte, to net.Addr) (int, error) {
	select {
	case <-p.done:
		return 0, net.ErrClosed
	default:
	}
	m := p.net
	m.mu.Lock()
	dst, delay := m.mu.packets[to.String()], m.mu.delay
	lost := dst == nil || m.mu.cuts[direction{p.host, dst.host}]
	m.mu.Unlock()
	if lost {
		return len(b), nil
	}
	q := memPacket{data: slices.Clone(b), from: p.LocalAddr()}
	deliver := func() {
		select {
		case dst.queue <- q:
		default: // a full receive buffer drops
		}
	}
	if delay > 0 {
		time.AfterFunc(delay, deliver)
	} else {
		deliver()
	}
	return len(b), nil
}

func (p *memPackets) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(p.addr) }

func (p *memPackets) Close() error {
	p.once.Do(func() {
		p.net.mu.Lock()
		if p.net.mu.packets[p.addr.String()] == p {
			delete(p.net.mu.packets, p.addr.String())
		}
		p.net.mu.Unlock()
		close(p.done)
	})
	return nil
}

var (
	errReset      = &net.OpError{Op: "read", Net: "tcp", Err: syscall.ECONNRESET}
	errClosedPipe = &net.OpError{Op: "write", Net: "tcp", Err: syscall.EPIPE}
)
