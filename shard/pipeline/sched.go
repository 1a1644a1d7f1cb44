package pipeline

import (
	"cmp"
	"slices"
	"time"
)

// This file decides what a step takes: how many decodes, how many rows of prompts, and whose.

// tenant is one scope of fairness at a stage, while it has sequences there.
type tenant struct {
	name   string
	seqs   int
	served uint64 // prompt rows that were given to it, not less than what the others had when it came
	taken  int    // scratch: decodes in the group
	share  int    // scratch: rows it may still have of a step
	mark   uint64 // scratch: the step for which taken and share are
}

// enter counts a sequence in with its tenant. One that comes back, or comes late, starts level with the one that was
// served least: it has no claim from the time in which it asked for nothing.
func (s *stage) enter(q *sequence) {
	t := s.tenants[q.open.Tenant]
	if t == nil {
		t = &tenant{name: q.open.Tenant}
		first := true
		for _, o := range s.tenants {
			if first || o.served < t.served {
				t.served, first = o.served, false
			}
		}
		s.tenants[t.name] = t
	}
	t.seqs++
	q.tenant = t
}

func (s *stage) leave(q *sequence) {
	if t := q.tenant; t != nil {
		if t.seqs--; t.seqs == 0 {
			delete(s.tenants, t.name)
		}
	}
}

// ofStep returns the tenant with its scratch ready for this step.
func (q *sequence) ofStep(step, share int) *tenant {
	t := q.tenant
	if t.mark != uint64(step) {
		t.mark, t.taken, t.share = uint64(step), 0, share
	}
	return t
}

// pickDecodes takes up to a number of decoding sequences into the group: the oldest rows if all are one tenant's, else each
// tenant's oldest in turn. What is left stays in its order, so a ready row waits for those of its tenant in front of it.
func (s *stage) pickDecodes(now time.Time) {
	most := s.decodeLimit()
	if len(s.decodes) <= most {
		for _, w := range s.decodes {
			s.include(w, w.count)
		}
		clear(s.decodes)
		s.decodes = s.decodes[:0]
	} else {
		for round := 0; most > 0; round++ {
			for _, w := range s.decodes {
				if t := w.seq.ofStep(s.steps, 0); most > 0 && !w.seq.grouped && t.taken == round {
					t.taken++
					most--
					s.include(w, w.count)
				}
			}
		}
		s.decodes = s.ungrouped(s.decodes)
	}
	for _, w := range s.group {
		q := w.seq
		if q.mark == s.mixed && !q.began.IsZero() {
			s.gap.add(float64(now.Sub(q.began)))
		}
		q.began, q.mark = now, s.mixed
	}
}

// ungrouped keeps what was not taken whole.
func (s *stage) ungrouped(list []*work) []*work {
	kept := list[:0]
	for _, w := range list {
		if w.part < w.count {
			kept = append(kept, w)
		}
	}
	clear(list[len(kept):])
	return kept
}

// include puts rows of an entry into the group, or more rows of one that is there.
func (s *stage) include(w *work, n int) {
	if w.part == 0 {
		w.open, w.sampler = w.seq.open, w.seq.sampler
		w.seq.grouped = true
		s.group = append(s.group, w)
	}
	w.part += n
	if w.flags&FlagPrompt != 0 {
		s.rows -= n
		w.seq.tenant.served += uint64(n)
	}
}

// oldestPart is the part of a step's prompt rows that the oldest prompt is sure of. So nobody waits for more
// than oldestPart times the rows that were there before, whatever comes later.
const oldestPart = 4

// pickPrompts fills the group with rows of prompts: a part for the oldest, then an equal share for each tenant, the least
// served first, and to a tenant's prompts by what they have left, the shortest first.
func (s *stage) pickPrompts(budget int) {
	if budget == 0 || len(s.prompts) == 0 {
		return
	}
	s.wanting = s.wanting[:0]
	tenants := 0
	for _, w := range s.prompts {
		if w.seq.grouped || w.seq.listed || w.seq.held {
			continue
		}
		if t := w.seq.tenant; t.mark != uint64(s.steps) || t.share == 0 {
			w.seq.ofStep(s.steps, 0).share = 1 // is one of those that want
			tenants++
		}
		w.seq.listed = true
		s.wanting = append(s.wanting, w)
	}
	if len(s.wanting) == 0 {
		return
	}
	for _, w := range s.wanting {
		w.seq.listed = false
		w.seq.tenant.share = (budget + tenants - 1) / tenants
	}
	budget -= s.give(s.wanting[0], (budget+oldestPart-1)/oldestPart)
	slices.SortStableFunc(s.wanting, func(a, b *work) int {
		return cmp.Or(cmp.Compare(a.seq.tenant.served, b.seq.tenant.served), cmp.Compare(a.left(), b.left()))
	})
	for _, w := range s.wanting {
		n := s.give(w, min(budget, w.seq.tenant.share))
		budget -= n
		w.seq.tenant.share -= n
	}
	for _, w := range s.wanting {
		budget -= s.give(w, budget)
	}
	s.prompts = s.ungrouped(s.prompts)
}

