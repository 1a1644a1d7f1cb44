package auth

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func mustInit(t *testing.T, name string) *Identity {
	t.Helper()
	id, err := Init(t.TempDir(), name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// mustJoin admits a new node through the functions that both sides use.
func mustJoin(t *testing.T, id *Identity, name string) *Identity {
	t.Helper()
	token, _ := NewToken()
	j, err := NewJoiner(t.TempDir(), name, JoinString{Addr: "127.0.0.1:7946", Token: token, Pin: id.Pin()})
	if err != nil {
		t.Fatal(err)
	}
	r, err := id.Admit(j.Request(), []string{"127.0.0.1:7946"})
	if err != nil {
		t.Fatal(err)
	}
	n, err := j.Finish(r)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestInitLoad(t *testing.T) {
	id := mustInit(t, "n1")
	again, err := Load(id.dir)
	if err != nil {
		t.Fatal(err)
	}
	if again.Name() != "n1" || again.Cluster() != id.Cluster() || again.Pin() != id.Pin() || string(again.GossipKey()) != string(id.GossipKey()) {
		t.Errorf("loaded %+v, made %+v", again, id)
	}
	entries, err := os.ReadDir(id.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		st, _ := e.Info()
		if st.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %o", e.Name(), st.Mode().Perm())
		}
		if strings.HasPrefix(e.Name(), ".") {
			t.Errorf("temporary file %s is left", e.Name())
		}
	}
}

func TestDirectoryErrors(t *testing.T) {
	id := mustInit(t, "n1")
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrNoIdentity) {
		t.Errorf("empty directory: %v", err)
	}
	want := "the data directory " + id.dir + " belongs to node n1 of cluster " + id.Cluster()
	if _, err := Init(id.dir, "n2"); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), want) {
		t.Errorf("Init over another identity: %v", err)
	}
	if _, err := Open(id.dir, "n2"); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), want) {
		t.Errorf("Open as another: %v", err)
	}
	other := mustInit(t, "x")
	if _, err := Rejoin(id.dir, "n1", JoinString{Pin: other.Pin()}); !errors.Is(err, ErrIdentity) || !strings.Contains(err.Error(), want) {
		t.Errorf("Rejoin another cluster: %v", err)
	}
	if _, err := Rejoin(id.dir, "n1", JoinString{Pin: id.Pin()}); err != nil {
		t.Errorf("Rejoin: %v", err)
	}
	for _, name := range []string{"", "N1", "-a", "a/b", "../x", "a b", strings.Repeat("a", 64), "ü"} {
		if _, err := Init(t.TempDir(), name); !errors.Is(err, ErrName) {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

func TestDamagedDirectory(t *testing.T) {
	other := mustInit(t, "n1")
	for _, name := range []string{fileCACert, fileNodeKey, fileGossipKey, fileNodeCert} {
		for what, change := range map[string]func(path string) error{
			"missing":   os.Remove,
			"empty":     func(p string) error { return os.WriteFile(p, nil, 0o600) },
			"garbage":   func(p string) error { return os.WriteFile(p, []byte("garbage\n"), 0o600) },
			"open":      func(p string) error { return os.Chmod(p, 0o644) },
			"too large": func(p string) error { return os.Truncate(p, 1<<20) },
			"another's": func(p string) error {
				b, err := os.ReadFile(filepath.Join(other.dir, name))
				return errors.Join(err, os.WriteFile(p, b, 0o600))
			},
		} {
			id := mustInit(t, "n1")
			if err := change(filepath.Join(id.dir, name)); err != nil {
				t.Fatal(err)
			}
			_, err := Load(id.dir)
			switch {
			case name == fileNodeCert && what == "missing":
				if !errors.Is(err, ErrNoIdentity) {
					t.Errorf("%s %s: %v", name, what, err)
				}
			case name == fileGossipKey && what == "another's": // cannot be told apart
			case !errors.Is(err, ErrIdentity):
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
	}
}

func TestInitAfterCrash(t *testing.T) {
	id := mustInit(t, "n1")
	if err := os.Remove(filepath.Join(id.dir, fileNodeCert)); err != nil { // as if it had died before the last file
		t.Fatal(err)
	}
	fresh, err := Init(id.dir, "n2")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Load(id.dir); err != nil || again.Cluster() != fresh.Cluster() {
		t.Errorf("got %v, %v", again, err)
	}
}

func TestJoin(t *testing.T) {
	n1 := mustInit(t, "n1")
	n2 := mustJoin(t, n1, "n2")
	n3 := mustJoin(t, n2, "n3") // any node admits
	for _, id := range []*Identity{n2, n3} {
		again, err := Load(id.dir)
		if err != nil {
			t.Fatal(err)
		}
		if again.Cluster() != n1.Cluster() || again.Name() != id.Name() || len(again.Seeds()) != 1 {
			t.Errorf("got %+v", again)
		}
	}
	if err := handshake(n1.ServerTLS("p"), n3.ClientTLS("p", "n1")); err != nil {
		t.Errorf("n3 to n1: %v", err)
	}
}

func TestAdmitRefuses(t *testing.T) {
	n1 := mustInit(t, "n1")
	token, _ := NewToken()
	good, _, err := newRequest("n2")
	if err != nil {
		t.Fatal(err)
	}
	broken := append([]byte{}, good...)
	broken[len(broken)-5] ^= 1
	for name, r := range map[string]JoinRequest{
		"version":   {Version: 2, Token: token, Name: "n2", CSR: good},
		"no name":   {Version: 1, Token: token, CSR: good},
		"bad name":  {Version: 1, Token: token, Name: "../n2", CSR: good},
		"no token":  {Version: 1, Name: "n2", CSR: good},
		"no CSR":    {Version: 1, Token: token, Name: "n2"},
		"signature": {Version: 1, Token: token, Name: "n2", CSR: broken},
		"other":     {Version: 1, Token: token, Name: "n1", CSR: good},
		"long CSR":  {Version: 1, Token: token, Name: "n2", CSR: make([]byte, 4096)},
	} {
		if _, err := n1.Admit(r, nil); !errors.Is(err, ErrRequest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	n1.ca.key = nil
	if err := n1.Check(JoinRequest{Version: 1, Token: token, Name: "n2", CSR: good}); !errors.Is(err, ErrRequest) {
		t.Errorf("without the CA's key: %v", err)
	}
}

func TestFinishRefuses(t *testing.T) {
	n1, other := mustInit(t, "n1"), mustInit(t, "n1")
	for name, spoil := range map[string]func(r *JoinResponse){
		"other CA":      func(r *JoinResponse) { r.CA = other.ca.cert.Raw },
		"no CA":         func(r *JoinResponse) { r.CA = nil },
		"cluster":       func(r *JoinResponse) { r.Cluster = other.Cluster() },
		"leaf as CA":    func(r *JoinResponse) { r.CA = r.Cert },
		"gossip key":    func(r *JoinResponse) { r.GossipKey = r.GossipKey[:16] },
		"CA key":        func(r *JoinResponse) { r.CAKey = r.CAKey[1:] },
		"seed":          func(r *JoinResponse) { r.Seeds = []string{"nonsense"} },
		"many seeds":    func(r *JoinResponse) { r.Seeds = make([]string, 17) },
		"someone's":     func(r *JoinResponse) { r.Cert = n1.cert.Load().Leaf.Raw },
		"no cert":       func(r *JoinResponse) { r.Cert = nil },
		"CA as cert":    func(r *JoinResponse) { r.Cert = r.CA },
		"other's CAKey": func(r *JoinResponse) { o, _ := other.Admit(mustRequest(t, other), nil); r.CAKey = o.CAKey },
	} {
		token, _ := NewToken()
		j, err := NewJoiner(t.TempDir(), "n2", JoinString{Token: token, Pin: n1.Pin()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := n1.Admit(j.Request(), nil)
		if err != nil {
			t.Fatal(err)
		}
		spoil(&r)
		if _, err := j.Finish(r); !errors.Is(err, ErrPeer) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := Load(j.dir); !errors.Is(err, ErrNoIdentity) {
			t.Errorf("%s left an identity: %v", name, err)
		}
	}
}

func mustRequest(t *testing.T, id *Identity) JoinRequest {
	t.Helper()
	token, _ := NewToken()
	csr, _, err := newRequest("nx")
	if err != nil {
		t.Fatal(err)
	}
	return JoinRequest{Version: JoinVersion, Token: token, Name: "nx", CSR: csr}
}

// handshake runs one over a pipe and returns the errors of both sides.
func handshake(server, client *tls.Config) error {
	a, b := net.Pipe()
	s, c := tls.Server(a, server), tls.Client(b, client)
	done := make(chan error, 1)
	go func() {
		err := s.Handshake()
		if err == nil {
			_, err = s.Write([]byte{1})
		}
		_ = a.Close()
		done <- err
	}()
	err := c.Handshake()
	if err == nil {
		_, err = io.ReadFull(c, make([]byte, 1)) // a server's refusal comes after the client's handshake
	}
	_ = b.Close()
	return errors.Join(<-done, err)
}

func TestHandshakes(t *testing.T) {
	n1, other := mustInit(t, "n1"), mustInit(t, "n1")
	n2, n3 := mustJoin(t, n1, "n2"), mustJoin(t, n1, "n3")
	noCert := n2.ClientTLS("p", "n1")
	noCert.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &tls.Certificate{}, nil }
	caAsCert := n2.ClientTLS("p", "n1")
	caAsCert.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		return &tls.Certificate{Certificate: [][]byte{n2.ca.cert.Raw}, PrivateKey: n2.ca.key}, nil
	}
	stolen := n2.ClientTLS("p", "n1") // n3's certificate without n3's key
	stolen.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c := *n3.cert.Load()
		c.PrivateKey = n2.key
		return &c, nil
	}
	tls12 := n2.ClientTLS("p", "n1")
	tls12.MinVersion, tls12.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, c := range []struct {
		name           string
		server, client *tls.Config
		ok             bool
	}{
		{"members", n1.ServerTLS("p", "q"), n2.ClientTLS("q", "n1"), true},
		{"any member", n1.ServerTLS("p"), n2.ClientTLS("p", ""), true},
		{"no certificate", n1.ServerTLS("p"), noCert, false},
		{"another cluster's client", n1.ServerTLS("p"), other.ClientTLS("p", ""), false},
		{"another cluster's server", other.ServerTLS("p"), n2.ClientTLS("p", ""), false},
		{"wrong node answers", n3.ServerTLS("p"), n2.ClientTLS("p", "n1"), false},
		{"wrong ALPN", n1.ServerTLS("p"), n2.ClientTLS("x", "n1"), false},
		{"no ALPN", n1.ServerTLS("p"), n2.ClientTLS("", "n1"), false},
		{"the CA as a node", n1.ServerTLS("p"), caAsCert, false},
		{"stolen certificate", n1.ServerTLS("p"), stolen, false},
		{"TLS 1.2", n1.ServerTLS("p"), tls12, false},
		{"pin", n1.JoinTLS("j"), PinnedTLS("j", n1.Pin()), true},
		{"wrong pin", n1.JoinTLS("j"), PinnedTLS("j", other.Pin()), false},
		{"pin, wrong ALPN", n1.ServerTLS("p"), PinnedTLS("j", n1.Pin()), false},
		{"joiner at the peers' door", n1.ServerTLS("p"), PinnedTLS("p", n1.Pin()), false},
	} {
		if c.name == "no ALPN" {
			c.client.NextProtos = nil
		}
		if err := handshake(c.server, c.client); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestPinNeedsTheCA(t *testing.T) {
	n1, other := mustInit(t, "n1"), mustInit(t, "n1")
	// A stranger who shows the right CA behind a certificate of its own making.
	forged := other.JoinTLS("j")
	forged.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		c := *other.cert.Load()
		c.Certificate = [][]byte{c.Certificate[0], n1.ca.cert.Raw}
		return &c, nil
	}
	if err := handshake(forged, PinnedTLS("j", n1.Pin())); !errors.Is(err, ErrPeer) {
		t.Errorf("got %v", err)
	}
}

func TestExpiry(t *testing.T) {
	dir1, dir2 := t.TempDir(), t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		n1, err := Init(dir1, "n1")
		if err != nil {
			t.Fatal(err)
		}
		token, _ := NewToken()
		j, err := NewJoiner(dir2, "n2", JoinString{Token: token, Pin: n1.Pin()})
		if err != nil {
			t.Fatal(err)
		}
		r, err := n1.Admit(j.Request(), nil)
		if err != nil {
			t.Fatal(err)
		}
		n2, err := j.Finish(r)
		if err != nil {
			t.Fatal(err)
		}
		check := func(when string, ok bool) {
			t.Helper()
			err := handshake(n1.ServerTLS("p"), n2.ClientTLS("p", "n1"))
			if (err == nil) != ok {
				t.Errorf("%s: %v", when, err)
			}
			if !ok && !strings.Contains(err.Error(), "set the clocks of both machines") {
				t.Errorf("%s: not clear: %v", when, err)
			}
		}
		time.Sleep(certLife + 4*time.Minute)
		check("within the tolerance", true)
		time.Sleep(2 * time.Minute)
		check("over", false)
		if n1, err = Load(dir1); err != nil { // a restart renews
			t.Fatal(err)
		}
		check("one side renewed", false)
		if n2, err = Load(dir2); err != nil {
			t.Fatal(err)
		}
		check("both renewed", true)
	})
}

func TestNotYetValid(t *testing.T) {
	n1 := mustInit(t, "n1")
	leaf := n1.cert.Load().Leaf
	for ahead, ok := range map[time.Duration]bool{4 * time.Minute: true, 6 * time.Minute: false} {
		if _, err := verifyNode(leaf, n1.ca.cert, n1.cluster, leaf.NotBefore.Add(-ahead)); (err == nil) != ok {
			t.Errorf("clock %v behind: %v", ahead, err)
		}
	}
}

func TestKeepFresh(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		id, err := Init(dir, "n1")
		if err != nil {
			t.Fatal(err)
		}
		first := id.Expires()
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { id.KeepFresh(ctx, slog.New(slog.DiscardHandler)); close(done) }()
		time.Sleep(certLife*2/3 - time.Minute)
		synctest.Wait()
		if !id.Expires().Equal(first) {
			t.Error("renewed too early")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !id.Expires().After(first) {
			t.Error("not renewed at two thirds of its life")
		}
		if again, err := Load(dir); err != nil || !again.Expires().Equal(id.Expires()) {
			t.Errorf("not on disk: %v", err)
		}
		time.Sleep(365 * 24 * time.Hour)
		synctest.Wait()
		if time.Until(id.Expires()) < certLife/4 {
			t.Error("not renewed for a year")
		}
		cancel()
		<-done
		id.ca.key = nil
		time.Sleep(certLife * 2)
		if _, err := id.Renew(time.Now()); !errors.Is(err, ErrIdentity) {
			t.Errorf("over, without the CA's key: %v", err)
		}
	})
}

func TestAdminKey(t *testing.T) {
	dir := t.TempDir()
	if _, err := ReadAdminKey(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("none: %v", err)
	}
	k, made, err := AdminKey(dir)
	if err != nil || !made {
		t.Fatal(made, err)
	}
	again, made, err := AdminKey(dir)
	if err != nil || made || again != k {
		t.Errorf("again: %v, %v, %v", again, made, err)
	}
	if err := os.WriteFile(filepath.Join(dir, fileAdminKey), []byte("lk_x_y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := AdminKey(dir); !errors.Is(err, ErrKey) {
		t.Errorf("garbage: %v", err)
	}
}
