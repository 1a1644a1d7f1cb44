package pipeline

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"lamina/shard/sample"
)

func TestWindow(t *testing.T) {
	w := window{limit: 2}
	w.sent(10)
	w.sent(20)
	if w.room() {
		t.Error("room for a third chunk")
	}
	w.credit(5) // a part of the first
	if w.room() {
		t.Error("room after part of a chunk")
	}
	w.credit(10)
	w.credit(10) // again
	if !w.room() || !slices.Equal(w.ends, []int{20}) {
		t.Errorf("%v are under way, want the one to 20", w.ends)
	}
	w.sent(30)
	w.credit(30)
	if len(w.ends) != 0 {
		t.Errorf("%v are under way after all are done", w.ends)
	}
}

func TestChunkRows(t *testing.T) {
	far := pace{}
	far.row.add(1e6)
	far.wire.add(100e6) // as long as 100 rows
	heavy := pace{}
	heavy.weight.add(200)
	for _, c := range []struct {
		name                     string
		p                        pace
		prompt, hops, most, want int
	}{
		{"one stage", pace{}, 1000, 1, 256, 256},
		{"short", pace{}, 10, 2, 256, 32},
		{"middling", pace{}, 512, 2, 256, 64},
		{"more stages, shorter chunks", pace{}, 520, 4, 256, 48},
		{"long", pace{}, 100000, 2, 256, 256},
		{"a low limit", pace{}, 100000, 2, 7, 7},
		{"as long as the credit is under way", far, 2000, 4, 256, 96},
		{"as long as steps cost much by themselves", heavy, 2000, 4, 512, 400},
	} {
		if got := c.p.chunkRows(c.prompt, c.hops, c.most); got != c.want {
			t.Errorf("%s: prompt of %d over %d stages, at most %d: chunks of %d, want %d", c.name, c.prompt, c.hops, c.most, got, c.want)
		}
	}
	for _, c := range [][3]int{{100, 30, 25}, {75, 25, 25}, {31, 30, 16}, {15, 30, 15}, {1, 1, 1}} {
		if got := nextChunk(c[1], c[0]); got != c[2] {
			t.Errorf("of %d rows in chunks of %d the next has %d, want %d", c[0], c[1], got, c[2])
		}
	}
}

// wheel is a driver on a table, for a prompt of 6 over a and b.
type wheel struct {
	t    *testing.T
	d    *driver
	drop counters
}

func newWheel(t *testing.T, change func(*Request)) *wheel {
	w := &wheel{t: t}
	r := Request{
		Seq: 7, Model: "m", Epoch: 3, Route: []Hop{{"a", 0, 2}, {"b", 2, 4}}, Tokens: []int32{1, 2, 3, 4, 5, 6}, MaxNew: 3,
		Sampling: sample.Greedy(),
	}
	if change != nil {
		change(&r)
	}
	d, err := newDriver(r, Limits{ChunkRows: 1}.withDefaults(), pace{}, &w.drop)
	if err != nil {
		t.Fatal(err)
	}
	w.d = d
	d.start("g", epoch0, time.Minute)
	return w
}

func (w *wheel) in(from string, f Frame) {
	f.Seq, f.Epoch, f.Stage = 7, 3, Gateway
	w.d.deliver(epoch0, from, &f)
}

// kinds tells what has gone out.
func (w *wheel) kinds() string {
	var s []string
	for _, o := range w.d.take() {
		s = append(s, o.f.Kind.String()+" "+o.to)
	}
	return strings.Join(s, ", ")
}

func TestDriverWindowAndEnd(t *testing.T) {
	w := newWheel(t, nil)
	if got := w.kinds(); got != "open a, step a, step a, step a" {
		t.Fatalf("it begins with %s", got)
	}
	w.in("a", Frame{Kind: KindCredit, Pos: 1}) // not the tail
	if got := w.kinds(); got != "" {
		t.Errorf("a credit of another node lets go %s", got)
	}
	w.in("b", Frame{Kind: KindCredit, Pos: 2})
	if got := w.kinds(); got != "step a, step a" {
		t.Errorf("a credit for two chunks lets go %s", got)
	}
	w.in("b", Frame{Kind: KindCredit, Pos: 5})
	if got := w.kinds(); got != "step a" {
		t.Errorf("then %s, want the last chunk", got)
	}
	w.in("b", Frame{Kind: KindToken, Pos: 6, Count: 1, ID: 9})
	w.in("b", Frame{Kind: KindToken, Pos: 6, Count: 1, ID: 9}) // again
	w.in("b", Frame{Kind: KindToken, Pos: 7, Count: 1, ID: 8, Flags: FlagLast | FlagEOS})
	if got := w.kinds(); got != "close a, close b" || w.d.err != nil || !w.d.over {
		t.Errorf("it ends with %s, %v", got, w.d.err)
	}
	w.in("b", Frame{Kind: KindToken, Pos: 8, Count: 1, ID: 8})
	want := []Token{{Token: sample.Token{ID: 9}}, {Token: sample.Token{ID: 8}, Index: 1, Last: true, Reason: ReasonEOS}}
	if err := sameTokens(w.d.results, want); err != nil {
		t.Error(err)
	}
	if s, u, f := w.drop.stale.Load(), w.drop.duplicate.Load(), w.drop.foreign.Load(); s != 1 || u != 1 || f != 1 {
		t.Errorf("stale %d, duplicate %d, foreign %d, want one each", s, u, f)
	}
}

