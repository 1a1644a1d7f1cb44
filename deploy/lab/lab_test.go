package lab

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

var (
	runs    = flag.Int("lab.runs", 12, "faults of each scenario")
	seed    = flag.Uint64("lab.seed", 1, "seed of everything random")
	program = flag.String("lab.bin", "", "the program (make build makes bin/lamina); empty: the lab does not run")
	weights = flag.String("lab.model", "", "a GGUF file, SmolLM2-135M's for the figures of docs/reliability.md")
	report  = flag.String("lab.report", "", "file to which a line of JSON is added for each scenario")
)

// TestMain is the router's process too.
func TestMain(m *testing.M) {
	if s := os.Getenv(RouterEnv); s != "" {
		n, _ := strconv.ParseUint(s, 10, 64)
		if err := RunRouter(tunDevice, n, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "router:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	flag.Parse()
	os.Exit(m.Run())
}

// rig is a cluster with the model in it and what undisturbed runs answer.
type rig struct {
	*Cluster
	t    *testing.T
	rng  *rand.Rand
	asks []Ask
	want [][]int
	idle []time.Duration // longest pause of each undisturbed stream
}

// prompts are of different lengths: up to some 300 tokens, so that no context is longer than 512.
func prompts(n int) (out []Ask) {
	text := "The tide came in before noon. Count the boats and tell where each of them went, from the first to the last. "
	for i := range n {
		q := Ask{Model: "m", Prompt: strings.Repeat(text, 1+3*(i%4)) + fmt.Sprint("Boat ", i), Max: 96 + 16*(i%4), Seed: 100 + i}
		if i%2 == 1 {
			q.Temperature = 0.9
		}
		out = append(out, q)
	}
	return out
}

// start makes a cluster of so many nodes with the model in two stages and so many replicas.
func start(t *testing.T, nodes, replicas int) *rig {
	if *program == "" || *weights == "" {
		t.Skip("make lab runs this")
	}
	abs, err := filepath.Abs(*program)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	n, err := NewNet(nodes, *seed, self)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	c, err := NewCluster(n, abs, t.TempDir(), "--threads", "1", "--memory", "700MiB")
	if c != nil {
		t.Cleanup(c.Close)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &rig{Cluster: c, t: t, rng: rand.New(rand.NewPCG(*seed, 0)), asks: prompts(8)}
	if _, err := c.Lamina("add", "m", *weights, "--stages", "2", "--replicas", fmt.Sprint(replicas)); err != nil {
		t.Fatal(err)
	}
	r.settle(replicas)
	for i, a := range r.all(c.Nodes[nodes], nil) {
		if a.err != nil {
			t.Fatalf("undisturbed request %d: %v", i, a.err)
		}
		r.want, r.idle = append(r.want, a.Tokens), append(r.idle, a.Gap())
	}
	return r
}

func (r *rig) settle(replicas int) {
	r.t.Helper()
	if err := r.Settle("m", replicas, time.Minute); err != nil {
		r.t.Fatal(err)
	}
}

type outcome struct {
	Answer
	err error
}

// all asks all at once at one node and waits. at is called once when that many tokens have come in all.
func (r *rig) all(p *Node, at func(tokens int)) []outcome {
	out := make([]outcome, len(r.asks))
	var mu sync.Mutex
	total := 0
	var wg sync.WaitGroup
	for i := range r.asks {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
			defer cancel()
			out[i].err = r.Stream(ctx, p, r.asks[i], &out[i].Answer, func(int) {
				mu.Lock()
				total++
				n := total
				mu.Unlock()
				if at != nil {
					at(n)
				}
			})
		})
	}
	wg.Wait()
	return out
}

// judge compares the answers with the undisturbed ones and returns their longest pauses.
func (r *rig) judge(what string, out []outcome) (gaps []time.Duration) {
	r.t.Helper()
	for i, a := range out {
		if a.err != nil || !slices.Equal(a.Tokens, r.want[i]) {
			r.t.Errorf("%s: request %d: %d of %d tokens, equal so far: %v, %v", what, i, len(a.Tokens), len(r.want[i]), slices.Equal(a.Tokens, r.want[i][:min(len(a.Tokens), len(r.want[i]))]), a.err)
		}
		gaps = append(gaps, a.Gap())
	}
	return gaps
}

// write adds a line to the report.
func (r *rig) write(scenario string, count int, values map[string]any) {
	r.t.Helper()
	line := map[string]any{"scenario": scenario, "count": count, "seed": *seed, "cpu": cpu(), "cores": runtime.NumCPU(), "date": time.Now().UTC().Format(time.DateOnly)}
	for k, v := range values {
		if d, ok := v.(time.Duration); ok {
			v = d.Milliseconds()
		}
		line[k] = v
	}
	data, err := json.Marshal(line)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Logf("%s", data)
	if *report == "" {
		return
	}
	f, err := os.OpenFile(*report, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := f.Write(append(data, '\n')); err != nil {
		r.t.Error(err)
	}
	if err := f.Close(); err != nil {
		r.t.Error(err)
	}
}

func cpu() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	_, rest, _ := strings.Cut(string(data), "model name")
	name, _, _ := strings.Cut(rest, "\n")
	return strings.Trim(name, " \t:")
}

// A stage dies, is stopped, or is cut off, one way or both, while eight streams run through a gateway that holds no stage. Every stream
// goes on with the tokens of an undisturbed run.
func TestStageLost(t *testing.T) {
	r := start(t, 5, 2) // n5 is the gateway: four nodes hold two replicas of two stages
	gateway := r.gateway()
	const replicas = 2
	faults := []struct {
		name string
		do   func(p *Node)
		undo func(p *Node)
	}{
		{"killed", (*Node).Kill, func(p *Node) { r.must(p.Start()) }},
		{"stopped", func(p *Node) { p.Signal(syscall.SIGSTOP) }, func(p *Node) { p.Signal(syscall.SIGCONT) }},
		{"cut off", func(p *Node) { r.cut(p, true, true) }, func(p *Node) { r.must(r.Net.Heal()) }},
		{"cut one way", func(p *Node) { r.cut(p, true, false) }, func(p *Node) { r.must(r.Net.Heal()) }},
	}
	gaps := map[string][]time.Duration{}
	hit := map[string]int{}
	for i := range *runs {
		f := faults[i%len(faults)]
		victim := r.stage(gateway)
		when := 1 + r.rng.IntN(8*80)
		var once sync.Once
		out := r.all(gateway, func(n int) {
			if n >= when {
				once.Do(func() { f.do(victim) })
			}
		})
		what := fmt.Sprintf("run %d, %s %s after %d tokens", i, victim.Name, f.name, when)
		gaps[f.name] = append(gaps[f.name], r.judge(what, out)...)
		for _, a := range out {
			if strings.Contains(a.Route, victim.Name+"[") {
				hit[f.name]++
			}
		}
		f.undo(victim)
		r.settle(replicas)
		if t.Failed() {
			t.Fatalf("%s; the log of %s:\n%s", what, gateway.Name, gateway.log)
		}
	}
	for _, f := range faults {
		g := gaps[f.name]
		r.write("stage "+f.name, len(g)/8, map[string]any{"streams": len(g), "hit": hit[f.name], "gap_ms_p50": Quantile(g, 0.5), "gap_ms_p99": Quantile(g, 0.99), "gap_ms_max": Quantile(g, 1), "idle_gap_ms_max": Quantile(r.idle, 1)})
	}
}

func (r *rig) must(err error) {
	r.t.Helper()
	if err != nil {
		r.t.Fatal(err)
	}
}

// stage is a node that holds a stage and is not the gateway.
func (r *rig) stage(gateway *Node) *Node {
	r.t.Helper()
	list, err := r.Replicas(context.Background(), gateway, "m")
	r.must(err)
	var nodes []*Node
	for _, hops := range list {
		for _, h := range hops {
			for _, p := range r.Nodes[1:] {
				if p.Name == h.Node && p != gateway {
					nodes = append(nodes, p)
				}
			}
		}
	}
	if len(nodes) == 0 {
		r.t.Fatalf("no stage: %v", list)
	}
	return nodes[r.rng.IntN(len(nodes))]
}

// gateway is a node that holds no stage.
func (r *rig) gateway() *Node {
	r.t.Helper()
	list, err := r.Replicas(context.Background(), r.Nodes[1], "m")
	r.must(err)
	for _, p := range r.Nodes[1:] {
		if !slices.ContainsFunc(list, func(hops []Hop) bool {
			return slices.ContainsFunc(hops, func(h Hop) bool { return h.Node == p.Name })
		}) {
			return p
		}
	}
	r.t.Fatal("every node holds a stage")
	return nil
}

// cut cuts a node off from the other nodes: what it sends, what it is sent, or both.
func (r *rig) cut(p *Node, out, in bool) {
	for _, q := range r.Nodes[1:] {
		if q == p {
			continue
		}
		if out {
			r.must(r.Net.Cut(p.host, q.host, true))
		}
		if in {
			r.must(r.Net.Cut(q.host, p.host, true))
		}
	}
}

// The gateway is killed in the middle of the streams. Their clients ask another node for the rest and get exactly that.
func TestGatewayKilled(t *testing.T) {
	r := start(t, 5, 2)
	var waits []time.Duration
	for i := range *runs {
		gateway := r.Nodes[1+r.rng.IntN(5)]
		when := 1 + r.rng.IntN(8*60)
		for k := range r.asks {
			r.asks[k].ID = fmt.Sprintf("run-%d-%d", i, k)
		}
		var once sync.Once
		var died time.Time
		out := r.all(gateway, func(n int) {
			if n >= when {
				once.Do(func() { died = time.Now(); gateway.Signal(syscall.SIGKILL) })
			}
		})
		gateway.Kill()
		var wg sync.WaitGroup
		for k := range out {
			if out[k].Whole {
				continue
			}
			p := r.Nodes[1+(gateway.host+k%4)%5]
			wg.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				out[k].err = r.Resume(ctx, p, r.asks[k].ID, &out[k].Answer)
			})
		}
		wg.Wait()
		for _, a := range out {
			for _, at := range a.At {
				if at.After(died) {
					waits = append(waits, at.Sub(died))
					break
				}
			}
		}
		r.judge(fmt.Sprintf("run %d, gateway %s killed after %d tokens", i, gateway.Name, when), out)
		r.must(gateway.Start())
		r.settle(2)
		if t.Failed() {
			t.FailNow()
		}
	}
	r.write("gateway killed", *runs, map[string]any{"streams": len(waits), "next_token_ms_p50": Quantile(waits, 0.5), "next_token_ms_p99": Quantile(waits, 0.99), "next_token_ms_max": Quantile(waits, 1)})
}

