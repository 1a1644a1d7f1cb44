package peer

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"lamina/shard/pipeline"
)

// encoder turns frames into the records of one link. It knows which ids the other side knows, so it lives as long as the
// connection. Not safe for concurrent use.
type encoder struct {
	ids   map[address]uint16 // slots
	slots []slot
	clock uint64
	whole []byte // a payload that is to be cut
}

// slot is one id.
type slot struct {
	at         address
	generation uint16
	waiting    int    // frames that wait behind others; the slot keeps its meaning while there are any
	used       uint64 // by the encoder's clock
}

// append appends f, after its id if that is new to the other side, in parts if it is asked. It keeps nothing of f. The
// error wraps ErrProtocol (the frame is not one that may be sent) or ErrQueueFull (more than room bytes); nothing has
// happened then.
func (e *encoder) append(dst []byte, f *pipeline.Frame, parts bool, room int) ([]byte, uint16, error) {
	to := addressOf(f)
	n, known := e.ids[to]
	if !known {
		var ok bool
		if n, ok = e.free(); !ok {
			return dst, 0, fmt.Errorf("%w: frames of %d sequences wait", ErrQueueFull, maxIDs)
		}
	}
	start, generation := len(dst), e.generation(n, known)
	if !known {
		dst = appendBind(dst, makeID(n, generation), to)
	}
	dst, err := e.record(dst, f, makeID(n, generation), parts)
	if err != nil {
		return dst[:start], 0, err
	}
	if len(dst)-start > room {
		return dst[:start], 0, ErrQueueFull
	}
	if !known {
		e.bind(n, generation, to)
	}
	e.clock++
	e.slots[n].used = e.clock
	return dst, n, nil
}

// generation is the one that the slot has or, if it is not known for what it is wanted, will have.
func (e *encoder) generation(n uint16, known bool) uint16 {
	switch {
	case known:
		return e.slots[n].generation
	case int(n) < len(e.slots):
		return e.slots[n].generation + 1
	}
	return 0
}

// free finds a slot: a new one, or else the one that has not been used for the longest time.
func (e *encoder) free() (uint16, bool) {
	if len(e.slots) < maxIDs {
		return uint16(len(e.slots)), true
	}
	oldest, at := uint64(math.MaxUint64), -1
	for i := range e.slots {
		if s := &e.slots[i]; s.waiting == 0 && s.used < oldest {
			oldest, at = s.used, i
		}
	}
	return uint16(max(at, 0)), at >= 0
}

func (e *encoder) bind(n, generation uint16, to address) {
	if e.ids == nil {
		e.ids = map[address]uint16{}
	}
	if int(n) == len(e.slots) {
		e.slots = append(e.slots, slot{})
	} else {
		delete(e.ids, e.slots[n].at)
	}
	e.slots[n] = slot{at: to, generation: generation}
	e.ids[to] = n
}

// record appends header and payload.
func (e *encoder) record(dst []byte, f *pipeline.Frame, id uint32, parts bool) ([]byte, error) {
	start := len(dst)
	dst = appendHeader(dst, byte(f.Kind), 0, id)
	var typ byte
	var length int
	var err error
	if parts {
		dst, length, typ, err = e.appendParts(dst, f)
	} else {
		dst, typ, err = appendPayload(dst, f)
		length = len(dst) - start - headerSize
	}
	if err != nil {
		return dst, err
	}
	if length > math.MaxInt32 {
		return dst, fmt.Errorf("%w: a payload of %d bytes", ErrProtocol, length)
	}
	b, le := dst[start:], binary.LittleEndian
	le.PutUint32(b[offLength:], uint32(length))
	b[offFlags], b[offType] = byte(f.Flags), typ
	le.PutUint32(b[offPos:], f.Pos)
	le.PutUint32(b[offCount:], f.Count)
	le.PutUint32(b[offSpent:], f.Spent)
	if f.Kind == kindBeat || !f.Kind.Valid() {
		return dst, fmt.Errorf("%w: a frame of kind %d", ErrProtocol, f.Kind)
	}
	if parts {
		b[offForm] = formParts
		sum(dst[:start+headerSize], start)
	} else {
		sum(dst, start)
	}
	return dst, checkHeader(b, math.MaxInt32)
}

// appendParts appends the payload cut into parts, each with a header of its own, and returns its length.
func (e *encoder) appendParts(dst []byte, f *pipeline.Frame) ([]byte, int, byte, error) {
	if f.Kind == pipeline.KindStep && len(f.X) > 0 && len(f.Tokens) == 0 {
		dst = slices.Grow(dst, 4*len(f.X)+headerSize*(4*len(f.X)/partBytes+1))
		for x := range slices.Chunk(f.X, partBytes/4) {
			start := len(dst)
			dst = appendHeader(dst, kindPart, typePart, 0)
			dst = seal(appendFloats(dst, x), start)
		}
		return dst, 4 * len(f.X), typeF32, nil
	}
	b, typ, err := appendPayload(e.whole[:0], f)
	if err != nil {
		return dst, 0, typ, err
	}
	for part := range slices.Chunk(b, partBytes) {
		start := len(dst)
		dst = appendHeader(dst, kindPart, typePart, 0)
		dst = seal(append(dst, part...), start)
	}
	if e.whole = b[:0]; cap(b) > keepBuffer {
		e.whole = nil
	}
	return dst, len(b), typ, nil
}