// left is how many rows of the sequence's prompt are still to be computed.
func (w *work) left() int { return w.seq.open.Known - w.pos }

// give takes up to n more rows of an entry, as far as there is memory for the logits that they want.
func (s *stage) give(w *work, n int) int {
	n = min(n, w.count-w.part)
	if w.scores(s.tail(), w.seq.open) {
		n = min(n, s.scored)
		s.scored -= n
	}
	if n > 0 {
		s.include(w, n)
	}
	return n
}

// promptRows is how many rows of prompts the step may have. While nothing decodes here that is a full group. Else they may
// prolong a round by the stage's part of what leaves the gap between two tokens under twice its idle value.
func (s *stage) promptRows(now time.Time) int {
	if s.flying == 0 || len(s.prompts) == 0 {
		return s.limits.GroupRows
	}
	if len(s.group) > 0 && s.wondering() {
		return 0
	}
	slack, ok := s.slack(now)
	if ok && slack <= 0 && len(s.group) > 0 {
		return 0
	}
	n, known := s.cost.rows(slack, len(s.group) > 0, s.limits.GroupRows)
	if !ok || !known {
		return s.limits.MixedRows
	}
	return max(n, 1)
}

// wonder is after how many steps with prompts a step decodes alone, to see what that takes now.
const wonder = 64

// wondering tells whether the group should be stepped without rows of prompts, although some wait: because what so many decodes take
// alone was never measured, or long ago. Where prompts always wait it would never be, and all that the stage knows of them would be
// guessed from groups of another size.
func (s *stage) wondering() bool {
	_, any := s.cost.decodes.at(1)
	if (!any || s.cost.decodes.met(len(s.group))) && s.mixed-s.wondered < wonder {
		return false
	}
	s.wondered = s.mixed
	return true
}

// slackPart is the part of the idle gap that prompts may add to it; what is missing to 1 is for errors of the estimate.
const slackPart = 0.6

// A prompt of no more than briefRows is soon over, and who sent it waits for a first word: it may add briefPart of the idle gap.
const (
	briefRows = 256
	briefPart = 1.5
)

// share is the time by which prompts may prolong a stage's part of a round. The idle gap is the time of a round, of which each
// stage has an equal part, and not less than its own step. Those whose prompts wait, but for one, count as if they decoded already: it is the
// idle gap that they bring about. Else few would decode, with short gaps, so that prompts got little, so that few decode.
func (s *stage) share() (time.Duration, bool) {
	waiting, part := max(len(s.seqs)-s.flying-1, 0), slackPart
	if s.brief() {
		waiting, part = waiting+1, briefPart
	}
	alone, ok := s.cost.decodes.at(max(len(s.group), s.pace, 1) + waiting)
	return time.Duration(part * max(float64(alone), s.gap.v/float64(max(s.hops, 1)))), ok
}

// brief tells whether a prompt waits that is short as a whole: the end of a long one has no such claim.
func (s *stage) brief() bool {
	return slices.ContainsFunc(s.prompts, func(w *work) bool { return w.seq.open.Known <= briefRows })
}

// slack is the time that rows of prompts may take in this step. Beside decodes, what prompts have held these up since they
// came goes off. Without them, the time until the next are expected is free.
func (s *stage) slack(now time.Time) (time.Duration, bool) {
	slack, ok := s.share()
	if len(s.group) == 0 {
		return slack + max(s.dueAt().Sub(now), 0), ok
	}
	late := time.Duration(0)
	for _, w := range s.group {
		late = max(late, min(now.Sub(w.arrived), s.prompted-w.prompted))
	}
	return slack - late, ok
}

// dueAt is when the next decoding row may be expected: the first of the sequences comes round again.
func (s *stage) dueAt() time.Time {
	var due time.Time
	for _, q := range s.seqs {
		if q.decodes && (due.IsZero() || q.began.Before(due)) {
			due = q.began
		}
	}
	return due.Add(time.Duration(s.gap.v))
}

