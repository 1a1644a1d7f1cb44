package peer

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"lamina/node/auth"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// The second node of BenchmarkHop and BenchmarkLoad is a process of its own: this test binary, told so by its environment. The scripts
// in deploy/bench say how it is started (a prefix such as "taskset -c 1") and where the two bind.
const (
	hopStartEnv = "LAMINA_HOP_START" // prefix of the command
	hopBindEnv  = "LAMINA_HOP_BIND"  // addresses of the first and the second node; default 127.0.0.1 twice
	hopDirEnv   = "LAMINA_HOP_DIR"   // identity of the second node
	hopPeerEnv  = "LAMINA_HOP_PEER"  // address of the first node
	hopStepEnv  = "LAMINA_HOP_STEP"  // how long it computes; "echo": it only answers
	hopHidden   = 2048
	hopVocab    = 128
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(hopDirEnv); dir != "" {
		if err := hopChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// busyStepper computes nothing, for as long as it is told.
type busyStepper struct {
	shape pipeline.Shape
	step  time.Duration
	out   [][]float32
	x     []float32
}

type busySeq struct{ n int }

func (q *busySeq) Len() int     { return q.n }
func (q *busySeq) Rewind(n int) { q.n = n }
func (q *busySeq) Free()        {}

func (q *busySeq) Reserve(int) error   { return nil }
func (q *busySeq) Name([]pipeline.Key) {}

func (s *busyStepper) Shape() pipeline.Shape { return s.shape }
func (s *busyStepper) Capacity() int         { return 0 }
func (s *busyStepper) NewSeq(int, []pipeline.Key) (pipeline.Seq, error) {
	return &busySeq{}, nil
}

func (s *busyStepper) Step(batch []pipeline.Rows) ([][]float32, error) {
	for until := time.Now().Add(s.step); time.Now().Before(until); {
	}
	s.out = s.out[:0]
	for _, r := range batch {
		n := len(r.Tokens) * s.shape.Hidden
		if s.shape.First > 0 {
			n = len(r.X)
		}
		if s.shape.End == s.shape.Layers {
			n = r.Logits * s.shape.Vocab
		}
		for len(s.x) < n {
			s.x = append(s.x, 0)
		}
		s.out = append(s.out, s.x[:n])
	}
	return s.out, nil
}

// hopNode is a node with one of two stages.
type hopNode struct {
	mux   *Mux
	links *Links
	host  *pipeline.Host
}

// hopBind is where the first (0) and the second node bind.
func hopBind(i int) string {
	if f := strings.Fields(os.Getenv(hopBindEnv)); len(f) == 2 {
		return f[i] + ":0"
	}
	return "127.0.0.1:0"
}

// newHopNode runs as a node does: as many Ps as CPUs and workers.
func newHopNode(id *auth.Identity, stage int, step time.Duration, peer string) (*hopNode, error) {
	runtime.GOMAXPROCS(runtime.NumCPU() + 1)
	m, err := Bind(Config{Identity: id, Addr: hopBind(stage)})
	if err != nil {
		return nil, err
	}
	n := &hopNode{mux: m}
	n.links = NewLinks(m, LinksConfig{
		Addr:     func(string) (string, bool) { return peer, peer != "" },
		Deliver:  func(from string, f *pipeline.Frame) { n.host.Deliver(from, f) },
		PeerDown: func(node string, err error) { n.host.PeerDown(node, err) },
		Busy:     func(node string) bool { return n.host.Needs(node) },
	})
	n.host = pipeline.NewHost(pipeline.HostConfig{Self: id.Name(), Send: n.links})
	s := &busyStepper{step: step, shape: pipeline.Shape{First: stage, End: stage + 1, Layers: 2, Hidden: hopHidden, Vocab: hopVocab, Context: pipeline.MaxContext}}
	if err := n.host.Serve(pipeline.StageKey{Model: "m", Epoch: 5, Index: stage}, s); err != nil {
		return nil, err
	}
	m.Serve()
	return n, nil
}

// hopChild is the second node. It ends with its parent, by the pipe on stdin.
func hopChild(dir string) error {
	id, err := auth.Open(dir, "n2")
	if err != nil {
		return err
	}
	peer, step := os.Getenv(hopPeerEnv), os.Getenv(hopStepEnv)
	var m *Mux
	if step == "echo" {
		m, err = echoNode(id, peer)
	} else {
		var d time.Duration
		if d, err = time.ParseDuration(step); err == nil {
			var n *hopNode
			if n, err = newHopNode(id, 1, d, peer); err == nil {
				m = n.mux
			}
		}
	}
	if err != nil {
		return err
	}
	fmt.Println(m.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// hopIdentities are those of two nodes; the second one's is in a folder.
func hopIdentities(b *testing.B) (*auth.Identity, string) {
	first, err := auth.Init(b.TempDir(), "n1")
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	token, _ := auth.NewToken()
	j, err := auth.NewJoiner(dir, "n2", auth.JoinString{Addr: "10.0.0.1:7946", Token: token, Pin: first.Pin()})
	if err != nil {
		b.Fatal(err)
	}
	r, err := first.Admit(j.Request(), nil)
	if err == nil {
		_, err = j.Finish(r)
	}
	if err != nil {
		b.Fatal(err)
	}
	return first, dir
}

// hopStart starts the second node and returns its address. It ends with the benchmark, after what was registered later.
func hopStart(b *testing.B, dir, first, step string) string {
	args := append(strings.Fields(os.Getenv(hopStartEnv)), os.Args[0])
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), hopDirEnv+"="+dir, hopPeerEnv+"="+first, hopStepEnv+"="+step)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait()
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(line)
}

// hopPair starts two nodes as processes.
func hopPair(b *testing.B, step time.Duration) *hopNode {
	before := runtime.GOMAXPROCS(0)
	b.Cleanup(func() { runtime.GOMAXPROCS(before) })
	first, dir := hopIdentities(b)
	n, err := newHopNode(first, 0, step, "")
	if err != nil {
		b.Fatal(err)
	}
	other := hopStart(b, dir, n.mux.Addr().String(), step.String())
	n.links.cfg.Addr = func(string) (string, bool) { return other, true }
	b.Cleanup(func() {
		_ = n.host.Close()
		_ = n.mux.Close()
	})
	return n
}

// BenchmarkHop is what a hop adds to the time of a token: two processes, real TLS links over loopback, a stage in each that
// computes for a fixed time; the gateway is at stage 0, as in a cluster of two. A round has two hops: the row there, the token
// back. deploy/bench/hop.sh pins the processes to a core each.
func BenchmarkHop(b *testing.B) {
	for _, step := range []time.Duration{0, time.Millisecond, 5 * time.Millisecond} {
		for _, seqs := range []int{1, 16} {
			if seqs > 1 && step > 0 {
				continue
			}
			b.Run(fmt.Sprintf("step=%v/seqs=%d", step, seqs), func(b *testing.B) { benchHop(b, step, seqs) })
		}
	}
}

func benchHop(b *testing.B, step time.Duration, seqs int) {
	n := hopPair(b, step)
	var gaps []time.Duration // of the first sequence
	run := func(first, tokens int) error {
		errs := make(chan error, seqs)
		for i := range seqs {
			go func() {
				r := pipeline.Request{
					Seq: uint64(first + i), Model: "m", Epoch: 5, Route: []pipeline.Hop{{Node: "n1", First: 0, End: 1}, {Node: "n2", First: 1, End: 2}},
					Tokens: []int32{1}, MaxNew: tokens, Sampling: sample.Greedy(),
				}
				last := time.Now()
				_, err := n.host.Generate(context.Background(), r, func(pipeline.Token) error {
					now := time.Now()
					if i == 0 {
						gaps = append(gaps, now.Sub(last))
					}
					last = now
					return nil
				})
				errs <- err
			}()
		}
		for range seqs {
			if err := <-errs; err != nil {
				return err
			}
		}
		return nil
	}
	if err := run(1, 200); err != nil { // past TLS's small first records
		b.Fatal(err)
	}
	gaps = make([]time.Duration, 0, b.N)
	b.ReportAllocs()
	b.ResetTimer()
	if err := run(1000, b.N); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	// The median: a machine that does other things besides shows in the mean.
	slices.Sort(gaps)
	b.ReportMetric(float64(gaps[len(gaps)/2]-2*step)/2000, "us/hop")
	b.ReportMetric(float64(seqs*b.N)/b.Elapsed().Seconds(), "tokens/s")
}
