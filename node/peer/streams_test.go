package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/raft"

	"lamina/node/auth"
)

func TestRaftMembership(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		defer w.close()
		var mu sync.Mutex
		members := map[string]bool{"n1": true, "n2": true}
		member := func(n string) bool { mu.Lock(); defer mu.Unlock(); return members[n] }
		layers := map[string]*RaftLayer{}
		for name, m := range w.nodes {
			layers[name] = m.Raft(RaftConfig{Member: member})
			m.Serve()
		}
		go func() {
			for {
				c, err := layers["n1"].Accept()
				if err != nil {
					return
				}
				go func() { defer c.Close(); _, _ = io.Copy(c, c) }()
			}
		}()
		echoes := func(c net.Conn) bool {
			_, _ = c.Write([]byte("x"))
			_, err := io.ReadFull(c, make([]byte, 1))
			return err == nil
		}
		c2, err := layers["n2"].Dial(raft.ServerAddress(addrOf(0)), time.Second)
		if err != nil || !echoes(c2) {
			t.Fatal("a member is refused", err)
		}
		if c3, err := layers["n3"].Dial(raft.ServerAddress(addrOf(0)), time.Second); err == nil && echoes(c3) {
			t.Error("a node that is no member reached raft with its certificate")
		}
		if _, err := layers["n1"].Dial(raft.ServerAddress(addrOf(2)), time.Second); !errors.Is(err, ErrNotMember) {
			t.Errorf("dialled a node that is no member: %v", err)
		}
		mu.Lock()
		delete(members, "n2")
		mu.Unlock()
		layers["n1"].Recheck()
		if echoes(c2) {
			t.Error("the connection of a node that is a member no longer is still open")
		}
		_ = c2.Close()
		if n := len(layers["n2"].mu.conns); n != 0 {
			t.Errorf("%d connections left", n)
		}
		_ = layers["n1"].Close()
		if _, err := layers["n1"].Accept(); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestRaftResolve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		defer w.close()
		all := func(string) bool { return true }
		w.nodes["n1"].Raft(RaftConfig{Member: all})
		w.nodes["n1"].Serve()
		l := w.nodes["n2"].Raft(RaftConfig{Member: all, Resolve: func(a string) (string, string, error) {
			switch a {
			case "n1":
				return "n1", addrOf(0), nil
			case "n3":
				return "n3", addrOf(0), nil // n1's address
			}
			return "", "", ErrUnknownNode
		}})
		if c, err := l.Dial("n1", time.Second); err != nil {
			t.Error(err)
		} else {
			_ = c.Close()
		}
		if _, err := l.Dial("n3", time.Second); !errors.Is(err, auth.ErrPeer) {
			t.Errorf("n1 answered as n3: %v", err)
		}
		if _, err := l.Dial("n4", time.Second); !errors.Is(err, ErrUnknownNode) {
			t.Error(err)
		}
	})
}

func gossipNode(t *testing.T, m *Mux) *memberlist.Memberlist {
	t.Helper()
	cfg := memberlist.DefaultLANConfig()
	cfg.Name = m.Node()
	cfg.Transport = m.Gossip()
	cfg.SecretKey = m.cfg.Identity.GossipKey()
	cfg.Label = m.cfg.Identity.Cluster()
	cfg.LogOutput = io.Discard
	m.Serve()
	l, err := memberlist.Create(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func alive(l *memberlist.Memberlist) string {
	var names []string
	for _, n := range l.Members() {
		names = append(names, n.Name)
	}
	return fmt.Sprint(len(names))
}

// TestGossip runs real memberlists over the port, in virtual time.
func TestGossip(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2", "n3")
		lists := map[string]*memberlist.Memberlist{}
		for name, m := range w.nodes {
			lists[name] = gossipNode(t, m)
		}
		for _, n := range []string{"n2", "n3"} {
			if _, err := lists[n].Join([]string{addrOf(0)}); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(5 * time.Second)
		for n, l := range lists {
			if alive(l) != "3" {
				t.Errorf("%s sees %s nodes", n, alive(l))
			}
		}
		w.net.Kill("n3")
		time.Sleep(time.Minute)
		if alive(lists["n1"]) != "2" {
			t.Errorf("after a death n1 sees %s nodes", alive(lists["n1"]))
		}
		for n, l := range lists {
			if n != "n3" {
				_ = l.Leave(time.Second)
			}
			_ = l.Shutdown()
			_ = w.nodes[n].Close()
		}
	})
}

func TestGossipStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, other := newWorld(t, "n1"), newWorld(t, "n2")
		l1 := gossipNode(t, w.nodes["n1"])
		m2, err := Bind(Config{Identity: other.nodes["n2"].cfg.Identity, Network: w.net.Host("n2"), Addr: addrOf(1)})
		if err != nil {
			t.Fatal(err)
		}
		l2 := gossipNode(t, m2)
		if _, err := l2.Join([]string{addrOf(0)}); err == nil {
			t.Error("a node of another cluster joined by gossip")
		}
		time.Sleep(10 * time.Second)
		if alive(l1) != "1" {
			t.Error("n1 knows a stranger")
		}
		_ = l1.Shutdown()
		_ = l2.Shutdown()
		_ = m2.Close()
		w.close()
		other.close()
	})
}

