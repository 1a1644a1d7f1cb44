package pipeline

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
)

func TestCurve(t *testing.T) {
	var c curve
	if _, ok := c.at(5); ok {
		t.Error("an empty curve knows a time")
	}
	ms := func(n float64) time.Duration { return time.Duration(n * float64(time.Millisecond)) }
	for range 20 {
		c.add(4, ms(10))
		c.add(64, ms(70))
		c.add(200, ms(206))
	}
	for rows, want := range map[int]time.Duration{1: ms(10), 4: ms(10), 34: ms(40), 64: ms(70), 132: ms(138), 300: ms(306)} {
		if got, ok := c.at(rows); !ok || got < want-ms(0.01) || got > want+ms(0.01) {
			t.Errorf("%d rows take %v, want %v", rows, got, want)
		}
	}
	if w := c.weight(); w != 6 {
		t.Errorf("the fixed part is worth %d rows, want 6", w)
	}
	c.add(64, time.Hour) // the machine slept
	if got, _ := c.at(64); got > ms(100) {
		t.Errorf("one that slept moves the mean to %v", got)
	}
}

// Whatever is measured, more rows never take less, and no estimate is negative.
func TestCurveNeverFalls(t *testing.T) {
	rng := rand.New(rand.NewPCG(6, 6))
	for range 300 {
		var c curve
		for range 1 + rng.IntN(40) {
			c.add(1+rng.IntN(600), time.Duration(rng.IntN(1e8)))
		}
		last := time.Duration(0)
		for rows := 1; rows < 1000; rows++ {
			took, ok := c.at(rows)
			if !ok || took < last {
				t.Fatalf("%d rows take %v, one less %v", rows, took, last)
			}
			last = took
		}
	}
}

func TestCostBesideDecodes(t *testing.T) {
	var c cost
	if n, known := c.rows(time.Second, true, 256); known {
		t.Errorf("an unknown cost allows %d rows", n)
	}
	for range 10 {
		c.add(0, 8, 10*time.Millisecond)
		c.add(100, 0, 60*time.Millisecond)
		c.add(20, 8, 20*time.Millisecond)
		c.add(40, 8, 30*time.Millisecond)
	}
	if got := c.at(20, 8); got < 19*time.Millisecond || got > 21*time.Millisecond {
		t.Errorf("a mixed step takes %v, want 20ms", got)
	}
	if n, _ := c.rows(15*time.Millisecond, true, 256); n < 28 || n > 32 {
		t.Errorf("%d rows add 15ms, want 30", n)
	}
	if n, _ := c.rows(time.Hour, true, 256); n != 256 {
		t.Errorf("%d rows of 256 in an hour", n)
	}
}

// The number of groups by the measured time: compute-bound stages of their own machines want one each, long wires
// more, one machine with all stages one, and with nothing known as many as stages.
func TestRingGroups(t *testing.T) {
	flat, steep := new(curve), new(curve)
	for _, n := range []int{1, 2, 4, 8, 16, 32} {
		for range 8 {
			flat.add(n, 10*time.Millisecond+time.Duration(n)*10*time.Microsecond)
			steep.add(n, time.Millisecond+time.Duration(n)*time.Millisecond)
		}
	}
	wire := func(d time.Duration, busy int) ring {
		r := ring{busy: busy}
		r.wire.add(float64(d))
		r.others.add(1)
		return r
	}
	for _, c := range []struct {
		name         string
		r            ring
		t            *curve
		n, hops, now int
		least, most  int
	}{
		{"unknown", ring{}, new(curve), 8, 3, 0, 3, 3},
		{"unknown, few", ring{}, new(curve), 2, 3, 0, 2, 2},
		{"compute-bound", wire(0, 1), steep, 16, 2, 0, 2, 2},
		{"memory-bound", wire(0, 1), flat, 16, 2, 0, 1, 2},
		{"far apart", wire(40*time.Millisecond, 1), steep, 16, 2, 0, 4, 8},
		{"far apart and memory-bound", wire(40*time.Millisecond, 1), flat, 16, 2, 0, 1, 6},
		{"all on one machine, memory-bound", wire(0, 4), flat, 16, 4, 0, 1, 1},
		{"no change for a little", wire(0, 1), flat, 16, 2, 1, 1, 1},
		{"more groups than sequences", wire(40*time.Millisecond, 1), steep, 3, 2, 0, 3, 3},
	} {
		if got := c.r.groups(c.t, c.n, c.hops, c.now); got < c.least || got > c.most {
			t.Errorf("%s: %d groups, want %d to %d", c.name, got, c.least, c.most)
		}
	}
}

