package peer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
)

// Network makes connections between nodes. They carry bytes only; identity is the Mux's business.
type Network interface {
	// Listen binds addr (HOST:PORT, port 0 chooses one) for streams and packets, both on the same port number.
	Listen(addr string) (net.Listener, PacketConn, error)
	// Dial makes a stream to addr. It returns when ctx is done.
	Dial(ctx context.Context, addr string) (net.Conn, error)
}

// PacketConn sends and receives packets; *net.UDPConn is one.
type PacketConn interface {
	ReadFrom(b []byte) (n int, from net.Addr, err error)
	WriteTo(b []byte, to net.Addr) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// TCP is the network of the operating system: TCP for streams (with TCP_NODELAY, Go's default), UDP for packets.
type TCP struct{}

var _ Network = TCP{}

// bindTries bounds the search for a port that is free for both TCP and UDP when the choice is ours.
const bindTries = 20

// Listen implements Network.
func (TCP) Listen(addr string) (net.Listener, PacketConn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, nil, fmt.Errorf("peer address %q: %w", addr, err)
	}
	for try := 1; ; try++ {
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			return nil, nil, fmt.Errorf("peer address: %w", err)
		}
		_, number, _ := net.SplitHostPort(ln.Addr().String())
		pc, err := net.ListenPacket("udp", net.JoinHostPort(host, number))
		if err == nil {
			return ln, pc, nil
		}
		_ = ln.Close()
		if n, perr := strconv.Atoi(port); perr != nil || n != 0 || try == bindTries {
			return nil, nil, fmt.Errorf("peer address: %w", err)
		}
	}
}

// Dial implements Network.
func (TCP) Dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil && ctx.Err() != nil && !errors.Is(err, ctx.Err()) {
		err = fmt.Errorf("%w (%w)", err, ctx.Err())
	}
	return c, err
}
