package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/pipeline"
)

// sink records what a node's Links deliver.
type sink struct {
	mu     sync.Mutex
	log    []string // "from:seq" of frames, "down:node" of losses
	errs   map[string]error
	onStep func(from string, f *pipeline.Frame)
}

func (s *sink) add(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, line)
}

func (s *sink) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.log)
}

func (s *sink) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.log
	s.log = nil
	return l
}

func (s *sink) config(addr func(string) (string, bool)) LinksConfig {
	s.errs = map[string]error{}
	return LinksConfig{
		Addr: addr,
		Deliver: func(from string, f *pipeline.Frame) {
			if s.onStep != nil {
				s.onStep(from, f)
			}
			s.add(fmt.Sprintf("%s:%d", from, f.Seq))
			f.Release()
		},
		PeerDown: func(node string, err error) {
			s.add("down:" + node)
			s.mu.Lock()
			defer s.mu.Unlock()
			s.errs[node] = err
		},
	}
}

type linkWorld struct {
	*world
	links map[string]*Links
	sinks map[string]*sink
}

func newLinkWorld(t *testing.T, change func(*LinksConfig), names ...string) *linkWorld {
	t.Helper()
	w := &linkWorld{world: newWorld(t, names...), links: map[string]*Links{}, sinks: map[string]*sink{}}
	for name, m := range w.nodes {
		w.sinks[name] = &sink{}
		cfg := w.sinks[name].config(w.addr)
		if change != nil {
			change(&cfg)
		}
		w.links[name] = NewLinks(m, cfg)
		m.Serve()
	}
	return w
}

// step is a frame with n floats and a number.
func step(seq uint64, n int) *pipeline.Frame {
	return &pipeline.Frame{Kind: pipeline.KindStep, Seq: seq, Count: 1, X: make([]float32, n)}
}

// prompt is a step that small frames may overtake, if it is large.
func prompt(seq uint64, n int) *pipeline.Frame {
	f := step(seq, n)
	f.Flags = pipeline.FlagPrompt
	return f
}

func TestLinksDeliverInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		var want []string
		f := step(0, 1000)
		for i := range 300 {
			f.Seq = uint64(i + 1) // Send keeps nothing: the frame is used again
			f.X[0] = float32(i)
			send := w.links["n1"].Send
			if i%3 == 0 {
				send = w.links["n1"].SendMore
			}
			if err := send("n2", f); err != nil {
				t.Fatal(err)
			}
			want = append(want, fmt.Sprintf("n1:%d", i+1))
		}
		if err := w.links["n2"].Send("n1", step(7, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.sinks["n2"].lines(); !slices.Equal(got, want) {
			t.Errorf("got %d frames %.200v", len(got), got)
		}
		if got := w.sinks["n1"].lines(); !slices.Equal(got, []string{"n2:7"}) {
			t.Errorf("got %v", got)
		}
		l := w.links["n1"].Links()
		if len(l) != 1 || !l[0].Up || l[0].Node != "n2" || l[0].Queued != 0 || l[0].Frames != 300 || l[0].Err != nil {
			t.Errorf("%+v", l)
		}
		time.Sleep(time.Minute) // idle links stay up by their heartbeats
		if got := append(w.sinks["n1"].lines()[1:], w.sinks["n2"].lines()[300:]...); len(got) != 0 {
			t.Errorf("after a minute: %v", got)
		}
	})
}

func TestLinkKilledAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		n1 := w.links["n1"]
		_ = n1.Send("n2", step(1, 1))
		_ = w.links["n2"].Send("n1", step(1, 1))
		synctest.Wait()
		w.sinks["n1"].take()
		began := time.Now()
		w.net.Kill("n2") // kill -9: its connections are reset
		synctest.Wait()
		if got := w.sinks["n1"].take(); !slices.Equal(got, []string{"down:n2", "down:n2"}) || time.Since(began) != 0 {
			t.Errorf("after %v: %v (one for each direction is expected, at once)", time.Since(began), got)
		}
		if err := n1.Send("n2", step(2, 1)); !errors.Is(err, ErrLinkDown) {
			t.Errorf("Send to the dead: %v", err)
		}
		_ = w.nodes["n2"].Close()
		time.Sleep(10 * time.Second)
		if got := w.sinks["n1"].take(); len(got) != 0 {
			t.Errorf("told again: %v", got)
		}
		// It comes back under its name and address; the link heals by itself.
		m := w.restart(t, "n2")
		w.sinks["n2"] = &sink{}
		w.links["n2"] = NewLinks(m, w.sinks["n2"].config(w.addr))
		m.Serve()
		time.Sleep(3 * time.Second)
		if err := n1.Send("n2", step(3, 1)); err != nil {
			t.Errorf("after its return: %v", err)
		}
		synctest.Wait()
		if got := w.sinks["n2"].lines(); !slices.Equal(got, []string{"n1:3"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestLinkRevivedByTheOtherSide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, func(c *LinksConfig) { c.RetryMin, c.RetryMax = time.Hour, time.Hour }, "n1", "n2")
		defer w.close()
		w.net.Cut("n1", "n2")
		w.links["n1"].Connect("n2")
		time.Sleep(5 * time.Second)
		w.net.Heal("n1", "n2")
		if err := w.links["n1"].Send("n2", step(1, 1)); !errors.Is(err, ErrLinkDown) {
			t.Errorf("in the pause: %v", err)
		}
		w.links["n2"].Connect("n1") // n2 shows that it lives
		synctest.Wait()
		if err := w.links["n1"].Send("n2", step(2, 1)); err != nil {
			t.Errorf("n1 still waits: %v", err)
		}
	})
}

// TestLinkSilent cuts one direction or both without a sign: only heartbeats can tell.
func TestLinkSilent(t *testing.T) {
	for _, c := range []struct {
		name string
		cut  [][2]string
	}{
		{"both ways", [][2]string{{"n1", "n2"}, {"n2", "n1"}}},
		{"there", [][2]string{{"n1", "n2"}}},
		{"back", [][2]string{{"n2", "n1"}}},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newLinkWorld(t, nil, "n1", "n2")
			defer w.close()
			_ = w.links["n1"].Send("n2", step(1, 1))
			synctest.Wait()
			w.sinks["n2"].take()
			for _, d := range c.cut {
				w.net.Cut(d[0], d[1])
			}
			time.Sleep(1200 * time.Millisecond)
			synctest.Wait()
			// Over a cut in one direction one side hears silence, and closes; the other learns it by that or by silence too.
			heard := append(w.sinks["n1"].lines(), w.sinks["n2"].lines()...)
			if len(heard) == 0 {
				t.Errorf("%s: nobody has noticed", c.name)
			}
			time.Sleep(1200 * time.Millisecond)
			if !slices.Contains(w.sinks["n1"].lines(), "down:n2") || !slices.Contains(w.sinks["n2"].lines(), "down:n1") {
				t.Errorf("%s: n1 %v, n2 %v", c.name, w.sinks["n1"].lines(), w.sinks["n2"].lines())
			}
			for _, d := range c.cut {
				w.net.Heal(d[0], d[1])
			}
			time.Sleep(5 * time.Second)
			w.sinks["n2"].take()
			if err := w.links["n1"].Send("n2", step(9, 1)); err != nil {
				t.Errorf("%s, healed: %v", c.name, err)
			}
			synctest.Wait()
			if got := w.sinks["n2"].lines(); !slices.Equal(got, []string{"n1:9"}) {
				t.Errorf("%s, healed: %v", c.name, got)
			}
		})
	}
}

