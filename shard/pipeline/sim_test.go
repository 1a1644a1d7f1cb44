package pipeline

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"lamina/shard/sample"
)

// The simulation runs the cores of several nodes over a network of ordered links, one event at a time in an order that a seed
// decides: nothing else does, so a seed replays its schedule exactly.
type sim struct {
	t             *testing.T
	rng           *rand.Rand
	now           time.Time
	layers        int
	route         []Hop
	limits        Limits
	nodes         map[string]*simNode
	names         []string
	links         map[[2]string][]*Frame
	pairs         [][2]string // of links, in the order in which they came to be
	pool          FramePool
	drop          counters
	dups          int // percent of the frames that come again later
	dead          string
	news          []string // nodes that have yet to hear of the death
	rides         []*simRide
	blocks        int // of memory in each stage; 0: any number, and short prompts
	sent, guessed int // guesses
	rhyme         bool
	again         bool           // a sequence may come back to a stage it has left
	tap           func(f *Frame) // takes the gateway's frames instead of a ride
}

type simNode struct {
	name   string
	stages []*simStage
	rides  map[uint64]*simRide
}

type simStage struct {
	st      *stage
	fake    *fakeStepper
	batch   []Rows
	out     [][]float32
	running bool
	opened  map[uint64]bool
	closed  map[uint64]int
}

type simRide struct {
	d        *driver
	node     *simNode
	r        Request
	got      []Token
	started  bool
	place    ticket
	paused   bool
	tryAt    time.Time
	cancelAt int // event after which it is cancelled; -1: never
	chunks   []int
}

const simEpoch = 9

func newSim(t *testing.T, seed uint64) *sim {
	rng := rand.New(rand.NewPCG(seed, 17))
	s := &sim{
		t: t, rng: rng, now: epoch0, nodes: map[string]*simNode{}, links: map[[2]string][]*Frame{},
		layers: 5, dups: []int{0, 0, 5, 30}[rng.IntN(4)],
	}
	s.limits = Limits{
		ChunkRows: []int{1, 2, 7, 64}[rng.IntN(4)], GroupRows: 1 + rng.IntN(20), MixedRows: 1 + rng.IntN(8),
		GroupDecodes: 1 + rng.IntN(8), LogitBytes: 4 * fakeVocab * (1 + rng.IntN(4)),
	}.withDefaults()
	hops := []int{1, 2, 3, 5}[rng.IntN(4)]
	for i, sp := range spans(s.layers, hops) {
		h := Hop{Node: fmt.Sprintf("n%d", i), First: sp[0], End: sp[1]}
		if hops == 5 && i == 4 && rng.IntN(3) == 0 {
			h.Node = "n1" // one node holds two stages
		}
		s.route = append(s.route, h)
		n := s.node(h.Node)
		fake := newFake(sp[0], sp[1], s.layers)
		n.stages = append(n.stages, &simStage{
			st:   newStage(StageKey{Model: "m", Epoch: simEpoch, Index: i}, h.Node, fake, s.limits, &s.drop),
			fake: fake, opened: map[uint64]bool{}, closed: map[uint64]int{},
		})
	}
	s.node("g")
	return s
}

func (s *sim) node(name string) *simNode {
	n := s.nodes[name]
	if n == nil {
		n = &simNode{name: name, rides: map[uint64]*simRide{}}
		s.nodes[name], s.names = n, append(s.names, name)
	}
	return n
}

