package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// GossipTransport carries memberlist: streams over the peer port, packets over UDP on the same number. Streams come from nodes with a certificate
// of the cluster only; packets are for memberlist's keyring to check.
type GossipTransport struct {
	mux     *Mux
	packets chan *memberlist.Packet
	streams chan net.Conn
	done    chan struct{}
	once    sync.Once
	wg      sync.WaitGroup
}

var _ memberlist.NodeAwareTransport = (*GossipTransport)(nil)

// maxPacket is more than a UDP packet can hold.
const maxPacket = 64 << 10

// Gossip registers memberlist's protocol and begins to receive packets.
func (m *Mux) Gossip() *GossipTransport {
	g := &GossipTransport{mux: m, packets: make(chan *memberlist.Packet), streams: make(chan net.Conn), done: make(chan struct{})}
	m.Handle(ProtoGossip, g.serve)
	m.onClose(func() { _ = g.Shutdown() })
	g.wg.Go(g.receive)
	return g
}

func (g *GossipTransport) serve(c *Conn) {
	select {
	case g.streams <- c:
	case <-g.done:
		_ = c.Close()
	}
}

// receive hands packets to memberlist until the packet socket is closed.
func (g *GossipTransport) receive() {
	buf := make([]byte, maxPacket)
	for {
		n, from, err := g.mux.packets.ReadFrom(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // an ICMP error of an earlier packet, say
			if !g.pause(10 * time.Millisecond) {
				return
			}
			continue
		}
		p := &memberlist.Packet{Buf: append([]byte(nil), buf[:n]...), From: from, Timestamp: time.Now()}
		select {
		case g.packets <- p:
		case <-g.done:
			return
		}
	}
}

// pause waits; false means that the transport was shut down meanwhile.
func (g *GossipTransport) pause(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-g.done:
		return false
	}
}

// FinalAdvertiseAddr implements memberlist.Transport: what is configured, else the bound address.
func (g *GossipTransport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	if ip != "" {
		addr := net.ParseIP(ip)
		if addr == nil {
			return nil, 0, fmt.Errorf("gossip: %q is not an IP address", ip)
		}
		return addr, port, nil
	}
	ap, err := netip.ParseAddrPort(g.mux.Addr().String())
	if err != nil {
		return nil, 0, fmt.Errorf("gossip: %w", err)
	}
	if ap.Addr().IsUnspecified() {
		return nil, 0, fmt.Errorf("gossip: %s is bound to all addresses; say at which one the other nodes reach this one", ap)
	}
	return ap.Addr().Unmap().AsSlice(), int(ap.Port()), nil
}

// WriteTo implements memberlist.Transport.
func (g *GossipTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := udpAddr(addr)
	if err != nil {
		return time.Time{}, err
	}
	_, err = g.mux.packets.WriteTo(b, to)
	return time.Now(), err
}

func udpAddr(addr string) (*net.UDPAddr, error) {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return net.UDPAddrFromAddrPort(ap), nil
	}
	return net.ResolveUDPAddr("udp", addr)
}

// WriteToAddress implements memberlist.NodeAwareTransport.
func (g *GossipTransport) WriteToAddress(b []byte, addr memberlist.Address) (time.Time, error) {
	return g.WriteTo(b, addr.Addr)
}

// PacketCh implements memberlist.Transport.
func (g *GossipTransport) PacketCh() <-chan *memberlist.Packet { return g.packets }

// StreamCh implements memberlist.Transport.
func (g *GossipTransport) StreamCh() <-chan net.Conn { return g.streams }

// DialTimeout implements memberlist.Transport: any node of the cluster may answer.
func (g *GossipTransport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return g.DialAddressTimeout(memberlist.Address{Addr: addr}, timeout)
}

// DialAddressTimeout implements memberlist.NodeAwareTransport: the node of that name must answer.
func (g *GossipTransport) DialAddressTimeout(addr memberlist.Address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := g.mux.Dial(ctx, ProtoGossip, addr.Name, addr.Addr)
	if err != nil {
		return nil, err // not a nil *Conn in an interface
	}
	return c, nil
}

// Shutdown implements memberlist.Transport: it closes the packet socket and waits for the receiver.
func (g *GossipTransport) Shutdown() error {
	g.once.Do(func() {
		close(g.done)
		_ = g.mux.packets.Close()
	})
	g.wg.Wait()
	return nil
}