// All nodes are killed at once and started again: the cluster serves within seconds and has forgotten nothing.
func TestAllKilled(t *testing.T) {
	r := start(t, 3, 1)
	before := r.backup()
	var took []time.Duration
	for range *runs {
		for _, p := range r.Nodes[1:] {
			p.Signal(syscall.SIGKILL)
		}
		for _, p := range r.Nodes[1:] {
			p.Kill()
		}
		begun := time.Now()
		var wg sync.WaitGroup
		errs := make([]error, len(r.Nodes))
		for i, p := range r.Nodes[1:] {
			wg.Go(func() { errs[i] = p.Start() })
		}
		wg.Wait()
		for _, err := range errs {
			r.must(err)
		}
		for {
			var a Answer
			ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
			err := r.Stream(ctx, r.Nodes[3], Ask{Model: "m", Prompt: "x", Max: 1}, &a, nil)
			cancel()
			if err == nil {
				break
			}
			if time.Since(begun) > time.Minute {
				t.Fatalf("it does not serve: %v", err)
			}
		}
		took = append(took, time.Since(begun))
		r.settle(1)
		if after := r.backup(); after != before {
			t.Fatalf("the agreed state was\n%s\nand is\n%s", before, after)
		}
	}
	r.judge("after the restarts", r.all(r.Nodes[2], nil))
	r.write("all killed", *runs, map[string]any{"serves_ms_p50": Quantile(took, 0.5), "serves_ms_max": Quantile(took, 1)})
}