// poorly tells whether prompts should wait for the next decodes, because a step of their own would have to be so short that
// most of its time went into reading the weights. They do not wait for longer than one more round.
func (s *stage) poorly(now time.Time) bool {
	if s.flying == 0 || len(s.decodes) > 0 || s.gap.seen == 0 {
		return false
	}
	slack, ok := s.share()
	due := s.dueAt()
	if !ok || now.After(due.Add(time.Duration(s.gap.v))) {
		return false
	}
	own, _ := s.cost.rows(slack+max(due.Sub(now), 0), false, s.limits.GroupRows)
	with, known := s.cost.rows(slack, true, s.limits.GroupRows)
	return known && 2*own < with
}

// learn takes in how long a step took.
func (s *stage) learn(took time.Duration) {
	rows, decodes := 0, 0
	for _, w := range s.group {
		if w.flags&FlagPrompt != 0 {
			rows += w.part
		} else {
			decodes += w.part
		}
	}
	if rows > 0 {
		s.mixed++
		alone := time.Duration(0)
		if decodes > 0 {
			alone = s.cost.at(0, decodes)
		}
		s.prompted += max(took-alone, 0)
	}
	if decodes > 0 {
		s.pace = decodes
	}
	s.cost.add(rows, decodes, took)
}

// decodeLimit is how many decodes go into one group. The stages behind stage 0 step what has come; stage 0 sends so many
// groups round that a round is as short as can be.
func (s *stage) decodeLimit() int {
	switch {
	case !s.head() || s.tail() || len(s.decodes) == 0:
		return s.limits.GroupDecodes
	case s.full():
		return 0
	}
	if s.steps%regroup == 0 || s.grouped != s.flying {
		s.grouped = s.flying
		s.groups = s.ring.groups(&s.cost.decodes, s.flying, s.hops, s.groups)
	}
	return min((s.flying+s.groups-1)/s.groups, s.limits.GroupDecodes)
}

// circle is a group on its way round, as long as one of its sequences is.
type circle struct{ left int }

// full tells whether as many groups are on their way as should be. What comes back then waits for the rest of its group, or another one,
// and goes on with it: so groups that were parted, by an end or a delay, become one again.
func (s *stage) full() bool {
	return s.head() && !s.tail() && s.groups > 0 && s.circles >= s.groups
}

// depart puts a sequence into the group that is leaving.
func (s *stage) depart(q *sequence) {
	if s.circle == nil {
		s.circle = new(circle)
		s.circles++
	}
	q.circle = s.circle
	q.circle.left++
}

// arrive takes a sequence out of its group.
func (s *stage) arrive(q *sequence) {
	if q.circle == nil {
		return
	}
	if q.circle.left--; q.circle.left == 0 {
		s.circles--
	}
	q.circle = nil
}

// regroup is after how many steps stage 0 looks at the number of groups again.
const regroup = 16

// ring is what stage 0 knows of a round outside of its own steps.
type ring struct {
	wire   floor // nanoseconds of a round that are nobody's queue or computing
	others floor // mean time of another stage over the own time for as many rows
	busy   int   // stages of the node with the most
}

// lap takes a round in: how long it took, how much of that the other stages say was theirs, and the own time for the
// rows that went round.
func (r *ring) lap(took, spent, own time.Duration, hops int) {
	r.wire.add(float64(max(took-spent, 0)))
	if own > 0 && spent > 0 && hops > 1 {
		r.others.add(float64(spent) / float64(hops-1) / float64(own))
	}
}

// groupsGain is what another number of groups must promise to be taken, so that the groups do not change all the time.
const groupsGain = 0.9

// groups chooses among how many groups n decodes are divided. A round takes the time of one group's way through all stages and
// wires, or of all groups' steps in the busiest node if that is more. With nothing measured there are as many as
// stages; the fewest are taken of those that are as good as equal.
func (r *ring) groups(t *curve, n, hops, now int) int {
	if _, ok := t.at(1); !ok || n < 2 {
		return max(1, min(n, hops))
	}
	best, least := 0, 0.0
	for g := 1; g <= min(n, 4*hops); g++ {
		if took := r.time(t, n, hops, g); best == 0 || took < 0.98*least {
			best, least = g, took
		}
	}
	if now >= 1 && now <= n && r.time(t, n, hops, now)*groupsGain <= least {
		return now
	}
	return best
}

func (r *ring) time(t *curve, n, hops, groups int) float64 {
	own, _ := t.at((n + groups - 1) / groups)
	other := r.others.v * float64(own)
	if !r.others.seen {
		other = float64(own)
	}
	way := float64(own) + float64(hops-1)*other + r.wire.v
	return max(way, float64(groups*max(r.busy, 1))*max(float64(own), other))
}