// add plans a sequence with a random request at a random gateway.
func (s *sim) add(seq uint64) *simRide {
	r := Request{Seq: seq, Model: "m", Epoch: simEpoch, Route: s.route, MaxNew: s.rng.IntN(12), Sampling: sample.Greedy()}
	if s.blocks > 0 {
		r.MaxNew = s.rng.IntN(100)
		r.Tenant = []string{"", "", "other"}[s.rng.IntN(3)]
		for i := range BlockLen*s.rng.IntN(4) - s.rng.IntN(2) {
			r.Tokens = append(r.Tokens, int32(i%(5+int(seq)%3)))
		}
	}
	for range 1 + s.rng.IntN(30) {
		r.Tokens = append(r.Tokens, s.rng.Int32N(fakeVocab))
	}
	if s.rng.IntN(2) == 0 {
		r.Sampling.Temperature, r.Sampling.Seed = 1, s.rng.Uint64()
	}
	if s.rng.IntN(3) == 0 {
		r.Sampling.FrequencyPenalty, r.Sampling.RepeatLastN = 2, s.rng.IntN(6)-1
	}
	if s.rng.IntN(3) == 0 {
		r.EOS = []int32{s.rng.Int32N(fakeVocab), s.rng.Int32N(fakeVocab)}
	}
	if s.rng.IntN(4) == 0 {
		r.Sampling.WantLogprobs, r.Sampling.Logprobs = true, s.rng.IntN(3)
	}
	r.PromptLogprobs = s.rng.IntN(4) == 0
	d, err := newDriver(r, s.limits, pace{}, &s.drop)
	if err != nil {
		s.t.Fatal(err)
	}
	ride := &simRide{d: d, node: s.nodes[s.names[s.rng.IntN(len(s.names))]], r: r, cancelAt: -1}
	s.rides = append(s.rides, ride)
	return ride
}

// drain moves what a core has put out onto the links, or tells it that the other end is gone.
func (s *sim) drain(n *simNode, c core) {
	for {
		batch := c.take()
		if len(batch) == 0 {
			return
		}
		for _, o := range batch {
			if o.to == s.dead {
				// Before the news of the death a frame may also get lost on the way.
				if !slices.Contains(s.news, n.name) || s.rng.IntN(2) == 0 {
					c.undeliverable(o, errTest)
				}
				continue
			}
			pair := [2]string{n.name, o.to}
			if _, ok := s.links[pair]; !ok {
				s.pairs = append(s.pairs, pair)
			}
			s.links[pair] = append(s.links[pair], s.pool.Copy(&o.f))
		}
	}
}

// step does one of the things that can happen now; false: nothing can.
func (s *sim) step(event int) bool {
	s.now = s.now.Add(time.Duration(s.rng.IntN(2000)) * time.Microsecond)
	var can []func()
	wait := false
	for _, r := range s.rides {
		if r.node.name == s.dead {
			continue
		}
		if !r.started {
			can = append(can, func() { s.start(r) })
		} else if r.d.parked && !r.d.over && s.front(r) {
			if !r.paused { // as one does who waits in line
				r.paused, r.tryAt = true, s.now.Add(r.place.pause())
			}
			wait = true
			if !s.now.Before(r.tryAt) {
				can = append(can, func() { r.paused, r.chunks = false, nil; r.d.open(s.now, time.Minute); s.settle(r) })
			}
		}
		if r.started && !r.d.over && r.cancelAt >= 0 && event >= r.cancelAt {
			can = append(can, func() { r.d.finish(errTest); s.settle(r) })
		}
	}
	for _, pair := range s.pairs {
		if len(s.links[pair]) > 0 {
			can = append(can, func() { s.deliver(pair) })
		}
	}
	for _, name := range s.names {
		for _, st := range s.nodes[name].stages {
			if name != s.dead && (st.running || st.st.ready(s.now) || len(st.st.opening)+len(st.st.freeing) > 0) {
				can = append(can, func() { s.compute(s.nodes[name], st) })
			}
		}
	}
	for i, name := range s.news {
		can = append(can, func() {
			s.news = slices.Delete(s.news, i, i+1)
			s.peerDown(s.nodes[name])
		})
	}
	if len(can) == 0 {
		for _, n := range s.nodes {
			for _, st := range n.stages {
				if until, wait := st.st.awaits(s.now); wait && !until.IsZero() && n.name != s.dead {
					return true // for the rest of a burst, as time goes on
				}
			}
		}
		return wait
	}
	can[s.rng.IntN(len(can))]()
	return true
}

