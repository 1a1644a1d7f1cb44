package peer

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// twoStages are two nodes with a stage each that computes nothing, in virtual time.
type twoStages struct {
	*world
	t     *testing.T
	hosts map[string]*pipeline.Host
	links map[string]*Links
	seq   uint64
}

func newTwoStages(t *testing.T) *twoStages {
	t.Helper()
	w := &twoStages{world: newWorld(t, "n1", "n2"), t: t, hosts: map[string]*pipeline.Host{}, links: map[string]*Links{}}
	for i, name := range []string{"n1", "n2"} {
		w.links[name] = NewLinks(w.nodes[name], LinksConfig{
			Addr:     w.addr,
			Deliver:  func(from string, f *pipeline.Frame) { w.hosts[name].Deliver(from, f) },
			PeerDown: func(node string, err error) { w.hosts[name].PeerDown(node, err) },
			Busy:     func(node string) bool { return w.hosts[name].Needs(node) },
		})
		w.hosts[name] = pipeline.NewHost(pipeline.HostConfig{Self: name, Send: w.links[name], Limits: pipeline.Limits{Guesses: -1}}) // one token at a time
		s := &busyStepper{shape: pipeline.Shape{First: i, End: i + 1, Layers: 2, Hidden: 100, Vocab: 10, Context: 1000}}
		if err := w.hosts[name].Serve(pipeline.StageKey{Model: "m", Epoch: 5, Index: i}, s); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range w.nodes {
		m.Serve()
	}
	return w
}

func (w *twoStages) close() {
	for _, h := range w.hosts {
		_ = h.Close()
	}
	w.world.close()
}

// run makes tokens, and tells when each came.
func (w *twoStages) run(tokens int) (at []time.Time) {
	w.t.Helper()
	w.seq++
	r := pipeline.Request{
		Seq: w.seq, Model: "m", Epoch: 5, Route: []pipeline.Hop{{Node: "n1", First: 0, End: 1}, {Node: "n2", First: 1, End: 2}},
		Tokens: []int32{1}, MaxNew: tokens, Sampling: sample.Greedy(),
	}
	_, err := w.hosts["n1"].Generate(context.Background(), r, func(pipeline.Token) error { at = append(at, time.Now()); return nil })
	if err != nil {
		w.t.Fatal(err)
	}
	synctest.Wait()
	return at
}

// TestBytesOfAToken counts what a token costs on the links of two stages: one message to each stage, a row of 28 bytes and its values there, 32
// bytes back.
func TestBytesOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newTwoStages(t)
		defer w.close()
		sent := func(tokens int) (there, back Link) {
			w.run(tokens)
			return w.links["n1"].Links()[0], w.links["n2"].Links()[0]
		}
		sent(1)
		a, b := sent(10)
		c, d := sent(110) // a hundred more
		e, f := sent(10)
		more := func(x, y, z Link) (frames, bytes uint64) {
			return y.Frames - x.Frames - (z.Frames - y.Frames), y.Sent - x.Sent - (z.Sent - y.Sent)
		}
		if frames, bytes := more(a, c, e); frames != 100 || bytes != 100*(28+4*100)+16 { // and the end names a block more
			t.Errorf("a hundred tokens cost %d messages and %d bytes there", frames, bytes)
		}
		if frames, bytes := more(b, d, f); frames != 100 || bytes != 100*32 {
			t.Errorf("a hundred tokens cost %d messages and %d bytes back", frames, bytes)
		}
	})
}

// TestTokenOverALongLine: in virtual time, where computing takes none, a token takes the way to each stage once and no more.
func TestTokenOverALongLine(t *testing.T) {
	for _, delay := range []time.Duration{time.Millisecond, 5 * time.Millisecond, 20 * time.Millisecond, 50 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			w := newTwoStages(t)
			defer w.close()
			w.net.Delay(delay)
			at := w.run(200)
			for i := range at[1:] {
				if d := at[i+1].Sub(at[i]); d != 2*delay {
					t.Fatalf("%v one way: token %d came after %v", delay, i+1, d)
				}
			}
		})
	}
}

// TestLinkAllocations: in the steady state a frame there and one back cost no allocation but those of crypto/tls, one of 24 bytes for each
// read of a socket, of which a frame may need two.
func TestLinkAllocations(t *testing.T) {
	l, frame, back := linkPair(t, 2048)
	round := func() {
		if err := l.Send("n2", frame); err != nil {
			t.Fatal(err)
		}
		<-back
	}
	for range 200 {
		round()
	}
	if n := testing.AllocsPerRun(200, round); n > 4 && !raceDetector {
		t.Errorf("%v allocations for a frame there and one back", n)
	}
}
