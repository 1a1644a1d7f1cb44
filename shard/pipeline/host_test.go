package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"lamina/shard/sample"
)

// lab is a few hosts over a Memory network that serve the fake model.
type lab struct {
	t      testing.TB
	m      *Memory
	hosts  map[string]*Host
	fakes  []*fakeStepper
	route  []Hop
	layers int
	mu     sync.Mutex
	closed map[string]int // outcomes of sequences at stages
	chunks int
	rows   int
	panics int
}

func newLab(t testing.TB, hops int, limits Limits) *lab {
	l := &lab{t: t, m: NewMemory(), hosts: map[string]*Host{}, layers: 5, closed: map[string]int{}}
	for i, sp := range spans(l.layers, hops) {
		name := fmt.Sprintf("n%d", i)
		h := l.host(name, limits)
		f := newFake(sp[0], sp[1], l.layers)
		if err := h.Serve(StageKey{Model: "m", Epoch: 5, Index: i}, f); err != nil {
			t.Fatal(err)
		}
		l.fakes = append(l.fakes, f)
		l.route = append(l.route, Hop{name, sp[0], sp[1]})
	}
	l.host("g", limits)
	return l
}

func (l *lab) host(name string, limits Limits) *Host {
	h := NewHost(HostConfig{Self: name, Send: l.m.Sender(name), Limits: limits, Events: Events{
		Chunk: func(_ StageInfo, c ChunkStats) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.chunks++
			l.rows += c.Count
		},
		Closed: func(i StageInfo, d DecodeStats) {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.closed[fmt.Sprintf("%d %v", i.Index, d.Outcome)]++
		},
		Panicked: func(_ StageInfo, v any, stack []byte) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if strings.Contains(string(stack), "fakeStepper") {
				l.panics++
			}
		},
	}})
	l.m.Attach(name, h)
	l.hosts[name] = h
	return h
}

// close stops everything; no sequence may be left in any stage.
func (l *lab) close() {
	for _, h := range l.hosts {
		if err := h.Close(); err != nil {
			l.t.Error(err)
		}
	}
	l.m.Close()
	for i, f := range l.fakes {
		if n := f.live.Load(); n != 0 {
			l.t.Errorf("stage %d: %d sequences in memory", i, n)
		}
	}
}

func (l *lab) request(seq uint64, prompt, maxNew int) Request {
	rng := rand.New(rand.NewPCG(seq, 1))
	r := Request{Seq: seq, Model: "m", Epoch: 5, Route: l.route, MaxNew: maxNew, Sampling: sample.Greedy()}
	r.Sampling.Temperature, r.Sampling.Seed = 1, seq
	for range prompt {
		r.Tokens = append(r.Tokens, rng.Int32N(fakeVocab))
	}
	return r
}

func (l *lab) generate(ctx context.Context, gateway string, r Request) ([]Token, Stats, error) {
	var got []Token
	stats, err := l.hosts[gateway].Generate(ctx, r, func(t Token) error { got = append(got, t); return nil })
	return got, stats, err
}

// wantTokens runs a request and compares it with the oracle.
func (l *lab) wantTokens(gateway string, r Request) {
	l.t.Helper()
	got, stats, err := l.generate(context.Background(), gateway, r)
	if err != nil {
		l.t.Errorf("sequence %d: %v", r.Seq, err)
		return
	}
	want := oracle(l.t, l.layers, r)
	if err := sameTokens(got, want); err != nil {
		l.t.Errorf("sequence %d: %v", r.Seq, err)
	}
	if stats.Tokens != len(want) && !r.PromptLogprobs || stats.PromptTokens != len(r.Tokens) || stats.Chunks < 1 {
		l.t.Errorf("sequence %d: %+v for %d tokens", r.Seq, stats, len(want))
	}
}

func TestHostsGiveTheTokensOfOneProcess(t *testing.T) {
	for _, hops := range []int{1, 2, 3, 5} {
		for _, chunk := range []int{1, 7, 32, 512} {
			for _, seqs := range []int{1, 4, 16} {
				t.Run(fmt.Sprintf("%d hops, chunks of %d, %d sequences", hops, chunk, seqs), func(t *testing.T) {
					l := newLab(t, hops, Limits{ChunkRows: chunk})
					defer l.close()
					var wg sync.WaitGroup
					for i := range seqs {
						r := l.request(uint64(i+1), 1+i*11%70, 1+i%13)
						r.PromptLogprobs = i%3 == 2
						r.Sampling.WantLogprobs, r.Sampling.Logprobs = i%2 == 1, 2
						gateway := []string{"g", "n0", fmt.Sprintf("n%d", hops-1)}[i%3]
						wg.Go(func() { l.wantTokens(gateway, r) })
					}
					wg.Wait()
				})
			}
		}
	}
}

