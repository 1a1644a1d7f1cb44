package server

import (
	"net"
	"net/netip"
	"sync"
)

// cappedListener bounds the open connections, in all and of one address. What is over a bound is closed at once: a client
// that holds many connections must not keep others from being accepted. Loopback addresses have no bound of their own,
// since everybody on the machine and every proxy on it shares them.
type cappedListener struct {
	net.Listener
	max, perIP int

	mu    sync.Mutex
	total int
	byIP  map[netip.Addr]int
}

func limitListener(l net.Listener, max, perIP int) *cappedListener {
	return &cappedListener{Listener: l, max: max, perIP: perIP, byIP: map[netip.Addr]int{}}
}

// Accept returns the next connection within the bounds.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := remoteIP(c)
		if l.enter(ip) {
			return &cappedConn{Conn: c, leave: sync.OnceFunc(func() { l.leave(ip) })}, nil
		}
		_ = c.Close()
	}
}

// remoteIP is the zero Addr for connections that have no address of their own, and for loopback.
func remoteIP(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil || ap.Addr().Unmap().IsLoopback() {
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

func (l *cappedListener) enter(ip netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total >= l.max || ip.IsValid() && l.byIP[ip] >= l.perIP {
		return false
	}
	l.total++
	if ip.IsValid() {
		l.byIP[ip]++
	}
	return true
}

func (l *cappedListener) leave(ip netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if !ip.IsValid() {
		return
	}
	if l.byIP[ip]--; l.byIP[ip] == 0 {
		delete(l.byIP, ip)
	}
}

// cappedConn gives its place back when it is closed.
type cappedConn struct {
	net.Conn
	leave func()
}

// Close closes the connection.
func (c *cappedConn) Close() error {
	defer c.leave()
	return c.Conn.Close()
}