// TestLinkHalfOpen lets a node die without its peer learning of it, and come back: the peer must be told of the loss before the first new frame.
func TestLinkHalfOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, func(c *LinksConfig) { c.Silence = time.Hour }, "n1", "n2")
		defer w.close()
		_ = w.links["n1"].Send("n2", step(1, 1))
		synctest.Wait()
		w.net.Cut("n1", "n2")
		w.net.Kill("n1")
		_ = w.nodes["n1"].Close()
		w.net.Heal("n1", "n2")
		m := w.restart(t, "n1")
		l := NewLinks(m, (&sink{}).config(w.addr))
		m.Serve()
		if err := l.Send("n2", step(2, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.sinks["n2"].lines(); !slices.Equal(got, []string{"n1:1", "down:n1", "n1:2"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestLinkToNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		l := w.links["n1"]
		if err := l.Send("n9", step(1, 1)); err != nil {
			t.Fatal(err) // it is queued, and then told as lost
		}
		synctest.Wait()
		s := w.sinks["n1"]
		if got := s.take(); !slices.Equal(got, []string{"down:n9"}) || !errors.Is(s.errs["n9"], ErrUnknownNode) {
			t.Errorf("%v, %v", got, s.errs["n9"])
		}
		if len(l.Links()) != 0 {
			t.Errorf("kept: %+v", l.Links())
		}
		w.net.Cut("n1", "n2") // an address that answers nothing
		if err := l.Send("n2", step(1, 1)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(1900 * time.Millisecond)
		if got := s.take(); len(got) != 0 {
			t.Errorf("too early: %v", got)
		}
		time.Sleep(200 * time.Millisecond)
		if got := s.take(); !slices.Equal(got, []string{"down:n2"}) {
			t.Errorf("got %v", got)
		}
	})
}

func TestLinkQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, func(c *LinksConfig) { c.QueueBytes, c.QueueFrames = 100<<10, 50 }, "n1", "n2")
		defer w.close()
		held := make(chan struct{})
		w.sinks["n2"].onStep = func(string, *pipeline.Frame) { <-held }
		l := w.links["n1"]
		small := func() (n int, err error) {
			for ; n < 1000 && err == nil; n++ {
				err = l.Send("n2", step(1, 1))
			}
			return n - 1, err
		}
		if n, err := small(); !errors.Is(err, ErrQueueFull) || n != 50 {
			t.Errorf("%d frames, then %v", n, err)
		}
		synctest.Wait()
		sent, err := 0, error(nil)
		for ; sent < 1000 && err == nil; sent++ {
			err = l.Send("n2", step(2, 10000))
			synctest.Wait()
		}
		if !errors.Is(err, ErrQueueFull) || sent > (halfBuffer*2+200<<10)/40000 {
			t.Errorf("%d frames of 40 kB went to a node that reads nothing, then %v", sent, err)
		}
		if q := l.Links()[0].Queued; q > 150<<10 {
			t.Errorf("%d bytes wait", q)
		}
		close(held) // the node goes on: what was taken arrives, in order, and there is room again
		synctest.Wait()
		if err := l.Send("n2", step(3, 60000)); err != nil {
			t.Errorf("one frame over the bound must go when nothing waits: %v", err)
		}
		synctest.Wait()
		if got := w.sinks["n2"].lines(); len(got) != 50+sent-1+1 || slices.Contains(got, "down:n1") {
			t.Errorf("%d frames arrived: %v", len(got), got)
		}
	})
}

// TestStuckNodeHoldsUpNobody sends to a node that takes nothing, and to another one.
func TestStuckNodeHoldsUpNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2", "n3")
		defer w.close()
		l, held := w.links["n1"], make(chan struct{})
		w.sinks["n2"].onStep = func(string, *pipeline.Frame) { <-held }
		if node, err := l.Await(t.Context(), "n2", "n3"); err != nil {
			t.Fatalf("%s: %v", node, err)
		}
		began := time.Now()
		for i := range 60 { // 12 MB
			if err := l.Send("n2", step(1, 50000)); err != nil {
				t.Fatal(err)
			}
			if err := l.Send("n3", step(uint64(i), 50000)); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if got := w.sinks["n3"].lines(); len(got) != 60 || time.Since(began) != 0 {
			t.Errorf("after %v %d frames have arrived", time.Since(began), len(got))
		}
		if got := w.sinks["n2"].lines(); len(got) != 0 {
			t.Errorf("the node that is stuck: %v", got)
		}
		close(held)
		synctest.Wait()
		if got := w.sinks["n2"].lines(); len(got) != 60 {
			t.Errorf("later %d frames have arrived", len(got))
		}
	})
}