func TestHostDuplicatesOnTheWire(t *testing.T) {
	l := newLab(t, 3, Limits{ChunkRows: 4})
	l.m.Hook = func(from, to string, f *Frame) Fate { return Fate{Twice: true} }
	for i := range 5 {
		l.wantTokens("g", l.request(uint64(i+1), 20, 10))
	}
	l.close()
	n := uint64(0)
	for _, h := range l.hosts {
		n += h.Dropped().Duplicate
	}
	if n == 0 {
		t.Error("no duplicate was counted")
	}
}

// disturb runs one sequence of three stages for every frame that it takes, and does something when that frame is on its way.
func disturb(t *testing.T, gateway string, what func(l *lab, cancel context.CancelCauseFunc), check func(l *lab, got []Token, err error)) {
	for at := int64(1); ; at++ {
		var frames atomic.Int64
		synctest.Test(t, func(t *testing.T) {
			l := newLab(t, 3, Limits{ChunkRows: 4})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			l.m.Hook = func(from, to string, f *Frame) Fate {
				if frames.Add(1) == at {
					what(l, cancel)
				}
				return Fate{Delay: time.Millisecond}
			}
			r := l.request(1, 20, 6)
			got, _, err := l.generate(ctx, gateway, r)
			want := oracle(t, l.layers, r)
			if len(got) > len(want) || sameTokens(got, want[:len(got)]) != nil {
				t.Errorf("frame %d: wrong tokens %v", at, got)
			}
			if err == nil && len(got) != len(want) {
				t.Errorf("frame %d: %d tokens of %d without an error", at, len(got), len(want))
			}
			check(l, got, err)
			synctest.Wait()
			time.Sleep(time.Second) // virtual: frames on their way arrive
			for i, f := range l.fakes {
				if l.hosts[l.route[i].Node] != nil && f.live.Load() != 0 {
					t.Errorf("frame %d: stage %d still has the sequence", at, i)
				}
			}
			l.close()
		})
		if t.Failed() || frames.Load() < at {
			if at < 20 {
				t.Errorf("only %d frames: the test does not test", frames.Load())
			}
			return
		}
	}
}

func TestHostKillAtEachStep(t *testing.T) {
	for _, gateway := range []string{"g", "n0", "n2"} {
		for _, victim := range []string{"n0", "n1", "n2"} {
			if gateway == victim {
				continue
			}
			broken := 0
			disturb(t, gateway, func(l *lab, _ context.CancelCauseFunc) {
				l.m.Kill(victim)
				go l.hosts[victim].Close()
			}, func(l *lab, _ []Token, err error) {
				var b *Broken
				if err != nil && (!errors.As(err, &b) || b.Node != victim) {
					t.Errorf("gateway %s: %v, want Broken %s", gateway, err, victim)
				}
				if err != nil {
					broken++
				}
			})
			if broken < 10 {
				t.Errorf("gateway %s, victim %s: broken only %d times", gateway, victim, broken)
			}
		}
	}
}

func TestHostCancelAtEachStep(t *testing.T) {
	disturb(t, "g", func(_ *lab, cancel context.CancelCauseFunc) { cancel(errTest) }, func(_ *lab, _ []Token, err error) {
		if err != nil && !errors.Is(err, errTest) {
			t.Errorf("%v, want the context's cause", err)
		}
	})
}

// A gateway that dies takes its sequences with it in all stages, also those it has no link to.
func TestHostGatewayDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 5, Limits{})
		n := 0
		done := make(chan error, 1)
		go func() {
			_, err := l.hosts["g"].Generate(context.Background(), l.request(1, 10, 1000), func(Token) error {
				if n++; n == 5 {
					l.m.Kill("g")
				}
				return nil
			})
			done <- err
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		for i, f := range l.fakes {
			if f.live.Load() != 0 {
				t.Errorf("stage %d still has the sequence", i)
			}
		}
		l.hosts["g"].Close()
		if err := <-done; err == nil {
			t.Error("the dead gateway's Generate is happy")
		}
		l.close()
	})
}

