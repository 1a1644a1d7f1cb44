package server

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"lamina/cluster"
)

// Every route against every kind of caller: who may come in is a function of the route's need alone.
func TestRoleMatrix(t *testing.T) {
	for _, keysRequired := range []bool{false, true} {
		g := newRig(t, func(c *Config) { c.RequireKeys = keysRequired })
		for _, c := range []struct {
			name, authorization string
			may                 func(need) bool
			refusal             int
		}{
			{"nobody", "", func(n need) bool { return n == everyone || n == user && !keysRequired }, 401},
			{"a foreign key", "Bearer sk-1234", func(n need) bool { return n == everyone || n == user && !keysRequired }, 401},
			{"no bearer", "Basic abcd", func(n need) bool { return n == everyone || n == user && !keysRequired }, 401},
			{"a malformed key", "Bearer lk_x", func(n need) bool { return n == everyone }, 401},
			{"a wrong secret", "Bearer " + g.user[:len(g.user)-1] + "_", func(n need) bool { return n == everyone }, 401},
			{"a user", "Bearer " + g.user, func(n need) bool { return n <= user }, 403},
			{"an admin", "Bearer " + g.admin, func(need) bool { return true }, 0},
		} {
			for _, rt := range g.routes() {
				method, path, _ := strings.Cut(rt.pattern, " ")
				path = strings.NewReplacer("{name...}", "m", "{digest}", "sha256:x", "{id}", "k").Replace(path)
				r := request(method, path, "")
				if c.authorization != "" {
					r.Header.Set("Authorization", c.authorization)
				}
				got := g.roundTrip(r).StatusCode
				if c.may(rt.need) && (got == 401 || got == 403) || !c.may(rt.need) && got != c.refusal {
					t.Errorf("keys required %v: %s asks %s: %d", keysRequired, c.name, rt.pattern, got)
				}
			}
		}
	}
}

// A node that has just started does not tell the holder of a good key that it is none; one that it knows is taken.
func TestKeyAtANodeThatIsBehind(t *testing.T) {
	behind := errors.New("just started")
	g := newRig(t, func(c *Config) { c.Behind = func() error { return behind } })
	ask := func(key string) *http.Response {
		r := request("GET", "/v1/models", "")
		r.Header.Set("Authorization", "Bearer "+key)
		return g.roundTrip(r)
	}
	other := g.cl.addKey("another cluster's", cluster.User).String()
	clear(g.cl.keys)
	if r := ask(other); r.StatusCode != http.StatusServiceUnavailable || r.Header.Get("Retry-After") == "" {
		t.Errorf("a key that is not known yet: %d", r.StatusCode)
	}
	known := g.cl.addKey("here", cluster.User).String()
	if r := ask(known); r.StatusCode != http.StatusOK {
		t.Errorf("a known key: %d", r.StatusCode)
	}
	behind = nil
	if r := ask(other); r.StatusCode != http.StatusUnauthorized {
		t.Errorf("an unknown key: %d", r.StatusCode)
	}
}

// The list itself: management needs an admin, nothing but health is open, and every line says what it needs.
func TestRouteList(t *testing.T) {
	g := newRig(t, nil)
	open := map[string]bool{"GET /healthz": true, "GET /readyz": true}
	for _, rt := range g.routes() {
		want := user
		switch {
		case open[rt.pattern]:
			want = everyone
		case strings.Contains(rt.pattern, "/v1/cluster/"):
			want = admin
		}
		if rt.need != want {
			t.Errorf("%s needs %d, should need %d", rt.pattern, rt.need, want)
		}
		if rt.handle == nil {
			t.Errorf("%s does nothing", rt.pattern)
		}
	}
}