// front tells whether a ride is the oldest of its gateway's that wait.
func (s *sim) front(r *simRide) bool {
	for _, o := range s.rides {
		if o.node == r.node && o.started && o.d.parked && !o.d.over && (o.d.born < r.d.born || o.d.born == r.d.born && o.r.Seq < r.r.Seq) {
			return false
		}
	}
	return true
}

func (s *sim) start(r *simRide) {
	r.started = true
	r.node.rides[r.r.Seq] = r
	r.d.start(r.node.name, s.now, time.Minute)
	s.settle(r)
}

// settle takes the tokens of a ride and sends its frames, noting the chunks.
func (s *sim) settle(r *simRide) {
	r.got = append(r.got, r.d.results...)
	r.d.results = nil
	for _, o := range r.d.q {
		if o.f.Kind == KindStep {
			r.chunks = append(r.chunks, int(o.f.Pos+o.f.Count))
		}
	}
	s.drain(r.node, r.d)
	s.checkWindow(r)
}

// checkWindow insists that no more chunks are on their way to the end of the tail than the credits allow.
func (s *sim) checkWindow(r *simRide) {
	tail := s.route[len(s.route)-1]
	have := 0
	for _, st := range s.nodes[tail.Node].stages {
		if q := st.st.seqs[r.r.Seq]; st.st.tail() && q != nil {
			have = q.have
		} else if st.st.tail() && st.closed[r.r.Seq] > 0 {
			return
		}
	}
	n := 0
	for _, end := range r.chunks {
		if end > max(have, r.d.cached) {
			n++
		}
	}
	if n > len(s.route)+1 {
		s.t.Fatalf("%d chunks are under way, credits allow %d", n, len(s.route)+1)
	}
}

// deliver takes the first frame of a link, and may let it come again later.
func (s *sim) deliver(pair [2]string) {
	f := s.links[pair][0]
	s.links[pair] = s.links[pair][1:]
	if s.rng.IntN(100) < s.dups {
		s.links[pair] = append(s.links[pair], s.pool.Copy(f))
	}
	if f.Kind == KindToken && f.Count > 1 && !f.has(FlagPrompt) {
		s.guessed += int(f.Count) - 1
	}
	if f.Kind == KindStep && f.Stage > 0 {
		s.sent += len(f.Tokens)
	}
	n := s.nodes[pair[1]]
	kept := false
	if s.tap != nil && (f.Stage == Gateway || f.has(FlagCopy)) {
		s.tap(f)
	} else if f.Stage == Gateway || f.has(FlagCopy) {
		if r := n.rides[f.Seq]; r != nil {
			r.d.deliver(s.now, pair[0], f)
			s.settle(r)
		}
	}
	if f.Stage != Gateway {
		for _, st := range n.stages {
			if st.st.key.Index == int(f.Stage) && st.st.key.Epoch == f.Epoch {
				kept = st.st.deliver(s.now, pair[0], f)
				s.after(n, st)
			}
		}
	}
	if !kept {
		f.Release()
	}
}

// compute begins or ends a step. In between, anything else may happen.
func (s *sim) compute(n *simNode, st *simStage) {
	if !st.running {
		st.st.settle()
		st.batch = st.st.next(s.now)
		s.after(n, st)
		if len(st.batch) == 0 {
			st.st.done(s.now, nil, nil)
			return
		}
		var err error
		if st.out, err = st.fake.Step(st.batch); err != nil {
			s.t.Fatalf("stage %d: %v", st.st.key.Index, err)
		}
		st.st.choose(st.out)
		st.running = true
		return
	}
	st.running = false
	st.st.done(s.now, st.out, nil)
	s.after(n, st)
}

// after sends a stage's frames and counts the sequences that come and go.
func (s *sim) after(n *simNode, st *simStage) {
	for id := range st.st.seqs {
		st.opened[id] = true
	}
	s.drain(n, st.st)
	for _, note := range st.st.takeNotes() {
		if note.decode.Outcome != 0 {
			st.opened[note.info.Seq] = true
			st.closed[note.info.Seq]++
		}
	}
}