// count is a Sender that lets nothing through and counts.
type count struct{ n atomic.Int64 }

func (c *count) Send(string, *Frame) error { c.n.Add(1); return errTest }

func TestHostAlone(t *testing.T) {
	c := new(count)
	h := NewHost(HostConfig{Self: "n", Send: c})
	defer h.Close()
	f := newFake(0, 5, 5)
	if err := h.Serve(StageKey{Model: "m", Epoch: 5}, f); err != nil {
		t.Fatal(err)
	}
	l := &lab{t: t, hosts: map[string]*Host{"n": h}, layers: 5, route: []Hop{{"n", 0, 5}}}
	for i := range 4 {
		r := l.request(uint64(i+1), 30, 20)
		r.PromptLogprobs = i == 1
		l.wantTokens("n", r)
	}
	if c.n.Load() != 0 {
		t.Errorf("%d frames were sent", c.n.Load())
	}
	if l := h.Load(); l.Driving != 0 || l.QueuedRows != 0 {
		t.Errorf("load %+v at the end", l)
	}
}

func TestHostPromptOnly(t *testing.T) {
	l := newLab(t, 2, Limits{ChunkRows: 7})
	defer l.close()
	r := l.request(1, 30, 0)
	r.PromptLogprobs, r.Sampling.Logprobs = true, 3
	got, stats, err := l.generate(context.Background(), "g", r)
	if err != nil || stats.Reason != ReasonLength || stats.Tokens != 0 {
		t.Fatalf("%+v, %v", stats, err)
	}
	if err := sameTokens(got, oracle(t, l.layers, r)); err != nil || len(got) != 29 {
		t.Errorf("%d tokens: %v", len(got), err)
	}
}

func TestHostPanicInStep(t *testing.T) {
	l := newLab(t, 2, Limits{})
	defer l.close()
	l.fakes[1].before = func(step int, _ []Rows) error {
		if step == 3 {
			panic("as the test wants it")
		}
		return nil
	}
	_, _, err := l.generate(context.Background(), "g", l.request(1, 5, 10))
	var refused *Refused
	if !errors.As(err, &refused) || refused.Kind != Internal || refused.Node != "n1" || !strings.Contains(refused.Text, "as the test wants it") {
		t.Errorf("error %v", err)
	}
	l.wantTokens("g", l.request(2, 5, 10)) // the stage lives
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.panics != 1 {
		t.Errorf("%d panics were reported", l.panics)
	}
}

func TestHostDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, 2, Limits{Life: time.Hour})
		var silent atomic.Bool
		l.m.Hook = func(from, to string, f *Frame) Fate {
			return Fate{Drop: silent.Load() && (from == "g" || to == "g"), Delay: time.Second}
		}
		r := l.request(1, 5, 100)
		r.Deadline = time.Now().Add(10*time.Second + time.Millisecond)
		got, _, err := l.generate(t.Context(), "g", r)
		if !errors.Is(err, ErrDeadline) || !errors.Is(err, context.DeadlineExceeded) || len(got) < 2 || len(got) > 10 {
			t.Errorf("%d tokens, error %v", len(got), err)
		}
		r.Seq, r.Deadline = 2, time.Now()
		if _, _, err := l.generate(t.Context(), "g", r); !errors.Is(err, ErrDeadline) {
			t.Errorf("passed deadline: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		r.Seq, r.Deadline = 3, time.Time{}
		if _, _, err := l.generate(ctx, "g", r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("context: %v", err)
		}
		if _, _, err := l.generate(ctx, "g", r); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("context that is over before: %v", err)
		}
		// A gateway that falls silent without a sign: the stages let go when the sequence's time is over.
		r.Seq, r.Deadline, r.MaxNew = 4, time.Now().Add(time.Minute), 1000
		leave := make(chan bool)
		go l.hosts["g"].Generate(context.Background(), r, func(Token) error { <-leave; return nil })
		time.Sleep(10 * time.Second)
		silent.Store(true)
		live := func() int64 { return l.fakes[0].live.Load() + l.fakes[1].live.Load() }
		time.Sleep(40 * time.Second)
		if live() != 2 {
			t.Errorf("%d stages have the sequence while it runs", live())
		}
		time.Sleep(20 * time.Second)
		if live() != 0 {
			t.Errorf("%d stages still have the sequence", live())
		}
		close(leave)
		l.close()
	})
}