func TestGossipAddresses(t *testing.T) {
	w := newWorld(t, "n1")
	defer w.close()
	g := w.nodes["n1"].Gossip()
	if ip, port, err := g.FinalAdvertiseAddr("", 0); err != nil || ip.String() != "10.0.0.1" || port != 7946 {
		t.Error(ip, port, err)
	}
	if ip, port, err := g.FinalAdvertiseAddr("192.0.2.1", 9); err != nil || ip.String() != "192.0.2.1" || port != 9 {
		t.Error(ip, port, err)
	}
	if _, _, err := g.FinalAdvertiseAddr("nonsense", 9); err == nil {
		t.Error("nonsense was taken")
	}
	if _, err := g.WriteTo([]byte("x"), "no port"); err == nil {
		t.Error("sent to nowhere")
	}
}

func TestHTTP(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		w.nodes["n1"].HandleHTTP(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			node, ok := PeerFrom(r.Context())
			switch r.URL.Path {
			case "/who":
				fmt.Fprintf(rw, "%s %v %s", node, ok, r.Host)
			case "/away":
				http.Redirect(rw, r, "http://n2/who", http.StatusFound)
			case "/hang":
				<-r.Context().Done()
			}
		}))
		w.nodes["n1"].Serve()
		w.nodes["n2"].Serve()
		client := w.nodes["n2"].HTTPClient(w.addr)
		get := func(url string) (string, int, error) {
			resp, err := client.Get(url)
			if err != nil {
				return "", 0, err
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			return string(b), resp.StatusCode, err
		}
		for range 3 {
			if got, _, err := get("http://n1/who"); err != nil || got != "n2 true n1" {
				t.Errorf("%q, %v", got, err)
			}
		}
		if _, code, err := get("http://n1/away"); err != nil || code != http.StatusFound {
			t.Errorf("a redirect was followed: %v, %v", code, err)
		}
		if _, _, err := get("http://n9/who"); !errors.Is(err, ErrUnknownNode) {
			t.Errorf("unknown node: %v", err)
		}
		if _, _, err := get("http://n2/who"); err == nil {
			t.Error("n2 does not serve HTTP")
		}
		began := time.Now()
		if _, _, err := get("http://n1/hang"); err == nil || time.Since(began) > 11*time.Second {
			t.Errorf("a node that does not answer: %v after %v", err, time.Since(began))
		}
		if _, ok := PeerFrom(t.Context()); ok {
			t.Error("a peer from nowhere")
		}
	})
}

// TestHTTPCloseWaits closes the port while a request runs: Close returns after the handler has, and the handler is told.
func TestHTTPCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		ended := false
		w.nodes["n1"].HandleHTTP(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			time.Sleep(time.Second)
			ended = true
		}))
		w.nodes["n1"].Serve()
		client := w.nodes["n2"].HTTPClient(w.addr)
		go func() {
			if resp, err := client.Get("http://n1/"); err == nil {
				_ = resp.Body.Close()
			}
		}()
		synctest.Wait()
		_ = w.nodes["n1"].Close()
		if !ended {
			t.Error("Close did not wait for the handler")
		}
	})
}

// door is a node that admits, with what its callback is given and gives.
type door struct {
	id  *auth.Identity
	net *Memory
	mux *Mux
	mu  sync.Mutex
	got []auth.JoinRequest
	err error
}

func newDoor(t *testing.T) *door {
	t.Helper()
	d := &door{id: identities(t, "n1")[0], net: NewMemory()}
	m, err := Bind(Config{Identity: d.id, Network: d.net.Host("n1"), Addr: addrOf(0)})
	if err != nil {
		t.Fatal(err)
	}
	d.mux = m
	m.HandleJoin(func(_ context.Context, r auth.JoinRequest) (auth.JoinResponse, error) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.got = append(d.got, r)
		if d.err != nil {
			return auth.JoinResponse{}, d.err
		}
		return d.id.Admit(r, []string{addrOf(0)})
	})
	m.Serve()
	return d
}

