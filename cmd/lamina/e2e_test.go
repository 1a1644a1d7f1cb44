package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"lamina/node/api"
)

// ask is one request of the test's mix: chats and prompts, greedy and sampled.
type ask struct {
	i   int
	req api.GenerateRequest
}

func asks(n int) []ask {
	topics := []string{"the sea", "a red bicycle", "prime numbers", "the moon", "rain", "an old clock", "bread", "a fox"}
	var out []ask
	for i := range n {
		r := api.GenerateRequest{Model: "smollm2", Options: api.Options{MaxTokens: 12 + i%9}}
		text := fmt.Sprintf("Write a sentence about %s, number %d.", topics[i%len(topics)], i)
		if i%3 == 0 {
			r.Prompt, r.Options.IgnoreEOS = text, true
		} else {
			r.Messages = []api.Message{{Role: "user", Content: text}}
		}
		temp := float32(0)
		if i%2 == 1 {
			temp = 0.8
			seed := uint64(i)
			r.Options.Seed = &seed
		}
		r.Options.Temperature = &temp
		out = append(out, ask{i, r})
	}
	return out
}

func ids(r api.GenerateReply) (out []int32) {
	for _, t := range r.Tokens {
		out = append(out, t.ID)
	}
	return out
}

// askAll sends every request at once, in turn to each of the nodes, and returns the tokens.
func askAll(t *testing.T, nodes []*proc, list []ask, wantRoute string) [][]int32 {
	t.Helper()
	got := make([][]int32, len(list))
	var wg sync.WaitGroup
	for _, a := range list {
		wg.Go(func() {
			p := nodes[a.i%len(nodes)]
			var reply api.GenerateReply
			h, err := p.post("/v1/infer", a.req, &reply)
			if err != nil {
				t.Errorf("request %d at %s: %v", a.i, p.name, err)
				return
			}
			if r := h.Get("Lamina-Route"); wantRoute != "" && r != wantRoute {
				t.Errorf("request %d at %s: Lamina-Route is %q, want %q", a.i, p.name, r, wantRoute)
			}
			got[a.i] = ids(reply)
		})
	}
	wg.Wait()
	return got
}

// Three processes joined by a seed answer 32 requests at once, at all three gateways, with the tokens of a single
// node; killed all at once and started again, they serve again without any file given anew.
func TestClusterAnswersAsOneNode(t *testing.T) {
	file := model(t, smollm2)
	list := asks(32)

	solo := startCluster(t, 1)
	solo[0].must("add", "smollm2", file)
	var want [][]int32
	for _, a := range list { // one after the other: alone
		want = append(want, askAll(t, solo, []ask{{0, a.req}}, "n1[0:30]")[0])
	}
	solo[0].kill()
	if t.Failed() {
		t.FailNow()
	}

	nodes := startCluster(t, 3)
	nodes[1].must("add", "smollm2", file, "--stages", "3")
	for _, p := range nodes { // so that one of them alone is no quorum
		waitVoter(t, p)
	}
	route := routeOf(t, nodes[0])
	compare(t, "three stages", askAll(t, nodes, list, route), want)

	for _, p := range nodes {
		p.kill()
	}
	begun := time.Now()
	var wg sync.WaitGroup
	for _, p := range nodes {
		wg.Go(func() { p.start("") })
	}
	wg.Wait()
	waitServed(t, nodes[2], list[0].req)
	if d := time.Since(begun); d > 10*time.Second {
		t.Errorf("the cluster serves only %v after its restart\n%s", d, nodes[2].log)
	} else {
		t.Logf("serves %v after the restart of all nodes", d.Round(10*time.Millisecond))
	}
	compare(t, "after the restart", askAll(t, nodes, list, ""), want)

	// As a script does it when the power is back: one after the other, waiting for each, though the first cannot reach a quorum.
	for _, p := range nodes {
		p.kill()
	}
	for i, p := range nodes {
		p.start("")
		if i == 0 && !strings.Contains(p.log.String(), "not in touch") {
			t.Errorf("the first node of three does not say what it lacks:\n%s", p.log)
		}
	}
	waitServed(t, nodes[0], list[0].req)
	compare(t, "after a restart one by one", askAll(t, nodes, list, ""), want)
	for _, p := range nodes {
		if code := p.term(); code != 0 {
			t.Errorf("node %s ends with code %d after SIGTERM:\n%s", p.name, code, p.log)
		}
	}
}