func TestHostStopDrains(t *testing.T) {
	l := newLab(t, 2, Limits{})
	defer l.close()
	entered, leave := make(chan bool), make(chan bool)
	l.fakes[1].before = func(step int, _ []Rows) error {
		if step == 2 {
			close(entered)
			<-leave
		}
		return nil
	}
	result := make(chan error, 1)
	go func() {
		_, _, err := l.generate(context.Background(), "g", l.request(1, 5, 10))
		result <- err
	}()
	<-entered
	stopped := make(chan bool)
	go func() { l.hosts["n1"].Stop(StageKey{"m", 5, 1}, "the layers move"); close(stopped) }()
	var refused *Refused
	if err := <-result; !errors.As(err, &refused) || refused.Kind != Draining || refused.Text != "the layers move" {
		t.Errorf("error %v", err)
	}
	select {
	case <-stopped:
		t.Error("Stop returned in the middle of a step")
	default:
	}
	close(leave)
	<-stopped
	if n := l.fakes[1].live.Load(); n != 0 {
		t.Errorf("%d sequences in memory after Stop", n)
	}
	l.hosts["n1"].Stop(StageKey{"m", 5, 1}, "again")
	l.hosts["n0"].Stop(StageKey{"m", 5, 0}, "")
	if err := l.hosts["n0"].Serve(StageKey{"m", 5, 0}, l.fakes[0]); err != nil {
		t.Errorf("served again: %v", err)
	}
	_, _, err := l.generate(context.Background(), "g", l.request(2, 5, 10))
	if !errors.As(err, &refused) || refused.Kind != NotLoaded || refused.Node != "n1" {
		t.Errorf("after Stop: %v", err)
	}
}

func TestHostRefusals(t *testing.T) {
	l := newLab(t, 2, Limits{Sequences: 2})
	defer l.close()
	var refused *Refused
	r := l.request(1, 5, 5)
	r.Epoch = 4
	if _, _, err := l.generate(context.Background(), "g", r); !errors.As(err, &refused) || refused.Kind != WrongEpoch || refused.Node != "n0" {
		t.Errorf("wrong epoch: %v", err)
	}
	r = l.request(2, 5, 5)
	r.Model = "other"
	if _, _, err := l.generate(context.Background(), "g", r); !errors.As(err, &refused) || refused.Kind != NotLoaded {
		t.Errorf("other model: %v", err)
	}
	l.fakes[1].budget = 1
	if _, _, err := l.generate(context.Background(), "g", l.request(3, 5, 61)); !errors.As(err, &refused) || refused.Kind != NoMemory || refused.Node != "n1" {
		t.Errorf("no memory: %v", err)
	}
	l.fakes[1].budget = 0
	r = l.request(4, 5, 5)
	r.Route = []Hop{{"n0", 0, 2}, {"nowhere", 2, 5}}
	var broken *Broken
	if _, _, err := l.generate(context.Background(), "g", r); !errors.As(err, &broken) || broken.Node != "nowhere" {
		t.Errorf("hop that is not there: %v", err)
	}
	if err := l.hosts["n0"].Serve(StageKey{"m", 5, 0}, newFake(0, 2, 5)); !errors.Is(err, ErrServed) {
		t.Errorf("served twice: %v", err)
	}
	if err := l.hosts["n0"].Serve(StageKey{"m", 6, 0}, newFake(2, 2, 5)); !errors.Is(err, ErrRequest) {
		t.Errorf("no layers: %v", err)
	}
}