// backup is the models and keys that are agreed on.
func (r *rig) backup() string {
	r.t.Helper()
	out, err := r.Lamina("backup", "-")
	r.must(err)
	var b map[string]json.RawMessage
	r.must(json.Unmarshal([]byte(out), &b))
	return string(b["models"]) + string(b["keys"])
}

// A bad network between all nodes: late, lossy, doubling, reordering, corrupting. Answers are slow, never wrong.
func TestBadNetwork(t *testing.T) {
	r := start(t, 3, 1)
	for name, l := range map[string]Line{
		"10 ms":                    {Delay: 10 * time.Millisecond},
		"20 ms, jitter":            {Delay: 20 * time.Millisecond, Jitter: 10 * time.Millisecond},
		"1 % lost":                 {Delay: time.Millisecond, Loss: 0.01},
		"doubled, flipped, jitter": {Delay: time.Millisecond, Jitter: 3 * time.Millisecond, Dup: 0.05, Flip: 0.0005},
	} {
		for i := 1; i <= 3; i++ {
			for j := 1; j <= 3; j++ {
				if i != j {
					r.must(r.Net.Set(i, j, l))
				}
			}
		}
		begun := time.Now()
		out := r.all(r.Nodes[1+r.rng.IntN(3)], nil)
		tokens := 0
		for _, a := range out {
			tokens += len(a.Tokens)
		}
		gaps := r.judge(name, out)
		r.write("network: "+name, len(out), map[string]any{"tokens_s": float64(tokens) / time.Since(begun).Seconds(), "gap_ms_p50": Quantile(gaps, 0.5), "gap_ms_max": Quantile(gaps, 1)})
		r.must(r.Net.Heal())
		r.settle(1)
		if t.Failed() {
			t.FailNow()
		}
	}
}
