package pipeline

import (
	"slices"
	"sync/atomic"
	"time"

	"lamina/shard/sample"
)

// counters are Dropped while it is being counted.
type counters struct{ stale, duplicate, foreign, unknown atomic.Uint64 }

// stage is the pure core of one stage: frames come in by deliver, next gives the group to step, done takes what the step
// made; frames to send gather in the outbox, events in notes. It starts no goroutine, reads no clock, and calls the
// Stepper's sequences in settle only. The owner serialises all calls.
type stage struct {
	key     StageKey
	self    string
	step    Stepper
	shape   Shape
	limits  Limits
	dropped *counters

	seqs    map[uint64]*sequence
	buried  tombstones
	opening []*sequence // wait for their KV
	freeing []leftover  // wait to be freed
	kept    []leftover  // ended by the tail's word; the gateway may have names for their blocks
	rewound []*sequence // wait to be rewound
	stopped string      // why no sequence is taken any more; "" while serving

	decodes []*work // rows after a token, in order of arrival
	prompts []*work // chunks of prompts, in order of arrival
	rows    int     // waiting in prompts
	flying  int     // sequences that decode
	idle    []*work // for reuse
	tenants map[string]*tenant
	wanting []*work // scratch of pickPrompts

	feeder string    // who sends the decoding rows
	burst  time.Time // when it said that more follow at once; zero: it did not

	// What the steps have taught.
	cost     cost
	gap      mean          // nanoseconds from step to step of a decoding sequence, without prompts beside it
	mixed    uint64        // steps with rows of prompts
	wondered uint64        // mixed, when decodes were last stepped alone to see what that takes
	prompted time.Duration // what prompts have added to steps, in all
	pace     int           // decodes in the last step that had any
	ring     ring          // stage 0
	hops     int
	groups   int     // stage 0: how many should circulate
	circles  int     // stage 0: how many do
	circle   *circle // the one that the step at hand makes
	grouped  int     // the flying for which that was chosen
	eager    bool    // tests: guess all that can be
	guessed  int     // stage 0: guesses that were right
	steps    int

	group   []*work // in the running step
	batch   []Rows  // their input
	started time.Time
	scored  int // rows whose logits still fit the group

	scratch sample.Scratch
	outbox
	notes []note
}

func newStage(key StageKey, self string, step Stepper, limits Limits, dropped *counters) *stage {
	return &stage{
		key: key, self: self, step: step, shape: step.Shape(), limits: limits, dropped: dropped,
		seqs: make(map[uint64]*sequence), buried: newTombstones(limits.Tombstones), tenants: make(map[string]*tenant),
	}
}

// tail tells whether this is the last stage.
func (s *stage) tail() bool { return s.shape.End == s.shape.Layers }

// head tells whether this is the first stage.
func (s *stage) head() bool { return s.key.Index == 0 }

// deliver takes a frame that came from a node. kept says that the stage will release it later.
func (s *stage) deliver(now time.Time, from string, f *Frame) (kept bool) {
	if from == s.feeder {
		s.expect(now, f)
	}
	switch f.Kind {
	case KindOpen:
		s.onOpen(now, from, f)
		return false
	case KindClose:
		s.onClose(from, f)
		return false
	}
	q := s.find(f)
	if q == nil {
		return false
	}
	switch f.Kind {
	case KindStep:
		return s.onStep(now, from, q, f)
	case KindToken:
		s.onToken(now, from, q, f)
	case KindReady:
		s.onReady(from, q, int(f.Pos))
	default:
		s.dropped.unknown.Add(1)
	}
	return false
}

// expect notes whether more rows follow at once. A Close may stand for a row that could not be sent.
func (s *stage) expect(now time.Time, f *Frame) {
	switch {
	case f.circles() && f.has(FlagMore):
		if s.burst.IsZero() {
			s.burst = now
		}
	case f.circles() || f.Kind == KindClose:
		s.burst = time.Time{}
	}
}

// waiting tells whether there are rows that could be computed.
func (s *stage) waiting() bool {
	return len(s.decodes) > 0 || slices.ContainsFunc(s.prompts, computable)
}

func computable(w *work) bool { return !w.seq.held }

