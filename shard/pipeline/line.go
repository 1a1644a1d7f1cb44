package pipeline

import (
	"cmp"
	"slices"
	"time"
)

// line is where a gateway's sequences wait for memory in the stages of a route, the oldest in front. Only the one in front tries,
// so that none overtakes it. It is pure: the owner wakes who is told to.
type line struct {
	waiting []*ticket
	tokens  int
}

// ticket is a sequence's place in a line.
type ticket struct {
	born   int64
	seq    uint64
	tokens int
	tries  int
	turn   chan struct{} // holds one token: it is in front now, or memory may have become free
}

func (t *ticket) compare(o *ticket) int {
	return cmp.Or(cmp.Compare(t.born, o.born), cmp.Compare(t.seq, o.seq))
}

// full tells whether a sequence of so many tokens that has not begun is one too many.
func (l *line) full(tokens int, limits *Limits) bool {
	return len(l.waiting) >= limits.Waiting || l.tokens+tokens > limits.WaitingTokens
}

// join takes a place according to age.
func (l *line) join(t *ticket) {
	i, found := slices.BinarySearchFunc(l.waiting, t, (*ticket).compare)
	if found {
		return
	}
	l.waiting = slices.Insert(l.waiting, i, t)
	l.tokens += t.tokens
}

// leave gives a place up; the next in front is told.
func (l *line) leave(t *ticket) {
	i := slices.Index(l.waiting, t)
	if i < 0 {
		return
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	l.tokens -= t.tokens
	if i == 0 {
		l.poke()
	}
}

// poke tells the one in front to try.
func (l *line) poke() {
	if len(l.waiting) == 0 {
		return
	}
	select {
	case l.waiting[0].turn <- struct{}{}:
	default:
	}
}

// front tells whether a ticket is the first.
func (l *line) front(t *ticket) bool { return len(l.waiting) > 0 && l.waiting[0] == t }

// pause is how long the one in front waits before it tries again, if nobody tells it to sooner: other gateways' sequences end
// without a word here.
func (t *ticket) pause() time.Duration {
	const first, most = 10 * time.Millisecond, 500 * time.Millisecond
	t.tries++
	return min(first<<min(t.tries-1, 10), most)
}