func TestHostAndOrigin(t *testing.T) {
	g := newRig(t, func(c *Config) { c.Hosts = []string{"gpu.example"} })
	chat := `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`
	for _, c := range []struct {
		name, host string
		headers    []string
		want       int
	}{
		{"by address", "127.0.0.1:8080", nil, 200},
		{"by name", "localhost:8080", nil, 200},
		{"by IPv6", "[::1]:8080", nil, 200},
		{"without a port", "localhost", nil, 200},
		{"by a configured name", "GPU.example.:9", nil, 200},
		{"rebound", "evil.example:8080", nil, 403},
		{"rebound, but with a key", "evil.example:8080", []string{"Authorization", "Bearer " + g.user}, 200},
		{"no host", "", nil, 403},
		{"loopback as a prefix", "127.0.0.1.evil.example", nil, 403},
		{"another site", "127.0.0.1:8080", []string{"Sec-Fetch-Site", "cross-site"}, 403},
		{"another site, with a key", "127.0.0.1:8080", []string{"Sec-Fetch-Site", "cross-site", "Authorization", "Bearer " + g.user}, 403},
		{"an old browser", "127.0.0.1:8080", []string{"Origin", "http://evil.example"}, 403},
		{"a page from a file", "127.0.0.1:8080", []string{"Origin", "null"}, 403},
		{"the same origin", "127.0.0.1:8080", []string{"Origin", "http://127.0.0.1:8080"}, 200},
	} {
		r := request("POST", "/v1/chat/completions", chat, c.headers...)
		r.Host = c.host
		if got := g.roundTrip(r).StatusCode; got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	g := newRig(t, nil)
	chat := `{"model":"m","messages":[{"role":"user","content":"Hi"}]}`
	native := `{"model":"m","prompt":"Hi"}`
	for _, c := range []struct {
		path, body string
		headers    []string
		want       int
	}{
		{"/v1/chat/completions", chat, nil, 200},
		{"/v1/chat/completions", chat, []string{"Content-Type", "application/json; charset=utf-8"}, 200},
		{"/v1/chat/completions", chat, []string{"Content-Type", "text/plain"}, 415},
		{"/v1/chat/completions", chat, []string{"Content-Type", "multipart/form-data; boundary=x"}, 415},
		{"/v1/chat/completions", chat, []string{"Content-Type", "application/msgpack"}, 415},
		{"/v1/chat/completions", chat, []string{"Content-Encoding", "gzip"}, 415},
		{"/v1/chat/completions", chat, []string{"Content-Encoding", "identity"}, 200},
		{"/v1/infer", native, []string{"Content-Type", "application/x-www-form-urlencoded"}, 200},
		{"/v1/infer", native, []string{"Content-Type", "application/xml"}, 415},
		{"/v1/infer", native, []string{"Content-Type", "application/msgpack"}, 400},
		{"/v1/infer", "\x82\xa5model\xa1m\xa6prompt\xa2Hi", []string{"Content-Type", "application/x-msgpack"}, 200},
	} {
		if got := g.roundTrip(request("POST", c.path, c.body, c.headers...)).StatusCode; got != c.want {
			t.Errorf("%s with %v: %d, want %d", c.path, c.headers, got, c.want)
		}
	}
}

func TestReplyCodec(t *testing.T) {
	for _, c := range []struct{ accept, contentType, want string }{
		{"", "", "application/json"},
		{"", "application/msgpack", "application/msgpack"},
		{"*/*", "application/msgpack", "application/msgpack"},
		{"application/json", "application/msgpack", "application/json"},
		{"text/event-stream", "application/msgpack", "application/json"},
		{"application/msgpack", "application/json", "application/msgpack"},
		{"application/json;q=0.2, application/x-msgpack;q=0.9", "", "application/msgpack"},
		{"application/msgpack;q=0, application/json", "", "application/json"},
		{"text/html, ;;;, application/xml", "", "application/json"},
	} {
		r := request("GET", "/v1/cluster/nodes", "", "Accept", c.accept, "Content-Type", c.contentType)
		if got := replyCodec(r).Type(); got != c.want {
			t.Errorf("Accept %q, Content-Type %q: %s, want %s", c.accept, c.contentType, got, c.want)
		}
	}
}

func TestRequestID(t *testing.T) {
	make := func() string { return "made" }
	for in, want := range map[string]string{
		"abc-1_2.3:4": "abc-1_2.3:4", "": "req_made", "a b": "req_made", "a\"b": "req_made", "é": "req_made",
		strings.Repeat("x", 128): strings.Repeat("x", 128), strings.Repeat("x", 129): "req_made",
	} {
		if got := requestID(in, make); got != want {
			t.Errorf("%q: %q", in, got)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	full := func() Config {
		g := newRig(t, nil)
		c := g.cfg
		c.Registry = nil
		return c
	}
	for name, change := range map[string]func(*Config){
		"all addresses without keys": func(c *Config) { c.Addr = "0.0.0.0:8080" },
		"no host without keys":       func(c *Config) { c.Addr = ":8080" },
		"a LAN without keys":         func(c *Config) { c.Addr = "192.168.1.2:8080" },
		"no service":                 func(c *Config) { c.Service = nil },
		"no readiness":               func(c *Config) { c.Ready = nil },
		"a used registry":            func(c *Config) { c.Registry = usedRegistry(t) },
	} {
		c := full()
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := full()
	c.Addr, c.RequireKeys = "0.0.0.0:8080", true
	if _, err := New(c); err != nil {
		t.Errorf("all addresses with keys: %v", err)
	}
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "127.9.9.9:1": true, "[::1]:1": true, "localhost:1": true, ":1": false, "0.0.0.0:1": false, "10.0.0.1:1": false, "nonsense": false} {
		if Loopback(addr) != want {
			t.Errorf("Loopback(%q) is %v", addr, !want)
		}
	}
}

func usedRegistry(t *testing.T) *prometheus.Registry {
	reg := prometheus.NewRegistry()
	if _, err := newMeter(reg, func() int { return 0 }); err != nil {
		t.Fatal(err)
	}
	return reg
}

// A trace handler around everything learns which route it was, and may wrap the writer.
func TestWrap(t *testing.T) {
	var pattern string
	g := newRig(t, func(c *Config) {
		c.Wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(wrapped{w}, r)
				pattern = r.Pattern
			})
		}
	})
	resp := g.roundTrip(request("POST", "/v1/infer", `{"model":"m","prompt":"Hi","stream":true}`))
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != 200 || !strings.Contains(string(body), `"end"`) || pattern != "POST /v1/infer" {
		t.Errorf("%d %q by %q", resp.StatusCode, body, pattern)
	}
}

type wrapped struct{ http.ResponseWriter }

func (w wrapped) Unwrap() http.ResponseWriter { return w.ResponseWriter }