// kill makes a node vanish with everything on its way to and from it.
func (s *sim) kill(name string) {
	s.dead = name
	for pair := range s.links {
		if pair[0] == name || pair[1] == name {
			s.links[pair] = nil
		}
	}
	for _, n := range s.names {
		if n != name {
			s.news = append(s.news, n)
		}
	}
}

func (s *sim) peerDown(n *simNode) {
	for _, r := range s.rides {
		if r.node == n && r.started {
			r.d.peerDown(s.dead, errTest)
			s.settle(r)
		}
	}
	for _, st := range n.stages {
		st.st.peerDown(s.dead, errTest)
		s.after(n, st)
	}
}

// run lets everything happen. killAt is the event at which a node dies; -1: never.
func (s *sim) run(killAt int, victim string) {
	for event := 0; ; event++ {
		if event == killAt {
			s.kill(victim)
		}
		if !s.step(event) && event >= killAt {
			break
		}
		if event > 200_000 {
			s.t.Fatal("it does not come to an end")
		}
	}
	s.checkEmpty()
}

// checkEmpty insists that nothing is left of any sequence, and that each one left each stage it had come to once.
func (s *sim) checkEmpty() {
	for _, n := range s.nodes {
		for _, st := range n.stages {
			if n.name == s.dead {
				continue
			}
			if l := st.st.load(); l.Sequences != 0 || l.QueuedRows != 0 || st.fake.live.Load() != 0 || st.st.flying != 0 || st.st.rows != 0 {
				s.t.Errorf("stage %d: %+v, %d in memory, %d flying, %d rows", st.st.key.Index, l, st.fake.live.Load(), st.st.flying, st.st.rows)
			}
			for id := range st.opened {
				if n := st.closed[id]; n == 0 || n > 1 && !s.again {
					s.t.Errorf("stage %d: sequence %d left %d times", st.st.key.Index, id, n)
				}
			}
		}
	}
}

// checkRide insists on the tokens of an undisturbed run, or on as many of them as came before it broke off.
func (s *sim) checkRide(r *simRide) {
	want := rhyme(s.t, s.layers, r.r, s.rhyme)
	switch err := r.d.err; {
	case !r.d.over:
		s.t.Errorf("sequence %d has not ended", r.r.Seq)
	case err == nil:
		if err := sameTokens(r.got, want); err != nil {
			s.t.Errorf("sequence %d: %v", r.r.Seq, err)
		}
		return
	case errors.Is(err, errTest) && r.cancelAt >= 0:
	default:
		var b *Broken
		if !errors.As(err, &b) || b.Node != s.dead {
			s.t.Errorf("sequence %d: error %v, the dead node is %q", r.r.Seq, err, s.dead)
		}
	}
	if len(r.got) > len(want) {
		s.t.Errorf("sequence %d: %d tokens of %d", r.r.Seq, len(r.got), len(want))
	} else if err := sameTokens(r.got, want[:len(r.got)]); err != nil {
		s.t.Errorf("sequence %d, broken off: %v", r.r.Seq, err)
	}
}

// schedules runs f with many seeds: n, a tenth with -short, and k times n with LAMINA_SIM=k.
func schedules(t *testing.T, n int, f func(t *testing.T, seed uint64)) {
	if k, err := strconv.Atoi(os.Getenv("LAMINA_SIM")); err == nil {
		n *= k
	}
	if testing.Short() {
		n /= 10
	}
	for seed := range uint64(n) {
		f(t, seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func TestSimTokensAreThoseOfOneProcess(t *testing.T) {
	schedules(t, 1000, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		for i := range 1 + s.rng.IntN(16) {
			s.add(uint64(i + 1))
		}
		s.run(-1, "")
		for _, r := range s.rides {
			if s.checkRide(r); r.d.err != nil {
				t.Errorf("sequence %d: %v", r.r.Seq, r.d.err)
			}
		}
	})
}

func TestSimCancelFreesEverything(t *testing.T) {
	schedules(t, 1000, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		for i := range 1 + s.rng.IntN(5) {
			s.add(uint64(i + 1)).cancelAt = s.rng.IntN(200) - 20
		}
		s.run(-1, "")
		for _, r := range s.rides {
			s.checkRide(r)
		}
	})
}

func TestSimDeathOfANode(t *testing.T) {
	broken := 0
	schedules(t, 2000, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		for i := range 1 + s.rng.IntN(6) {
			s.add(uint64(i + 1))
		}
		s.run(s.rng.IntN(300), s.names[s.rng.IntN(len(s.names))])
		for _, r := range s.rides {
			if r.node.name != s.dead {
				s.checkRide(r)
				if r.d.err != nil {
					broken++
				}
			}
		}
	})
	if broken < 20 {
		t.Errorf("only %d sequences were broken: the test does not test", broken)
	}
}

