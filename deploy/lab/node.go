package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Cluster is a number of nodes on the hosts of a Net, one each. Host i runs node n<i>.
type Cluster struct {
	Net   *Net
	Nodes []*Node // by host; 0 is nil
	bin   string
	dir   string
	args  []string
}

// Node is a process, or one that was.
type Node struct {
	Name string
	host int
	c    *Cluster
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	join string
}

// tail keeps the end of what is written.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.b.Len() > 1<<20 {
		t.b.Next(1 << 19)
	}
	return t.b.Write(p)
}

// String is the end of what was written.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := t.b.Bytes()
	return string(b[max(0, len(b)-8000):])
}

// NewCluster starts a node on every host, joined to each other. args go to every node.
func NewCluster(n *Net, bin, dir string, args ...string) (*Cluster, error) {
	c := &Cluster{Net: n, bin: bin, dir: dir, args: args, Nodes: make([]*Node, n.hosts+1)}
	for i := 1; i <= n.hosts; i++ {
		p := &Node{Name: fmt.Sprintf("n%d", i), host: i, c: c, log: &tail{}}
		c.Nodes[i] = p
		if i > 1 {
			out, err := c.Lamina("token", "create")
			if err != nil {
				return c, err
			}
			p.join = strings.TrimSpace(out)
		}
		if err := p.Start(); err != nil {
			return c, err
		}
	}
	return c, nil
}

// Lamina runs the command line against the first node that runs.
func (c *Cluster) Lamina(args ...string) (string, error) {
	for _, p := range c.Nodes[1:] {
		if p == nil || !p.Running() {
			continue
		}
		cmd := exec.Command(c.bin, append(args, "--addr", "http://"+p.HTTP(), "--data", c.Nodes[1].data())...)
		var out, errOut bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &errOut
		if err := cmd.Run(); err != nil {
			return "", fmt.Errorf("lamina %s: %w: %s", strings.Join(args, " "), err, errOut.String())
		}
		return out.String(), nil
	}
	return "", errors.New("no node runs")
}

func (p *Node) data() string { return filepath.Join(p.c.dir, p.Name) }

// HTTP is the address of the node's API.
func (p *Node) HTTP() string { return Addr(p.host) + ":8080" }

// Start starts the process, for the first time or again, and waits until it says that it is ready.
func (p *Node) Start() error {
	verb := []string{"up"}
	if p.join != "" {
		verb = []string{"join", p.join}
	}
	args := append(verb, "--name", p.Name, "--data", p.data(), "--peer", Addr(p.host)+":7946", "--http", p.HTTP())
	p.cmd = p.c.Net.Command(p.host, p.c.bin, append(args, p.c.args...)...)
	ready := &watch{for_: []byte("ready: "), hit: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = p.log, io.MultiWriter(p.log, ready)
	if err := p.cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	p.done = done
	cmd := p.cmd
	go func() { // ends with the process
		_ = cmd.Wait()
		close(done)
	}()
	select {
	case <-ready.hit:
		return nil
	case <-done:
		return fmt.Errorf("%s ended at its start:\n%s", p.Name, p.log)
	case <-time.After(30 * time.Second):
		return fmt.Errorf("%s is not ready after 30 s:\n%s", p.Name, p.log)
	}
}

// watch closes hit when something was written.
type watch struct {
	for_ []byte
	hit  chan struct{}
	b    []byte
	once sync.Once
}

// Write implements io.Writer.
func (w *watch) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	if bytes.Contains(w.b, w.for_) {
		w.once.Do(func() { close(w.hit) })
	}
	if len(w.b) > 1<<16 {
		w.b = w.b[len(w.b)-1<<10:]
	}
	return len(p), nil
}

// Running tells whether the process is there.
func (p *Node) Running() bool {
	if p.done == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends a signal.
func (p *Node) Signal(s os.Signal) { _ = p.cmd.Process.Signal(s) }

// Kill is kill -9.
func (p *Node) Kill() {
	if p.Running() {
		p.Signal(syscall.SIGKILL)
		<-p.done
	}
}

// Stop is SIGTERM; the process has ended when it returns.
func (p *Node) Stop() {
	if p.Running() {
		p.Signal(syscall.SIGTERM)
		<-p.done
	}
}

// Close ends all nodes.
func (c *Cluster) Close() {
	for _, p := range c.Nodes[1:] {
		if p != nil && p.Running() {
			p.Signal(syscall.SIGCONT)
			p.Kill()
		}
	}
}

// Key is the admin key.
func (c *Cluster) Key() string {
	b, _ := os.ReadFile(filepath.Join(c.Nodes[1].data(), "admin.key"))
	return strings.TrimSpace(string(b))
}

// get asks a node's API.
func (c *Cluster) get(ctx context.Context, p *Node, path string, v any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.HTTP()+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+c.Key())
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", resp.Status, data)
	}
	return json.Unmarshal(data, v)
}

// Hop is a stage as the API shows it.
type Hop struct {
	Node  string
	Ready bool
}

// Replicas returns the routes of a model that serve, as a node sees them.
func (c *Cluster) Replicas(ctx context.Context, p *Node, model string) (out [][]Hop, err error) {
	var reply struct {
		Models []struct {
			Replicas []struct {
				Phase string
				Hops  []Hop
			}
		}
	}
	if err := c.get(ctx, p, "/v1/cluster/models/"+model, &reply); err != nil {
		return nil, err
	}
	for _, r := range reply.Models[0].Replicas {
		if r.Phase == "ready" {
			out = append(out, r.Hops)
		}
	}
	return out, nil
}

// Settle waits until every node that runs is alive in the eyes of every other and sees so many replicas of the model serve.
func (c *Cluster) Settle(model string, replicas int, most time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	why := ""
	for ; ; time.Sleep(100 * time.Millisecond) {
		if why = c.unsettled(ctx, model, replicas); why == "" {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("not settled after %v: %s", most, why)
		}
	}
}

func (c *Cluster) unsettled(ctx context.Context, model string, replicas int) string {
	up := 0
	for _, p := range c.Nodes[1:] {
		if p.Running() {
			up++
		}
	}
	for _, p := range c.Nodes[1:] {
		if !p.Running() {
			continue
		}
		var nodes struct {
			Nodes []struct {
				Name  string
				Alive bool
			}
		}
		if err := c.get(ctx, p, "/v1/cluster/nodes", &nodes); err != nil {
			return p.Name + ": " + err.Error()
		}
		alive := 0
		for _, n := range nodes.Nodes {
			if n.Alive {
				alive++
			}
		}
		if alive != up {
			return fmt.Sprintf("%s sees %d of %d nodes alive", p.Name, alive, up)
		}
		list, err := c.Replicas(ctx, p, model)
		if err != nil || len(list) != replicas {
			return fmt.Sprintf("%s sees %d of %d replicas serve: %v", p.Name, len(list), replicas, err)
		}
	}
	return ""
}
