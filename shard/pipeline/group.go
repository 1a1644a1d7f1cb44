package pipeline

import (
	"fmt"
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
func (s *stage) ready() bool { return len(s.decodes)+len(s.prompts) > 0 }

// next picks the rows to step: those that decode first, in order of arrival, then prompts under the row budget, in order of
// arrival too. So a decode waits for one group, or few if very many decode; and since every group takes rows of the
// oldest prompt, a prompt waits for the rows ahead of it only. The batch belongs to the step until done.
func (s *stage) next(now time.Time) []Rows {
	s.started = now
	s.group, s.batch = s.group[:0], s.batch[:0]
	s.scored = max(1, s.limits.LogitBytes/(4*s.shape.Vocab))
	s.decodes = s.pick(s.decodes, s.decodeLimit(), s.limits.GroupDecodes)
	budget := s.limits.GroupRows
	if len(s.group) > 0 {
		budget = s.limits.MixedRows
	}
	s.prompts = s.pick(s.prompts, len(s.prompts), budget)
	for _, w := range s.group {
		w.seq.grouped = false
		s.batch = append(s.batch, w.input(s.tail(), s.shape.Hidden))
	}
	return s.batch
}

// decodeLimit is how many decodes stage 0 puts into one group: their number over the number of stages, so that as many groups
// circulate as there are stages and all compute at once. The stages behind it step what has come.
func (s *stage) decodeLimit() int {
	if !s.head() || s.tail() || len(s.decodes) == 0 {
		return s.limits.GroupDecodes
	}
	hops := len(s.decodes[0].seq.open.Route)
	return (s.flying + hops - 1) / hops
}

// pick moves up to most entries with up to budget rows into the group, one of a sequence at most, and returns the rest
// of the list in its order. An entry that is taken in part stays at its place.
func (s *stage) pick(list []*work, most, budget int) []*work {
	kept := list[:0]
	for _, w := range list {
		n := s.share(w, budget)
		if most == 0 || n == 0 || w.seq.grouped {
			kept = append(kept, w)
			continue
		}
		w.part = n
		w.open, w.sampler = w.seq.open, w.seq.sampler
		w.seq.grouped = true
		most--
		budget -= n
		s.group = append(s.group, w)
		if w.flags&FlagPrompt != 0 {
			s.rows -= n
		}
		if n < w.count {
			kept = append(kept, w)
		}
	}
	clear(list[len(kept):])
	return kept
}

// share is how many rows of an entry fit the budget, and if all its rows want logits, the memory for those.
func (s *stage) share(w *work, budget int) int {
	n := min(w.count, budget)
	if w.seq.grouped || !w.scores(s.tail(), w.seq.open) {
		return n
	}
	n = min(n, s.scored)
	s.scored -= n
	return n
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
		r.Tokens = w.token[:]
	case len(f.Tokens) > 0:
		from := w.pos - int(f.Pos)
		r.Tokens = f.Tokens[from : from+w.part]
	default:
		from := w.pos - int(f.Pos)
		r.X = f.X[from*hidden : (from+w.part)*hidden]
	}
	if tail && w.sampled() {
		r.Logits = 1
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
			last := out[i][len(out[i])-s.shape.Vocab:]
			w.chosen, w.err = w.sampler.Sample(&s.scratch, last, w.pos+w.part)
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
	q.left = now
	q.have = w.pos + w.part
	if s.tail() {
		s.answer(now, w, spent)
	} else {
		flags := w.flags
		if !w.sampled() {
			flags &^= FlagSample
		}
		s.put(q.next, Frame{
			Kind: KindStep, Flags: flags, Stage: uint16(s.key.Index + 1), Seq: q.id, Epoch: s.key.Epoch, Attempt: q.attempt,
			Pos: uint32(w.pos), Count: uint32(w.part), Spent: spent, X: out,
		})
	}
	w.pos += w.part
	w.count -= w.part
	if w.part = 0; w.count == 0 {
		s.recycle(w)
	}
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
