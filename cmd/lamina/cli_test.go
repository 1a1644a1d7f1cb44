package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"lamina/node/api"
	"lamina/node/ingest"
	"lamina/shard/tiny"
)

// Every flag has its variable, and the ones that scripts rely on are there under their names.
func TestFlagsAndVariables(t *testing.T) {
	parser := kong.Must(&commands{}, kong.DefaultEnvars("LAMINA"), kong.Vars{"data": "x"})
	flags := map[string]bool{}
	var walk func(n *kong.Node, path string)
	walk = func(n *kong.Node, path string) {
		for _, f := range n.Flags {
			if f.Name == "help" {
				continue
			}
			want := "LAMINA_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
			if len(f.Envs) != 1 || f.Envs[0] != want {
				t.Errorf("%s --%s has the variables %v, want %s", path, f.Name, f.Envs, want)
			}
			if f.Help == "" {
				t.Errorf("%s --%s has no help", path, f.Name)
			}
			flags[path+" --"+f.Name] = true
		}
		for _, c := range n.Children {
			walk(c, strings.TrimSpace(path+" "+c.Name))
		}
	}
	walk(parser.Model.Node, "")
	for _, cmd := range []string{"up", "join"} {
		for _, f := range []string{"name", "data", "peer", "http", "memory", "threads", "otlp"} {
			if !flags[cmd+" --"+f] {
				t.Errorf("%s has no --%s", cmd, f)
			}
		}
	}
	for _, f := range []string{"ps --json", "nodes --json", "show --json", "add --stages", "add --replicas", "token create --addr", "run --addr", "bench --json", "bench --concurrency", "bench --rate", "bench --max-errors"} {
		if !flags[f] {
			t.Errorf("there is no %s", f)
		}
	}
}

func TestNodeConfig(t *testing.T) {
	clearEnv(t)
	t.Setenv("LAMINA_NAME", "n7")
	t.Setenv("LAMINA_HTTP", "127.0.0.1:9999")
	t.Setenv("LAMINA_MEMORY", "2GiB")
	var c commands
	parser := kong.Must(&c, kong.DefaultEnvars("LAMINA"), kong.Vars{"data": "x"})
	if _, err := parser.Parse([]string{"join", "h:1/t@sha256:p", "--http", "127.0.0.1:8888", "--memory", "1", "--memory", "2", "--threads", "3", "--data", "/d"}); err != nil {
		t.Fatal(err)
	}
	cfg := c.Join.config(&app{err: io.Discard}, c.Join.JoinString)
	if cfg.Name != "n7" || cfg.HTTP != "127.0.0.1:8888" || cfg.Memory != 2 || cfg.Threads != 3 || cfg.Data != "/d" || cfg.Peer != "127.0.0.1:7946" || cfg.Join != "h:1/t@sha256:p" {
		t.Errorf("%+v", cfg)
	}
}

