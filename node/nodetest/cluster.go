// Package nodetest runs whole clusters in one process: real nodes on a memory network that can be cut, slowed and
// killed. Inside a testing/synctest bubble minutes of the cluster's life take moments. For tests only.
package nodetest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"lamina/cluster"
	"lamina/node"
	"lamina/node/infer"
	"lamina/node/peer"
	"lamina/shard"
	"lamina/shard/gguf"
	"lamina/shard/sample"
)

// Cluster is a number of nodes, n1 and so on, that have joined each other.
type Cluster struct {
	T     testing.TB
	Net   *peer.Memory
	Nodes []*node.Node // nil where a node is down
	cfgs  []node.Config
	log   *Log

	dir       string
	configure []func(*node.Config)
}

// Log keeps what the nodes say, to be shown when a test fails.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// Start starts n nodes and waits until each knows itself a member.
func Start(t testing.TB, n int, configure ...func(*node.Config)) *Cluster {
	t.Helper()
	c := &Cluster{T: t, Net: peer.NewMemory(), log: &Log{}, dir: t.TempDir(), configure: configure}
	for range n {
		c.Join()
	}
	t.Cleanup(c.close)
	c.Meet()
	return c
}

// Join starts one more node, by a join string of the first, waits until it knows itself a member, and returns its place.
func (c *Cluster) Join() int {
	c.T.Helper()
	i := len(c.Nodes)
	cfg := node.Default()
	cfg.Name = fmt.Sprintf("n%d", i+1)
	cfg.Data = filepath.Join(c.dir, cfg.Name)
	cfg.Peer = fmt.Sprintf("10.0.0.%d:7946", i+1)
	cfg.HTTP = fmt.Sprintf("127.0.0.%d:8080", i+1)
	cfg.Memory = 1 << 30
	cfg.Threads = 1
	cfg.Network = c.Net.Host(cfg.Name)
	cfg.Log = slog.New(slog.NewTextHandler(c.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for _, f := range c.configure {
		f(&cfg)
	}
	if i > 0 {
		join, err := c.Nodes[0].JoinString(c.T.Context())
		if err != nil {
			c.Fatalf("join string: %v", err)
		}
		cfg.Join = join
	}
	c.cfgs = append(c.cfgs, cfg)
	c.Nodes = append(c.Nodes, nil)
	c.Up(i)
	return i
}

// Meet waits until every node that is up sees every other.
func (c *Cluster) Meet() {
	c.T.Helper()
	up := 0
	for _, n := range c.Nodes {
		if n != nil {
			up++
		}
	}
	for end := time.Now().Add(time.Minute); ; {
		missing := ""
		for _, n := range c.Nodes {
			if n == nil {
				continue
			}
			alive := 0
			nodes, err := n.Admin().Nodes(c.T.Context())
			for _, x := range nodes {
				if x.Alive {
					alive++
				}
			}
			if alive != up || err != nil {
				missing = fmt.Sprintf("%s sees %d of %d nodes: %v", n.Name(), alive, up, err)
			}
		}
		if missing == "" {
			return
		}
		if time.Now().After(end) {
			c.Fatalf("%s", missing)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// Fatalf fails the test with the end of the nodes' log.
func (c *Cluster) Fatalf(format string, args ...any) {
	c.T.Helper()
	c.log.mu.Lock()
	b := c.log.b.Bytes()
	tail := string(b[max(0, len(b)-12000):])
	c.log.mu.Unlock()
	c.T.Fatalf(format+"\nthe nodes' log ends with:\n%s", append(args, tail)...)
}

// Say writes a line into the nodes' log.
func (c *Cluster) Say(what string) {
	fmt.Fprintf(c.log, "time=%s level=TEST msg=%q\n", time.Now().Format("2006-01-02T15:04:05.000Z07:00"), what)
}

func (c *Cluster) close() {
	for i := range c.Nodes {
		c.Stop(i)
	}
	<-time.After(time.Minute) // memberlist's probes under way end by their timers only
}

// Up starts node i, anew or again, and waits until the cluster knows it.
func (c *Cluster) Up(i int) {
	c.T.Helper()
	c.Boot(i)
	select {
	case <-c.Nodes[i].Known():
	case <-time.After(time.Minute):
		c.Fatalf("node %s is not known after a minute", c.cfgs[i].Name)
	}
}

// Boot starts node i and does not wait.
func (c *Cluster) Boot(i int) {
	c.T.Helper()
	n, err := node.New(c.cfgs[i])
	if err == nil {
		err = n.Start(c.T.Context())
	}
	if err != nil {
		c.Fatalf("start %s: %v", c.cfgs[i].Name, err)
	}
	c.Nodes[i] = n
}

// Stop stops node i in good order.
func (c *Cluster) Stop(i int) {
	if n := c.Nodes[i]; n != nil {
		if err := n.Close(); err != nil {
			c.T.Errorf("close %s: %v", n.Name(), err)
		}
		c.Nodes[i] = nil
	}
}

// Kill ends node i as kill -9 does: its connections are reset and nothing it does afterwards is heard.
func (c *Cluster) Kill(i int) {
	if n := c.Nodes[i]; n != nil {
		c.Net.Kill(n.Name())
		_ = n.Close() // whatever it complains of: it is dead to the others
		c.Nodes[i] = nil
	}
}

// Add cuts a model file and adds it at node i, then waits until it is served everywhere.
func (c *Cluster) Add(i int, name string, file []byte, stages, replicas int) {
	c.T.Helper()
	if err := c.TryAdd(i, name, file, stages, replicas); err != nil {
		c.Fatalf("add %s: %v", name, err)
	}
	c.Serves(name)
}

// TryAdd is Add without the waiting, with its error.
func (c *Cluster) TryAdd(i int, name string, file []byte, stages, replicas int) error {
	f, err := gguf.Parse(file)
	if err != nil {
		return err
	}
	info, err := shard.ReadInfo(f)
	if err != nil {
		return err
	}
	ctx := c.T.Context()
	m := cluster.Model{Name: name, Arch: info.Arch, Layers: info.Layers, Hidden: info.Hidden, Vocab: info.Vocab, Context: info.Context,
		KVBytes: info.KVBytes(shard.Span{First: 0, End: 1}, 64) / 64, Tied: info.Tied, Stages: stages, Replicas: replicas}
	adm := c.Nodes[i].Admin()
	err = shard.Cut(f, func(p shard.Part, data []byte) error {
		b := cluster.Blob{Name: p.Name, Digest: node.BlobDigest(data), Size: int64(len(data))}
		m.Blobs = append(m.Blobs, b)
		return adm.PutBlob(ctx, b.Digest, b.Size, bytes.NewReader(data))
	})
	if err != nil {
		return err
	}
	m.Digest = m.ManifestDigest()
	_, err = adm.AddModel(ctx, m)
	return err
}

// Serves waits until every node that is up answers for the model.
func (c *Cluster) Serves(model string) {
	c.T.Helper()
	for i, n := range c.Nodes {
		if n == nil {
			continue
		}
		end := time.Now().Add(2 * time.Minute)
		for {
			_, _, err := c.Ask(i, infer.Request{Model: model, Prompt: "x", MaxTokens: 1, Sampling: sample.Default()})
			if err == nil {
				break
			}
			if time.Now().After(end) {
				c.Fatalf("%s does not serve %s: %v", n.Name(), model, err)
			}
			<-time.After(100 * time.Millisecond)
		}
	}
}

// Ask sends a request to node i and returns the tokens of the answer and the route that was told.
func (c *Cluster) Ask(i int, r infer.Request) (tokens []int32, route string, err error) {
	ctx, cancel := context.WithTimeout(c.T.Context(), 5*time.Minute)
	defer cancel()
	return Ask(ctx, c.Nodes[i], r)
}

// Ask sends a request to a node. With an error come the tokens that were given before it.
func Ask(ctx context.Context, n *node.Node, r infer.Request) (tokens []int32, route string, err error) {
	_, err = n.Service().Generate(ctx, r,
		func(s infer.Started) error { route = s.Route; return nil },
		func(e infer.Event) error {
			for _, t := range e.Tokens {
				tokens = append(tokens, t.ID)
			}
			return nil
		})
	return tokens, route, err
}
