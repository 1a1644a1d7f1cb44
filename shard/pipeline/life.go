package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"lamina/shard/sample"
)

// This file is the life of a sequence at a stage: how it begins, goes on over another route, and ends.

// onOpen begins a sequence, or its next attempt. The request is passed on ahead of any rows: at once if the stage has the sequence
// already, else when its memory is reserved.
func (s *stage) onOpen(now time.Time, from string, f *Frame) {
	o := f.Open
	old := s.seqs[f.Seq]
	over, whose := s.buried.holds(f.Seq, f.Attempt)
	if old != nil {
		whose = old.open.Gateway
		over = over || f.Attempt <= old.attempt || whose != o.Gateway
	}
	if over {
		s.dropped.stale.Add(1)
		if whose != o.Gateway { // that one must not wait in vain; it does not mind if it has closed the sequence itself
			s.putFail(o.Gateway, f.Seq, f.Attempt, Failure{Cancelled, s.self, "it was closed before it was opened, or is another gateway's"})
		}
		return
	}
	refuse := func(kind FailKind, format string, args ...any) {
		if old != nil {
			s.end(old, OutcomeFailed)
		}
		s.buried.bury(f.Seq, f.Attempt, o.Gateway)
		s.putFail(o.Gateway, f.Seq, f.Attempt, Failure{kind, s.self, clip(fmt.Sprintf(format, args...))})
	}
	if s.stopped != "" {
		refuse(Draining, "%s", s.stopped)
		return
	}
	if err := o.validate(s.self, s.key.Index, s.shape); err != nil {
		refuse(BadFrame, "%v", err)
		return
	}
	q := newSequence(f.Seq, f.Attempt, o, s.key.Index)
	if from != q.prev {
		s.dropped.foreign.Add(1)
		return
	}
	if old != nil {
		if !s.resume(old, q, int(f.Pos), refuse) {
			return
		}
		q = old
	} else if !s.admit(q, int(f.Pos), refuse) {
		return
	}
	s.begin(now, q)
	if old != nil && q.kv != nil { // else it is introduced when that is there
		s.introduce(q, int(f.Pos))
	}
}

// introduce passes the request on, with what all stages up to here have of it, or tells that all have taken it in.
func (s *stage) introduce(q *sequence, pos int) {
	f := Frame{Kind: KindOpen, Seq: q.id, Epoch: s.key.Epoch, Attempt: q.attempt, Pos: uint32(pos)}
	if !s.tail() {
		f.Stage, f.Open = uint16(s.key.Index+1), q.open
		s.put(q.next, f)
		return
	}
	f.Kind, f.Stage, f.Pos = KindReady, Gateway, uint32(max(pos, q.open.Match))
	if q.ring == q.open.Gateway && !s.head() {
		f.Stage, f.Flags = 0, FlagCopy
		s.put(q.ring, f)
		return
	}
	s.put(q.open.Gateway, f)
	if !s.head() {
		f.Stage = 0
		s.put(q.ring, f)
	}
}

// begin sets what every attempt starts with.
func (s *stage) begin(now time.Time, q *sequence) {
	if s.tail() {
		q.sampler = sample.New(q.open.Sampling, q.open.History)
	}
	most := s.limits.Life + graceTTL
	ttl := q.open.TTL
	if ttl <= 0 || ttl > most {
		ttl = most
	}
	q.expires = now.Add(ttl)
	if q.tenant == nil {
		s.enter(q)
	}
	s.hops, s.feeder = len(q.open.Route), q.prev
	if s.head() {
		s.feeder, s.ring.busy = q.ring, busiest(q.open.Route)
	}
}

