package pipeline

import (
	"errors"
	"slices"
	"time"
)

// This file is the memory of a stage: who gets blocks of KV cache, who gives way, and what is left of a sequence for those
// that begin alike.

// leftover is the KV of a sequence that has ended.
type leftover struct {
	kv      Seq
	names   []Key
	seq     uint64
	gateway string
	until   time.Time // while it is kept: how long; zero: not looked at yet
}

// keptTime is how long a stage keeps the KV of a sequence that is complete for the gateway's Close, which names its blocks.
const keptTime = 5 * time.Second

// enroll opens a new sequence's KV, reserves what its known tokens take and a little more, and introduces it to the next
// stage. What can never be held is refused; what cannot be held now waits at the gateway.
func (s *stage) enroll(q *sequence) {
	o := q.open
	if most := s.step.Capacity(); most > 0 && o.Positions > most {
		s.fail(q, NoMemory, "it may need %d positions, the KV cache of layers %d to %d holds %d", o.Positions, s.shape.First, s.shape.End, most)
		return
	}
	kv, err := s.step.NewSeq(o.Positions, o.Keys[:o.Match/BlockLen])
	if err != nil {
		s.fail(q, Internal, "%v", err)
		return
	}
	q.kv = kv
	if !s.grow(q, min(o.Known+BlockLen, o.Positions)) {
		return
	}
	if own := kv.Len(); own < o.Match {
		cut := *o // the one that came is its sender's
		cut.Match = own
		q.open = &cut
	}
	switch {
	case q.started: // by rows that came ahead, and so from the start
		kv.Rewind(0)
	case !s.head():
		q.match = kv.Len()
	case s.tail() || q.open.Match == 0:
		s.enter0(q, q.open.Match)
	default:
		q.held = true
	}
	s.introduce(q, 0)
}

// begun takes note of where the rows of a sequence begin that are computed here: where the shortest of what the stages have cached
// ends.
func (s *stage) begun(q *sequence, pos int) {
	q.started, q.have = true, pos
	if q.kv != nil && q.kv.Len() > pos {
		q.rewind = pos
		s.rewound = append(s.rewound, q)
	}
}

// onReady lets stage 0 begin with a sequence of which it has a part cached.
func (s *stage) onReady(from string, q *sequence, pos int) {
	switch {
	case !s.head() || from != q.ring:
		s.dropped.foreign.Add(1)
	case !q.held:
		s.dropped.duplicate.Add(1)
	case pos > q.open.Match:
		s.fail(q, BadFrame, "ready from position %d, %d are cached here", pos, q.open.Match)
	default:
		q.held = false
		s.enter0(q, pos)
	}
}

// enter0 begins with a sequence at stage 0 behind what is cached of it: the gateway sends all tokens.
func (s *stage) enter0(q *sequence, pos int) {
	s.begun(q, pos)
	kept := s.prompts[:0]
	for _, w := range s.prompts {
		if w.seq == q && !s.trim(w) {
			s.recycle(w)
			continue
		}
		kept = append(kept, w)
	}
	clear(s.prompts[len(kept):])
	s.prompts = kept
}

// trim takes the rows off an entry that are cached; false: all are.
func (s *stage) trim(w *work) bool {
	n := min(max(w.seq.have-w.pos, 0), w.count)
	w.pos += n
	w.count -= n
	s.rows -= n
	return w.count > 0
}

// makeRoom makes sure of the memory for the rows of the step that is about to begin. Sequences that had to give way, or have no
// room, leave the group.
func (s *stage) makeRoom() {
	for _, w := range s.group {
		if w.seq.grouped = false; !w.seq.ended {
			s.grow(w.seq, w.pos+w.part)
		}
	}
	kept := s.group[:0]
	for _, w := range s.group {
		if w.seq.ended {
			s.recycle(w)
			continue
		}
		kept = append(kept, w)
	}
	clear(s.group[len(kept):])
	s.group = kept
}

// grow reserves room for n positions of a sequence. If there is none, what is kept of ended sequences goes first, then the youngest
// sequence has to begin anew, be it this one: false. So the oldest of all always gets on, and since all stages know
// the same order, it is the same one everywhere. No step may be running.
func (s *stage) grow(q *sequence, n int) bool {
	for {
		err := q.kv.Reserve(n)
		switch {
		case err == nil:
			return true
		case !errors.Is(err, ErrNoMemory):
			s.fail(q, Internal, "%v", err)
			return false
		case len(s.kept) > 0:
			s.freeing = append(s.freeing, s.kept[0])
			s.kept = slices.Delete(s.kept, 0, 1)
		default:
			v := s.youngest()
			s.fail(v, Preempted, "%v; it is the youngest of %d", err, len(s.seqs))
			if v == q {
				return false
			}
		}
		s.free()
	}
}

// youngest returns the youngest of the sequences that hold memory.
func (s *stage) youngest() *sequence {
	var y *sequence
	for _, q := range s.seqs {
		if q.kv != nil && (y == nil || y.older(q)) {
			y = q
		}
	}
	return y
}

// free lets go of what has ended. Each entry is off its list before the stepper sees it, so one that panics is not met again.
func (s *stage) free() {
	for len(s.freeing) > 0 {
		l := s.freeing[0]
		s.freeing = s.freeing[1:]
		if len(l.names) > 0 {
			l.kv.Name(l.names[:min(len(l.names), l.kv.Len()/BlockLen)])
		}
		l.kv.Free()
	}
}

// part takes the KV from a sequence that ends. Of a complete one it is kept until the gateway has told its names.
func (s *stage) part(q *sequence, outcome Outcome) {
	if q.kv == nil {
		return
	}
	l := leftover{kv: q.kv, names: q.names, seq: q.id, gateway: q.open.Gateway}
	if outcome == OutcomeDone && !q.final {
		s.kept = append(s.kept, l)
		return
	}
	s.freeing = append(s.freeing, l)
}

// nameKept takes the gateway's last word on a sequence that has ended here.
func (s *stage) nameKept(from string, f *Frame) {
	if !f.has(FlagEOS) {
		return
	}
	s.kept = slices.DeleteFunc(s.kept, func(l leftover) bool {
		named := l.seq == f.Seq && l.gateway == from
		if named {
			l.names = f.Keys
			s.freeing = append(s.freeing, l)
		}
		return named
	})
}

// forgetKept frees what is kept for a gateway that is gone; "": for all.
func (s *stage) forgetKept(gateway string) {
	s.kept = slices.DeleteFunc(s.kept, func(l leftover) bool {
		gone := gateway == "" || l.gateway == gateway
		if gone {
			s.freeing = append(s.freeing, l)
		}
		return gone
	})
}

// expireKept frees what no gateway asks for, and says when to look again; zero: never.
func (s *stage) expireKept(now time.Time) (next time.Time) {
	for i := range s.kept {
		if l := &s.kept[i]; l.until.IsZero() {
			l.until = now.Add(keptTime)
		}
	}
	for len(s.kept) > 0 && !s.kept[0].until.After(now) {
		s.freeing = append(s.freeing, s.kept[0])
		s.kept = slices.Delete(s.kept, 0, 1)
	}
	if len(s.kept) > 0 {
		next = s.kept[0].until
	}
	return next
}
