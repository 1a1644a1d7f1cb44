package pipeline

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"lamina/shard/sample"
)

// flow runs the cores in virtual time: each stage has a machine of its own whose steps take what a cost function says, links
// take a fixed time. So what a schedule is good for can be told exactly, the same on every machine.
type flow struct {
	t      testing.TB
	now    time.Time
	order  int
	events flowHeap
	stages []*flowStage
	rides  map[uint64]*flowRide
	route  []Hop
	wire   time.Duration
	limits Limits
	drop   counters
	pool   FramePool
	pace   pace
}

type flowStage struct {
	st    *stage
	fake  *fakeStepper
	cost  func(rows, decodes int) time.Duration
	busy  bool
	spent time.Duration // computing
}

type flowRide struct {
	d     *driver
	r     Request
	ids   []int32
	times []time.Time
	begun time.Time
}

type flowEvent struct {
	at    time.Time
	order int
	do    func()
}

type flowHeap []flowEvent

func (h flowHeap) Len() int { return len(h) }
func (h flowHeap) Less(i, j int) bool {
	return h[i].at.Before(h[j].at) || h[i].at.Equal(h[j].at) && h[i].order < h[j].order
}
func (h flowHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *flowHeap) Push(x any)   { *h = append(*h, x.(flowEvent)) }
func (h *flowHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// steps makes a cost function of a stage: a fixed part, and parts for each row of a prompt and each decode.
func steps(fixed, row, decode time.Duration) func(rows, decodes int) time.Duration {
	return func(rows, decodes int) time.Duration {
		return fixed + time.Duration(rows)*row + time.Duration(decodes)*decode
	}
}

func newFlow(t testing.TB, hops int, wire time.Duration, limits Limits, cost func(rows, decodes int) time.Duration) *flow {
	f := &flow{t: t, now: epoch0, rides: map[uint64]*flowRide{}, wire: wire, limits: limits.withDefaults()}
	for i, sp := range spans(4, hops) {
		name := fmt.Sprintf("n%d", i)
		fake := newFake(sp[0], sp[1], 4)
		fake.shape.Context = 1 << 20
		st := newStage(StageKey{Model: "m", Epoch: 5, Index: i}, name, fake, f.limits, &f.drop)
		f.stages = append(f.stages, &flowStage{st: st, fake: fake, cost: cost})
		f.route = append(f.route, Hop{name, sp[0], sp[1]})
	}
	return f
}

func (f *flow) after(d time.Duration, do func()) {
	f.order++
	heap.Push(&f.events, flowEvent{f.now.Add(d), f.order, do})
}

// run lets everything happen up to a time, or to the end with 0.
func (f *flow) run(until time.Duration) {
	end := epoch0.Add(until)
	for f.events.Len() > 0 {
		if until > 0 && f.events[0].at.After(end) {
			f.now = end
			return
		}
		e := heap.Pop(&f.events).(flowEvent)
		f.now = e.at
		e.do()
	}
}

// ask begins a sequence at the gateway on n0.
func (f *flow) ask(r Request) *flowRide {
	r.Model, r.Epoch, r.Route = "m", 5, f.route
	d, err := newDriver(r, f.limits, f.pace, &f.drop)
	if err != nil {
		f.t.Fatal(err)
	}
	ride := &flowRide{d: d, r: r, begun: f.now}
	f.rides[r.Seq] = ride
	d.start("n0", f.now, time.Hour)
	f.send("n0", d)
	return ride
}

func (f *flow) send(from string, c core) {
	for _, o := range append([]outgoing(nil), c.take()...) {
		m, delay := f.pool.Copy(&o.f), f.wire
		if o.to == from {
			delay = 0
		}
		f.after(delay, func() { f.deliver(from, m) })
	}
}

func (f *flow) deliver(from string, m *Frame) {
	if m.Stage == Gateway || m.has(FlagCopy) {
		if r := f.rides[m.Seq]; r != nil {
			r.d.deliver(f.now, from, m)
			for _, tok := range r.d.results {
				if !tok.Prompt {
					r.ids, r.times = append(r.ids, tok.ID), append(r.times, f.now)
				}
			}
			r.d.results = nil
			f.send("n0", r.d)
		}
	}
	if m.Stage != Gateway {
		s := f.stages[m.Stage]
		if !s.st.deliver(f.now, from, m) {
			m.Release()
		}
		f.send(s.st.self, s.st)
		f.step(s)
	}
}

// step begins a step if the machine is free and there is something to do.
func (f *flow) step(s *flowStage) {
	if s.busy {
		return
	}
	s.st.settle()
	f.send(s.st.self, s.st)
	if !s.st.ready(f.now) {
		if until, wait := s.st.awaits(f.now); wait && !until.IsZero() {
			f.after(until.Sub(f.now), func() { f.step(s) })
		}
		return
	}
	batch := s.st.next(f.now)
	rows, decodes := 0, 0
	for _, w := range s.st.group {
		if w.flags&FlagPrompt != 0 {
			rows += w.part
		} else {
			decodes += w.part
		}
	}
	out, err := s.fake.Step(batch)
	if err != nil {
		f.t.Fatal(err)
	}
	s.st.choose(out)
	s.fake.rows = nil
	s.busy = true
	took := s.cost(rows, decodes)
	s.spent += took
	f.after(took, func() {
		s.busy = false
		s.st.done(f.now, out, nil)
		s.st.takeNotes()
		f.send(s.st.self, s.st)
		f.step(s)
	})
}

func (f *flow) request(seq uint64, prompt, maxNew int) Request {
	rng := rand.New(rand.NewPCG(seq, 3))
	r := Request{Seq: seq, MaxNew: maxNew, Sampling: sample.Greedy()}
	for range prompt {
		r.Tokens = append(r.Tokens, rng.Int32N(fakeVocab))
	}
	return r
}

// gaps are the times between a ride's tokens from a time on.
func (r *flowRide) gaps(from, to time.Time) []time.Duration {
	var out []time.Duration
	for i := 1; i < len(r.times); i++ {
		if r.times[i-1].After(from) && r.times[i].Before(to) {
			out = append(out, r.times[i].Sub(r.times[i-1]))
		}
	}
	return out
}

func quantile(d []time.Duration, q float64) time.Duration {
	if len(d) == 0 {
		return 0
	}
	slices.Sort(d)
	return d[min(int(q*float64(len(d))), len(d)-1)]
}

// A long prompt beside running answers: the 95th percentile of their gaps stays within twice what it was, and the prompt gets on.
func TestFlowLongPromptBesideAnswers(t *testing.T) {
	for _, hops := range []int{1, 2, 4} {
		for _, answers := range []int{1, 4, 16} {
			for _, wire := range []time.Duration{0, 300 * time.Microsecond, 20 * time.Millisecond} {
				f := newFlow(t, hops, wire, Limits{}, steps(3*time.Millisecond, 500*time.Microsecond, 700*time.Microsecond))
				var rides []*flowRide
				for i := range answers {
					rides = append(rides, f.ask(f.request(uint64(i+1), 40, 1<<19)))
				}
				f.run(5 * time.Second)
				from := f.now
				long := f.ask(f.request(99, 4000, 1))
				for len(long.times) == 0 && f.now.Sub(from) < 300*time.Second {
					f.run(f.now.Sub(epoch0) + time.Second)
				}
				if len(long.times) == 0 {
					t.Fatalf("%d stages, %d answers: the prompt does not end", hops, answers)
				}
				var idle, beside []time.Duration
				for _, r := range rides {
					idle = append(idle, r.gaps(epoch0.Add(2*time.Second), from)...)
					beside = append(beside, r.gaps(from, long.times[0])...)
				}
				was, is := quantile(idle, 0.95), quantile(beside, 0.95)
				t.Logf("%d stages, %d answers, wire %v: p95 %v idle, %v beside (%.2f), prompt %v", hops, answers, wire, was, is, float64(is)/float64(was), long.times[0].Sub(from))
				if is > 2*was {
					t.Errorf("%d stages, %d answers, wire %v: the gap is %v beside a long prompt, %v without", hops, answers, wire, is, was)
				}
			}
		}
	}
}

// A prompt alone goes through several stages in little more than its share of the time that one stage takes for all layers: more
// so when the route is known. And never in more.
func TestFlowPrefillFillsThePipeline(t *testing.T) {
	const fixed, row = 8 * time.Millisecond, time.Millisecond // of the whole model
	for _, n := range []int{20, 100, 500, 2000, 8000} {
		one := time.Duration((n+255)/256)*fixed + time.Duration(n)*row
		for _, hops := range []int{2, 4} {
			for _, wire := range []time.Duration{100 * time.Microsecond, 20 * time.Millisecond} {
				h := time.Duration(hops)
				f := newFlow(t, hops, wire, Limits{}, steps(fixed/h, row/h, row/h))
				var took time.Duration
				for seq := range uint64(3) { // what the first teaches serves the others
					r := f.ask(f.request(seq, n, 1))
					f.run(0)
					took = r.times[0].Sub(r.begun)
					f.pace = r.d.pace
				}
				gain := one.Seconds() / took.Seconds()
				t.Logf("%d rows, %d stages, wire %v: %v, %.2f x one stage, %d chunks", n, hops, wire, took, gain, f.rides[2].d.stats.Chunks)
				if took > one+h*wire+fixed {
					t.Errorf("%d rows, %d stages, wire %v: %v, one stage takes %v", n, hops, wire, took, one)
				}
				if least := map[int]float64{2: 1.8, 4: 3}[hops]; n >= 2000 && wire < time.Millisecond && gain < least {
					t.Errorf("%d rows over %d stages: %.2f x, want %.1f x", n, hops, gain, least)
				}
			}
		}
	}
}

// Decodes of many sequences keep all stages busy: against as many nodes with the whole model and their share of the sequences each,
// which no pipeline can beat, they lose little. And none is left behind.
func TestFlowDecodesKeepAllStagesBusy(t *testing.T) {
	for name, cost := range map[string]func(rows, decodes int) time.Duration{
		"compute": steps(time.Millisecond, 0, 3*time.Millisecond), "memory": steps(8*time.Millisecond, 0, 100*time.Microsecond),
	} {
		for _, hops := range []int{1, 2, 4} {
			for _, seqs := range []int{1, 2, 4, 16, 64} {
				for _, wire := range []time.Duration{50 * time.Microsecond, 5 * time.Millisecond} {
					f := newFlow(t, hops, wire, Limits{}, func(rows, decodes int) time.Duration {
						return cost(rows, decodes) / time.Duration(hops)
					})
					var rides []*flowRide
					for i := range seqs {
						rides = append(rides, f.ask(f.request(uint64(i+1), 1, 1<<19)))
					}
					const skip, length = 2 * time.Second, 4 * time.Second
					f.run(skip + length)
					made, least, most := 0, 1<<30, 0
					for _, r := range rides {
						n := len(r.gaps(epoch0.Add(skip), f.now))
						made, least, most = made+n, min(least, n), max(most, n)
					}
					way := cost(0, (seqs+hops-1)/hops)
					if hops > 1 {
						way += time.Duration(hops) * wire
					}
					ideal := min(float64(seqs)/way.Seconds(), float64(seqs)/cost(0, (seqs+hops-1)/hops).Seconds())
					share := float64(made) / length.Seconds() / ideal
					t.Logf("%s bound, %d stages, %d sequences, wire %v: %.0f tokens/s, %.2f of the most, %d groups", name, hops, seqs, wire, float64(made)/length.Seconds(), share, f.stages[0].st.groups)
					if share < 0.85 || most > least+least/10+2 {
						t.Errorf("%s bound, %d stages, %d sequences, wire %v: %.2f of what is possible; sequences got %d to %d tokens", name, hops, seqs, wire, share, least, most)
					}
				}
			}
		}
	}
}
