package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"

	"lamina/shard/pipeline"
)

// FrameReader reads the frames of a link. Not safe for concurrent use.
type FrameReader struct {
	r    *bufio.Reader
	most uint32
	pool pipeline.FramePool
	ids  []binding
	open *payload // comes in parts; held, or nil
	held payload
}

// binding is what a slot stands for.
type binding struct {
	address
	generation uint16
	bound      bool
}

// NewFrameReader reads from r, whose buffer must hold 64 bytes at least; payloads are taken in pieces of the buffer's
// size. maxPayload 0 stands for DefaultMaxPayload.
func NewFrameReader(r *bufio.Reader, maxPayload int) *FrameReader {
	if maxPayload <= 0 || maxPayload > math.MaxInt32 {
		maxPayload = DefaultMaxPayload
	}
	return &FrameReader{r: r, most: uint32(maxPayload)}
}

// Read returns the next frame, or nil without an error for a sign of life. The frame comes from a pool: whoever takes it
// calls Release. Memory is taken as bytes arrive, not as they are announced. The error is io.EOF between frames,
// io.ErrUnexpectedEOF inside of one, the reader's own, or wraps ErrProtocol; after any error the link is of no use.
func (r *FrameReader) Read() (*pipeline.Frame, error) {
	for {
		h, err := r.r.Peek(headerSize)
		if err != nil {
			if err == io.EOF && (len(h) > 0 || r.open != nil) {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
		if err := checkHeader(h, r.most); err != nil {
			return nil, err
		}
		var f *pipeline.Frame
		switch h[offKind] {
		case kindBeat:
			p := newPayload(h, nil)
			_, _ = r.r.Discard(headerSize)
			return nil, p.check()
		case kindBind:
			err = r.bind()
		case kindPart:
			f, err = r.part(h)
		default:
			f, err = r.frame(h)
		}
		if f != nil || err != nil {
			return f, err
		}
	}
}

// Close gives up what was not read to its end.
func (r *FrameReader) Close() {
	if r.open != nil {
		r.open.f.Release()
		r.open = nil
	}
}

// bind takes note of what an id stands for.
func (r *FrameReader) bind() error {
	b, err := peek(r.r, headerSize+bindSize)
	if err != nil {
		return err
	}
	le, a := binary.LittleEndian, b[headerSize:]
	if got, want := crc32.Update(crc32.Checksum(b[:offCRC], castagnoli), castagnoli, a), le.Uint32(b[offCRC:]); got != want {
		return fmt.Errorf("%w: the checksum of a binding is %08x, it says %08x", ErrProtocol, got, want)
	}
	id := le.Uint32(b[offID:])
	n, generation := int(id&0xFFFF), uint16(id>>16)
	for n >= len(r.ids) {
		r.ids = append(r.ids, binding{})
	}
	old := &r.ids[n]
	if old.bound && generation != old.generation+1 || !old.bound && generation != 0 || le.Uint16(a[22:]) != 0 {
		return fmt.Errorf("%w: id %#x is bound after generation %d", ErrProtocol, id, old.generation)
	}
	*old = binding{address{le.Uint64(a), le.Uint64(a[8:]), le.Uint32(a[16:]), le.Uint16(a[20:])}, generation, true}
	_, _ = r.r.Discard(headerSize + bindSize)
	return nil
}

// find returns what an id stands for. On a link that keeps its order, one that stands for nothing or for something else by now
// is a violation: a frame is never given to a sequence that it was not sent to.
func (r *FrameReader) find(id uint32) (*binding, error) {
	if n := int(id & 0xFFFF); n < len(r.ids) {
		if b := &r.ids[n]; b.bound && b.generation == uint16(id>>16) {
			return b, nil
		}
	}
	return nil, fmt.Errorf("%w: a frame with the id %#x, which stands for nothing", ErrProtocol, id)
}

// frame reads a frame, or its header if the payload comes in parts.
func (r *FrameReader) frame(h []byte) (*pipeline.Frame, error) {
	le := binary.LittleEndian
	to, err := r.find(le.Uint32(h[offID:]))
	if err != nil {
		return nil, err
	}
	parts := h[offForm] == formParts
	if r.open != nil && (parts || r.open.f.Seq == to.seq) {
		return nil, fmt.Errorf("%w: a frame of sequence %#x between the parts of one of %#x", ErrProtocol, to.seq, r.open.f.Seq)
	}
	f := r.pool.Get()
	f.Kind, f.Flags = pipeline.Kind(h[offKind]), pipeline.Flags(h[offFlags])
	f.Stage, f.Seq, f.Epoch, f.Attempt = to.stage, to.seq, to.epoch, to.attempt
	f.Pos, f.Count, f.Spent = le.Uint32(h[offPos:]), le.Uint32(h[offCount:]), le.Uint32(h[offSpent:])
	p := newPayload(h, f)
	_, _ = r.r.Discard(headerSize)
	if parts {
		if err := p.check(); err != nil {
			f.Release()
			return nil, err
		}
		r.held = p
		r.open = &r.held
		return nil, nil
	}
	p.left, p.rest = 0, p.left
	if err := p.read(r.r); err != nil {
		f.Release()
		return nil, err
	}
	if err := p.finish(); err != nil {
		f.Release()
		return nil, err
	}
	return f, nil
}

// part reads a part of the frame that is under way and, with the last one, returns it.
func (r *FrameReader) part(h []byte) (*pipeline.Frame, error) {
	p, n := r.open, int(binary.LittleEndian.Uint32(h[offLength:]))
	if p == nil || n > p.left || n < p.left && n%4 != 0 {
		return nil, fmt.Errorf("%w: a part of %d bytes does not fit what is under way", ErrProtocol, n)
	}
	p.begin(h)
	p.left -= n
	p.rest = n
	_, _ = r.r.Discard(headerSize)
	err := p.read(r.r)
	if err == nil && p.left > 0 {
		return nil, nil
	}
	r.open = nil
	if err == nil {
		err = p.finish()
	}
	if err != nil {
		p.f.Release()
		return nil, err
	}
	return p.f, nil
}

// payload is one that is being read.
type payload struct {
	f         *pipeline.Frame
	typ       byte
	left      int // bytes in parts to come
	rest      int // bytes to come of this part
	sum, want uint32
	whole     []byte // of msgpack and scores
}

func newPayload(h []byte, f *pipeline.Frame) payload {
	p := payload{f: f, typ: h[offType], left: int(binary.LittleEndian.Uint32(h[offLength:]))}
	p.begin(h)
	return p
}

// begin begins the checksum of a record.
func (p *payload) begin(h []byte) {
	p.sum, p.want = crc32.Checksum(h[:offCRC], castagnoli), binary.LittleEndian.Uint32(h[offCRC:])
}

func (p *payload) check() error {
	if p.sum != p.want {
		return fmt.Errorf("%w: the checksum of a record is %08x, it says %08x", ErrProtocol, p.sum, p.want)
	}
	return nil
}

// peek is Peek for the inside of a record.
func peek(r *bufio.Reader, n int) ([]byte, error) {
	b, err := r.Peek(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return b, err
}

// read takes the bytes of a record piece by piece and compares the checksum before anything in them is believed.
func (p *payload) read(r *bufio.Reader) error {
	for p.rest > 0 {
		b, err := peek(r, min(p.rest, r.Size()&^3))
		if err != nil {
			return err
		}
		p.rest -= len(b)
		p.sum = crc32.Update(p.sum, castagnoli, b)
		switch {
		case p.typ == typeF32 || p.typ == typeGuess:
			p.f.X = readFloats(p.f.X, b)
		case p.typ == typeI32 && (p.f.Kind == pipeline.KindStep || p.f.Count > 1):
			p.f.Tokens = readTokens(p.f.Tokens, b)
		case p.typ == typeI32:
			p.f.ID = int32(binary.LittleEndian.Uint32(b))
		default:
			p.whole = append(p.whole, b...)
		}
		_, _ = r.Discard(len(b))
	}
	return p.check()
}

// finish reads what can be read of the whole payload only.
func (p *payload) finish() error {
	f := p.f
	switch {
	case p.typ == typeKeys:
		f.Keys = readKeys(p.whole)
	case p.typ == typeGuess:
		splitGuess(f)
	case p.typ == typeScores:
		return readScores(f, p.whole)
	case f.Kind == pipeline.KindOpen:
		return readOpen(f, p.whole)
	case f.Kind == pipeline.KindFail:
		return readFail(f, p.whole)
	}
	return nil
}

// readKeys reads what appendKeys wrote.
func readKeys(b []byte) []pipeline.Key {
	if len(b) == 0 {
		return nil
	}
	keys := make([]pipeline.Key, len(b)/keySize) // bounded: by bytes that have come
	for i := range keys {
		keys[i] = pipeline.Key(b[i*keySize:])
	}
	return keys
}

// splitGuess takes the tokens from the end of the rows, as which they were read.
func splitGuess(f *pipeline.Frame) {
	rows := len(f.X) - int(f.Count-1)
	for _, x := range f.X[rows:] {
		f.Tokens = append(f.Tokens, int32(math.Float32bits(x)))
	}
	f.X = f.X[:rows]
}
