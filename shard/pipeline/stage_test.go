package pipeline

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lamina/shard/sample"
)

// bench is one stage on a table: frames go in by hand, and what it puts out is looked at.
type bench struct {
	t    *testing.T
	st   *stage
	fake *fakeStepper
	drop counters
	now  time.Time
}

// newBench makes stage index of a model of 4 layers on nodes a, b, c, d with the gateway on g.
func newBench(t *testing.T, index, hops int, limits Limits) *bench {
	b := &bench{t: t, now: epoch0}
	sp := spans(4, hops)[index]
	b.fake = newFake(sp[0], sp[1], 4)
	b.st = newStage(StageKey{Model: "m", Epoch: 3, Index: index}, string(rune('a'+index)), b.fake, limits.withDefaults(), &b.drop)
	return b
}

func benchOpen(hops int) *OpenRequest {
	o := &OpenRequest{Model: "m", Gateway: "g", Positions: 20, Prompt: 4, Known: 4, MaxNew: 8, Sampling: sample.Greedy(), TTL: time.Minute}
	for i, sp := range spans(4, hops) {
		o.Route = append(o.Route, Hop{string(rune('a' + i)), sp[0], sp[1]})
	}
	return o
}

// in delivers a frame and returns what the stage puts out.
func (b *bench) in(from string, f Frame) []outgoing {
	f.Epoch, f.Stage = 3, uint16(b.st.key.Index)
	b.st.deliver(b.now, from, &f)
	return b.out()
}

func (b *bench) out() []outgoing { return append([]outgoing(nil), b.st.take()...) }

// step settles and steps until nothing is left to do, and returns what came out.
func (b *bench) step() []outgoing {
	b.t.Helper()
	b.st.settle()
	all := b.out()
	for b.st.ready(b.now) {
		batch := b.st.next(b.now)
		out, err := b.fake.Step(batch)
		if err == nil {
			b.st.choose(out)
		}
		b.now = b.now.Add(time.Millisecond)
		b.st.done(b.now, out, err)
		all = append(all, b.out()...)
		b.st.settle()
	}
	return all
}

func (b *bench) open(seq uint64, hops int) {
	b.t.Helper()
	b.in(b.prev(), Frame{Kind: KindOpen, Seq: seq, Open: benchOpen(hops)})
	b.st.settle()
	for _, o := range b.out() {
		if o.f.Kind == KindFail {
			b.t.Fatalf("open: %+v", o.f.Fail)
		}
	}
}

// prev is who sends to this stage.
func (b *bench) prev() string {
	if b.st.head() {
		return "g"
	}
	return string(rune('a' + b.st.key.Index - 1))
}

func (b *bench) wantFail(out []outgoing, kind FailKind, text string) {
	b.t.Helper()
	for _, o := range out {
		if o.f.Kind == KindFail {
			if o.to != "g" || o.f.Stage != Gateway || o.f.Fail.Kind != kind || !strings.Contains(o.f.Fail.Text, text) {
				b.t.Errorf("fail to %s: %+v, want %v with %q", o.to, o.f.Fail, kind, text)
			}
			return
		}
	}
	b.t.Errorf("no fail among %d frames, want %v", len(out), kind)
}

func (b *bench) wantEmpty() {
	b.t.Helper()
	b.st.settle()
	if l := b.st.load(); l != (Load{}) || b.fake.live.Load() != 0 || b.st.rows != 0 || b.st.flying != 0 {
		b.t.Errorf("something is left: %+v, %d in memory, %d rows, %d flying", l, b.fake.live.Load(), b.st.rows, b.st.flying)
	}
}

func rowsX(pos, n int) []float32 {
	var x []float32
	for i := range n {
		x = append(x, float32(i+1), float32(pos+i), 0)
	}
	return x
}

func TestStageRefusesOpens(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*OpenRequest)
		text   string
	}{
		{"no route", func(o *OpenRequest) { o.Route = nil }, "route"},
		{"short route", func(o *OpenRequest) { o.Route = o.Route[:1] }, "hop 1"},
		{"gap", func(o *OpenRequest) { o.Route[1].First = 3 }, "must begin"},
		{"other node", func(o *OpenRequest) { o.Route[1].Node = "z" }, "this is b"},
		{"other span", func(o *OpenRequest) { o.Route[0].End, o.Route[1].First = 1, 1 }, "this is b"},
		{"not to the end", func(o *OpenRequest) { o.Route[1].End = 3 }, "this is b"},
		{"no prompt", func(o *OpenRequest) { o.Prompt = 0 }, "prompt of 0"},
		{"prompt over positions", func(o *OpenRequest) { o.Known = 21 }, "positions"},
		{"over context", func(o *OpenRequest) { o.Positions = fakeContext + 1 }, "context"},
		{"history", func(o *OpenRequest) { o.History = make([]int32, 5) }, "history"},
		{"scores without history", func(o *OpenRequest) { o.PromptLogprobs = true }, "need all"},
		{"sampling", func(o *OpenRequest) { o.Sampling.TopP = 2 }, "top_p"},
	} {
		b := newBench(t, 1, 2, Limits{})
		o := benchOpen(2)
		c.change(o)
		out := b.in("a", Frame{Kind: KindOpen, Seq: 1, Open: o})
		b.wantFail(out, BadFrame, c.text)
		b.wantEmpty()
		if t.Failed() {
			t.Fatal(c.name)
		}
	}
}