// burstTime is how long a stage waits for the rest of a burst, if it does not come.
const burstTime = time.Millisecond

// awaits tells whether a step should wait for rows that are about to come, and if so, when to look again at the latest; zero: no
// sooner than something comes.
func (s *stage) awaits(now time.Time) (until time.Time, yes bool) {
	switch {
	case !s.waiting():
		return until, false
	case s.full() && !slices.ContainsFunc(s.prompts, computable):
		return until, true
	case !s.burst.IsZero() && now.Sub(s.burst) < burstTime:
		return s.burst.Add(burstTime), true
	case s.poorly(now):
		return now.Add(max(time.Duration(s.gap.v)/4, burstTime)), true
	}
	return until, false
}

// find returns the live sequence of a frame, or nil if the frame comes too late or too early.
func (s *stage) find(f *Frame) *sequence {
	q := s.seqs[f.Seq]
	over, _ := s.buried.holds(f.Seq, f.Attempt)
	switch {
	case q != nil && q.attempt == f.Attempt:
		return q
	case q != nil || over:
		s.dropped.stale.Add(1)
	default:
		s.dropped.unknown.Add(1)
	}
	return nil
}

// onStep queues rows. The positions of a sequence come in order, so a lower one has been here before and a gap is an error.
func (s *stage) onStep(now time.Time, from string, q *sequence, f *Frame) (kept bool) {
	pos, n := int(f.Pos), int(f.Count)
	if !q.started && !s.head() && from == q.prev && pos <= q.match {
		s.begun(q, pos)
		q.queued = pos
	}
	switch {
	case from != q.prev:
		s.dropped.foreign.Add(1)
		return false
	case pos < q.queued && !(q.loose && pos > q.base):
		s.dropped.duplicate.Add(1)
		return false
	case pos > q.queued || n < 1 || pos+n > q.open.Positions || !s.fits(f, n):
		s.fail(q, BadFrame, "rows %d to %d of %d after %d, %d tokens, %d values", pos, pos+n, q.open.Positions, q.queued, len(f.Tokens), len(f.X))
		return false
	case f.has(FlagPrompt) && s.rows+n > s.limits.QueuedRows:
		s.fail(q, Overloaded, "%d rows wait, the limit is %d", s.rows, s.limits.QueuedRows)
		return false
	}
	if pos < q.queued { // guesses were wrong
		s.retract(q, pos)
	}
	q.base, q.loose = pos, !s.head() && len(f.Tokens) > 0
	if s.head() {
		s.note(q, f)
	}
	w := s.newWork(q, now, pos, n, f.Flags, f.Spent)
	w.frame = f
	s.queue(w)
	if s.head() && q.started && !s.trim(w) {
		s.prompts = s.prompts[:len(s.prompts)-1]
		s.recycle(w)
	}
	return true
}

// fits tells whether the payload is n rows of what this stage takes.
func (s *stage) fits(f *Frame, n int) bool {
	if !s.head() {
		guesses := len(f.Tokens)
		return len(f.X) == n*s.shape.Hidden && (guesses == 0 || guesses == n-1 && n <= 1+maxGuesses && f.has(FlagSample) && !f.has(FlagPrompt))
	}
	if len(f.Tokens) != n || len(f.X) != 0 {
		return false
	}
	for _, id := range f.Tokens {
		if id < 0 || int(id) >= s.shape.Vocab {
			return false
		}
	}
	return true
}

// onToken begins the next round of a sequence at stage 0, or ends it there and, along the chain, everywhere.
func (s *stage) onToken(now time.Time, from string, q *sequence, f *Frame) {
	pos, n := int(f.Pos), int(f.Count)
	switch {
	case !s.head() || from != q.ring:
		s.dropped.foreign.Add(1)
		return
	case f.has(FlagLast):
		s.lap(q, now, f.Spent)
		s.end(q, OutcomeDone)
		return
	case pos < q.awaited:
		s.dropped.duplicate.Add(1)
		return
	case pos > q.awaited || n < 1 || pos+n-1 > q.queued || pos+n-1 >= q.open.Positions || !s.known(f):
		s.fail(q, BadFrame, "%d tokens (%d) at position %d of %d, awaited at %d before %d", n, f.ID, pos, q.open.Positions, q.awaited, q.queued)
		return
	}
	s.lap(q, now, f.Spent)
	s.arrive(q)
	s.learnt(q, f)
	if end := pos + n - 1; end < q.queued {
		s.retract(q, end)
	}
	s.again(q, now, f.last(), 0)
}

