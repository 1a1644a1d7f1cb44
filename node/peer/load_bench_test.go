package peer

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"lamina/node/auth"
	"lamina/shard/pipeline"
)

// echoNode answers every frame with a small one.
func echoNode(id *auth.Identity, peer string) (*Mux, error) {
	m, err := Bind(Config{Identity: id, Addr: hopBind(1)})
	if err != nil {
		return nil, err
	}
	var l *Links
	l = NewLinks(m, LinksConfig{
		Addr: func(string) (string, bool) { return peer, true }, PeerDown: func(string, error) {},
		Deliver: func(from string, f *pipeline.Frame) {
			r := pipeline.Frame{Kind: pipeline.KindCredit, Seq: f.Seq, Pos: f.Pos}
			f.Release()
			_ = l.Send(from, &r)
		},
	})
	m.Serve()
	return m, nil
}

// loadNode is the first node of BenchmarkLoad.
type loadNode struct {
	links *Links
	mu    sync.Mutex
	back  map[uint64]chan uint32 // positions that were answered, by sequence
}

func newLoadNode(b *testing.B) *loadNode {
	id, dir := hopIdentities(b)
	m, err := Bind(Config{Identity: id, Addr: hopBind(0)})
	if err != nil {
		b.Fatal(err)
	}
	n := &loadNode{back: map[uint64]chan uint32{}}
	other := ""
	n.links = NewLinks(m, LinksConfig{
		Addr:     func(string) (string, bool) { return other, other != "" },
		PeerDown: func(node string, err error) { b.Errorf("node %s: %v", node, err) },
		Deliver: func(_ string, f *pipeline.Frame) {
			n.mu.Lock()
			ch := n.back[f.Seq]
			n.mu.Unlock()
			ch <- f.Pos
			f.Release()
		},
	})
	m.Serve()
	other = hopStart(b, dir, m.Addr().String(), "echo")
	b.Cleanup(func() { _ = m.Close() })
	return n
}

func (n *loadNode) sequence(seq uint64, room int) chan uint32 {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.back[seq] = make(chan uint32, room)
	return n.back[seq]
}

// BenchmarkLoad sends chunks of prompts (256 rows of 2048, three under way, as the pipeline's credits have it) and, every 2 ms, the row of
// another sequence that decodes. It tells how many bytes of chunks a second go through, and how long the rows took to be answered, with the chunks
// and without. deploy/bench/link.sh runs it over loopback and over a line of 1 Gbit/s.
func BenchmarkLoad(b *testing.B) {
	for _, rows := range []int{0, 256} {
		b.Run(fmt.Sprintf("chunk=%d", rows), func(b *testing.B) { benchLoad(b, rows) })
	}
}

func benchLoad(b *testing.B, rows int) {
	n := newLoadNode(b)
	row := &pipeline.Frame{Kind: pipeline.KindStep, Seq: 1, Count: 1, X: make([]float32, hopHidden)}
	back := n.sequence(1, 1)
	var took []time.Duration
	ping := func() {
		began := time.Now()
		if err := n.links.Send("n2", row); err != nil {
			b.Error(err)
			return
		}
		<-back
		took = append(took, time.Since(began))
	}
	ping()
	took = took[:0]
	b.ResetTimer()
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.chunks(b, rows)
	}()
	for over := false; !over; {
		ping()
		select {
		case <-done:
			over = true
		case <-time.After(2 * time.Millisecond):
		}
	}
	b.StopTimer()
	slices.Sort(took)
	for _, p := range []int{50, 99} {
		b.ReportMetric(float64(took[min(len(took)*p/100, len(took)-1)].Microseconds()), fmt.Sprintf("us-p%d", p))
	}
	b.ReportMetric(float64(took[len(took)-1].Microseconds()), "us-max")
}

// chunks sends b.N of them, or lets the same time go by.
func (n *loadNode) chunks(b *testing.B, rows int) {
	if rows == 0 {
		time.Sleep(time.Duration(b.N) * 10 * time.Millisecond)
		return
	}
	f := &pipeline.Frame{Kind: pipeline.KindStep, Flags: pipeline.FlagPrompt, Seq: 2, Count: uint32(rows), X: make([]float32, rows*hopHidden)}
	credits := n.sequence(2, 8)
	began := time.Now()
	for sent, answered := 0, 0; answered < b.N; {
		if sent < b.N && sent-answered < 3 {
			if err := n.links.Send("n2", f); err != nil {
				b.Error(err)
				return
			}
			sent++
			continue
		}
		<-credits
		answered++
	}
	b.ReportMetric(float64(b.N)*float64(4*len(f.X))/1e6/time.Since(began).Seconds(), "MB/s")
}
