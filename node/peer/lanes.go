package peer

import (
	"fmt"
	"math"

	"lamina/shard/pipeline"
)

const (
	// largeFrame is the payload from which on a frame waits in the second lane. Rows that decode never do.
	largeFrame = 32 << 10
	// quantum is how much of the second lane is written before the first is looked at again.
	quantum = 64 << 10
	// keepBuffer is how much memory of an emptied buffer is kept.
	keepBuffer = 4 << 20
	// keepBuffers is how many buffers of large frames are kept.
	keepBuffers = 2
)

// lanes hold the encoded frames that wait for one node. Small ones overtake the large ones of other sequences, between two
// parts; frames of one sequence stay in order, for behind a large one its small ones wait in the same lane. Not safe for
// concurrent use.
type lanes struct {
	enc   encoder
	small []byte
	large []parcel // first in, first out
	bytes int      // in large
	count int      // frames in both
	first int      // of these in small
	spare [][]byte // for large
}

// parcel is a large frame, or a small one that waits behind a large one of its sequence.
type parcel struct {
	b    []byte
	at   int // what has been taken
	seq  uint64
	slot uint16
}

// size is how many bytes wait.
func (l *lanes) size() int { return len(l.small) + l.bytes }

// add encodes a frame into its lane. Errors are encoder.append's; a frame of any size is taken when nothing waits.
func (l *lanes) add(f *pipeline.Frame, room int) error {
	if l.count == 0 {
		room = math.MaxInt
	}
	parts := isLarge(f)
	if !parts && !l.behind(f.Seq) {
		b, _, err := l.enc.append(l.small, f, false, room)
		if err == nil {
			l.small = b
			l.count++
			l.first++
		}
		return err
	}
	var buf []byte
	if n := len(l.spare); n > 0 {
		buf, l.spare = l.spare[n-1], l.spare[:n-1]
	}
	b, slot, err := l.enc.append(buf, f, parts, room)
	if err != nil {
		l.keep(buf)
		return err
	}
	l.enc.slots[slot].waiting++
	l.large = append(l.large, parcel{b: b, seq: f.Seq, slot: slot})
	l.bytes += len(b)
	l.count++
	return nil
}

// isLarge tells whether small frames may overtake f. An estimate will do.
func isLarge(f *pipeline.Frame) bool {
	if f.Kind == pipeline.KindStep && f.Flags&pipeline.FlagPrompt == 0 {
		return false
	}
	n := 4*(len(f.X)+len(f.Tokens)) + 12*len(f.Scores)
	for i := range f.Scores {
		n += 8 * len(f.Scores[i].Top)
	}
	if f.Open != nil {
		n += 4 * len(f.Open.History)
	}
	return n > largeFrame
}

// behind tells whether a frame of the sequence waits among the large ones.
func (l *lanes) behind(seq uint64) bool {
	for i := range l.large {
		if l.large[i].seq == seq {
			return true
		}
	}
	return false
}

// takeSmall returns what waits in the first lane and goes on with the buffer it is given.
func (l *lanes) takeSmall(spare []byte) []byte {
	b := l.small
	l.small = spare[:0]
	l.count -= l.first
	l.first = 0
	return b
}

// takePart returns the next whole records of the second lane, a quantum of them or one; they are valid until the next
// takePart or donePart.
func (l *lanes) takePart() []byte {
	if len(l.large) == 0 {
		return nil
	}
	p := &l.large[0]
	from := p.at
	for p.at < len(p.b) {
		next := p.at + recordSize(p.b[p.at:])
		if p.at > from && next-from > quantum+2*headerSize+bindSize {
			break
		}
		p.at = next
	}
	l.bytes -= p.at - from
	return p.b[from:p.at]
}

// donePart lets go of the frame whose last part has been written.
func (l *lanes) donePart() {
	if len(l.large) == 0 || l.large[0].at < len(l.large[0].b) {
		return
	}
	p := l.large[0]
	l.enc.slots[p.slot].waiting--
	l.count--
	l.keep(p.b)
	n := copy(l.large, l.large[1:])
	l.large[n] = parcel{}
	l.large = l.large[:n]
}

func (l *lanes) keep(b []byte) {
	if cap(b) > 0 && cap(b) <= keepBuffer && len(l.spare) < keepBuffers {
		l.spare = append(l.spare, b[:0])
	}
}

// queueFull says what waits.
func (l *lanes) queueFull(node string) error {
	return fmt.Errorf("%w: %d frames and %d bytes wait for node %s", ErrQueueFull, l.count, l.size(), node)
}