// learnt lets stage 0 know new tokens.
func (s *stage) learnt(q *sequence, f *Frame) {
	s.guessed += int(f.Count) - 1
	q.stats.Right += int(f.Count) - 1
	if q.guess != nil {
		q.guess.add(true, f.tokens()...)
	}
}

// known tells whether a Token has as many tokens as it says, all of the vocabulary.
func (s *stage) known(f *Frame) bool {
	ids := f.tokens()
	for _, id := range ids {
		if id < 0 || int(id) >= s.shape.Vocab {
			return false
		}
	}
	return len(ids) == int(f.Count)
}

// note lets stage 0 know the tokens of a prompt.
func (s *stage) note(q *sequence, f *Frame) {
	if f.has(FlagSample) {
		q.awaited = int(f.Pos + f.Count)
	}
	if !q.open.guesses() || s.limits.Guesses < 1 {
		return
	}
	if q.guess == nil {
		q.guess = new(guesser)
	}
	q.guess.add(false, f.Tokens...)
}

// retract forgets the rows from a position on, before the next step: what was guessed to follow did not.
func (s *stage) retract(q *sequence, pos int) {
	q.queued, q.have, q.rewind = pos, min(q.have, pos), pos
	s.rewound = append(s.rewound, q)
}

// lap adds up the time that a row was neither waiting nor computed while it went round.
func (s *stage) lap(q *sequence, now time.Time, spent uint32) {
	if q.left.IsZero() {
		return
	}
	took, others := now.Sub(q.left), time.Duration(spent)*time.Microsecond
	q.stats.Wire += max(took-others, 0)
	own, _ := s.cost.decodes.at(q.beside)
	s.ring.lap(took, others, own, s.hops)
}

// again queues the row of a token at its sequence's end.
func (s *stage) again(q *sequence, now time.Time, id int32, spent uint32) {
	w := s.newWork(q, now, q.queued, 1, FlagSample, spent)
	w.token[0] = id
	q.awaited, q.base = w.pos+1, w.pos
	s.speculate(w)
	s.queue(w)
}

func (s *stage) queue(w *work) {
	q := w.seq
	q.queued = w.pos + w.count
	if w.flags&FlagPrompt != 0 {
		s.rows += w.count
		s.prompts = append(s.prompts, w)
		return
	}
	if !q.decodes {
		q.decodes = true
		s.flying++
	}
	s.decodes = append(s.decodes, w)
}

func (s *stage) newWork(q *sequence, now time.Time, pos, count int, flags Flags, spent uint32) *work {
	var w *work
	if n := len(s.idle); n > 0 {
		w, s.idle = s.idle[n-1], s.idle[:n-1]
	} else {
		w = new(work)
	}
	*w = work{chosen: w.chosen[:0], seq: q, attempt: q.attempt, pos: pos, count: count, flags: flags, spent: spent, arrived: now, prompted: s.prompted}
	return w
}

// recycle lets go of work that is over.
func (s *stage) recycle(w *work) {
	if w.frame != nil {
		w.frame.Release()
	}
	*w = work{chosen: w.chosen[:0]}
	s.idle = append(s.idle, w)
}

// unqueue drops the waiting rows of a sequence. What is in the running step is let go of by done.
func (s *stage) unqueue(q *sequence) {
	drop := func(list []*work) []*work {
		kept := list[:0]
		for _, w := range list {
			if w.seq != q {
				kept = append(kept, w)
				continue
			}
			if w.flags&FlagPrompt != 0 {
				s.rows -= w.count - w.part
			}
			if w.part == 0 {
				s.recycle(w)
			}
		}
		clear(list[len(kept):])
		return kept
	}
	s.decodes, s.prompts = drop(s.decodes), drop(s.prompts)
}

// load is how many sequences and waiting rows there are.
func (s *stage) load() Load {
	return Load{Sequences: len(s.seqs), QueuedRows: s.rows + len(s.decodes)}
}