// waitServed waits until a node answers a request.
func waitServed(t *testing.T, p *proc, req api.GenerateRequest) {
	t.Helper()
	var reply api.GenerateReply
	for begun := time.Now(); ; <-time.After(50 * time.Millisecond) {
		_, err := p.post("/v1/infer", req, &reply)
		if err == nil {
			return
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("node %s does not serve: %v\n%s", p.name, err, p.log)
		}
	}
}

// waitVoter waits until a node has a vote, as its own view of the cluster says.
func waitVoter(t *testing.T, p *proc) {
	t.Helper()
	for begun := time.Now(); ; <-time.After(100 * time.Millisecond) {
		var out struct {
			Nodes []struct {
				Role string
				Self bool
			}
		}
		if err := json.Unmarshal([]byte(p.must("nodes", "--json")), &out); err != nil {
			t.Fatal(err)
		}
		for _, n := range out.Nodes {
			if n.Self && n.Role == "voter" {
				return
			}
		}
		if time.Since(begun) > time.Minute {
			t.Fatalf("node %s gets no vote:\n%s", p.name, p.log)
		}
	}
}

func compare(t *testing.T, what string, got, want [][]int32) {
	t.Helper()
	total := 0
	for i := range want {
		total += len(want[i])
		if !slices.Equal(got[i], want[i]) {
			t.Errorf("%s: request %d gave the tokens %v, a single node %v", what, i, got[i], want[i])
		}
	}
	if total < 10*len(want) {
		t.Errorf("%s: only %d tokens in %d answers: the comparison says little", what, total, len(want))
	}
}

