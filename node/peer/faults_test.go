package peer

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinksUnderFaults sends numbered frames both ways for a minute of virtual time while directions are cut and healed, and
// checks the promise of Links: no frame twice, none out of order, and none lost without a PeerDown at the sender afterwards.
func TestLinksUnderFaults(t *testing.T) {
	for seed := range uint64(6) {
		synctest.Test(t, func(t *testing.T) { runFaults(t, seed) })
	}
}

func runFaults(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 1))
	w := newLinkWorld(t, nil, "n1", "n2")
	defer w.close()
	w.net.Delay(time.Duration(r.IntN(3)) * 10 * time.Millisecond)
	next := map[string]int{"n1": 1, "n2": 1}
	accepted, refused := 0, map[string]bool{}
	for began := time.Now(); time.Since(began) < time.Minute; {
		time.Sleep(time.Duration(r.IntN(60)+1) * time.Millisecond)
		for from, to := range map[string]string{"n1": "n2", "n2": "n1"} {
			seq := next[from]
			next[from]++
			w.sinks[from].add(fmt.Sprintf("sent:%d", seq)) // before: a loss may be told before Send returns
			if w.links[from].Send(to, step(uint64(seq), 1+r.IntN(3000))) == nil {
				accepted++
			} else {
				refused[fmt.Sprintf("%s:%d", from, seq)] = true
			}
		}
		if r.IntN(40) == 0 {
			from, to := "n1", "n2"
			if r.IntN(2) == 0 {
				from, to = to, from
			}
			w.net.Cut(from, to)
			time.AfterFunc(time.Duration(r.IntN(2500))*time.Millisecond, func() { w.net.Heal(from, to) })
		}
	}
	time.Sleep(10 * time.Second)
	for from, to := range map[string]string{"n1": "n2", "n2": "n1"} {
		checkPromise(t, fmt.Sprintf("seed %d, %s to %s", seed, from, to), from, to, w.sinks[from].lines(), w.sinks[to].lines(), refused)
	}
	if accepted < 100 {
		t.Errorf("seed %d: only %d frames were taken", seed, accepted)
	}
}

// checkPromise compares what a sender saw with what its receiver saw.
func checkPromise(t *testing.T, name, from, to string, sender, receiver []string, refused map[string]bool) {
	arrived := map[int]bool{}
	last := 0
	for _, line := range receiver {
		var seq int
		if n, _ := fmt.Sscanf(line, from+":%d", &seq); n != 1 {
			continue
		}
		if seq <= last {
			t.Errorf("%s: frame %d came after %d", name, seq, last)
		}
		last, arrived[seq] = seq, true
	}
	told := false // a loss was told after the frame, looking from the end
	lost := 0
	for i := len(sender) - 1; i >= 0; i-- {
		var seq int
		if sender[i] == "down:"+to {
			told = true
		} else if n, _ := fmt.Sscanf(sender[i], "sent:%d", &seq); n == 1 && !arrived[seq] && !refused[fmt.Sprintf("%s:%d", from, seq)] {
			lost++
			if !told {
				t.Errorf("%s: frame %d was lost and nobody told", name, seq)
			}
		}
	}
	if len(arrived) == 0 {
		t.Errorf("%s: nothing arrived, %d lost", name, lost)
	}
}