// What does not follow from what came before ends the sequence, and nothing wrong is handed over.
func TestDriverDisorder(t *testing.T) {
	first := Frame{Kind: KindToken, Pos: 6, Count: 1, ID: 9}
	for name, f := range map[string]Frame{
		"gap":              {Kind: KindToken, Pos: 8, Count: 1},
		"no token":         {Kind: KindToken, Pos: 7},
		"end without one":  {Kind: KindToken, Pos: 7, Flags: FlagLast},
		"two scores":       {Kind: KindToken, Pos: 7, Count: 1, Scores: make([]sample.Token, 2)},
		"unwanted scores":  {Kind: KindToken, Pos: 1, Count: 1, Flags: FlagPrompt, Scores: make([]sample.Token, 1)},
		"beyond the limit": {Kind: KindToken, Pos: 9, Count: 1},
	} {
		w := newWheel(t, nil)
		w.in("b", first)
		w.in("b", f)
		var refused *Refused
		if !errors.As(w.d.err, &refused) || refused.Kind != BadFrame || refused.Node != "b" || len(w.d.results) != 1 {
			t.Errorf("%s: %v, %d tokens", name, w.d.err, len(w.d.results))
		}
	}
	scores := func(n int) []sample.Token { return make([]sample.Token, n) }
	for name, f := range map[string]Frame{
		"gap":           {Kind: KindToken, Pos: 4, Count: 1, Flags: FlagPrompt, Scores: scores(1)},
		"over the end":  {Kind: KindToken, Pos: 3, Count: 4, Flags: FlagPrompt, Scores: scores(4)},
		"count differs": {Kind: KindToken, Pos: 3, Count: 2, Flags: FlagPrompt, Scores: scores(1)},
	} {
		w := newWheel(t, func(r *Request) { r.PromptLogprobs = true })
		w.in("b", Frame{Kind: KindToken, Pos: 1, Count: 2, Flags: FlagPrompt, Scores: scores(2)})
		w.in("b", f)
		var refused *Refused
		if !errors.As(w.d.err, &refused) || len(w.d.results) != 2 {
			t.Errorf("scores, %s: %v, %d tokens", name, w.d.err, len(w.d.results))
		}
	}
}

func TestDriverFailures(t *testing.T) {
	for _, c := range []struct {
		from   string
		f      Failure
		broken string
	}{
		{"a", Failure{PeerLost, "b", "x"}, "b"},
		{"a", Failure{PeerLost, "g", "x"}, "a"}, // that stage has lost us
		{"b", Failure{NoMemory, "b", "x"}, ""},
	} {
		w := newWheel(t, nil)
		w.kinds()
		w.in("z", Frame{Kind: KindFail, Fail: &c.f}) // no part in it
		if w.d.over {
			t.Fatal("a stranger ended the sequence")
		}
		w.in(c.from, Frame{Kind: KindFail, Fail: &c.f})
		w.in(c.from, Frame{Kind: KindFail, Fail: &Failure{Internal, "a", "later"}})
		var b *Broken
		var r *Refused
		if errors.As(w.d.err, &b) != (c.broken != "") || b != nil && b.Node != c.broken {
			t.Errorf("%+v from %s: %v", c.f, c.from, w.d.err)
		}
		if c.broken == "" && (!errors.As(w.d.err, &r) || r.Kind != c.f.Kind || r.Node != c.from) {
			t.Errorf("%+v from %s: %v", c.f, c.from, w.d.err)
		}
		if got := w.kinds(); got != "close a, close b" {
			t.Errorf("it ends with %s, want one close for each hop", got)
		}
	}
	w := newWheel(t, nil)
	w.d.peerDown("z", errTest)
	if w.d.over {
		t.Error("a node without a part in it ended the sequence by dying")
	}
	w.d.peerDown("b", errTest)
	w.d.finish(nil) // too late: it ends once
	if !errors.Is(w.d.err, errTest) {
		t.Errorf("error %v", w.d.err)
	}
}

// What the stages keep must not change when the caller uses its slices again.
func TestDriverCopiesWhatIsKept(t *testing.T) {
	bias := map[int32]float32{1: 1}
	var given Request
	w := newWheel(t, func(r *Request) {
		r.Sampling.LogitBias, r.EOS, r.PromptLogprobs = bias, []int32{5}, true
		given = *r
	})
	o := w.d.take()[0].f.Open
	bias[1], given.EOS[0], given.Route[0].Node, given.Tokens[0] = 9, 9, "z", 9
	if o.Sampling.LogitBias[1] != 1 || o.EOS[0] != 5 || o.Route[0].Node != "a" || o.History[0] != 1 {
		t.Errorf("the open frame has changed: %+v", o)
	}
}

// Whatever the tail says, a driver ends at most once and never hands over a token twice.
func TestDriverRandomFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for range 2000 {
		w := newWheel(t, func(r *Request) { r.PromptLogprobs = rng.IntN(2) == 0 })
		for range 30 {
			f := Frame{
				Kind: Kind(rng.IntN(8)), Flags: Flags(rng.IntN(32)), Pos: uint32(rng.IntN(11)), Count: uint32(rng.IntN(3)),
				Scores: make([]sample.Token, rng.IntN(3)), Fail: &Failure{Kind: Internal},
			}
			if f.Kind == KindFail && rng.IntN(5) > 0 {
				continue
			}
			w.in([]string{"a", "b", "b", "b"}[rng.IntN(4)], f)
		}
		next, prompt := 0, 1
		for _, tok := range w.d.results {
			if tok.Prompt && tok.Index != prompt || !tok.Prompt && tok.Index != next {
				t.Fatalf("tokens out of order: %+v", w.d.results)
			}
			if tok.Prompt {
				prompt++
			} else {
				next++
			}
		}
		closes := 0
		for _, o := range w.d.take() {
			if o.f.Kind == KindClose {
				closes++
			}
		}
		if next > 3 || w.d.over != (closes == 2) || !w.d.over && closes != 0 {
			t.Fatalf("%d tokens, over %v, %d closes", next, w.d.over, closes)
		}
	}
}
