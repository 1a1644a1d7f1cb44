package peer

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

type peerKey struct{}

// PeerFrom returns the node at the other end of a request that came over the peer port.
func PeerFrom(ctx context.Context) (node string, ok bool) {
	node, ok = ctx.Value(peerKey{}).(string)
	return node, ok
}

// HandleHTTP serves HTTP/1.1 to other nodes. The handler finds the caller's name with PeerFrom.
func (m *Mux) HandleHTTP(h http.Handler) {
	l := &connListener{addr: m.Addr(), in: make(chan net.Conn), done: make(chan struct{})}
	srv := &http.Server{
		Handler:           h,
		ReadHeaderTimeout: m.cfg.HandshakeTimeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(m.cfg.Log.Handler(), slog.LevelDebug),
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, peerKey{}, c.(httpConn).peer.Node)
		},
		ConnState: func(c net.Conn, s http.ConnState) {
			if s == http.StateClosed {
				close(c.(httpConn).done)
			}
		},
	}
	m.Handle(ProtoHTTP, func(c *Conn) {
		hc := httpConn{Conn: c, peer: c, done: make(chan struct{})}
		select {
		case l.in <- hc:
			<-hc.done // so that Close waits for the requests that run
		case <-l.done:
			_ = c.Close()
		}
	})
	m.onClose(func() { _ = srv.Close() })
	m.wg.Go(func() {
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			m.cfg.Log.Error("HTTP between nodes has stopped", "err", err)
		}
	})
}

// httpConn hides that the stream is TLS: net/http would look for HTTP/2 behind our ALPN.
type httpConn struct {
	net.Conn
	peer *Conn
	done chan struct{} // closed when the server is done with it; nil on the client's side
}

// connListener is a net.Listener fed by a handler.
type connListener struct {
	addr net.Addr
	in   chan net.Conn
	once sync.Once
	done chan struct{}
}

func (l *connListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *connListener) Addr() net.Addr { return l.addr }

func (l *connListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

// HTTPClient returns a client for HTTP between nodes: the host of a URL is a node's name (http://n2/blobs/...), addr finds its address.
// There is no limit on the whole of a request: give one by its context.
func (m *Mux) HTTPClient(addr func(node string) (string, bool)) *http.Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, hostport string) (net.Conn, error) {
			node, _, err := net.SplitHostPort(hostport)
			if err != nil {
				return nil, err
			}
			a, ok := addr(node)
			if !ok {
				return nil, dialError(node, "?", ErrUnknownNode)
			}
			c, err := m.Dial(ctx, ProtoHTTP, node, a)
			if err != nil {
				return nil, err
			}
			return httpConn{Conn: c, peer: c}, nil
		},
		DisableCompression:     true,
		MaxConnsPerHost:        16,
		MaxIdleConnsPerHost:    4,
		IdleConnTimeout:        time.Minute,
		ResponseHeaderTimeout:  10 * time.Second,
		MaxResponseHeaderBytes: 64 << 10,
	}
	m.onClose(t.CloseIdleConnections)
	return &http.Client{
		Transport:     t,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}