func TestStageLimits(t *testing.T) {
	b := newBench(t, 1, 2, Limits{Sequences: 2})
	b.open(1, 2)
	b.open(2, 2)
	b.wantFail(b.in("a", Frame{Kind: KindOpen, Seq: 3, Open: benchOpen(2)}), Overloaded, "limit is 2")

	b = newBench(t, 1, 2, Limits{QueuedRows: 6})
	b.open(1, 2)
	b.open(2, 2)
	b.in("a", Frame{Kind: KindStep, Seq: 1, Flags: FlagPrompt, Count: 4, X: rowsX(0, 4)})
	b.wantFail(b.in("a", Frame{Kind: KindOpen, Seq: 3, Open: benchOpen(2)}), Overloaded, "up to 3")
	b.wantFail(b.in("a", Frame{Kind: KindStep, Seq: 2, Flags: FlagPrompt, Count: 4, X: rowsX(0, 4)}), Overloaded, "limit is 6")
	if out := b.step(); len(out) != 1 || out[0].f.Kind != KindCredit || out[0].f.Pos != 4 || out[0].to != "g" {
		t.Errorf("the sequence that was there first gave %+v, want a credit", out)
	}

	b = newBench(t, 0, 2, Limits{})
	b.fake.budget = 1
	b.open(1, 2)
	b.in("g", Frame{Kind: KindOpen, Seq: 2, Open: benchOpen(2)})
	b.wantFail(b.step(), Preempted, "1 of 1 blocks")
	b.in("g", Frame{Kind: KindClose, Seq: 1})
	b.wantEmpty()
	large := benchOpen(2)
	large.Positions = 65
	b.in("g", Frame{Kind: KindOpen, Seq: 4, Open: large})
	b.wantFail(b.step(), NoMemory, "holds 64")
	b.open(3, 2) // the memory is there again
	for _, o := range b.step() {
		if o.f.Kind == KindFail {
			t.Errorf("after the first was closed: %+v", o.f.Fail)
		}
	}
}