// busiest is how many stages of a route the node with the most has.
func busiest(route []Hop) int {
	most := 0
	for i, h := range route {
		n := 1
		for _, o := range route[:i] {
			if o.Node == h.Node {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// newSequence knows its neighbours from the route.
func newSequence(id uint64, attempt uint32, o *OpenRequest, index int) *sequence {
	q := &sequence{id: id, attempt: attempt, open: o, prev: o.Gateway, rewind: -1}
	last := len(o.Route) - 1
	if index > 0 {
		q.prev = o.Route[index-1].Node
	}
	if index < last {
		q.next = o.Route[index+1].Node
	}
	switch index {
	case 0:
		q.ring = o.Route[last].Node
	case last:
		q.ring = o.Route[0].Node
	}
	return q
}

// admit takes a new sequence in if there is room; its KV is reserved by settle.
func (s *stage) admit(q *sequence, pos int, refuse func(FailKind, string, ...any)) bool {
	switch {
	case pos != 0:
		refuse(BadFrame, "goes on at position %d, but nothing of it is here", pos)
	case len(s.seqs) >= s.limits.Sequences:
		refuse(Overloaded, "%d sequences, the limit is %d", len(s.seqs), s.limits.Sequences)
	case s.rows > s.limits.QueuedRows/2:
		refuse(Overloaded, "%d rows wait, new sequences are taken up to %d", s.rows, s.limits.QueuedRows/2)
	default:
		s.seqs[q.id] = q
		s.opening = append(s.opening, q)
		return true
	}
	return false
}

// resume lets a live sequence go on with another route from a position it has already computed. What waits or is in the
// running step belongs to the old attempt and is dropped.
func (s *stage) resume(old, q *sequence, pos int, refuse func(FailKind, string, ...any)) bool {
	if q.open.Match > 0 { // what is here already counts, not what is cached
		cut := *q.open
		cut.Match = 0
		q.open = &cut
	}
	if pos > old.have || q.open.Positions > old.open.Positions {
		refuse(BadFrame, "goes on at position %d of %d, but %d of %d are here", pos, q.open.Positions, old.have, old.open.Positions)
		return false
	}
	s.unqueue(old)
	s.arrive(old)
	if old.decodes {
		old.decodes = false
		s.flying--
	}
	old.attempt, old.open, old.prev, old.next, old.ring = q.attempt, q.open, q.prev, q.next, q.ring
	old.queued, old.have, old.rewind, old.match, old.started, old.held = pos, pos, pos, pos, false, false
	s.rewound = append(s.rewound, old)
	return true
}

// settle does what needs the stepper and no step running: it frees, rewinds and reserves. Each entry is off its list before the
// stepper sees it, so one that panics is not met again.
func (s *stage) settle() {
	s.free()
	for len(s.rewound) > 0 {
		q := s.rewound[0]
		s.rewound = s.rewound[1:]
		if !q.ended && q.kv != nil {
			q.kv.Rewind(min(q.rewind, q.kv.Len()))
		}
	}
	for len(s.opening) > 0 {
		q := s.opening[0]
		s.opening = s.opening[1:]
		if !q.ended {
			s.enroll(q)
		}
	}
}

// onClose ends a sequence at the gateway's or a neighbour's word. One that comes ahead of its Open keeps it out.
func (s *stage) onClose(from string, f *Frame) {
	s.nameKept(from, f)
	q := s.seqs[f.Seq]
	switch {
	case q == nil:
		s.buried.bury(f.Seq, f.Attempt, "")
	case f.Attempt < q.attempt:
		s.dropped.stale.Add(1)
	case from != q.open.Gateway && from != q.prev:
		s.dropped.foreign.Add(1)
	default:
		q.final, q.names = from == q.open.Gateway && f.has(FlagEOS), f.Keys
		outcome := OutcomeCancelled
		if f.has(FlagLast) {
			outcome = OutcomeDone
		}
		s.end(q, outcome)
	}
}

// fail ends a sequence and tells the gateway why.
func (s *stage) fail(q *sequence, kind FailKind, format string, args ...any) {
	s.failWith(q, Failure{kind, s.self, clip(fmt.Sprintf(format, args...))})
}

func (s *stage) failWith(q *sequence, why Failure) {
	if why.Kind != PeerLost || why.Node != q.open.Gateway {
		s.putFail(q.open.Gateway, q.id, q.attempt, why)
	}
	s.end(q, OutcomeFailed)
}

func (s *stage) putFail(gateway string, seq uint64, attempt uint32, why Failure) {
	s.put(gateway, Frame{Kind: KindFail, Stage: Gateway, Seq: seq, Epoch: s.key.Epoch, Attempt: attempt, Fail: &why})
}

// end lets go of a sequence and passes the end on, so that stages the gateway cannot reach hear of it too.
func (s *stage) end(q *sequence, outcome Outcome) {
	q.ended = true
	delete(s.seqs, q.id)
	s.leave(q)
	s.arrive(q)
	s.buried.bury(q.id, q.attempt, q.open.Gateway)
	s.unqueue(q)
	if q.decodes {
		s.flying--
	}
	s.part(q, outcome)
	if q.next != "" {
		f := Frame{Kind: KindClose, Stage: uint16(s.key.Index + 1), Seq: q.id, Epoch: s.key.Epoch, Attempt: q.attempt}
		if outcome == OutcomeDone {
			f.Flags = FlagLast
		}
		s.put(q.next, f)
	}
	q.stats.Outcome = outcome
	s.notes = append(s.notes, note{info: s.info(q), decode: q.stats})
}

// peerDown fails the sequences that cannot go on without node.
func (s *stage) peerDown(node string, err error) {
	if node == s.feeder {
		s.burst = time.Time{}
	}
	s.forgetKept(node)
	for _, q := range s.sorted() {
		if q.has(node) {
			s.failWith(q, Failure{PeerLost, node, clip(fmt.Sprint(err))})
		}
	}
}

// undeliverable takes note that a frame could not be sent. A Close or Fail has nobody left to tell.
func (s *stage) undeliverable(o outgoing, err error) {
	q := s.seqs[o.f.Seq]
	if q == nil || q.attempt != o.f.Attempt || o.f.Kind == KindClose || o.f.Kind == KindFail {
		return
	}
	s.failWith(q, Failure{PeerLost, o.to, clip(err.Error())})
}

// failAll ends every sequence for the same reason.
func (s *stage) failAll(kind FailKind, text string) {
	for _, q := range s.sorted() {
		s.fail(q, kind, "%s", text)
	}
}

// sorted returns the sequences in an order that does not change from run to run.
func (s *stage) sorted() []*sequence {
	return slices.SortedFunc(maps.Values(s.seqs), func(a, b *sequence) int { return cmp.Compare(a.id, b.id) })
}

// crash fails what lives because the stepper panicked.
func (s *stage) crash(text string, value any, stack []byte) {
	info := StageInfo{Model: s.key.Model, Node: s.self, Index: s.key.Index, First: s.shape.First, End: s.shape.End}
	s.notes = append(s.notes, note{info: info, panic: value, stack: stack})
	s.failAll(Internal, text)
}

// stop fails what lives and takes nothing new.
func (s *stage) stop(reason string) {
	if reason == "" {
		reason = "the stage is being stopped"
	}
	s.stopped = reason
	s.forgetKept("")
	s.failAll(Draining, reason)
}

// expire fails the sequences whose time is over, and says when the next one's will be; zero: never.
func (s *stage) expire(now time.Time) (next time.Time) {
	late := false
	next = s.expireKept(now)
	for _, q := range s.seqs {
		late = late || !q.expires.After(now)
		if next.IsZero() || q.expires.Before(next) {
			next = q.expires
		}
	}
	if !late {
		return next
	}
	for _, q := range s.sorted() {
		if !q.expires.After(now) {
			s.fail(q, Expired, "the sequence's time is over")
		}
	}
	return s.expire(now)
}

func (s *stage) info(q *sequence) StageInfo {
	return StageInfo{
		Trace: q.open.Trace, Seq: q.id, Model: s.key.Model, Node: s.self, Index: s.key.Index,
		First: s.shape.First, End: s.shape.End,
	}
}

// micros is a duration for Frame.Spent; it saturates.
func micros(d time.Duration) uint32 {
	return uint32(min(max(d.Microseconds(), 0), math.MaxUint32))
}

// clip makes text fit for the wire: short, and UTF-8.
func clip(s string) string {
	if len(s) > MaxText {
		s = s[:MaxText]
	}
	return strings.ToValidUTF8(s, "")
}
