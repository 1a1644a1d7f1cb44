package pipeline

import (
	"slices"
	"time"
)

// answer reports what the tail knows after a part: scores of the prompt, a credit, and the next token, which goes to stage 0
// to begin the next round and to the gateway at the same time.
func (s *stage) answer(now time.Time, w *work, spent uint32) {
	q, end := w.seq, w.pos+w.part
	f := Frame{Stage: Gateway, Seq: q.id, Epoch: s.key.Epoch, Attempt: q.attempt, Spent: spent}
	if len(w.scored) > 0 {
		t := f
		t.Kind, t.Flags, t.Pos, t.Count, t.Scores = KindToken, FlagPrompt, uint32(w.pos+1), uint32(len(w.scored)), w.scored
		s.put(q.open.Gateway, t)
	}
	f.Pos = uint32(end)
	switch {
	case w.sampled():
		n := len(w.chosen)
		if w.decodes() { // rows of wrong guesses do not count
			f.Pos = uint32(w.pos + 1)
			if end = w.pos + n; end < q.queued {
				s.retract(q, end)
			}
		}
		f.Kind, f.Count, f.ID = KindToken, uint32(n), w.chosen[n-1].ID
		if n > 1 {
			f.Tokens = make([]int32, n)
			for i := range w.chosen {
				f.Tokens[i] = w.chosen[i].ID
			}
		}
		if q.open.Sampling.WantLogprobs {
			f.Scores = slices.Clone(w.chosen)
		}
		f.Flags = q.open.verdict(end, f.ID)
	case end == q.open.Prompt && q.open.MaxNew == 0:
		f.Kind, f.Flags = KindToken, FlagLast
	case w.flags&FlagPrompt != 0:
		f.Kind, f.Count = KindCredit, uint32(s.cost.prompts.weight())
		s.put(q.open.Gateway, f)
		return
	default: // rows that are computed again after a change of route, all but the last
		return
	}
	s.round(now, q, f)
}

// verdict tells whether the token at a position is the last one, and why.
func (o *OpenRequest) verdict(pos int, id int32) Flags {
	switch {
	case slices.Contains(o.EOS, id):
		return FlagLast | FlagEOS
	case pos+1-o.Prompt >= o.MaxNew:
		return FlagLast
	}
	return 0
}

// round hands a token to stage 0 and to the gateway: without a frame if stage 0 is here, in one frame if both are one node.
func (s *stage) round(now time.Time, q *sequence, f Frame) {
	last := f.has(FlagLast)
	switch {
	case s.head():
		s.put(q.open.Gateway, f)
	case q.ring == q.open.Gateway:
		f.Stage = 0
		f.Flags |= FlagCopy
		s.put(q.ring, f)
	default:
		s.put(q.open.Gateway, f)
		f.Stage, f.Scores = 0, nil
		s.put(q.ring, f)
	}
	if last {
		s.end(q, OutcomeDone)
	} else if s.head() {
		s.learnt(q, &f)
		s.again(q, now, f.last(), 0)
	}
}