func TestStageRefusesRows(t *testing.T) {
	good := Frame{Kind: KindStep, Seq: 1, Flags: FlagPrompt, Count: 2, X: rowsX(0, 2)}
	for name, f := range map[string]Frame{
		"gap":         {Kind: KindStep, Seq: 1, Flags: FlagPrompt, Pos: 3, Count: 1, X: rowsX(3, 1)},
		"no rows":     {Kind: KindStep, Seq: 1, Pos: 2},
		"short":       {Kind: KindStep, Seq: 1, Pos: 2, Count: 2, X: rowsX(2, 1)},
		"long":        {Kind: KindStep, Seq: 1, Pos: 2, Count: 1, X: rowsX(2, 2)},
		"tokens":      {Kind: KindStep, Seq: 1, Pos: 2, Count: 1, Tokens: []int32{1}},
		"both":        {Kind: KindStep, Seq: 1, Pos: 2, Count: 1, X: rowsX(2, 1), Tokens: []int32{1}},
		"beyond":      {Kind: KindStep, Seq: 1, Pos: 2, Count: 19, X: rowsX(2, 19)},
		"huge count":  {Kind: KindStep, Seq: 1, Pos: 2, Count: 1 << 31, X: rowsX(2, 1)},
		"huge a pos.": {Kind: KindStep, Seq: 1, Pos: 1 << 31, Count: 1, X: rowsX(2, 1)},
	} {
		b := newBench(t, 1, 2, Limits{})
		b.open(1, 2)
		b.in("a", good)
		b.wantFail(b.in("a", f), BadFrame, "rows")
		b.wantEmpty()
		if t.Failed() {
			t.Fatal(name)
		}
	}
	for name, f := range map[string]Frame{
		"negative token": {Kind: KindStep, Seq: 1, Count: 1, Tokens: []int32{-1}},
		"no such token":  {Kind: KindStep, Seq: 1, Count: 1, Tokens: []int32{fakeVocab}},
		"activations":    {Kind: KindStep, Seq: 1, Count: 1, X: rowsX(0, 1)},
		"token":          {Kind: KindToken, Seq: 1, Count: 1, ID: fakeVocab},
		"no token":       {Kind: KindToken, Seq: 1, ID: 1},
		"token ahead":    {Kind: KindToken, Seq: 1, Pos: 1, Count: 1, ID: 1},
	} {
		b := newBench(t, 0, 2, Limits{})
		b.open(1, 2)
		from := "g"
		if f.Kind == KindToken {
			from = "b"
		}
		b.wantFail(b.in(from, f), BadFrame, "")
		b.wantEmpty()
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

// Frames of others, of the past and of no one change nothing and are counted.
func TestStageDropsAndCounts(t *testing.T) {
	b := newBench(t, 1, 3, Limits{})
	b.open(1, 3)
	row := Frame{Kind: KindStep, Seq: 1, Flags: FlagPrompt, Count: 1, X: rowsX(0, 1)}
	b.in("c", row) // foreign
	b.in("g", row) // foreign: rows come from the previous hop
	b.in("c", Frame{Kind: KindClose, Seq: 1})
	b.in("a", row)
	b.in("a", row)                                                     // duplicate
	b.in("a", Frame{Kind: KindStep, Seq: 7, Count: 1, X: rowsX(0, 1)}) // unknown
	b.in("a", Frame{Kind: KindCredit, Seq: 1})                         // unknown: not for a stage
	b.in("c", Frame{Kind: KindToken, Seq: 1, Count: 1})                // foreign: not stage 0
	b.in("a", Frame{Kind: KindOpen, Seq: 1, Open: benchOpen(3)})       // stale: it is open
	if got, want := b.step(), 1; len(got) != want || got[0].to != "c" || got[0].f.Pos != 0 {
		t.Fatalf("%+v went out, want one row to c", got)
	}
	b.in("g", Frame{Kind: KindClose, Seq: 1})
	b.in("a", row)                                               // stale: it is over
	b.in("a", Frame{Kind: KindOpen, Seq: 1, Open: benchOpen(3)}) // stale too
	b.in("g", Frame{Kind: KindClose, Seq: 2})                    // ahead of its Open
	b.in("a", Frame{Kind: KindOpen, Seq: 2, Open: benchOpen(3)}) // stale
	b.wantEmpty()
	d := &b.drop
	if s, u, f, n := d.stale.Load(), d.duplicate.Load(), d.foreign.Load(), d.unknown.Load(); s != 4 || u != 1 || f != 4 || n != 2 {
		t.Errorf("stale %d, duplicate %d, foreign %d, unknown %d; want 4, 1, 4, 2", s, u, f, n)
	}
}

func TestStageTombstonesMakeRoom(t *testing.T) {
	ts := newTombstones(3)
	for seq := range uint64(5) {
		ts.bury(seq, 1, "g")
	}
	ts.bury(3, 4, "")
	ts.bury(3, 2, "g")
	for seq, want := range map[uint64]bool{0: false, 1: false, 2: true, 3: true, 4: true, 9: false} {
		if over, _ := ts.holds(seq, 1); over != want {
			t.Errorf("sequence %d buried: %v, want %v", seq, !want, want)
		}
	}
	at4, whose := ts.holds(3, 4)
	at5, _ := ts.holds(3, 5)
	if !at4 || at5 || whose != "g" || len(ts.stone) != 3 || len(ts.ring) != 3 {
		t.Errorf("attempts or size are wrong: %+v", ts)
	}
}

func TestStageExpiresAndStops(t *testing.T) {
	b := newBench(t, 0, 2, Limits{})
	b.open(1, 2)
	b.now = b.now.Add(30 * time.Second)
	b.open(2, 2)
	if next := b.st.expire(b.now); !next.Equal(epoch0.Add(time.Minute)) {
		t.Errorf("the first ends at %v", next)
	}
	next := b.st.expire(epoch0.Add(time.Minute))
	b.wantFail(b.out(), Expired, "over")
	if !next.Equal(epoch0.Add(90*time.Second)) || len(b.st.seqs) != 1 {
		t.Errorf("then %d sequences are left, the next ends at %v", len(b.st.seqs), next)
	}
	b.st.stop("moved")
	b.wantFail(b.out(), Draining, "moved")
	b.wantFail(b.in("g", Frame{Kind: KindOpen, Seq: 3, Open: benchOpen(2)}), Draining, "moved")
	b.wantEmpty()
	if !b.st.expire(b.now).IsZero() {
		t.Error("an empty stage waits for something")
	}
}

// A failed step fails those that were in it and no others; logits that are no numbers fail their own sequence only.
func TestStageFailedStep(t *testing.T) {
	b := newBench(t, 0, 1, Limits{GroupRows: 4})
	b.open(1, 1)
	b.open(2, 1)
	b.in("g", Frame{Kind: KindStep, Seq: 1, Flags: FlagPrompt, Count: 4, Tokens: []int32{1, 2, 3, 4}})
	b.in("g", Frame{Kind: KindStep, Seq: 2, Flags: FlagPrompt, Count: 4, Tokens: []int32{1, 2, 3, 4}})
	b.fake.before = func(step int, _ []Rows) error {
		if step == 1 {
			return errTest
		}
		return nil
	}
	out := b.step()
	b.wantFail(out, Internal, errTest.Error())
	if len(b.st.seqs) != 1 || b.st.seqs[2] == nil {
		t.Fatalf("%d sequences live, want the second", len(b.st.seqs))
	}
	b.in("g", Frame{Kind: KindClose, Seq: 2})
	b.wantEmpty()
}

// Decodes go first and prompts get their share of every group, so that neither waits long.
func TestStageGroups(t *testing.T) {
	b := newBench(t, 1, 3, Limits{GroupRows: 8, MixedRows: 3, GroupDecodes: 4})
	for seq := range uint64(8) {
		b.open(seq, 3)
	}
	prompt := func(seq uint64, pos, n int) {
		b.in("a", Frame{Kind: KindStep, Seq: seq, Flags: FlagPrompt, Pos: uint32(pos), Count: uint32(n), X: rowsX(pos, n)})
	}
	decode := func(seq uint64, pos int) {
		b.in("a", Frame{Kind: KindStep, Seq: seq, Flags: FlagSample, Pos: uint32(pos), Count: 1, X: rowsX(pos, 1)})
	}
	prompt(6, 0, 5)
	prompt(7, 0, 2)
	prompt(6, 5, 2) // the same sequence again: not in one group with its first chunk
	for seq := range uint64(6) {
		decode(seq, 0)
	}
	b.step()
	want := [][]int{
		{1, 1, 1, 1, 3}, // four decodes, three rows of the oldest prompt
		{1, 1, 2, 1},    // the other decodes, the rest of that chunk, a row of the next
		{1, 2},          // no decode: the full budget; the rest of the one prompt, the second chunk of the other
	}
	for i, w := range want {
		if i >= len(b.fake.rows) || !slices.Equal(b.fake.rows[i], w) {
			t.Fatalf("groups of %v rows, want %v", b.fake.rows, want)
		}
	}
}

// Stage 0 splits those that decode into as many groups as there are stages.
func TestStageZeroKeepsAllStagesBusy(t *testing.T) {
	b := newBench(t, 0, 2, Limits{})
	for seq := range uint64(6) {
		b.open(seq, 2)
		b.in("g", Frame{Kind: KindStep, Seq: seq, Flags: FlagPrompt | FlagSample, Count: 1, Tokens: []int32{1}})
	}
	b.step()
	b.fake.rows = nil
	for seq := range uint64(6) {
		b.in("b", Frame{Kind: KindToken, Seq: seq, Pos: 1, Count: 1, ID: 2})
	}
	b.step()
	if len(b.fake.rows) != 2 || len(b.fake.rows[0]) != 3 || len(b.fake.rows[1]) != 3 {
		t.Errorf("six tokens were stepped as %v, want two groups of three", b.fake.rows)
	}
}

func TestStageSpentAndWire(t *testing.T) {
	head, tail := newBench(t, 0, 2, Limits{}), newBench(t, 1, 2, Limits{})
	head.open(1, 2)
	tail.open(1, 2)
	head.in("g", Frame{Kind: KindStep, Seq: 1, Flags: FlagPrompt | FlagSample, Count: 4, Tokens: []int32{1, 2, 3, 4}})
	out := head.step()
	if f := out[0].f; f.Spent != 0 || !f.has(FlagSample) || f.Count != 4 {
		t.Fatalf("stage 0 sends %+v", f)
	}
	f := out[0].f
	tail.now = head.now.Add(3 * time.Hour) // another clock
	tail.in("a", f)
	tail.now = tail.now.Add(5 * time.Millisecond) // in the queue
	out = tail.step()                             // 1 ms
	if len(out) != 2 || out[0].to != "g" || out[1].to != "a" || out[1].f.Spent != 6000 || out[0].f.ID != out[1].f.ID {
		t.Fatalf("the tail sends %+v", out)
	}
	head.now = head.now.Add(8 * time.Millisecond)
	head.in("b", out[1].f)
	if w := head.st.seqs[1].stats.Wire; w != 2*time.Millisecond {
		t.Errorf("%v on the wire, want 8 ms less 6 ms", w)
	}
}

// replayer is a gateway that lets its sequence go on from an earlier position over a new attempt, again and again.
type replayer struct {
	outbox
	r       Request
	attempt uint32
	known   []int32
	over    bool
	failed  bool // the attempt: a stage had ended the sequence before it came
	why     *Failure
}

func (g *replayer) undeliverable(outgoing, error) {}

// begin opens an attempt at a position and sends the rows from there on.
func (g *replayer) begin(rng *rand.Rand, pos int) {
	send := func(f Frame) {
		f.Seq, f.Epoch, f.Attempt = g.r.Seq, g.r.Epoch, g.attempt
		g.put(g.r.Route[0].Node, f)
	}
	send(Frame{Kind: KindOpen, Pos: uint32(pos), Open: &OpenRequest{
		Model: "m", Route: g.r.Route, Gateway: "g", Positions: len(g.r.Tokens) + g.r.MaxNew, Prompt: len(g.r.Tokens),
		Known: len(g.known), MaxNew: g.r.MaxNew, Sampling: g.r.Sampling, History: append([]int32(nil), g.known...), TTL: time.Minute,
	}})
	for pos < len(g.known) {
		n := min(1+rng.IntN(6), len(g.known)-pos)
		f := Frame{Kind: KindStep, Flags: FlagPrompt, Pos: uint32(pos), Count: uint32(n), Tokens: g.known[pos : pos+n]}
		if pos += n; pos == len(g.known) {
			f.Flags |= FlagSample
		}
		send(f)
	}
}

func (g *replayer) take1(f *Frame) {
	if f.Attempt == g.attempt && f.Kind == KindFail && !g.over {
		g.failed, g.why = true, f.Fail
	}
	if f.Attempt != g.attempt || f.Kind != KindToken || int(f.Pos) != len(g.known) || g.over {
		return
	}
	g.known = append(g.known, f.ID)
	g.over = f.has(FlagLast)
}

// TestSimAttempts: whenever an attempt is replaced by the next one, at a position that every stage has, the tokens are those of
// an undisturbed run, whatever of the old attempts is still on its way.
func TestSimAttempts(t *testing.T) {
	raised := 0
	schedules(t, 1000, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		s.again = true
		r := s.add(1).r
		s.rides = nil
		r.MaxNew, r.EOS, r.PromptLogprobs, r.Sampling.WantLogprobs, r.Sampling.Logprobs = r.MaxNew+3, nil, false, false, 0
		g := &replayer{r: r, known: append([]int32(nil), r.Tokens...)}
		node := s.node("g")
		s.tap = g.take1
		g.begin(s.rng, 0)
		for event := 0; s.step(event) || len(g.q) > 0; event++ {
			if event > 100_000 {
				t.Fatalf("it does not come to an end; attempt %d, last failure %v", g.attempt, g.why)
			}
			if g.failed { // nothing is sure to be left: from the start
				g.failed = false
				g.attempt++
				g.begin(s.rng, 0)
			} else if pos, ok := s.common(1); ok && !g.over && g.attempt < 30 && s.rng.IntN(60) == 0 {
				raised++
				g.attempt++
				g.begin(s.rng, s.rng.IntN(min(pos, len(g.known)-1)+1))
			}
			s.drain(node, g)
		}
		for i := range r.Route {
			g.put(r.Route[i].Node, Frame{Kind: KindClose, Flags: FlagEOS, Stage: uint16(i), Seq: 1, Epoch: simEpoch, Attempt: g.attempt})
		}
		s.drain(node, g)
		for s.step(0) {
		}
		s.checkEmpty()
		var got []int32
		for _, tok := range oracle(t, s.layers, r) {
			got = append(got, tok.ID)
		}
		if !slices.Equal(g.known[len(r.Tokens):], got) {
			t.Errorf("after %d attempts %v, want %v", g.attempt, g.known[len(r.Tokens):], got)
		}
	})
	if raised < 100 {
		t.Errorf("only %d attempts were raised", raised)
	}
}

// common is the position up to which every stage has computed a sequence; false if one has not opened it.
func (s *sim) common(seq uint64) (int, bool) {
	pos := 1 << 30
	for _, h := range s.route {
		for _, st := range s.nodes[h.Node].stages {
			q := st.st.seqs[seq]
			if q == nil {
				return 0, false
			}
			pos = min(pos, q.have)
		}
	}
	return pos, true
}