// prompts queues prompts at a middle stage, one sequence each, of tenants.
func (b *bench) prompts(tenant string, first uint64, rows ...int) {
	for i, n := range rows {
		o := benchOpen(3)
		o.Tenant, o.Prompt, o.Known, o.Positions = tenant, n, n, n+10
		b.in("a", Frame{Kind: KindOpen, Seq: first + uint64(i), Open: o})
		b.st.settle()
		b.in("a", Frame{Kind: KindStep, Seq: first + uint64(i), Flags: FlagPrompt, Count: uint32(n), X: rowsX(0, n)})
	}
}

// group lets one step happen and tells who got how many rows.
func (b *bench) group() map[uint64]int {
	got := map[uint64]int{}
	batch := b.st.next(b.now)
	for _, w := range b.st.group {
		got[w.seq.id] = w.part
	}
	out, err := b.fake.Step(batch)
	if err != nil {
		b.t.Fatal(err)
	}
	b.st.choose(out)
	b.st.done(b.now, out, nil)
	b.st.take()
	return got
}

// A step's rows are shared equally between tenants, however many prompts each has; a tenant's shortest comes first, and the oldest
// prompt of all is sure of its part.
func TestStageSharesStepsFairly(t *testing.T) {
	b := newBench(t, 1, 3, Limits{GroupRows: 40})
	b.prompts("many", 1, 300, 200, 200, 200, 200, 200, 200, 30)
	b.prompts("one", 50, 500)
	served := map[string]int{}
	for step := range 8 {
		got := b.group()
		for id, n := range got {
			served[map[bool]string{true: "many", false: "one"}[id < 50]] += n
		}
		if got[1] < 10 {
			t.Fatalf("step %d gives %v: the oldest prompt is sure of 10 rows", step, got)
		}
		if step == 0 && got[8] == 0 {
			t.Errorf("step %d gives %v: the shortest prompt of its tenant waits", step, got)
		}
	}
	if d := served["many"] - served["one"]; d < -40 || d > 40 {
		t.Errorf("the tenants got %v rows", served)
	}
}

// With more decodes than a step takes, each tenant's have their turn.
func TestStageSharesDecodesFairly(t *testing.T) {
	b := newBench(t, 1, 3, Limits{GroupDecodes: 4})
	for i := range 10 {
		o := benchOpen(3)
		if o.Tenant = "many"; i == 9 {
			o.Tenant = "one"
		}
		b.in("a", Frame{Kind: KindOpen, Seq: uint64(i), Open: o})
		b.st.settle()
		b.in("a", Frame{Kind: KindStep, Seq: uint64(i), Flags: FlagSample, Count: 1, X: rowsX(0, 1)})
	}
	for step, want := range []string{"map[0:1 1:1 2:1 9:1]", "map[3:1 4:1 5:1 6:1]", "map[7:1 8:1]"} {
		if got := fmt.Sprint(b.group()); got != want {
			t.Errorf("step %d takes %s, want %s", step, got, want)
		}
	}
}

// Rows of a step that travel together are stepped together; if the rest does not come, the wait is short.
func TestStageWaitsForTheRestOfABurst(t *testing.T) {
	b := newBench(t, 1, 3, Limits{})
	for seq := range uint64(3) {
		b.open(seq, 3)
	}
	b.st.settle()
	row := func(seq uint64, flags Flags) {
		b.in("a", Frame{Kind: KindStep, Seq: seq, Flags: FlagSample | flags, Count: 1, X: rowsX(0, 1)})
	}
	row(0, FlagMore)
	if b.st.ready(b.now) {
		t.Error("the first row of three is stepped alone")
	}
	row(1, FlagMore)
	row(2, 0)
	if !b.st.ready(b.now) || len(b.group()) != 3 {
		t.Error("three rows that came together are not stepped together")
	}
	if b.st.ready(b.now) {
		t.Error("ready with nothing to do")
	}
	b.in("a", Frame{Kind: KindStep, Seq: 0, Flags: FlagSample | FlagMore, Pos: 1, Count: 1, X: rowsX(1, 1)})
	until, wait := b.st.awaits(b.now)
	if b.now = until; !wait || !b.st.ready(b.now) {
		t.Errorf("waits %v, until %v, and then is not ready", wait, until)
	}
}