// TestLinkLargeFrameIsNoSilence sends a frame that takes longer than the silence that is allowed.
func TestLinkLargeFrameIsNoSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, func(c *LinksConfig) { c.QueueBytes = 64 << 20 }, "n1", "n2")
		defer w.close()
		w.links["n1"].Connect("n2")
		synctest.Wait()
		w.net.Delay(150 * time.Millisecond) // one buffer of 256 KiB per 150 ms
		if err := w.links["n1"].Send("n2", prompt(1, 4<<20)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if got := w.sinks["n2"].lines(); !slices.Equal(got, []string{"n1:1"}) {
			t.Errorf("n2: %v", got)
		}
		if got := w.sinks["n1"].lines(); len(got) != 0 {
			t.Errorf("n1: %v", got)
		}
	})
}

// rawStage dials the stage protocol as a member, without Links.
func rawStage(t *testing.T, m *Mux, node, addr string) *Conn {
	t.Helper()
	c, err := m.Dial(t.Context(), ProtoStage, node, addr)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

type newerHello struct {
	Min  int    `msgpack:"min"`
	Max  int    `msgpack:"max"`
	From string `msgpack:"from"`
	To   string `msgpack:"to"`
	More int    `msgpack:"more"`
}

// TestHostileMember is a node with a certificate that does not keep to the protocol.
func TestHostileMember(t *testing.T) {
	good := hello{Min: 2, Max: 2, From: "n2", To: "n1"}
	huge := appendHeader(appendBind(nil, 0, address{seq: 1}), byte(pipeline.KindStep), typeF32, 0)
	binary.LittleEndian.PutUint32(huge[bound+offLength:], 1<<31)
	for _, c := range []struct {
		name  string
		hello any
		raw   []byte
	}{
		{"claims another name", hello{Min: 2, Max: 2, From: "n3", To: "n1"}, nil},
		{"means another node", hello{Min: 2, Max: 2, From: "n2", To: "n3"}, nil},
		{"a version to come", hello{Min: 3, Max: 4, From: "n2", To: "n1"}, nil},
		{"versions upside down", hello{Min: 3, Max: 2, From: "n2", To: "n1"}, nil},
		{"unknown fields", newerHello{Min: 2, Max: 2, From: "n2", To: "n1", More: 1}, nil},
		{"no msgpack", nil, []byte("\x05\x00\x00\x00hello")},
		{"a hello of 2 GiB", nil, []byte("\xff\xff\xff\x7f")},
		{"nothing at all", nil, nil},
		{"garbage behind the hello", good, slices.Repeat([]byte{0xa5}, 4096)},
		{"a frame of 2 GiB", good, huge},
		{"half a frame", good, huge[:10]},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "n1", "n2", "n3")
			defer w.close()
			s := &sink{}
			NewLinks(w.nodes["n1"], s.config(w.addr))
			w.nodes["n1"].Serve()
			conn := rawStage(t, w.nodes["n2"], "n1", addrOf(0))
			defer conn.Close()
			if c.hello != nil {
				if err := writeMessage(conn, c.hello, maxHello); err != nil {
					t.Fatal(err)
				}
			}
			if c.raw != nil {
				_, _ = conn.Write(c.raw)
			}
			began := time.Now()
			_, _ = io.ReadAll(conn) // until n1 closes it
			if d := time.Since(began); d > 6*time.Second {
				t.Errorf("%s: held for %v", c.name, d)
			}
			if got := s.lines(); slices.ContainsFunc(got, func(l string) bool { return l != "down:n2" }) {
				t.Errorf("%s: %v", c.name, got)
			}
		})
	}
}

