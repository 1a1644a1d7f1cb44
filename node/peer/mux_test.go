package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lamina/node/auth"
)

const echo = "lamina-echo/1"

func handleEcho(m *Mux) {
	m.Handle(echo, func(c *Conn) {
		defer c.Close()
		_, _ = c.Write([]byte(c.Node + ";"))
		_, _ = io.Copy(c, c)
	})
}

// ask dials and returns what the echo says first.
func ask(m *Mux, node, addr string) (string, error) {
	c, err := m.Dial(context.Background(), echo, node, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	b := make([]byte, 3)
	_, err = io.ReadFull(c, b)
	return string(b), err
}

func TestMux(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		defer w.close()
		n1, n2 := w.nodes["n1"], w.nodes["n2"]
		handleEcho(n1)
		n1.Serve()
		n1.Serve() // harmless
		if got, err := ask(n2, "n1", addrOf(0)); err != nil || got != "n2;" {
			t.Errorf("%q, %v", got, err)
		}
		if got, err := ask(n2, "", addrOf(0)); err != nil || got != "n2;" {
			t.Errorf("any node: %q, %v", got, err)
		}
		if _, err := ask(n2, "n3", addrOf(0)); !errors.Is(err, auth.ErrPeer) {
			t.Errorf("n1 answers as n3: %v", err)
		}
		if c, err := n2.Dial(t.Context(), ProtoRaft, "n1", addrOf(0)); err == nil {
			t.Errorf("a protocol that nobody serves: %v", c.Proto)
		}
		_ = n1.Close()
		if _, err := ask(n2, "n1", addrOf(0)); err == nil {
			t.Error("answered after Close")
		}
	})
}

// knockAll tries every kind of TLS that must not get in.
func knockAll(t *testing.T, host Network, member, foreigner *auth.Identity) {
	change := func(c *tls.Config, protos ...string) *tls.Config {
		c.NextProtos, c.VerifyConnection = protos, nil
		return c
	}
	for name, cfg := range map[string]*tls.Config{
		"no certificate":                {InsecureSkipVerify: true, NextProtos: []string{echo}},
		"another cluster's certificate": change(foreigner.ClientTLS(echo, ""), echo),
		"no ALPN":                       change(member.ClientTLS(echo, "")),
		"wrong ALPN":                    member.ClientTLS("h2", ""),
	} {
		c, err := dialTLS(t.Context(), host, addrOf(0), cfg)
		if err != nil {
			continue
		}
		if _, err = c.Read(make([]byte, 1)); err == nil {
			t.Errorf("%s: let in", name)
		}
		_ = c.Close()
	}
	// The door for joiners must not lead to the peers' protocols, in whatever order they are offered.
	for _, protos := range [][]string{{ProtoJoin, echo}, {echo, ProtoJoin}} {
		c, err := dialTLS(t.Context(), host, addrOf(0), &tls.Config{InsecureSkipVerify: true, NextProtos: protos})
		if err != nil {
			continue
		}
		if got := c.ConnectionState().NegotiatedProtocol; got != ProtoJoin {
			t.Errorf("offering %v without a certificate gave %s", protos, got)
		}
		_ = c.NetConn().Close()
	}
}

// TestStrangers knocks at the port with everything but a right certificate; each must be refused, and a member still be served.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		other := newWorld(t, "n2")
		defer other.close()
		n1, n2 := w.nodes["n1"], w.nodes["n2"]
		reached := atomic.Int32{}
		n1.Handle(echo, func(c *Conn) {
			defer c.Close()
			reached.Add(1)
			_, _ = c.Write([]byte(c.Node + ";"))
		})
		n1.HandleJoin(func(context.Context, auth.JoinRequest) (auth.JoinResponse, error) {
			reached.Add(1)
			return auth.JoinResponse{}, auth.ErrRequest
		})
		n1.Serve()
		host := w.net.Host("stranger")
		knockAll(t, host, n2.cfg.Identity, other.nodes["n2"].cfg.Identity)
		garbage, _ := host.Dial(t.Context(), addrOf(0))
		_, _ = garbage.Write([]byte(strings.Repeat("GET / HTTP/1.1\r\n\r\n", 100)))
		if _, err := io.ReadAll(garbage); err != nil && !errors.Is(err, net.ErrClosed) {
			t.Logf("garbage: %v", err)
		}
		_ = garbage.Close()
		synctest.Wait()
		if n := reached.Load(); n != 0 {
			t.Errorf("%d strangers reached a protocol", n)
		}
		if n := n1.Refused(); n < 5 {
			t.Errorf("refused %d", n)
		}
		if got, err := ask(n2, "n1", addrOf(0)); err != nil || got != "n2;" {
			t.Errorf("a member: %q, %v", got, err)
		}
	})
}