func TestHostInvalidRequests(t *testing.T) {
	l := newLab(t, 1, Limits{})
	defer l.close()
	for field, change := range map[string]func(*Request){
		"route":       func(r *Request) { r.Route = nil },
		"hop 0":       func(r *Request) { r.Route = []Hop{{"n0", 1, 5}} },
		"model":       func(r *Request) { r.Model = "" },
		"tokens":      func(r *Request) { r.Tokens = nil },
		"max new":     func(r *Request) { r.MaxNew = -1 },
		"eos":         func(r *Request) { r.EOS = make([]int32, MaxEOS+1) },
		"temperature": func(r *Request) { r.Sampling.Temperature = -1 },
	} {
		r := l.request(1, 3, 3)
		change(&r)
		if _, _, err := l.generate(context.Background(), "g", r); !errors.Is(err, ErrRequest) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

func TestHostEmitEndsTheSequence(t *testing.T) {
	l := newLab(t, 2, Limits{})
	for i, c := range []struct{ give, want error }{{ErrStop, nil}, {fmt.Errorf("enough: %w", ErrStop), nil}, {errTest, errTest}} {
		n := 0
		stats, err := l.hosts["g"].Generate(context.Background(), l.request(uint64(i+1), 5, 500), func(Token) error {
			if n++; n == 3 {
				return c.give
			}
			return nil
		})
		if !errors.Is(err, c.want) || n != 3 || stats.Tokens != 3 || stats.Reason != ReasonNone {
			t.Errorf("%v: error %v after %d tokens, %+v", c.give, err, n, stats)
		}
	}
	l.close()
}

func TestHostClose(t *testing.T) {
	l := newLab(t, 2, Limits{})
	got := make(chan bool, 1)
	result := make(chan error, 1)
	go func() {
		_, err := l.hosts["g"].Generate(context.Background(), l.request(1, 5, 2000), func(Token) error {
			select {
			case got <- true:
			default:
			}
			return nil
		})
		result <- err
	}()
	<-got
	if _, _, err := l.generate(context.Background(), "g", l.request(1, 5, 5)); !errors.Is(err, ErrRequest) {
		t.Errorf("the same sequence twice: %v", err)
	}
	l.hosts["g"].Close()
	if err := <-result; !errors.Is(err, ErrClosed) {
		t.Errorf("Generate of a closed host: %v", err)
	}
	if _, _, err := l.generate(context.Background(), "g", l.request(2, 5, 5)); !errors.Is(err, ErrClosed) {
		t.Errorf("Generate after Close: %v", err)
	}
	if err := l.hosts["g"].Serve(StageKey{"m", 9, 0}, newFake(0, 5, 5)); !errors.Is(err, ErrClosed) {
		t.Errorf("Serve after Close: %v", err)
	}
	l.close()
}

func TestHostEvents(t *testing.T) {
	synctest.Test(t, testEvents)
}

func testEvents(t *testing.T) {
	l := newLab(t, 2, Limits{ChunkRows: 8})
	l.wantTokens("g", l.request(1, 20, 6))
	synctest.Wait() // for the last frames to arrive
	l.close()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.chunks < 6 || l.rows != 40 {
		t.Errorf("%d chunks with %d rows at two stages, want 20 rows at each", l.chunks, l.rows)
	}
	if l.closed["0 done"] != 1 || l.closed["1 done"] != 1 || len(l.closed) != 2 {
		t.Errorf("outcomes %v", l.closed)
	}
}

// Frames that make no sense must not hurt a Host.
func TestHostHostileFrames(t *testing.T) {
	l := newLab(t, 2, Limits{})
	defer l.close()
	rng := rand.New(rand.NewPCG(8, 8))
	r := l.request(77, 5, 40)
	var wg sync.WaitGroup
	wg.Go(func() {
		got, _, err := l.generate(context.Background(), "g", r)
		var refused *Refused
		if err == nil {
			err = sameTokens(got, oracle(t, l.layers, r))
		} else if errors.As(err, &refused) && refused.Kind == Cancelled {
			err = nil // a Close from anyone keeps out what is not open yet, and an id may be taken
		}
		if err != nil {
			t.Error(err)
		}
	})
	for range 3000 {
		f := &Frame{
			Kind: Kind(rng.IntN(8)), Flags: Flags(rng.IntN(256)), Stage: uint16(rng.IntN(3)), Seq: uint64(70 + rng.IntN(10)), Epoch: 5,
			Attempt: rng.Uint32N(2), Pos: rng.Uint32N(1 << rng.IntN(32)), Count: rng.Uint32N(1 << rng.IntN(32)), ID: int32(rng.Uint32()),
		}
		if rng.IntN(4) == 0 {
			f.Stage = Gateway
		}
		if rng.IntN(3) > 0 {
			f.Open = &OpenRequest{Model: "m", Route: slices.Clone(l.route), Gateway: "evil", Positions: rng.IntN(50), Prompt: rng.IntN(9), Known: rng.IntN(9), Sampling: sample.Greedy()}
			f.Fail = &Failure{Kind: Internal}
			f.Tokens = make([]int32, rng.IntN(4))
			f.Scores = make([]sample.Token, rng.IntN(3))
		}
		l.hosts[[]string{"n0", "n1", "g"}[rng.IntN(3)]].Deliver("evil", f)
	}
	wg.Wait()
	for _, h := range l.hosts {
		h.PeerDown("evil", nil)
	}
}
