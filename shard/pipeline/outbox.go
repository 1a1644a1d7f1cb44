package pipeline

// outgoing is a frame on its way out of a core. The frame is lent: its slices are valid until it is sent.
type outgoing struct {
	to string
	f  Frame
}

// outbox collects the frames that a core wants sent, in order.
type outbox struct{ q, spare []outgoing }

func (o *outbox) put(to string, f Frame) { o.q = append(o.q, outgoing{to, f}) }

// take returns what is to be sent; it is valid until the next take.
func (o *outbox) take() []outgoing {
	q := o.q
	clear(o.spare) // let go of what the frames pointed to
	o.q, o.spare = o.spare[:0], q
	return q
}

// tombstones remember sequences that have ended, so that late frames do not begin them anew. Old ones make room.
type tombstones struct {
	most  int
	stone map[uint64]tombstone
	ring  []uint64
	next  int
}

type tombstone struct {
	attempt uint32 // the last one that is over
	gateway string // whose it was; "" if its Close came first
}

func newTombstones(most int) tombstones {
	return tombstones{most: most, stone: make(map[uint64]tombstone)}
}

// bury notes that seq is over up to this attempt.
func (t *tombstones) bury(seq uint64, attempt uint32, gateway string) {
	if old, ok := t.stone[seq]; ok {
		if gateway == "" {
			gateway = old.gateway
		}
		t.stone[seq] = tombstone{max(old.attempt, attempt), gateway}
		return
	}
	if len(t.ring) < t.most {
		t.ring = append(t.ring, seq)
	} else {
		delete(t.stone, t.ring[t.next])
		t.ring[t.next] = seq
		t.next = (t.next + 1) % t.most
	}
	t.stone[seq] = tombstone{attempt, gateway}
}

// holds tells whether this attempt of seq is over, and whose it was.
func (t *tombstones) holds(seq uint64, attempt uint32) (over bool, gateway string) {
	s, ok := t.stone[seq]
	return ok && attempt <= s.attempt, s.gateway
}
