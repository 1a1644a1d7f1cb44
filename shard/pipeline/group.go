package pipeline

import (
	"fmt"
	"slices"
	"time"

	"lamina/shard/sample"
)

// note is an event on its way out of a core: a panic, a sequence that has left, or else a chunk.
type note struct {
	info   StageInfo
	chunk  ChunkStats
	decode DecodeStats // Outcome 0: it is not the end of a sequence
	panic  any
	stack  []byte
}

// takeNotes returns the events since the last call.
func (s *stage) takeNotes() []note {
	n := s.notes
	s.notes = nil
	return n
}

// ready tells whether next would give a group.
func (s *stage) ready(now time.Time) bool {
	_, wait := s.awaits(now)
	return s.waiting() && !wait
}

// next picks the rows to step: those that decode first, then rows of prompts as far as those that decode can bear it. The
// batch belongs to the step until done.
func (s *stage) next(now time.Time) []Rows {
	s.started = now
	s.steps++
	s.group, s.batch = s.group[:0], s.batch[:0]
	s.scored = max(1, s.limits.LogitBytes/(4*s.shape.Vocab))
	s.pickDecodes(now)
	s.pickPrompts(s.promptRows(now))
	s.makeRoom()
	for _, w := range s.group {
		s.batch = append(s.batch, w.input(s.tail(), s.shape.Hidden))
	}
	return s.batch
}

// scores tells whether all rows of an entry want logits, because the prompt is to be scored.
func (w *work) scores(tail bool, o *OpenRequest) bool {
	return tail && o.PromptLogprobs && w.flags&FlagPrompt != 0
}

// input makes the stepper's entry of the part that is in the group.
func (w *work) input(tail bool, hidden int) Rows {
	r := Rows{Seq: w.seq.kv}
	switch f := w.frame; {
	case f == nil:
		r.Tokens = w.token[:w.part]
	case len(f.X) == 0:
		from := w.pos - int(f.Pos)
		r.Tokens = f.Tokens[from : from+w.part]
	default:
		from := w.pos - int(f.Pos)
		r.X = f.X[from*hidden : (from+w.part)*hidden]
	}
	if tail && w.sampled() {
		if r.Logits = 1; w.decodes() {
			r.Logits = w.part
		}
	}
	if w.scores(tail, w.open) {
		r.Logits = w.part
	}
	return r
}

// choose scores and samples what the group's logits say. Like the step it runs without the owner's lock: it
// touches nothing but the group and its samplers.
func (s *stage) choose(out [][]float32) {
	if !s.tail() {
		return
	}
	for i, w := range s.group {
		w.scored, w.err = nil, nil
		if w.scores(true, w.open) {
			w.scored, w.err = s.score(w, out[i])
		}
		if w.err == nil && w.sampled() {
			s.pick(w, out[i])
		}
	}
}

// pick samples after each row that wants it, as long as the next row was computed of the token that came out.
func (s *stage) pick(w *work, logits []float32) {
	rows, guesses := 1, w.guesses()
	if w.decodes() {
		rows = w.part
	}
	logits = logits[len(logits)-rows*s.shape.Vocab:]
	w.chosen = w.chosen[:0]
	for i := range rows {
		pos := w.pos + w.part - rows + 1 + i
		t, err := w.sampler.Sample(&s.scratch, logits[i*s.shape.Vocab:(i+1)*s.shape.Vocab], pos)
		if err != nil {
			w.err = err
			return
		}
		w.chosen = append(w.chosen, t)
		if i == rows-1 || t.ID != guesses[i] || w.open.verdict(pos, t.ID) != 0 {
			return
		}
	}
}

// score tells how likely the model found the tokens after the rows of a part of a prompt.
func (s *stage) score(w *work, logits []float32) ([]sample.Token, error) {
	o := w.open
	var scores []sample.Token
	for i := range w.part {
		at := w.pos + i + 1
		if at >= o.Prompt {
			break
		}
		t, err := sample.Score(&s.scratch, logits[i*s.shape.Vocab:(i+1)*s.shape.Vocab], o.History[at], o.Sampling.Logprobs)
		if err != nil {
			return nil, fmt.Errorf("position %d: %w", at, err)
		}
		scores = append(scores, t)
	}
	return scores, nil
}

// done takes what the group's step made. The frames it puts out refer to the step's results: they must be sent before the
// next step.
func (s *stage) done(now time.Time, out [][]float32, err error) {
	compute := now.Sub(s.started)
	if err == nil && len(s.group) > 0 {
		s.learn(compute)
	}
	first := len(s.q)
	s.circle = nil
	for i, w := range s.group {
		q := w.seq
		switch {
		case q.ended || q.attempt != w.attempt:
			s.recycle(w)
		case err != nil:
			s.fail(q, Internal, "%v", err)
			s.recycle(w)
		case w.err != nil:
			s.fail(q, Internal, "%v", w.err)
			s.recycle(w)
		default:
			s.passOn(now, w, out[i], compute)
		}
	}
	s.group, s.batch = s.group[:0], s.batch[:0]
	s.bundle(s.q[first:])
}

// bundle marks the frames of a step that begin or go on with a round, all but the last: the receiver then steps them
// together, and does not begin with the first that comes.
func (s *stage) bundle(out []outgoing) {
	last := true
	for i := range slices.Backward(out) {
		if f := &out[i].f; f.circles() {
			if !last {
				f.Flags |= FlagMore
			}
			last = false
		}
	}
}

// passOn sends a part's result to where it goes and accounts for it.
func (s *stage) passOn(now time.Time, w *work, out []float32, compute time.Duration) {
	q := w.seq
	queue := s.started.Sub(w.arrived)
	s.account(now, w, queue, compute)
	spent := uint32(0)
	if !s.head() {
		spent = micros(time.Duration(w.spent)*time.Microsecond + queue + compute)
	}
	q.left, q.beside = now, s.pace
	if s.head() && !s.tail() && w.flags&FlagPrompt == 0 {
		s.depart(q)
	}
	q.have = w.pos + w.part
	if w.flags&FlagPrompt != 0 && q.have/BlockLen > w.pos/BlockLen {
		q.kv.Name(q.open.Keys[:min(q.have/BlockLen, len(q.open.Keys))])
	}
	if s.tail() {
		s.answer(now, w, spent)
	} else {
		flags := w.flags
		if !w.sampled() {
			flags &^= FlagSample
		}
		s.put(q.next, Frame{
			Kind: KindStep, Flags: flags, Stage: uint16(s.key.Index + 1), Seq: q.id, Epoch: s.key.Epoch, Attempt: q.attempt,
			Pos: uint32(w.pos), Count: uint32(w.part), Spent: spent, X: out, Tokens: w.sent(),
		})
	}
	w.pos += w.part
	w.count -= w.part
	if w.part = 0; w.count == 0 {
		s.recycle(w)
	}
}

// sent are the guesses as they go on; they outlive the work.
func (w *work) sent() []int32 {
	if !w.decodes() || w.part == 1 {
		return nil
	}
	return slices.Clone(w.guesses())
}

func (s *stage) account(now time.Time, w *work, queue, compute time.Duration) {
	q := w.seq
	if w.flags&FlagPrompt != 0 {
		s.notes = append(s.notes, note{info: s.info(q), chunk: ChunkStats{
			Start: s.started, End: now, Queue: queue, Compute: compute, Pos: w.pos, Count: w.part,
		}})
		return
	}
	d := &q.stats
	d.Tokens++
	d.Compute += compute
	d.Queue += queue
	if d.First.IsZero() {
		d.First = now
	}
	d.Last = now
}