// TestSimMemory: several times more sequences than the stages have memory for, of prompts that begin alike: sequences are
// preempted and begin anew, find what is cached, and every one comes to its end with its tokens.
func TestSimMemory(t *testing.T) {
	preempted, cached, hits := 0, 0, 0
	schedules(t, 300, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		s.again = true
		s.limits.ChunkRows, s.limits.GroupRows, s.limits.MixedRows = 7+s.rng.IntN(80), 20+s.rng.IntN(100), 8+s.rng.IntN(30)
		s.blocks = 5 + s.rng.IntN(4)
		for _, n := range s.nodes {
			for _, st := range n.stages {
				st.fake.budget, st.st.limits = s.blocks, s.limits
				if s.rng.IntN(4) == 0 {
					st.fake.budget += s.rng.IntN(10) // stages differ
				}
			}
		}
		for i := range 2 + s.rng.IntN(7) {
			s.add(uint64(i + 1))
		}
		s.run(-1, "")
		for _, r := range s.rides {
			if s.checkRide(r); r.d.err != nil {
				t.Errorf("sequence %d: %v", r.r.Seq, r.d.err)
			}
			preempted += r.d.stats.Attempts - 1
			cached += r.d.stats.Cached
		}
		for _, h := range s.route {
			for _, st := range s.nodes[h.Node].stages {
				hits += st.fake.hits
			}
		}
	})
	t.Log(preempted, cached, hits)
	if preempted < 50 || cached < 1000 {
		t.Errorf("%d attempts were given up, %d tokens were cached: the test does not test", preempted, cached)
	}
}

// TestSimGuesses: with a model whose tokens can often be guessed, and stage 0 guessing whatever it can, the tokens are those of one
// process, whatever else happens: duplicates, cancelled sequences, too little memory.
func TestSimGuesses(t *testing.T) {
	sent, right := 0, 0
	schedules(t, 500, func(t *testing.T, seed uint64) {
		s := newSim(t, seed)
		s.again, s.rhyme = true, true
		if s.rng.IntN(2) == 0 {
			s.blocks = 6
			s.limits.ChunkRows, s.limits.GroupRows, s.limits.MixedRows = 7+s.rng.IntN(80), 20+s.rng.IntN(100), 8+s.rng.IntN(30)
		}
		for _, n := range s.nodes {
			for _, st := range n.stages {
				st.fake.rhyme, st.fake.budget, st.st.eager, st.st.limits = true, s.blocks, true, s.limits
			}
		}
		for i := range 1 + s.rng.IntN(5) {
			r := s.add(uint64(i + 1))
			if r.d.r.MaxNew += 20; s.rng.IntN(6) == 0 {
				r.cancelAt = s.rng.IntN(200)
			}
			r.r.MaxNew = r.d.r.MaxNew
		}
		s.run(-1, "")
		for _, r := range s.rides {
			s.checkRide(r)
		}
		sent, right = sent+s.sent, right+s.guessed
	})
	t.Logf("%d guesses were sent between stages, %d were right (copies included)", sent, right)
	if sent < 1000 || right < 500 {
		t.Error("the test does not test")
	}
}