// routeOf reads from ps --json who holds which layers, checks that they cover the model, and returns it as the header has it.
func routeOf(t *testing.T, p *proc) string {
	t.Helper()
	var out struct {
		Models []struct {
			Name     string
			Layers   int
			Replicas []struct {
				Phase string
				Hops  []struct {
					Node       string
					First, End int
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(p.must("ps", "--json")), &out); err != nil {
		t.Fatal(err)
	}
	if len(out.Models) != 1 || len(out.Models[0].Replicas) != 1 || out.Models[0].Replicas[0].Phase != "ready" {
		t.Fatalf("ps --json: %+v", out)
	}
	var parts []string
	next := 0
	for _, h := range out.Models[0].Replicas[0].Hops {
		if h.First != next {
			t.Fatalf("layers are missing or doubled: %+v", out)
		}
		next = h.End
		parts = append(parts, fmt.Sprintf("%s[%d:%d]", h.Node, h.First, h.End))
	}
	if next != out.Models[0].Layers || len(parts) != 3 {
		t.Fatalf("the hops do not cover the model in three stages: %+v", out)
	}
	return strings.Join(parts, " ")
}

// Bad input of every kind gives a clear error, and the nodes live.
func TestBadInput(t *testing.T) {
	file := model(t, smollm2)
	p := startCluster(t, 1)[0]
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := func(name string, b []byte) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	corrupt := slices.Clone(data[:1<<20])
	for i := 64; i < len(corrupt); i += 97 {
		corrupt[i] ^= 0xA5
	}
	for _, c := range []struct {
		what string
		args []string
		want []string // all in the error text
	}{
		{"truncated", []string{"add", "cut", bad("cut.gguf", data[:len(data)/2])}, []string{"cut.gguf"}},
		{"corrupt", []string{"add", "corrupt", bad("corrupt.gguf", corrupt)}, []string{"corrupt.gguf"}},
		{"not a model", []string{"add", "text", bad("text.gguf", []byte("hello, this is no model"))}, []string{"text.gguf", "GGUF"}},
		{"no file", []string{"add", "none", filepath.Join(t.TempDir(), "nonesuch.gguf")}, []string{"nonesuch.gguf"}},
		{"unknown model", []string{"run", "nonesuch", "hello"}, []string{"nonesuch", "lamina ps"}},
		{"unknown file", []string{"run", "./nonesuch.gguf", "hello"}, []string{"nonesuch.gguf"}},
		{"more stages than nodes", []string{"add", "wide", file, "--stages", "3"}, []string{"stage"}},
		{"wrong join string", []string{"join", "nonsense", "--data", t.TempDir()}, []string{"join"}},
	} {
		out, errOut, err := p.cli(c.args...)
		if err == nil {
			t.Errorf("%s: lamina %v succeeded: %s", c.what, c.args, out)
			continue
		}
		for _, w := range c.want {
			if !strings.Contains(errOut, w) {
				t.Errorf("%s: the error does not name %q: %s", c.what, w, errOut)
			}
		}
		if strings.Contains(errOut, "goroutine") {
			t.Errorf("%s: a stack trace: %s", c.what, errOut)
		}
	}
	if out := p.must("ps", "--json"); !strings.Contains(out, `"models":[]`) && !strings.Contains(out, `"models": []`) {
		t.Errorf("something half-added stays: %s", out)
	}
	p.must("add", "smollm2", file)
	if out := p.must("run", "smollm2", "Say hello."); strings.TrimSpace(out) == "" {
		t.Error("the node does not answer after bad input")
	}
}

// Too little memory in the whole cluster is told with what is missing, and nothing half-placed stays.
func TestTooLittleMemory(t *testing.T) {
	file := model(t, smollm2)
	p := newProc(t, "small")
	p.args = []string{"--memory", "50000000"} // the later flag counts
	p.start("")
	_, errOut, err := p.cli("add", "smollm2", file)
	if err == nil || !strings.Contains(errOut, "memory") {
		t.Fatalf("a model of 100 MB was added to 50 MB: %v %s", err, errOut)
	}
	if out := p.must("ps", "--json"); strings.Contains(out, "smollm2") {
		t.Errorf("something half-placed stays: %s", out)
	}
}

// A model file answers without a cluster, with the tokens that a cluster gives.
func TestRunFile(t *testing.T) {
	file := model(t, smollm2)
	out, errOut, err := runCLI(t, cleanEnv(), "run", file, "The capital of France is", "--raw", "--temperature", "0", "--max-tokens", "4")
	if err != nil {
		t.Fatalf("%v: %s", err, errOut)
	}
	if !strings.Contains(out, "Paris") {
		t.Errorf("the answer is %q", out)
	}
}

// The official openai client, unchanged but for base_url, against a cluster of two nodes.
func TestOpenAIClient(t *testing.T) {
	file := model(t, smollm2)
	python := os.Getenv("LAMINA_PYTHON")
	if python == "" {
		python = "python3"
	}
	err := exec.Command(python, "-c", "import openai").Run()
	need(t, err == nil, "%s cannot import openai (pip install openai, or LAMINA_PYTHON=VENV/bin/python): %v", python, err)
	nodes := startCluster(t, 2)
	nodes[0].must("add", "smollm2", file, "--stages", "2")
	out, err := exec.Command(python, "../../deploy/conformance/openai_client.py", "http://"+nodes[1].http+"/v1", "smollm2").CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// healthy asks a health route for its status code.
func healthy(t *testing.T, p *proc, path string) int {
	t.Helper()
	resp, err := http.Get("http://" + p.http + path)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func TestHealthAndMetrics(t *testing.T) {
	model(t, smollm2)
	p := startCluster(t, 1)[0]
	for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
		if code := healthy(t, p, path); code != http.StatusOK {
			t.Errorf("%s answers %d", path, code)
		}
	}
}