// TestHostileAcceptor is a node that answers a link with nonsense.
func TestHostileAcceptor(t *testing.T) {
	for name, answer := range map[string]func(c *Conn){
		"says nothing":         func(c *Conn) { _, _ = io.ReadAll(c) },
		"closes":               func(*Conn) {},
		"refuses":              func(c *Conn) { _ = writeMessage(c, &welcome{Refused: "no"}, maxHello) },
		"a version of its own": func(c *Conn) { _ = writeMessage(c, &welcome{Version: 9}, maxHello) },
		"sends frames": func(c *Conn) {
			v, _ := receiveHello(c, "n2", time.Second)
			_ = answerHello(c, v)
			b := encode(t, &pipeline.Frame{Kind: pipeline.KindClose})
			_, _ = c.Write(b)
			_, _ = io.ReadAll(c)
		},
		"goes silent": func(c *Conn) {
			v, _ := receiveHello(c, "n2", time.Second)
			_ = answerHello(c, v)
			_, _ = io.ReadAll(c)
		},
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, "n1", "n2")
			defer w.close()
			w.nodes["n2"].Handle(ProtoStage, func(c *Conn) { defer c.Close(); answer(c) })
			w.nodes["n2"].Serve()
			s := &sink{}
			l := NewLinks(w.nodes["n1"], s.config(w.addr))
			if err := l.Send("n2", step(1, 1)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(3 * time.Second)
			if got := s.lines(); len(got) == 0 || got[0] != "down:n2" {
				t.Errorf("%s: %v", name, got)
			}
			_ = l.Close()
		})
	}
}

func TestLinksClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2", "n3")
		defer w.close()
		l := w.links["n1"]
		_ = l.Send("n2", step(1, 1))
		_ = w.links["n3"].Send("n1", step(1, 1))
		w.net.Cut("n1", "n3")
		_ = l.Send("n3", step(1, 1)) // in the middle of connecting
		synctest.Wait()
		w.sinks["n1"].take()
		_ = l.Close()
		_ = l.Close()
		if err := l.Send("n2", step(2, 1)); !errors.Is(err, ErrClosed) {
			t.Errorf("Send: %v", err)
		}
		l.Connect("n2")
		synctest.Wait()
		if got := w.sinks["n1"].lines(); len(got) != 0 {
			t.Errorf("PeerDown for our own Close: %v", got)
		}
		if got := w.sinks["n2"].lines(); !slices.Equal(got, []string{"n1:1", "down:n1"}) {
			t.Errorf("the other side: %v", got)
		}
	})
}

