package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"lamina/node/auth"
)

// Config says how a Mux listens. Zero fields stand for the defaults.
type Config struct {
	Identity *auth.Identity
	Network  Network      // default TCP
	Addr     string       // HOST:PORT to bind, for streams and packets
	Log      *slog.Logger // default: discard

	// HandshakeTimeout bounds TLS and what each protocol says first. Default 5 s.
	HandshakeTimeout time.Duration
	// Conns bounds the inbound connections. Default 1024.
	Conns int
	// Handshakes bounds the connections that have not shown who they are. Default 256.
	Handshakes int
	// HandshakesPerHost bounds those of one IP address. Default 64.
	HandshakesPerHost int
	// ConnsPerNode bounds the inbound connections of one node. Default 64.
	ConnsPerNode int
}

func (c Config) withDefaults() Config {
	if c.Network == nil {
		c.Network = TCP{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HandshakeTimeout <= 0 {
		c.HandshakeTimeout = 5 * time.Second
	}
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&c.Conns, 1024)
	def(&c.Handshakes, 256)
	def(&c.HandshakesPerHost, 64)
	def(&c.ConnsPerNode, 64)
	return c
}

// Mux is a node's peer port. Bind, then register the protocols (Handle, HandleHTTP, HandleJoin, NewLinks, Raft, Gossip), then
// Serve, then Close. Dial works from the start.
type Mux struct {
	cfg      Config
	ln       net.Listener
	packets  PacketConn
	handlers map[string]func(*Conn) // fixed by Serve
	tls      *tls.Config
	wg       sync.WaitGroup
	done     chan struct{}
	once     sync.Once
	refused  atomic.Uint64

	mu struct {
		sync.Mutex
		conns      map[*Conn]struct{}    // inbound, past the handshake
		raw        map[net.Conn]struct{} // inbound, in the handshake
		perHost    map[string]int
		perNode    map[string]int
		closers    []func()
		serving    bool
		closed     bool
		lastLogged time.Time
	}
}

// Conn is a stream to a node that has shown who it is. Close may be called more than once and from anywhere.
type Conn struct {
	*tls.Conn
	Node  string // empty on ProtoJoin
	Proto string

	once    sync.Once
	onClose func()
}

// Close ends the stream.
func (c *Conn) Close() error {
	c.once.Do(func() {
		_ = c.Conn.Close()
		if c.onClose != nil {
			c.onClose()
		}
	})
	return nil
}

// Bind opens the port. Nothing is accepted before Serve.
func Bind(cfg Config) (*Mux, error) {
	cfg = cfg.withDefaults()
	ln, packets, err := cfg.Network.Listen(cfg.Addr)
	if err != nil {
		return nil, err
	}
	m := &Mux{cfg: cfg, ln: ln, packets: packets, handlers: map[string]func(*Conn){}, done: make(chan struct{})}
	m.mu.conns = map[*Conn]struct{}{}
	m.mu.raw = map[net.Conn]struct{}{}
	m.mu.perHost = map[string]int{}
	m.mu.perNode = map[string]int{}
	return m, nil
}

// Addr is the bound address.
func (m *Mux) Addr() net.Addr { return m.ln.Addr() }

// Node is the name of this node.
func (m *Mux) Node() string { return m.cfg.Identity.Name() }

// Refused counts the inbound connections that were turned away: no or a wrong certificate, a wrong protocol, too slow, too many.
func (m *Mux) Refused() uint64 { return m.refused.Load() }

// Handle registers what to do with inbound streams of a protocol. The handler runs on a goroutine of its own, owns
// the stream, and has to return soon after the stream or the Mux is closed. To be called before Serve.
func (m *Mux) Handle(proto string, h func(*Conn)) { m.handlers[proto] = h }

// onClose registers what Close does after the streams are closed and before it waits.
func (m *Mux) onClose(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.closers = append(m.mu.closers, f)
}

// Serve begins to accept. It returns at once.
func (m *Mux) Serve() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.mu.serving || m.mu.closed {
		return
	}
	m.mu.serving = true
	protos := slices.DeleteFunc(slices.Sorted(maps.Keys(m.handlers)), func(p string) bool { return p == ProtoJoin })
	m.tls = m.cfg.Identity.ServerTLS(protos...)
	join := m.cfg.Identity.JoinTLS(ProtoJoin)
	_, admits := m.handlers[ProtoJoin]
	m.tls.GetConfigForClient = func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		if admits && slices.Contains(h.SupportedProtos, ProtoJoin) {
			return join, nil
		}
		return nil, nil
	}
	m.wg.Go(m.accept)
}

// accept runs until the listener is closed. Errors that pass (no file descriptors) are waited out.
func (m *Mux) accept() {
	wait := 5 * time.Millisecond
	for {
		c, err := m.ln.Accept()
		switch {
		case err == nil:
			wait = 5 * time.Millisecond
			m.admit(c)
			continue
		case errors.Is(err, net.ErrClosed):
			return
		}
		m.cfg.Log.Warn("peer port cannot accept", "err", err, "retry", wait)
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-m.done:
			t.Stop()
			return
		}
		wait = min(2*wait, time.Second)
	}
}

