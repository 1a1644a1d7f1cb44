package node

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// The line between nodes is measured by what is fetched anyway, and by a small transfer from a random node now and then: one
// every three minutes on average, 512 KiB, half of it to get going.
const (
	probePath  = "/probe"
	probeBytes = 512 << 10
	probeEvery = 3 * time.Minute
	probeTime  = 10 * time.Second
)

// serveProbe answers a probe of another node.
func serveProbe(w http.ResponseWriter, _ *http.Request) {
	var piece [16 << 10]byte
	for range probeBytes / len(piece) {
		if _, err := w.Write(piece[:]); err != nil {
			return // whoever asked has gone
		}
	}
}

// probe measures the line to random nodes until the node closes.
func (n *Node) probe() {
	for wait := time.Duration(rand.Int64N(int64(probeEvery / 6))); ; wait = time.Duration(rand.Int64N(int64(2 * probeEvery))) {
		select {
		case <-n.run.Done():
			return
		case <-time.After(wait):
		}
		if id := n.randomPeer(); id != "" {
			if bytes, took, err := n.transfer(id); err == nil {
				n.meter.received(bytes, took)
			} else if n.run.Err() == nil {
				n.out.Debug("the line to a node could not be measured", "peer", id, "err", err)
			}
		}
	}
}

func (n *Node) randomPeer() string {
	var alive []string
	for _, p := range n.gossip.Members() {
		if p.Alive && p.ID != n.cfg.Name {
			alive = append(alive, p.ID)
		}
	}
	if len(alive) == 0 {
		return ""
	}
	return alive[rand.IntN(len(alive))]
}

// transfer reads from the node and times the second half.
func (n *Node) transfer(id string) (int64, time.Duration, error) {
	ctx, cancel := context.WithTimeout(n.run, probeTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+id+probePath, nil)
	if err != nil {
		return 0, 0, err
	}
	resp, err := n.client.Do(req)
	if err != nil {
		return 0, 0, err
	}
	defer resp.Body.Close()
	if _, err := io.CopyN(io.Discard, resp.Body, probeBytes/2); err != nil {
		return 0, 0, err
	}
	begun := time.Now()
	got, err := io.Copy(io.Discard, io.LimitReader(resp.Body, probeBytes/2))
	return got, time.Since(begun), err
}