func TestSlowLoris(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		n1 := w.nodes["n1"]
		n1.cfg.HandshakesPerHost = 4
		handleEcho(n1)
		n1.Serve()
		host := w.net.Host("stranger")
		began := time.Now()
		var conns []net.Conn
		for range 6 {
			c, err := host.Dial(t.Context(), addrOf(0))
			if err != nil {
				t.Fatal(err)
			}
			conns = append(conns, c)
		}
		synctest.Wait()
		if n := n1.Refused(); n != 2 {
			t.Errorf("%d over the bound for one address, want 2", n)
		}
		for _, c := range conns[:4] { // one byte a second: the bound is for the whole handshake
			go func() {
				for {
					if _, err := c.Write([]byte{22}); err != nil {
						return
					}
					time.Sleep(time.Second)
				}
			}()
		}
		for _, c := range conns {
			_, _ = io.ReadAll(c)
			_ = c.Close()
		}
		if d := time.Since(began); d > 6*time.Second {
			t.Errorf("held for %v", d)
		}
		if _, err := ask(w.nodes["n2"], "n1", addrOf(0)); err != nil {
			t.Errorf("a member: %v", err)
		}
		time.Sleep(2 * time.Second)
	})
}

func TestBoundsPerNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		defer w.close()
		n1 := w.nodes["n1"]
		n1.cfg.ConnsPerNode, n1.cfg.Conns = 2, 3
		handleEcho(n1)
		n1.Serve()
		open := func(node string) *Conn {
			c, err := w.nodes[node].Dial(t.Context(), echo, "n1", addrOf(0))
			if err != nil {
				t.Fatal(err)
			}
			return c
		}
		works := func(c *Conn) bool {
			_, err := io.ReadFull(c, make([]byte, 3))
			return err == nil
		}
		a, b, c := open("n2"), open("n2"), open("n2")
		served := 0
		for _, x := range []*Conn{a, b, c} {
			if works(x) {
				served++
			}
		}
		if served != 2 {
			t.Errorf("%d connections of a node of which two are allowed", served)
		}
		d := open("n3")
		if !works(d) {
			t.Error("another node")
		}
		if e, err := w.nodes["n3"].Dial(t.Context(), echo, "n1", addrOf(0)); err == nil && works(e) {
			t.Error("the fourth connection where three are allowed")
		}
		for _, x := range []*Conn{a, b, c} {
			_ = x.Close()
		}
		synctest.Wait()
		f := open("n2")
		if !works(f) {
			t.Error("no place after the others were closed")
		}
		_ = f.Close()
		_ = d.Close()
	})
}

func TestExpiredNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		handleEcho(w.nodes["n1"])
		w.nodes["n1"].Serve()
		time.Sleep(21 * 24 * time.Hour)
		if renewed, err := w.nodes["n1"].cfg.Identity.Renew(time.Now()); err != nil || !renewed {
			t.Fatal(renewed, err)
		}
		if _, err := ask(w.nodes["n2"], "n1", addrOf(0)); err != nil {
			t.Errorf("a renewed server: %v", err)
		}
		time.Sleep(10 * 24 * time.Hour)
		if _, err := ask(w.nodes["n2"], "n1", addrOf(0)); err == nil {
			t.Error("a node with a certificate that is over was let in")
		}
		if _, err := w.nodes["n2"].cfg.Identity.Renew(time.Now()); err != nil {
			t.Fatal(err)
		}
		if _, err := ask(w.nodes["n2"], "n1", addrOf(0)); err != nil {
			t.Errorf("renewed without a restart: %v", err)
		}
	})
}

// flaky is a listener that fails a few times, as one does when file descriptors run out.
type flaky struct {
	net.Listener
	fails atomic.Int32
}

func (f *flaky) Accept() (net.Conn, error) {
	if f.fails.Add(-1) >= 0 {
		return nil, errors.New("too many open files")
	}
	return f.Listener.Accept()
}

func TestAcceptBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		f := &flaky{Listener: w.nodes["n1"].ln}
		f.fails.Store(10)
		w.nodes["n1"].ln = f
		handleEcho(w.nodes["n1"])
		w.nodes["n1"].Serve()
		began := time.Now()
		if _, err := ask(w.nodes["n2"], "n1", addrOf(0)); err != nil {
			t.Error(err)
		}
		if d := time.Since(began); d < 2*time.Second || d > 5*time.Second {
			t.Errorf("served after %v: it spins or sleeps too long", d)
		}
		f.fails.Store(1 << 30)
		_, _ = ask(w.nodes["n2"], "n1", addrOf(0))
		synctest.Wait()
		_ = w.nodes["n1"].Close() // must not hang in the pause
	})
}

// TestMuxTCP is the same over real sockets.
func TestMuxTCP(t *testing.T) {
	ids := identities(t, "n1", "n2")
	m1, err := Bind(Config{Identity: ids[0], Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer m1.Close()
	m2, err := Bind(Config{Identity: ids[1], Addr: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer m2.Close()
	handleEcho(m1)
	m1.Serve()
	if got, err := ask(m2, "n1", m1.Addr().String()); err != nil || got != "n2;" {
		t.Errorf("%q, %v", got, err)
	}
	c, err := m2.Dial(t.Context(), echo, "n1", m1.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, 3)); err != nil {
		t.Fatal(err)
	}
	_ = m1.Close() // with a connection open
	if _, err := io.ReadAll(c); err != nil {
		t.Errorf("not a clean end: %v", err)
	}
}
