package peer

import (
	"context"
	"testing"
	"testing/synctest"

	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// TestBytesOfAToken counts what a token costs on the links of two stages: one message to each stage, a row of 28 bytes and its values there, 32
// bytes back.
func TestBytesOfAToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, "n1", "n2")
		defer w.close()
		hosts, links := map[string]*pipeline.Host{}, map[string]*Links{}
		for i, name := range []string{"n1", "n2"} {
			links[name] = NewLinks(w.nodes[name], LinksConfig{
				Addr:     w.addr,
				Deliver:  func(from string, f *pipeline.Frame) { hosts[name].Deliver(from, f) },
				PeerDown: func(node string, err error) { hosts[name].PeerDown(node, err) },
			})
			h := pipeline.NewHost(pipeline.HostConfig{Self: name, Send: links[name]})
			s := &busyStepper{shape: pipeline.Shape{First: i, End: i + 1, Layers: 2, Hidden: 100, Vocab: 10, Context: 1000}}
			if err := h.Serve(pipeline.StageKey{Model: "m", Epoch: 5, Index: i}, s); err != nil {
				t.Fatal(err)
			}
			hosts[name] = h
			defer h.Close()
			w.nodes[name].Serve()
		}
		sent := func() (there, back Link) { return links["n1"].Links()[0], links["n2"].Links()[0] }
		var seq uint64
		run := func(tokens int) (there, back Link) {
			t.Helper()
			seq++
			r := pipeline.Request{
				Seq: seq, Model: "m", Epoch: 5, Route: []pipeline.Hop{{Node: "n1", First: 0, End: 1}, {Node: "n2", First: 1, End: 2}},
				Tokens: []int32{1}, MaxNew: tokens, Sampling: sample.Greedy(),
			}
			if _, err := hosts["n1"].Generate(context.Background(), r, func(pipeline.Token) error { return nil }); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			return sent()
		}
		run(1)
		a, b := run(10)
		c, d := run(110) // a hundred more
		e, f := run(10)
		more := func(x, y, z Link) (frames, bytes uint64) {
			return y.Frames - x.Frames - (z.Frames - y.Frames), y.Sent - x.Sent - (z.Sent - y.Sent)
		}
		if frames, bytes := more(a, c, e); frames != 100 || bytes != 100*(28+4*100) {
			t.Errorf("a hundred tokens cost %d messages and %d bytes there", frames, bytes)
		}
		if frames, bytes := more(b, d, f); frames != 100 || bytes != 100*32 {
			t.Errorf("a hundred tokens cost %d messages and %d bytes back", frames, bytes)
		}
	})
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
