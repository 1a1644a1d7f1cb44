package peer

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"lamina/node/auth"
)

// identities makes a cluster of nodes by the functions that both sides of a join use.
func identities(t testing.TB, names ...string) []*auth.Identity {
	t.Helper()
	first, err := auth.Init(t.TempDir(), names[0])
	if err != nil {
		t.Fatal(err)
	}
	ids := []*auth.Identity{first}
	for _, name := range names[1:] {
		token, _ := auth.NewToken()
		j, err := auth.NewJoiner(t.TempDir(), name, auth.JoinString{Addr: "10.0.0.1:7946", Token: token, Pin: first.Pin()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := first.Admit(j.Request(), nil)
		if err != nil {
			t.Fatal(err)
		}
		id, err := j.Finish(r)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// world is some nodes with their muxes on one Memory network, at 10.0.0.1:7946 and so on.
type world struct {
	net   *Memory
	mu    sync.Mutex
	nodes map[string]*Mux
}

func addrOf(i int) string { return fmt.Sprintf("10.0.0.%d:7946", i+1) }

func newWorld(t *testing.T, names ...string) *world {
	t.Helper()
	w := &world{net: NewMemory(), nodes: map[string]*Mux{}}
	for i, id := range identities(t, names...) {
		m, err := Bind(Config{Identity: id, Network: w.net.Host(id.Name()), Addr: addrOf(i)})
		if err != nil {
			t.Fatal(err)
		}
		w.nodes[id.Name()] = m
	}
	return w
}

func (w *world) addr(node string) (string, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	m, ok := w.nodes[node]
	if !ok {
		return "", false
	}
	return m.Addr().String(), true
}

// restart replaces a node that was killed by a new process of the same name and address.
func (w *world) restart(t *testing.T, node string) *Mux {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	old := w.nodes[node]
	m, err := Bind(Config{Identity: old.cfg.Identity, Network: w.net.Host(node), Addr: old.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	w.nodes[node] = m
	return m
}

func (w *world) close() {
	for _, m := range w.nodes {
		_ = m.Close()
	}
}

func TestMemoryStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ln, pc, err := m.Host("a").Listen("10.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := m.Host("b").Listen(ln.Addr().String()); err == nil {
			t.Error("the same address twice")
		}
		if _, err := m.Host("b").Dial(t.Context(), "10.0.0.9:1"); err == nil {
			t.Error("connected to nobody")
		}
		client, err := m.Host("b").Dial(t.Context(), ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		server, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		m.Delay(50 * time.Millisecond)
		began := time.Now()
		big := make([]byte, 3*halfBuffer)
		go func() { _, _ = client.Write(big); _ = client.Close() }()
		got, err := io.ReadAll(server)
		if err != nil || len(got) != len(big) {
			t.Errorf("read %d, %v", len(got), err)
		}
		if d := time.Since(began); d != 150*time.Millisecond {
			t.Errorf("three buffers took %v", d)
		}
		if _, err := server.Write([]byte("x")); err == nil {
			t.Error("wrote to a closed connection")
		}
		_ = server.SetReadDeadline(time.Now().Add(time.Second))
		_ = ln.Close()
		_ = pc.Close()
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestMemoryFaults(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ln, pa, err := m.Host("a").Listen("10.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		_, pb, err := m.Host("b").Listen("10.0.0.2:1")
		if err != nil {
			t.Fatal(err)
		}
		client, err := m.Host("b").Dial(t.Context(), "10.0.0.1:1")
		if err != nil {
			t.Fatal(err)
		}
		server, _ := ln.Accept()
		read := func(c net.Conn, d time.Duration) error {
			_ = c.SetReadDeadline(time.Now().Add(d))
			_, err := c.Read(make([]byte, 1))
			return err
		}
		m.Cut("b", "a") // one way
		_, _ = client.Write([]byte("1"))
		_, _ = server.Write([]byte("2"))
		if err := read(client, time.Second); err != nil {
			t.Errorf("the other direction: %v", err)
		}
		if err := read(server, time.Second); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("cut: %v", err)
		}
		_, _ = pb.WriteTo([]byte("lost"), pa.LocalAddr())
		time.AfterFunc(time.Second, func() { m.Heal("b", "a") })
		if err := read(server, time.Minute); err != nil {
			t.Errorf("healed: %v", err)
		}
		_, _ = pb.WriteTo([]byte("kept"), pa.LocalAddr())
		b := make([]byte, 9)
		if n, from, err := pa.ReadFrom(b); err != nil || string(b[:n]) != "kept" || from.String() != pb.LocalAddr().String() {
			t.Errorf("packet %q from %v, %v", b[:n], from, err)
		}
		m.Kill("a")
		if err := read(client, time.Minute); err == nil || errors.Is(err, io.EOF) || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("killed: %v", err)
		}
		if _, err := m.Host("b").Dial(t.Context(), "10.0.0.1:1"); err == nil {
			t.Error("connected to the dead")
		}
		if _, _, err := pa.ReadFrom(b); !errors.Is(err, net.ErrClosed) {
			t.Errorf("packets of the dead: %v", err)
		}
		_ = pb.Close()
	})
}

func TestTCPNetwork(t *testing.T) {
	ln, pc, err := TCP{}.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	defer pc.Close()
	_, tcp, _ := net.SplitHostPort(ln.Addr().String())
	_, udp, _ := net.SplitHostPort(pc.LocalAddr().String())
	if tcp != udp {
		t.Errorf("TCP port %s, UDP port %s", tcp, udp)
	}
	if _, _, err := (TCP{}).Listen(ln.Addr().String()); err == nil {
		t.Error("bound a port in use")
	}
	if _, _, err := (TCP{}).Listen("nonsense"); err == nil {
		t.Error("bound nonsense")
	}
}