// admit gives a new connection a place and a goroutine, or closes it.
func (m *Mux) admit(c net.Conn) {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	m.mu.Lock()
	defer m.mu.Unlock()
	why := ""
	switch {
	case m.mu.closed:
		why = "closing"
	case len(m.mu.conns)+len(m.mu.raw) >= m.cfg.Conns:
		why = "too many connections"
	case len(m.mu.raw) >= m.cfg.Handshakes, m.mu.perHost[host] >= m.cfg.HandshakesPerHost:
		why = "too many handshakes at once"
	}
	if why != "" {
		m.refuseLocked(host, errors.New(why))
		_ = c.Close()
		return
	}
	m.mu.raw[c] = struct{}{}
	m.mu.perHost[host]++
	m.wg.Go(func() { m.serve(c, host) })
}

// refuseLocked counts, and logs at most once a second: strangers must not fill the disk.
func (m *Mux) refuseLocked(host string, why error) {
	m.refused.Add(1)
	if now := time.Now(); now.Sub(m.mu.lastLogged) >= time.Second {
		m.mu.lastLogged = now
		m.cfg.Log.Warn("peer connection refused", "from", host, "err", why, "refused", m.refused.Load())
	}
}

// serve takes one connection through the handshake to its protocol.
func (m *Mux) serve(raw net.Conn, host string) {
	c, err := m.handshake(raw)
	m.mu.Lock()
	delete(m.mu.raw, raw)
	if m.mu.perHost[host]--; m.mu.perHost[host] == 0 {
		delete(m.mu.perHost, host)
	}
	if err == nil && c.Node != "" && m.mu.perNode[c.Node] >= m.cfg.ConnsPerNode {
		err = fmt.Errorf("node %s has %d connections already", c.Node, m.cfg.ConnsPerNode)
	}
	if err == nil && m.mu.closed {
		err = ErrClosed
	}
	if err != nil {
		m.refuseLocked(host, err)
		m.mu.Unlock()
		_ = raw.Close()
		return
	}
	c.onClose = func() { m.forget(c) }
	m.mu.conns[c] = struct{}{}
	m.mu.perNode[c.Node]++
	m.mu.Unlock()
	m.handlers[c.Proto](c)
}

func (m *Mux) forget(c *Conn) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.mu.conns, c)
	if m.mu.perNode[c.Node]--; m.mu.perNode[c.Node] == 0 {
		delete(m.mu.perNode, c.Node)
	}
}

func (m *Mux) handshake(raw net.Conn) (*Conn, error) {
	if err := raw.SetDeadline(time.Now().Add(m.cfg.HandshakeTimeout)); err != nil {
		return nil, err
	}
	t := tls.Server(newSocket(raw), m.tls)
	if err := t.Handshake(); err != nil {
		return nil, err
	}
	cs := t.ConnectionState()
	c := &Conn{Conn: t, Proto: cs.NegotiatedProtocol}
	if m.handlers[c.Proto] == nil {
		return nil, fmt.Errorf("%w: no protocol was agreed on", ErrProtocol)
	}
	if c.Proto != ProtoJoin {
		var err error
		if c.Node, err = auth.PeerName(cs); err != nil {
			return nil, err
		}
	}
	return c, raw.SetDeadline(time.Time{})
}

// Dial makes a stream to the node at addr. The other side must prove to be that node, or any node of the cluster if node is empty.
// It takes no longer than ctx and the handshake timeout.
func (m *Mux) Dial(ctx context.Context, proto, node, addr string) (*Conn, error) {
	c, _, err := m.dial(ctx, proto, node, addr)
	return c, err
}

// dial is Dial with the connection under the TLS.
func (m *Mux) dial(ctx context.Context, proto, node, addr string) (*Conn, *socket, error) {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.HandshakeTimeout)
	defer cancel()
	cfg := m.cfg.Identity.ClientTLS(proto, node)
	cfg.DynamicRecordSizingDisabled = proto == ProtoStage // a frame is whole or it is nothing
	c, err := dialTLS(ctx, m.cfg.Network, addr, cfg)
	if err != nil {
		return nil, nil, dialError(node, addr, err)
	}
	name, err := auth.PeerName(c.ConnectionState())
	if err != nil {
		_ = c.Close()
		return nil, nil, dialError(node, addr, err)
	}
	return &Conn{Conn: c, Node: name, Proto: proto}, c.NetConn().(*socket), nil
}

func dialError(node, addr string, err error) error {
	if node == "" {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	return fmt.Errorf("connect to node %s at %s: %w", node, addr, err)
}

func dialTLS(ctx context.Context, n Network, addr string, cfg *tls.Config) (*tls.Conn, error) {
	raw, err := n.Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	c := tls.Client(newSocket(raw), cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, err
	}
	return c, nil
}

// Close ends the port: no new connections, every inbound one is closed, and all goroutines have ended when it returns.
// Streams made by Dial belong to those who made them.
func (m *Mux) Close() error {
	m.once.Do(func() {
		close(m.done)
		_ = m.ln.Close()
		_ = m.packets.Close()
		m.mu.Lock()
		m.mu.closed = true
		conns := slices.Collect(maps.Keys(m.mu.conns))
		for c := range m.mu.raw {
			_ = c.Close()
		}
		closers := m.mu.closers
		m.mu.Unlock()
		for _, c := range conns {
			_ = c.Close()
		}
		for _, f := range closers {
			f()
		}
	})
	m.wg.Wait()
	return nil
}