func (d *door) requests() int { d.mu.Lock(); defer d.mu.Unlock(); return len(d.got) }

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		defer d.mux.Close()
		token, _ := auth.NewToken()
		js := auth.JoinString{Addr: addrOf(0), Token: token, Pin: d.id.Pin()}
		dir := t.TempDir()
		id, err := Join(t.Context(), d.net.Host("n2"), dir, "n2", js)
		if err != nil {
			t.Fatal(err)
		}
		if id.Name() != "n2" || id.Cluster() != d.id.Cluster() || len(id.Seeds()) != 1 || d.got[0].Token != token {
			t.Errorf("%+v", id)
		}
		if _, err := auth.Open(dir, "n2"); err != nil {
			t.Error(err)
		}
		m2, err := Bind(Config{Identity: id, Network: d.net.Host("n2"), Addr: addrOf(1)})
		if err != nil {
			t.Fatal(err)
		}
		defer m2.Close()
		handleEcho(m2)
		m2.Serve()
		if got, err := ask(d.mux, "n2", addrOf(1)); err != nil || got != "n1;" {
			t.Errorf("the new node does not serve the old one: %q, %v", got, err)
		}
		if _, err := Join(t.Context(), d.net.Host("n2"), dir, "n2", js); !errors.Is(err, auth.ErrIdentity) {
			t.Errorf("joined twice with one directory: %v", err)
		}
	})
}

func TestJoinRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		defer d.mux.Close()
		token, _ := auth.NewToken()
		join := func(pin string) error {
			_, err := Join(t.Context(), d.net.Host("n2"), t.TempDir(), "n2", auth.JoinString{Addr: addrOf(0), Token: token, Pin: pin})
			return err
		}
		if err := join(auth.HashSecret("another CA")); !errors.Is(err, auth.ErrPeer) || d.requests() != 0 {
			t.Errorf("wrong pin: %v; %d tokens were sent", err, d.requests())
		}
		for want, give := range map[JoinRefusal]error{
			RefusedToken:    &JoinError{Kind: RefusedToken, Text: "the token is spent"},
			RefusedRequest:  fmt.Errorf("x: %w", auth.ErrRequest),
			RefusedInternal: errors.New("secret detail"),
		} {
			d.mu.Lock()
			d.err = give
			d.mu.Unlock()
			var je *JoinError
			if err := join(d.id.Pin()); !errors.As(err, &je) || je.Kind != want || strings.Contains(je.Text, "secret detail") {
				t.Errorf("want %s, got %v", want, err)
			}
		}
		if err := badJoins(t, d); err != nil {
			t.Error(err)
		}
	})
}

// badJoins sends nonsense to the door and expects it to be closed in time.
func badJoins(t *testing.T, d *door) error {
	before := d.requests()
	for _, raw := range []string{"", "\x00\x00\x00\x00", "\xff\xff\xff\xff", "\x03\x00\x00\x00abc", "\x05\x00\x00\x00\x81\xa1x\x01\x01"} {
		c, err := dialTLS(t.Context(), d.net.Host("x"), addrOf(0), auth.PinnedTLS(ProtoJoin, d.id.Pin()))
		if err != nil {
			return err
		}
		began := time.Now()
		_, _ = c.Write([]byte(raw))
		_, _ = io.ReadAll(c)
		_ = c.Close()
		if time.Since(began) > 6*time.Second {
			return fmt.Errorf("%q held the door for %v", raw, time.Since(began))
		}
	}
	if d.requests() != before {
		return errors.New("nonsense became a request")
	}
	return nil
}

func TestJoinAtTheWrongDoor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDoor(t)
		defer d.mux.Close()
		js := auth.JoinString{Addr: addrOf(0), Pin: d.id.Pin()}
		js.Token, _ = auth.NewToken()
		for _, r := range []joinReply{
			{}, // empty
			{Response: &auth.JoinResponse{Cluster: "aaaaaaaaaaaaaaaa"}},
		} {
			id := d.id
			m, err := Bind(Config{Identity: id, Network: d.net.Host("n3"), Addr: addrOf(2)})
			if err != nil {
				t.Fatal(err)
			}
			m.Handle(ProtoJoin, func(c *Conn) {
				defer c.Close()
				var req auth.JoinRequest
				_ = readMessage(c, &req, maxJoinMessage)
				_ = writeMessage(c, &r, maxJoinMessage)
			})
			m.Serve()
			js.Addr = addrOf(2)
			if _, err := Join(t.Context(), d.net.Host("n2"), t.TempDir(), "n2", js); !errors.Is(err, ErrProtocol) && !errors.Is(err, auth.ErrPeer) {
				t.Errorf("got %v", err)
			}
			_ = m.Close()
		}
		js.Addr = "10.0.0.9:1"
		if _, err := Join(t.Context(), d.net.Host("n2"), t.TempDir(), "n2", js); err == nil {
			t.Error("joined at nobody's")
		}
	})
}