// clearEnv takes away what a developer may have set for a cluster of their own.
func clearEnv(t *testing.T) {
	for _, kv := range os.Environ() {
		if name, _, _ := strings.Cut(kv, "="); strings.HasPrefix(name, "LAMINA_") {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}

var twoNodes = api.Model{
	Name: "m", Digest: "sha256:ab", Arch: "llama", Layers: 30, Hidden: 576, Vocab: 49152, Context: 8192, Bytes: 98_400_000, Created: 0, Ready: true,
	Replicas: []api.Replica{{Epoch: 12, Phase: "loading", Hops: []api.Hop{{Node: "n1", First: 0, End: 10, Ready: true}, {Node: "n2", First: 10, End: 30}}}},
}

// A name that stands for the same model takes new wishes and nothing is sent; for another model it is refused.
func TestAddAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "m.gguf")
	if err := os.WriteFile(path, tiny.Llama(tiny.Config{Layers: 2, Seed: 1}), 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := ingest.Send(t.Context(), path, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeNode{added: file.Model.Digest}
	out, errOut, code := lamina(t, f, "", "add", "m", path, "--stages", "1")
	if code != 0 || !strings.Contains(out, "m is ready") || f.puts != 0 {
		t.Errorf("%d %q %q, %d puts", code, out, errOut, f.puts)
	}
	f = &fakeNode{added: "sha256:other"}
	if _, errOut, code = lamina(t, f, "", "add", "m", path); code != 1 || !strings.Contains(errOut, "lamina rm m") || f.puts != 0 {
		t.Errorf("%d %q, %d puts", code, errOut, f.puts)
	}
}

// fakeNode answers the cluster's routes with fixed values and remembers the last key and path.
type fakeNode struct {
	models    []api.Model
	key, path string
	polls     int
	puts      int
	added     string // digest of the model that is there
}

func (f *fakeNode) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.key, f.path = r.Header.Get("Authorization"), r.Method+" "+r.URL.Path
	reply := func(v any) { _ = json.NewEncoder(w).Encode(v) }
	w.Header().Set("Content-Type", "application/json")
	switch f.path {
	case "GET /v1/cluster/models":
		reply(api.ModelsReply{Models: f.models})
	case "GET /v1/cluster/nodes":
		reply(api.NodesReply{Nodes: []api.Node{{Name: "n1", Peer: "a:1", HTTP: "a:2", Role: "voter", Leader: true, Alive: true, Self: true, Version: "v1", MemoryFree: 1.5e9, MemoryTotal: 2e9}}})
	case "GET /v1/cluster/models/m":
		f.polls++
		m := twoNodes
		m.Digest = cmp.Or(f.added, m.Digest)
		if f.polls > 1 {
			m.Replicas = []api.Replica{{Epoch: 12, Phase: "ready", Hops: []api.Hop{{Node: "n1", End: 30, Ready: true}}}}
		}
		reply(api.ModelsReply{Models: []api.Model{m}})
	case "POST /v1/cluster/models":
		reply(api.ModelsReply{Models: []api.Model{twoNodes}})
	case "POST /v1/cluster/nodes/n1/drain", "GET /v1/cluster/nodes/n1/drain":
		d := api.DrainReply{Draining: true, Spans: []api.DrainSpan{{Model: "m", Epoch: 12, First: 10, End: 30, Phase: "ready", Problem: "too little memory"}}}
		if f.polls++; f.polls > 2 {
			d.Spans = []api.DrainSpan{}
		}
		reply(d)
	case "DELETE /v1/cluster/nodes/n1":
		reply(api.DoneReply{Done: true})
	case "GET /v1/cluster/backup":
		reply(json.RawMessage(`{"version":1,"cluster":"lab","models":[{"name":"m"}],"keys":[{"id":"k"}]}`))
	case "POST /v1/cluster/restore":
		reply(api.RestoreReply{Models: []string{}, Keys: []string{"k"}, Refused: []api.RestoreRefusal{{Model: "m", Reason: "its parts are not on this node"}}})
	case "POST /v1/cluster/tokens":
		reply(api.TokenReply{Join: "h:1/t@sha256:p"})
	case "POST /v1/infer":
		for _, e := range []api.GenerateEvent{{Type: api.EventStart, Route: "n1[0:30]"}, {Type: api.EventText, Text: "Hello"}, {Type: api.EventText, Text: " there"}, {Type: api.EventEnd, FinishReason: "stop", Usage: &api.Usage{PromptTokens: 4, CompletionTokens: 2}, Timings: &api.Timings{PrefillMS: 100, DecodeMS: 50}}} {
			b, _ := api.JSON.AppendEvent(nil, e, false)
			_, _ = w.Write(b)
		}
	default:
		if r.Method == http.MethodPut {
			f.puts++
		}
		w.WriteHeader(http.StatusNotFound)
		reply(api.ErrorReply{Error: api.Error{Message: "model not found: \"x\"; lamina ps lists the models", Code: "model_not_found"}})
	}
}

// lamina runs the program in this process against a fake node.
func lamina(t *testing.T, f *fakeNode, stdin string, args ...string) (out, errOut string, code int) {
	t.Helper()
	clearEnv(t)
	web := httptest.NewServer(f)
	defer web.Close()
	t.Setenv("LAMINA_ADDR", web.URL)
	t.Setenv("LAMINA_DATA", t.TempDir())
	if err := os.WriteFile(filepath.Join(os.Getenv("LAMINA_DATA"), "admin.key"), []byte("lk_a_b\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var o, e bytes.Buffer
	code = run(args, strings.NewReader(stdin), &o, &e)
	return o.String(), e.String(), code
}

func TestCommands(t *testing.T) {
	for _, c := range []struct {
		args       []string
		stdin      string
		out, errIs []string // all in the output, in the errors
		code       int
	}{
		{args: []string{"ps"}, out: []string{"MODEL", "98.4 MB", "loading", "n1[0:10] n2[10:30]..."}},
		{args: []string{"nodes"}, out: []string{"leader", "alive", "1.5 GB", "2.0 GB"}},
		{args: []string{"show", "m"}, out: []string{"sha256:ab", "8192", "placement 12"}},
		{args: []string{"token", "create"}, out: []string{"h:1/t@sha256:p\n"}},
		{args: []string{"token", "create", "--ttl", "1ms"}, errIs: []string{"--ttl"}, code: 1},
		{args: []string{"drain", "n1"}, out: []string{"n1 serves nothing"}, errIs: []string{"still serves layers 10:30 of m (ready): too little memory\n"}},
		{args: []string{"drain", "n1", "--no-wait"}, errIs: []string{"still serves"}},
		{args: []string{"drain", "n1", "--off"}, out: []string{"takes layers again"}},
		{args: []string{"drain", "n9"}, errIs: []string{"not found"}, code: 1},
		{args: []string{"remove", "n1"}, out: []string{"removed node n1"}},
		{args: []string{"backup", "-"}, out: []string{`"cluster": "lab"`}},
		{args: []string{"restore", "-"}, stdin: `{"version":1,"models":[{"name":"m"}],"keys":[{"id":"k"}]}`, out: []string{"0 of 1 models, 1 of 1 keys"}, errIs: []string{"model m: its parts"}, code: 1},
		{args: []string{"restore", "-"}, stdin: `{"versions":1}`, errIs: []string{"no backup"}, code: 1},
		{args: []string{"restore", "none.json"}, errIs: []string{"none.json"}, code: 1},
		{args: []string{"recover"}, errIs: []string{"join anew", "--yes"}, code: 1},
		{args: []string{"recover", "--yes"}, errIs: []string{"identity"}, code: 1},
		{args: []string{"rm", "x"}, errIs: []string{"model not found", "lamina ps"}, code: 1},
		{args: []string{"run", "m", "Hi", "you", "-v"}, out: []string{"Hello there\n"}, errIs: []string{"prompt 4 tokens in 100ms (40.0 tokens/s)", "answer 2 tokens in 50ms (20.0 tokens/s)", "n1[0:30]"}},
		{args: []string{"run", "m"}, stdin: "Hi by a pipe", out: []string{"Hello there\n"}},
		{args: []string{"run", "m"}, errIs: []string{"nothing to ask"}, code: 1},
		{args: []string{"run", "./none.gguf", "Hi"}, errIs: []string{"none.gguf"}, code: 1},
		{args: []string{"add", "new", "none.gguf"}, errIs: []string{"none.gguf"}, code: 1},
		{args: []string{"up", "--peer", "0.0.0.0:1"}, errIs: []string{"peer"}, code: 1},
		{args: []string{"up", "--memory", "lots"}, errIs: []string{"lots"}, code: 2},
		{args: []string{"fly"}, errIs: []string{"fly", "--help"}, code: 2},
		{args: []string{"version"}, out: []string{"lamina ", "go1."}},
	} {
		out, errOut, code := lamina(t, &fakeNode{models: []api.Model{twoNodes}}, c.stdin, c.args...)
		if code != c.code {
			t.Errorf("%v: code %d, want %d\n%s%s", c.args, code, c.code, out, errOut)
		}
		for _, w := range c.out {
			if !strings.Contains(out, w) {
				t.Errorf("%v: no %q in %q", c.args, w, out)
			}
		}
		for _, w := range c.errIs {
			if !strings.Contains(errOut, w) {
				t.Errorf("%v: no %q in the errors %q", c.args, w, errOut)
			}
		}
	}
}

// What scripts read.
func TestJSONOutput(t *testing.T) {
	f := &fakeNode{models: []api.Model{twoNodes}}
	out, _, _ := lamina(t, f, "", "ps", "--json")
	var ps struct {
		Models []struct {
			Name, Digest string
			Layers       int
			Replicas     []struct {
				Epoch uint64
				Phase string
				Hops  []struct {
					Node       string
					First, End int
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &ps); err != nil || len(ps.Models) != 1 || ps.Models[0].Replicas[0].Epoch != 12 || ps.Models[0].Replicas[0].Hops[1].End != 30 {
		t.Errorf("%s: %v", out, err)
	}
	if f.key != "Bearer lk_a_b" {
		t.Errorf("the key of the data folder was not used: %q", f.key)
	}
	if out, _, _ := lamina(t, &fakeNode{models: []api.Model{}}, "", "ps", "--json"); !strings.Contains(out, `"models": []`) {
		t.Errorf("no models: %s", out)
	}
	if out, _, _ := lamina(t, f, "", "nodes", "--json"); !strings.Contains(out, `"leader": true`) || !strings.Contains(out, `"alive": true`) {
		t.Errorf("nodes: %s", out)
	}
	if out, _, _ := lamina(t, f, "", "show", "m", "--json"); !strings.Contains(out, `"models": [`) {
		t.Errorf("show: %s", out)
	}
	t.Setenv("LAMINA_JSON", "true")
	if out, _, code := lamina(t, f, "", "ps", "--key", "lk_mine"); code != 0 || f.key != "Bearer lk_mine" {
		t.Errorf("--key: %q %s", f.key, out)
	}
}

func TestNoNode(t *testing.T) {
	clearEnv(t)
	web := httptest.NewServer(http.NotFoundHandler())
	web.Close()
	var out, errOut bytes.Buffer
	if code := run([]string{"ps", "--addr", web.URL, "--data", t.TempDir()}, strings.NewReader(""), &out, &errOut); code != 1 || !strings.Contains(errOut.String(), "lamina up") {
		t.Errorf("%d %s", code, &errOut)
	}
}

func TestAwait(t *testing.T) {
	f := &fakeNode{}
	web := httptest.NewServer(f)
	defer web.Close()
	cl, err := api.NewClient(web.URL, "", api.JSON)
	if err != nil {
		t.Fatal(err)
	}
	var out, errOut bytes.Buffer
	c := addCmd{Name: "m"}
	if err := c.await(t.Context(), &app{out: &out, err: &errOut}, cl, twoNodes); err != nil {
		t.Fatal(err)
	}
	if out.String() != "m is ready: n1[0:30]\n" || !strings.Contains(errOut.String(), "placing m: loading n1[0:10] n2[10:30]...") {
		t.Errorf("%q %q", out.String(), errOut.String())
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.polls = -100
	if err := c.await(ctx, &app{out: io.Discard, err: io.Discard}, cl, twoNodes); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}

// A name that the cluster would refuse, or lamina run take for a file, is refused before a node is asked.
func TestAddRefusesNames(t *testing.T) {
	for _, name := range []string{"bad name", "../x", "/x", "x.gguf", "X.GGUF", strings.Repeat("x", 129)} {
		var errOut bytes.Buffer
		code := run([]string{"add", name, "nonesuch", "--addr", "http://127.0.0.1:1", "--key", "lk_x"}, strings.NewReader(""), io.Discard, &errOut)
		if code != exitFailure || !strings.Contains(errOut.String(), "name") || strings.Contains(errOut.String(), "no node answers") {
			t.Errorf("%q: code %d, %s", name, code, &errOut)
		}
	}
}

// What was asked for counts: replicas and stages.
func TestServed(t *testing.T) {
	one, two := api.Replica{Phase: "ready", Hops: make([]api.Hop, 1)}, api.Replica{Phase: "ready", Hops: make([]api.Hop, 2)}
	loading := api.Replica{Phase: "loading", Hops: make([]api.Hop, 2)}
	for _, c := range []struct {
		replicas      []api.Replica
		stages, count int
		want          bool
	}{
		{nil, 0, 0, false}, {[]api.Replica{one}, 0, 0, true}, {[]api.Replica{one}, 0, 2, false}, {[]api.Replica{one, two}, 0, 2, true},
		{[]api.Replica{one}, 2, 0, false}, {[]api.Replica{one, loading}, 2, 0, false}, {[]api.Replica{one, two}, 2, 0, true},
	} {
		if got := served(api.Model{Replicas: c.replicas}, c.stages, c.count); got != c.want {
			t.Errorf("%+v for %d stages and %d replicas: %v", c.replicas, c.stages, c.count, got)
		}
	}
}

func TestSizes(t *testing.T) {
	for in, want := range map[string]byteSize{"0": 0, "1500000000": 1500000000, "512MB": 512e6, "8GiB": 8 << 30, "8 gib": 8 << 30, "1.5g": 1.5e9, "64KiB": 64 << 10, "7b": 7, "2TB": 2e12} {
		var b byteSize
		if err := b.UnmarshalText([]byte(in)); err != nil || b != want {
			t.Errorf("%q: %d %v", in, b, err)
		}
	}
	for _, in := range []string{"", "x", "-1", "1e99GB", "NaN", "8 GiBs", "GB"} {
		var b byteSize
		if err := b.UnmarshalText([]byte(in)); err == nil {
			t.Errorf("%q was taken as %d", in, b)
		}
	}
	for in, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 98_362_432: "98.4 MB", 999_960: "1.0 MB", 123_456_789: "123 MB", 1 << 40: "1.1 TB", 5e15: "5000 TB"} {
		if got := size(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
	for in, want := range map[time.Duration]string{5 * time.Millisecond: "5 ms ago", 90 * time.Second: "90 s ago", time.Hour: "60 min ago", 30 * time.Hour: "30 h ago"} {
		if got := ago(in); got != want {
			t.Errorf("%v: %s, want %s", in, got, want)
		}
	}
}

func TestBar(t *testing.T) {
	var w bytes.Buffer
	b := newBar(&w, "sending m")
	begun := b.begun
	b.now = func() time.Time { return begun.Add(2 * time.Second) }
	for done := int64(0); done <= 100; done++ {
		b.set("layer.1", done*1_000_000, 100_000_000)
	}
	lines := strings.Split(strings.TrimSpace(w.String()), "\n")
	if len(lines) != 10 {
		t.Errorf("%d lines away from a terminal: %q", len(lines), lines)
	}
	if want := "sending m  [============            ]  50 %  50.0 MB of 100 MB, 25.0 MB/s, 2s left, layer.1"; lines[4] != want {
		t.Errorf("got  %q\nwant %q", lines[4], want)
	}
	if !strings.HasSuffix(lines[9], "100 %  100 MB of 100 MB, 50.0 MB/s") {
		t.Errorf("at the end: %q", lines[9])
	}
	b.set("x", 5, 0) // of nothing: no line, no division by zero
	b.close()
}

func TestIsFile(t *testing.T) {
	for in, want := range map[string]bool{"m.gguf": true, "M.GGUF": true, "./m": true, "../m": true, "/models/m": true, "smollm2": false, "org/model:q4": false} {
		if isFile(in) != want {
			t.Errorf("%q", in)
		}
	}
}

// scripted is a person at the terminal and a model that answers with what it was asked.
type scripted struct {
	lines []string
	seen  []api.GenerateRequest
	err   error
}

func (s *scripted) line(string) (string, error) {
	if len(s.lines) == 0 {
		return "", io.EOF
	}
	l := s.lines[0]
	s.lines = s.lines[1:]
	return l, nil
}

func (s *scripted) ask(_ context.Context, r api.GenerateRequest, emit func(api.GenerateEvent) error) error {
	s.seen = append(s.seen, r)
	if s.err != nil {
		return s.err
	}
	return emit(api.GenerateEvent{Type: api.EventText, Text: "re: " + r.Messages[len(r.Messages)-1].Content})
}

func (s *scripted) name() string { return "m" }
func (s *scripted) close()       {}

func talk(t *testing.T, c *runCmd, s *scripted) (out, errOut string) {
	t.Helper()
	var o, e bytes.Buffer
	h := newChat(&app{out: &o, err: &e}, c, s)
	h.in = s
	if err := h.loop(); err != nil {
		t.Fatal(err)
	}
	return o.String(), e.String()
}

func TestChat(t *testing.T) {
	s := &scripted{lines: []string{"Hi", "", `"""first`, `second"""`, "/set temperature 0.5", "/set top_k x", "/set nonsense 1", "/what", "more", "/clear", "new", "/set system Be kind.", "again", "/bye", "never"}}
	out, errOut := talk(t, &runCmd{System: "Be brief."}, s)
	var got []string
	for _, r := range s.seen {
		var texts []string
		for _, m := range r.Messages {
			texts = append(texts, m.Role[:1]+":"+m.Content)
		}
		got = append(got, strings.Join(texts, "|"))
	}
	want := []string{
		"s:Be brief.|u:Hi",
		"s:Be brief.|u:Hi|a:re: Hi|u:first\nsecond",
		"s:Be brief.|u:Hi|a:re: Hi|u:first\nsecond|a:re: first\nsecond|u:more",
		"s:Be brief.|u:new",
		"s:Be kind.|u:again",
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if s.seen[1].Options.Temperature != nil || s.seen[2].Options.Temperature == nil || *s.seen[2].Options.Temperature != 0.5 {
		t.Error("/set temperature did not hold from where it stood")
	}
	for _, w := range []string{"top_k", "nonsense", "/clear"} {
		if !strings.Contains(errOut, w) {
			t.Errorf("no %q in %q", w, errOut)
		}
	}
	if !strings.HasPrefix(out, "re: Hi\nre: first\nsecond\n") {
		t.Errorf("%q", out)
	}
}

func TestChatGoesOnAfterAnError(t *testing.T) {
	s := &scripted{lines: []string{"Hi", "again"}, err: &api.Error{Message: "too long", Code: "context_length_exceeded"}}
	_, errOut := talk(t, &runCmd{}, s)
	if len(s.seen) != 2 || len(s.seen[1].Messages) != 1 || !strings.Contains(errOut, "/clear begins anew") {
		t.Errorf("%+v %q", s.seen, errOut)
	}
	s = &scripted{lines: []string{"Hi", "again"}, err: context.Canceled} // Ctrl-C
	if _, errOut = talk(t, &runCmd{}, s); len(s.seen) != 2 || len(s.seen[1].Messages) != 3 || strings.Contains(errOut, "canceled") {
		t.Errorf("%+v %q", s.seen, errOut)
	}
}

func TestClearsLine(t *testing.T) {
	data, err := io.ReadAll(clearsLine{strings.NewReader("ab\x03c")})
	if err != nil || string(data) != "ab\x15c" {
		t.Errorf("%q %v", data, err)
	}
}

// A backup is written whole or not at all, for its owner only.
func TestBackupFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.json")
	if _, errOut, code := lamina(t, &fakeNode{}, "", "backup", path); code != 0 || !strings.Contains(errOut, "1 models and 1 keys of cluster lab") {
		t.Fatalf("%d %s", code, errOut)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if out, _, code := lamina(t, &fakeNode{}, "", "restore", path); code != 1 || !strings.Contains(out, "1 of 1 keys") {
		t.Errorf("%d %s", code, out)
	}
	if _, errOut, code := lamina(t, &fakeNode{}, "", "backup", filepath.Join(path, "under-a-file")); code != 1 || !strings.Contains(errOut, "b.json") {
		t.Errorf("%d %s", code, errOut)
	}
}