func TestLinksTCP(t *testing.T) {
	ids := identities(t, "n1", "n2")
	muxes := map[string]*Mux{}
	for _, id := range ids {
		m, err := Bind(Config{Identity: id, Addr: "127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		muxes[id.Name()] = m
	}
	addr := func(n string) (string, bool) { return muxes[n].Addr().String(), true }
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	got := make(chan uint64, 100)
	NewLinks(muxes["n2"], LinksConfig{Addr: addr, PeerDown: func(string, error) {}, Deliver: func(_ string, f *pipeline.Frame) {
		if len(f.X) == 50000 && f.X[49999] == float32(f.Seq) {
			got <- f.Seq
		}
		f.Release()
	}})
	down := make(chan error, 1)
	l := NewLinks(muxes["n1"], LinksConfig{Addr: addr, Deliver: func(_ string, f *pipeline.Frame) { f.Release() }, PeerDown: func(_ string, err error) { down <- err }})
	muxes["n1"].Serve()
	muxes["n2"].Serve()
	f := step(0, 50000)
	for i := range 100 {
		f.Seq, f.X[49999] = uint64(i), float32(i)
		if err := l.Send("n2", f); err != nil {
			t.Fatal(err)
		}
	}
	for want := range uint64(100) {
		select {
		case seq := <-got:
			if seq != want {
				t.Fatalf("frame %d, want %d", seq, want)
			}
		case <-ctx.Done():
			t.Fatal("frames are missing")
		}
	}
	_ = muxes["n2"].Close()
	select {
	case <-down:
	case <-ctx.Done():
		t.Error("the end of n2 was not noticed")
	}
}

// TestSmallFramesOvertake sends small frames behind a large one that takes long: those of other sequences arrive first, those of its own
// after it, and all in the order of their sequence.
func TestSmallFramesOvertake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		n1, s := w.links["n1"], w.sinks["n2"]
		n1.Connect("n2")
		w.net.Delay(20 * time.Millisecond)
		time.Sleep(time.Second)
		send := func(f *pipeline.Frame) {
			t.Helper()
			if err := n1.Send("n2", f); err != nil {
				t.Fatal(err)
			}
		}
		send(prompt(1, 2<<20)) // 8 MiB: 32 buffers of the connection
		send(prompt(2, 2<<20))
		time.Sleep(50 * time.Millisecond)
		send(step(3, 1000))
		send(step(2, 1000)) // behind its own prompt
		send(step(3, 1000))
		send(prompt(4, 1000))
		send(step(4, 200000)) // rows that decode are never held up, however many
		time.Sleep(100 * time.Millisecond)
		if got := s.take(); !slices.Equal(got, []string{"n1:3", "n1:3", "n1:4", "n1:4"}) {
			t.Errorf("after 100 ms: %v", got)
		}
		if q := n1.Links()[0].Queued; q < 8<<20 {
			t.Errorf("only %d bytes wait: the prompts were sent before", q)
		}
		time.Sleep(5 * time.Second)
		if got := s.take(); !slices.Equal(got, []string{"n1:1", "n1:2", "n1:2"}) {
			t.Errorf("after that: %v", got)
		}
		if l := n1.Links()[0]; l.Queued != 0 || l.Frames != 7 {
			t.Errorf("%+v", l)
		}
	})
}

// BenchmarkLink sends a frame of a decode step and waits for one that comes back, over TLS on loopback.
func BenchmarkLink(b *testing.B) {
	for _, n := range []int{576, 2048, 256 * 576} {
		b.Run(fmt.Sprintf("%dB", 4*n), func(b *testing.B) { benchLink(b, n) })
	}
}

func benchLink(b *testing.B, n int) {
	l, f, back := linkPair(b, n)
	b.SetBytes(int64(4 * n))
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Send("n2", f); err != nil {
			b.Fatal(err)
		}
		<-back
	}
}

// linkPair is two nodes over TCP. The second one answers every frame with a small one; back tells of it.
func linkPair(b testing.TB, n int) (l1 *Links, f *pipeline.Frame, back chan struct{}) {
	ids := identities(b, "n1", "n2")
	muxes := map[string]*Mux{}
	for _, id := range ids {
		m, err := Bind(Config{Identity: id, Addr: "127.0.0.1:0"})
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = m.Close() })
		muxes[id.Name()] = m
	}
	addr := func(n string) (string, bool) { return muxes[n].Addr().String(), true }
	back = make(chan struct{}, 1)
	var l2 *Links
	reply := step(1, 1)
	l2 = NewLinks(muxes["n2"], LinksConfig{Addr: addr, PeerDown: func(string, error) {}, Deliver: func(from string, f *pipeline.Frame) {
		f.Release()
		_ = l2.Send(from, reply)
	}})
	l1 = NewLinks(muxes["n1"], LinksConfig{Addr: addr, PeerDown: func(string, error) {}, Deliver: func(_ string, f *pipeline.Frame) {
		f.Release()
		back <- struct{}{}
	}})
	muxes["n1"].Serve()
	muxes["n2"].Serve()
	return l1, step(1, n), back
}

