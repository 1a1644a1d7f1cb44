package peer

import (
	"errors"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/pipeline"
)

// TestSuspicion cuts both directions without a sign and looks when the nodes notice, with and without sequences in flight.
func TestSuspicion(t *testing.T) {
	for _, c := range []struct {
		name     string
		needed   bool
		change   func(*LinksConfig)
		min, max time.Duration // since the cut; the last sign of life was up to a heartbeat before it
	}{
		{"in flight", true, nil, 200 * time.Millisecond, 300 * time.Millisecond},
		{"idle", false, nil, 900 * time.Millisecond, 1000 * time.Millisecond},
		{"sooner", true, func(c *LinksConfig) { c.Heartbeat, c.Suspicion = 20*time.Millisecond, 50*time.Millisecond }, 30 * time.Millisecond, 50 * time.Millisecond},
		{"later", true, func(c *LinksConfig) { c.Suspicion = 3 * time.Second }, 2900 * time.Millisecond, 3000 * time.Millisecond},
	} {
		for phase := range 4 { // of the signs of life
			synctest.Test(t, func(t *testing.T) {
				w := newLinkWorld(t, func(cfg *LinksConfig) {
					cfg.Busy = func(string) bool { return c.needed }
					if c.change != nil {
						c.change(cfg)
					}
				}, "n1", "n2")
				defer w.close()
				_ = w.links["n1"].Send("n2", step(1, 1))
				time.Sleep(10*time.Second + time.Duration(phase)*27*time.Millisecond)
				w.net.Cut("n1", "n2")
				w.net.Cut("n2", "n1")
				w.sinks["n2"].take()
				time.Sleep(c.min - 1)
				synctest.Wait()
				if got := append(w.sinks["n1"].take(), w.sinks["n2"].take()...); len(got) != 0 {
					t.Errorf("%s: %v within %v", c.name, got, c.min)
				}
				time.Sleep(c.max - c.min + 1)
				synctest.Wait()
				for from, to := range map[string]string{"n1": "n2", "n2": "n1"} {
					if got := w.sinks[from].take(); !slices.Equal(got, []string{"down:" + to}) || !errors.Is(w.sinks[from].errs[to], ErrSilent) {
						t.Errorf("%s: %s hears %v (%v) within %v", c.name, from, got, w.sinks[from].errs[to], c.max)
					}
				}
			})
		}
	}
}

// TestBusyIsNotSilent holds up a node's Deliver for long, as a step, a full queue or a collection may: signs of life go on, and the time
// in which nobody reads is no silence of the other side.
func TestBusyIsNotSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, nil, "n1", "n2")
		defer w.close()
		_ = w.links["n2"].Send("n1", step(1, 1))
		synctest.Wait()
		w.sinks["n1"].take()
		var once atomic.Bool
		w.sinks["n2"].onStep = func(string, *pipeline.Frame) {
			if once.CompareAndSwap(false, true) {
				time.Sleep(time.Minute)
			}
		}
		for range 20 { // more than the connection holds: the sender cannot write either
			if err := w.links["n1"].Send("n2", step(1, 100_000)); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(time.Minute - time.Second)
		if a, b := w.sinks["n1"].lines(), w.sinks["n2"].lines(); len(a)+len(b) != 0 {
			t.Fatalf("while it is busy: %v, %v", a, b)
		}
		time.Sleep(2 * time.Second)
		if a, b := w.sinks["n1"].lines(), w.sinks["n2"].lines(); len(a) != 0 || len(b) != 20 {
			t.Errorf("after that: %v, %v", a, b)
		}
	})
}

// TestNobodyLooked is a process that does not run for a while (SIGSTOP, a machine that is out of CPU): what it did not see is no silence.
func TestNobodyLooked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMemory()
		ln, _, err := m.Host("b").Listen("10.0.0.2:1")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		c, err := m.Host("a").Dial(t.Context(), "10.0.0.2:1")
		if err != nil {
			t.Fatal(err)
		}
		s := newSocket(c)
		go func() {
			b := make([]byte, 10)
			for {
				if _, err := s.Read(b); err != nil {
					return
				}
			}
		}()
		const most = 150 * time.Millisecond
		look := func(after, want time.Duration) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := s.look(most); got != want {
				t.Errorf("silent for %v, want %v", got, want)
			}
		}
		look(100*time.Millisecond, 100*time.Millisecond)
		look(100*time.Millisecond, 200*time.Millisecond)
		look(time.Hour, 350*time.Millisecond)
		other, _ := ln.Accept()
		_, _ = other.Write([]byte("life"))
		look(40*time.Millisecond, 40*time.Millisecond)
		look(time.Hour, 40*time.Millisecond+most)
		_, _ = other.Write([]byte("life"))
		look(time.Hour, most) // it was not there to hear when
		s.fail(errReset)
		if _, err := s.Read(nil); !errors.Is(err, errReset) || errors.Is(err, net.ErrClosed) {
			t.Errorf("the reader is told %v", err)
		}
		_ = other.Close()
	})
}

// TestPatience: a node whose silences have been long and ended well is given more time; that is forgotten.
func TestPatience(t *testing.T) {
	g, now := make(gaps), time.Unix(1000, 0)
	g.note(now, "a", 200*time.Millisecond)
	g.note(now, "a", 90*time.Millisecond)
	if got := g.now(now, "a"); got != 200*time.Millisecond {
		t.Errorf("the longest is %v", got)
	}
	now = now.Add(forget)
	if got := g.now(now, "a"); got != 100*time.Millisecond {
		t.Errorf("a minute later %v", got)
	}
	g.note(now, "a", 120*time.Millisecond)
	if got := g.now(now, "a"); got != 120*time.Millisecond {
		t.Errorf("a new longest is %v", got)
	}
	g.note(now.Add(time.Hour), "b", time.Second)
	if _, there := g["a"]; there || g.now(now, "c") != 0 {
		t.Errorf("what is left: %v", g)
	}
}

// TestLossyLine: a line that is silent for 400 ms now and then breaks once, not every time; silence for good is noticed all the same.
func TestLossyLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newLinkWorld(t, func(c *LinksConfig) { c.Busy = func(string) bool { return true } }, "n1", "n2")
		defer w.close()
		send := func() { _ = w.links["n1"].Send("n2", step(1, 1)) }
		send()
		time.Sleep(5 * time.Second)
		w.sinks["n1"].take()
		w.sinks["n2"].take()
		downs := 0
		for range 10 {
			w.net.Delay(400 * time.Millisecond) // what is on its way waits: nothing is lost
			time.Sleep(50 * time.Millisecond)
			w.net.Delay(0)
			send()
			time.Sleep(3 * time.Second)
			for _, n := range []string{"n1", "n2"} {
				for _, line := range w.sinks[n].take() {
					if line == "down:n1" || line == "down:n2" {
						downs++
					}
				}
			}
		}
		if downs > 4 { // once, each of two links, at both ends
			t.Errorf("%d links broke", downs)
		}
		w.net.Cut("n1", "n2")
		w.net.Cut("n2", "n1")
		time.Sleep(time.Second)
		synctest.Wait()
		for _, n := range []string{"n1", "n2"} {
			if got := w.sinks[n].take(); len(got) == 0 {
				t.Errorf("%s has not noticed within the longest silence", n)
			}
		}
	})
}