// A node whose answers cannot be sent hears of it: its own link ends, whether the way back was down before or breaks
// while frames wait. Without that it would wait for ever.
func TestLinksLiveAndDieTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2", "n3")
		defer w.close()
		n1, n2 := w.links["n1"], w.links["n2"]
		var unreachable atomic.Bool
		unreachable.Store(true)
		n2.cfg.Addr = func(node string) (string, bool) { // n1 can reach n2, n2 cannot reach n1
			if unreachable.Load() && node == "n1" {
				return "10.9.9.9:1", true
			}
			return w.addr(node)
		}
		for round := range 3 { // at first the way back is new, then it is down
			if err := n1.Send("n2", step(1, 1)); err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			synctest.Wait()
			w.sinks["n1"].take()
			_ = n2.Send("n1", step(1, 1)) // the answer: queued or refused
			time.Sleep(3 * time.Second)
			if got := w.sinks["n1"].take(); !slices.Contains(got, "down:n2") {
				t.Fatalf("round %d: n1 hears %v, not that n2 cannot answer", round, got)
			}
		}
		unreachable.Store(false)
		time.Sleep(3 * time.Second)
		if node, err := n1.Await(t.Context(), "n2", "n3"); err != nil {
			t.Fatalf("%s: %v", node, err)
		}
		if err := n2.Send("n1", step(2, 1)); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := w.sinks["n1"].take(); !slices.Equal(got, []string{"n2:2"}) {
			t.Errorf("got %v", got)
		}
	})
}

// A node that has just come back is answered: frames for it wait for the link that is made at once, and an attempt to
// reach it that began before it came back does not count.
func TestLinkTakesFramesForANodeThatIsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered := 0
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		n1, n2 := w.links["n1"], w.links["n2"]
		_ = n2.Send("n1", step(1, 1))
		for i := range 20 {
			w.net.Cut("n2", "n1") // n2's attempts hang from now on
			w.net.Cut("n1", "n2")
			time.Sleep(3*time.Second + time.Duration(i)*100*time.Millisecond)
			w.net.Heal("n2", "n1")
			w.net.Heal("n1", "n2")
			w.sinks["n2"].onStep = func(string, *pipeline.Frame) {
				if err := n2.Send("n1", step(9, 1)); err != nil {
					t.Errorf("round %d: %v", i, err)
				}
			}
			for n1.Send("n2", step(2, 1)) != nil { // until n1 has noticed
				time.Sleep(50 * time.Millisecond)
			}
			time.Sleep(3 * time.Second) // an attempt that hangs goes before
			if slices.Contains(w.sinks["n1"].take(), "n2:9") {
				answered++
			}
		}
		if answered != 20 {
			t.Errorf("%d of 20 were answered", answered)
		}
	})
}

func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2", "n3")
		defer w.close()
		n1 := w.links["n1"]
		if node, err := n1.Await(t.Context(), "n2", "n3"); err != nil {
			t.Fatalf("%s: %v", node, err)
		}
		w.net.Kill("n3")
		synctest.Wait()
		if node, err := n1.Await(t.Context(), "n2", "n3"); node != "n3" || !errors.Is(err, ErrLinkDown) {
			t.Errorf("%s: %v", node, err)
		}
		w.net.Cut("n1", "n2")
		w.net.Cut("n2", "n1")
		time.Sleep(3 * time.Second)
		began := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if node, err := n1.Await(ctx, "n2"); node != "n2" || err == nil || time.Since(began) > time.Second {
			t.Errorf("%s: %v after %v", node, err, time.Since(began))
		}
		if node, err := n1.Await(t.Context(), "n9"); node != "n9" || err == nil {
			t.Errorf("a node nobody knows: %s: %v", node, err)
		}
	})
}
