package peer

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"lamina/node/wire"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// The layout of a frame on a stage link; PROTOCOL.md, section Frames, is the specification.
const (
	FrameHeader = 48 // bytes in front of every payload

	offLength  = 0  // u32, of the payload
	offKind    = 4  // u8
	offFlags   = 5  // u8
	offType    = 6  // u8, of the payload
	offZero1   = 7  // u8, zero
	offSeq     = 8  // u64
	offEpoch   = 16 // u64
	offAttempt = 24 // u32
	offStage   = 28 // u16
	offZero2   = 30 // u16, zero
	offPos     = 32 // u32
	offCount   = 36 // u32
	offSpent   = 40 // u32
	offCRC     = 44 // u32, CRC-32C of the header up to here and the payload
)

// kindBeat is the frame of the link itself: a sign of life. Pipeline frames count from 1.
const kindBeat = 0

// What a payload is. The numbers are on the wire: never renumbered or used again.
const (
	typeNone   = 0
	typeI32    = 1 // Count tokens
	typeF32    = 2 // Count rows of activations
	typeMap    = 3 // msgpack: OpenRequest or Failure
	typeScores = 4 // Count tokens with log probabilities
)

// DefaultMaxPayload bounds a payload: 256 rows of 16384 float32 fit twice.
const DefaultMaxPayload = 32 << 20

// maxMapPayload bounds msgpack: an Open with the history of the longest context.
const maxMapPayload = 4*pipeline.MaxContext + 1<<20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendBeat appends a sign of life to dst.
func AppendBeat(dst []byte) []byte {
	start := len(dst)
	var h [FrameHeader]byte
	return seal(append(dst, h[:]...), start)
}

// AppendFrame appends f to dst, header and payload, for one write. It keeps nothing of f. The error wraps ErrProtocol: the
// frame is not one that may be sent.
func AppendFrame(dst []byte, f *pipeline.Frame) ([]byte, error) {
	start := len(dst)
	var h [FrameHeader]byte
	dst = append(dst, h[:]...)
	dst, typ, err := appendPayload(dst, f)
	if err != nil {
		return dst[:start], err
	}
	b := dst[start:]
	b[offKind], b[offFlags], b[offType] = byte(f.Kind), byte(f.Flags), typ
	le := binary.LittleEndian
	le.PutUint64(b[offSeq:], f.Seq)
	le.PutUint64(b[offEpoch:], f.Epoch)
	le.PutUint32(b[offAttempt:], f.Attempt)
	le.PutUint16(b[offStage:], f.Stage)
	le.PutUint32(b[offPos:], f.Pos)
	le.PutUint32(b[offCount:], f.Count)
	le.PutUint32(b[offSpent:], f.Spent)
	dst = seal(dst, start)
	if err := checkHeader(dst[start:], math.MaxInt32); err != nil {
		return dst[:start], err
	}
	return dst, nil
}

// seal fills in length and checksum of the frame that begins at start and ends dst.
func seal(dst []byte, start int) []byte {
	b := dst[start:]
	binary.LittleEndian.PutUint32(b[offLength:], uint32(len(b)-FrameHeader))
	binary.LittleEndian.PutUint32(b[offCRC:], crc32.Update(crc32.Checksum(b[:offCRC], castagnoli), castagnoli, b[FrameHeader:]))
	return dst
}

func appendPayload(dst []byte, f *pipeline.Frame) ([]byte, byte, error) {
	switch {
	case f.Kind == pipeline.KindOpen && f.Open != nil:
		return appendMap(dst, openToWire(f.Open))
	case f.Kind == pipeline.KindFail && f.Fail != nil:
		return appendMap(dst, &failWire{Kind: uint8(f.Fail.Kind), Node: f.Fail.Node, Text: f.Fail.Text})
	case f.Kind == pipeline.KindStep && len(f.X) > 0:
		return appendFloats(dst, f.X), typeF32, nil
	case f.Kind == pipeline.KindStep:
		return appendTokens(dst, f.Tokens), typeI32, nil
	case f.Kind == pipeline.KindToken && len(f.Scores) > 0:
		return appendScores(dst, f.Scores), typeScores, nil
	case f.Kind == pipeline.KindToken && f.Count == 1:
		return binary.LittleEndian.AppendUint32(dst, uint32(f.ID)), typeI32, nil
	case f.Kind == pipeline.KindToken, f.Kind == pipeline.KindCredit, f.Kind == pipeline.KindClose:
		return dst, typeNone, nil
	}
	return dst, 0, fmt.Errorf("%w: a frame of kind %v without its content", ErrProtocol, f.Kind)
}

// appendMap checks what the receiver will check, so that a bad frame is refused here and does not end the link.
func appendMap(dst []byte, w interface{ check() error }) ([]byte, byte, error) {
	if err := w.check(); err != nil {
		return dst, 0, err
	}
	dst, err := wire.Append(dst, w)
	if err != nil {
		err = fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return dst, typeMap, err
}

// appendFloats and readFloats go in blocks of 8 through array pointers, which spares the bounds checks.
func appendFloats(dst []byte, x []float32) []byte {
	at := len(dst)
	dst = slices.Grow(dst, 4*len(x))[:at+4*len(x)]
	b, le := dst[at:], binary.LittleEndian
	for len(x) >= 8 {
		to, from := (*[32]byte)(b), (*[8]float32)(x)
		le.PutUint32(to[0:], math.Float32bits(from[0]))
		le.PutUint32(to[4:], math.Float32bits(from[1]))
		le.PutUint32(to[8:], math.Float32bits(from[2]))
		le.PutUint32(to[12:], math.Float32bits(from[3]))
		le.PutUint32(to[16:], math.Float32bits(from[4]))
		le.PutUint32(to[20:], math.Float32bits(from[5]))
		le.PutUint32(to[24:], math.Float32bits(from[6]))
		le.PutUint32(to[28:], math.Float32bits(from[7]))
		b, x = b[32:], x[8:]
	}
	for i, v := range x {
		le.PutUint32(b[4*i:], math.Float32bits(v))
	}
	return dst
}

func appendTokens(dst []byte, ids []int32) []byte {
	for _, id := range ids {
		dst = binary.LittleEndian.AppendUint32(dst, uint32(id))
	}
	return dst
}

// appendScores writes id, log probability and number of alternatives of each token, then the alternatives' pairs.
func appendScores(dst []byte, scores []sample.Token) []byte {
	le := binary.LittleEndian
	for _, t := range scores {
		dst = le.AppendUint32(dst, uint32(t.ID))
		dst = le.AppendUint32(dst, math.Float32bits(t.Logprob))
		dst = le.AppendUint32(dst, uint32(len(t.Top)))
		for _, a := range t.Top {
			dst = le.AppendUint32(dst, uint32(a.ID))
			dst = le.AppendUint32(dst, math.Float32bits(a.Logprob))
		}
	}
	return dst
}

// payloads says which types of payload a kind may have, as a set of bits.
var payloads = [...]uint8{
	kindBeat:            1 << typeNone,
	pipeline.KindOpen:   1 << typeMap,
	pipeline.KindStep:   1<<typeI32 | 1<<typeF32,
	pipeline.KindToken:  1<<typeNone | 1<<typeI32 | 1<<typeScores,
	pipeline.KindCredit: 1 << typeNone,
	pipeline.KindClose:  1 << typeNone,
	pipeline.KindFail:   1 << typeMap,
}

// checkHeader refuses a header that cannot be right, before anything is taken for its payload of at most most bytes.
func checkHeader(h []byte, most uint32) error {
	le := binary.LittleEndian
	length, count, pos := le.Uint32(h[offLength:]), le.Uint32(h[offCount:]), le.Uint32(h[offPos:])
	kind, typ := h[offKind], h[offType]
	switch {
	case int(kind) >= len(payloads) || typ > typeScores || payloads[kind]&(1<<typ) == 0:
		return fmt.Errorf("%w: a frame of kind %d with a payload of type %d", ErrProtocol, kind, typ)
	case !pipeline.Flags(h[offFlags]).Valid() || h[offZero1] != 0 || le.Uint16(h[offZero2:]) != 0:
		return fmt.Errorf("%w: flags %#x or reserved bytes are not of this version", ErrProtocol, h[offFlags])
	case length > most:
		return fmt.Errorf("%w: a payload of %d bytes, at most %d are taken", ErrProtocol, length, most)
	case pos > pipeline.MaxContext || count > pipeline.MaxContext:
		return fmt.Errorf("%w: position %d, count %d, at most %d are taken", ErrProtocol, pos, count, pipeline.MaxContext)
	}
	return checkLength(typ, length, count)
}

// checkLength refuses a payload that is not Count of what its type says.
func checkLength(typ byte, length, count uint32) error {
	ok := true
	switch typ {
	case typeNone:
		ok = length == 0
	case typeI32:
		ok = count > 0 && uint64(length) == 4*uint64(count)
	case typeF32:
		ok = count > 0 && length > 0 && uint64(length)%(4*uint64(count)) == 0
	case typeScores:
		ok = count > 0 && length%4 == 0 && uint64(length) >= 12*uint64(count)
	case typeMap:
		ok = length <= maxMapPayload
	}
	if !ok {
		return fmt.Errorf("%w: a payload of %d bytes and type %d for a count of %d", ErrProtocol, length, typ, count)
	}
	return nil
}

// FrameReader reads the frames of a link. Not safe for concurrent use.
type FrameReader struct {
	r    *bufio.Reader
	most uint32
	pool pipeline.FramePool
}

// NewFrameReader reads from r, whose buffer must hold a header at least; payloads are taken in pieces of the buffer's
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
	h, err := r.r.Peek(FrameHeader)
	if err != nil {
		if err == io.EOF && len(h) > 0 {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	if err := checkHeader(h, r.most); err != nil {
		return nil, err
	}
	f := r.pool.Get()
	le := binary.LittleEndian
	f.Kind, f.Flags = pipeline.Kind(h[offKind]), pipeline.Flags(h[offFlags])
	f.Stage, f.Seq, f.Epoch = le.Uint16(h[offStage:]), le.Uint64(h[offSeq:]), le.Uint64(h[offEpoch:])
	f.Attempt, f.Pos = le.Uint32(h[offAttempt:]), le.Uint32(h[offPos:])
	f.Count, f.Spent = le.Uint32(h[offCount:]), le.Uint32(h[offSpent:])
	p := payload{typ: h[offType], rest: int(le.Uint32(h[offLength:]))}
	p.sum, p.want = crc32.Checksum(h[:offCRC], castagnoli), le.Uint32(h[offCRC:])
	_, _ = r.r.Discard(FrameHeader)
	if err := p.read(r.r, f); err != nil {
		f.Release()
		return nil, err
	}
	if f.Kind == kindBeat {
		f.Release()
		return nil, nil
	}
	return f, nil
}

// payload is one that is being read.
type payload struct {
	typ       byte
	rest      int // bytes to come
	sum, want uint32
	whole     []byte // of msgpack and scores
}

// read takes the payload piece by piece and compares the checksum before anything in it is believed.
func (p *payload) read(r *bufio.Reader, f *pipeline.Frame) error {
	for p.rest > 0 {
		b, err := r.Peek(min(p.rest, r.Size()&^3))
		if err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
		p.rest -= len(b)
		p.sum = crc32.Update(p.sum, castagnoli, b)
		switch {
		case p.typ == typeF32:
			f.X = readFloats(f.X, b)
		case p.typ == typeI32 && f.Kind == pipeline.KindStep:
			f.Tokens = readTokens(f.Tokens, b)
		case p.typ == typeI32:
			f.ID = int32(binary.LittleEndian.Uint32(b))
		default:
			p.whole = append(p.whole, b...)
		}
		_, _ = r.Discard(len(b))
	}
	if p.sum != p.want {
		return fmt.Errorf("%w: the checksum of a %v frame is %08x, it says %08x", ErrProtocol, f.Kind, p.sum, p.want)
	}
	if f.Kind == pipeline.KindToken && f.Flags&pipeline.FlagPrompt == 0 && f.Count > 1 {
		return fmt.Errorf("%w: %d tokens in a token frame", ErrProtocol, f.Count)
	}
	switch {
	case p.typ == typeScores:
		return readScores(f, p.whole)
	case f.Kind == pipeline.KindOpen:
		return readOpen(f, p.whole)
	case f.Kind == pipeline.KindFail:
		return readFail(f, p.whole)
	}
	return nil
}

func readFloats(x []float32, b []byte) []float32 {
	n, le := len(b)/4, binary.LittleEndian
	x = slices.Grow(x, n)[:len(x)+n]
	out := x[len(x)-n:]
	for len(out) >= 8 {
		to, from := (*[8]float32)(out), (*[32]byte)(b)
		to[0] = math.Float32frombits(le.Uint32(from[0:]))
		to[1] = math.Float32frombits(le.Uint32(from[4:]))
		to[2] = math.Float32frombits(le.Uint32(from[8:]))
		to[3] = math.Float32frombits(le.Uint32(from[12:]))
		to[4] = math.Float32frombits(le.Uint32(from[16:]))
		to[5] = math.Float32frombits(le.Uint32(from[20:]))
		to[6] = math.Float32frombits(le.Uint32(from[24:]))
		to[7] = math.Float32frombits(le.Uint32(from[28:]))
		out, b = out[8:], b[32:]
	}
	for i := range out {
		out[i] = math.Float32frombits(le.Uint32(b[4*i:]))
	}
	return x
}

func readTokens(ids []int32, b []byte) []int32 {
	for ; len(b) >= 4; b = b[4:] {
		ids = append(ids, int32(binary.LittleEndian.Uint32(b)))
	}
	return ids
}

// readScores decodes what appendScores wrote; numbers of alternatives are checked against what is left.
func readScores(f *pipeline.Frame, b []byte) error {
	le := binary.LittleEndian
	scores := make([]sample.Token, 0, f.Count) // bounded: each takes 12 bytes of the payload
	for len(scores) < int(f.Count) {
		if len(b) < 12 {
			return fmt.Errorf("%w: scores end after %d of %d tokens", ErrProtocol, len(scores), f.Count)
		}
		t := sample.Token{ID: int32(le.Uint32(b)), Logprob: math.Float32frombits(le.Uint32(b[4:]))}
		n := int(le.Uint32(b[8:]))
		b = b[12:]
		if n > sample.MaxLogprobs || len(b) < 8*n {
			return fmt.Errorf("%w: %d alternatives to a token in %d bytes", ErrProtocol, n, len(b))
		}
		for range n {
			t.Top = append(t.Top, sample.Alt{ID: int32(le.Uint32(b)), Logprob: math.Float32frombits(le.Uint32(b[4:]))})
			b = b[8:]
		}
		scores = append(scores, t)
	}
	if len(b) > 0 {
		return fmt.Errorf("%w: %d bytes after the scores", ErrProtocol, len(b))
	}
	f.Scores = scores
	if f.Flags&pipeline.FlagPrompt == 0 {
		f.ID = scores[0].ID
	}
	return nil
}

// openWire is an OpenRequest in msgpack. Fields are added at the end, never changed.
type openWire struct {
	Model          string     `msgpack:"model"`
	Route          []hopWire  `msgpack:"route"`
	Gateway        string     `msgpack:"gateway"`
	Tenant         string     `msgpack:"tenant,omitempty"`
	Positions      int        `msgpack:"positions"`
	Prompt         int        `msgpack:"prompt"`
	Known          int        `msgpack:"known"`
	MaxNew         int        `msgpack:"max_new"`
	EOS            []int32    `msgpack:"eos,omitempty"`
	Sampling       paramsWire `msgpack:"sampling"`
	PromptLogprobs bool       `msgpack:"prompt_logprobs,omitempty"`
	History        []byte     `msgpack:"history,omitempty"` // tokens as in a payload of type 1
	Trace          string     `msgpack:"trace,omitempty"`
	TTL            int64      `msgpack:"ttl_ms"`
}

type hopWire struct {
	Node  string `msgpack:"node"`
	First int    `msgpack:"first"`
	End   int    `msgpack:"end"`
}

type paramsWire struct {
	Temperature      float32           `msgpack:"temperature"`
	TopP             float32           `msgpack:"top_p"`
	MinP             float32           `msgpack:"min_p"`
	RepeatPenalty    float32           `msgpack:"repeat_penalty"`
	PresencePenalty  float32           `msgpack:"presence_penalty"`
	FrequencyPenalty float32           `msgpack:"frequency_penalty"`
	TopK             int               `msgpack:"top_k"`
	RepeatLastN      int               `msgpack:"repeat_last_n"`
	Seed             uint64            `msgpack:"seed"`
	LogitBias        map[int32]float32 `msgpack:"logit_bias,omitempty"`
	WantLogprobs     bool              `msgpack:"want_logprobs,omitempty"`
	Logprobs         int               `msgpack:"logprobs,omitempty"`
}

type failWire struct {
	Kind uint8  `msgpack:"kind"`
	Node string `msgpack:"node"`
	Text string `msgpack:"text,omitempty"`
}

func openToWire(o *pipeline.OpenRequest) *openWire {
	w := &openWire{
		Model: o.Model, Gateway: o.Gateway, Tenant: o.Tenant, Positions: o.Positions, Prompt: o.Prompt, Known: o.Known,
		MaxNew: o.MaxNew, EOS: o.EOS, Sampling: paramsWire(o.Sampling), PromptLogprobs: o.PromptLogprobs, Trace: o.Trace, TTL: o.TTL.Milliseconds(),
		History: appendTokens(nil, o.History),
	}
	for _, h := range o.Route {
		w.Route = append(w.Route, hopWire(h))
	}
	return w
}

// check tells whether the bounds hold that the pipeline relies on and does not check itself.
func (w *openWire) check() error {
	names := []string{w.Model, w.Gateway, w.Trace, w.Tenant}
	for _, h := range w.Route {
		names = append(names, h.Node)
	}
	for _, n := range names {
		if len(n) > pipeline.MaxName || !utf8.ValidString(n) {
			return fmt.Errorf("%w: a name of %d bytes in an open, at most %d of UTF-8 are taken", ErrProtocol, len(n), pipeline.MaxName)
		}
	}
	switch {
	case len(w.Route) > pipeline.MaxHops || len(w.EOS) > pipeline.MaxEOS || len(w.History)%4 != 0:
		return fmt.Errorf("%w: %d hops, %d end tokens, %d bytes of history", ErrProtocol, len(w.Route), len(w.EOS), len(w.History))
	case max(w.Positions, w.Prompt, w.Known, w.MaxNew) > pipeline.MaxContext || min(w.Positions, w.Prompt, w.Known, w.MaxNew) < 0:
		return fmt.Errorf("%w: %d positions, prompt %d, %d known, %d new", ErrProtocol, w.Positions, w.Prompt, w.Known, w.MaxNew)
	case w.TTL < 0 || w.TTL > math.MaxInt64/int64(time.Millisecond):
		return fmt.Errorf("%w: a life of %d ms", ErrProtocol, w.TTL)
	}
	return nil
}

// check tells whether a failure is of this version and within bounds.
func (w *failWire) check() error {
	if !pipeline.FailKind(w.Kind).Valid() || len(w.Node) > pipeline.MaxName || len(w.Text) > pipeline.MaxText ||
		!utf8.ValidString(w.Node) || !utf8.ValidString(w.Text) {
		return fmt.Errorf("%w: fail of kind %d, %d bytes of name, %d of text", ErrProtocol, w.Kind, len(w.Node), len(w.Text))
	}
	return nil
}

func (w *openWire) open() *pipeline.OpenRequest {
	o := &pipeline.OpenRequest{
		Model: w.Model, Gateway: w.Gateway, Tenant: w.Tenant, Positions: w.Positions, Prompt: w.Prompt, Known: w.Known,
		MaxNew: w.MaxNew, EOS: w.EOS, Sampling: sample.Params(w.Sampling), PromptLogprobs: w.PromptLogprobs, Trace: w.Trace,
		TTL: time.Duration(w.TTL) * time.Millisecond, History: readTokens(nil, w.History),
	}
	for _, h := range w.Route {
		o.Route = append(o.Route, pipeline.Hop(h))
	}
	return o
}

// mapLimits bounds msgpack before it is decoded.
func mapLimits() wire.Limits {
	return wire.Limits{Bytes: maxMapPayload, Depth: 4, Elements: 8192}
}

func readOpen(f *pipeline.Frame, b []byte) error {
	var w openWire
	if err := wire.Unmarshal(b, &w, mapLimits()); err != nil {
		return fmt.Errorf("%w: open: %w", ErrProtocol, err)
	}
	if err := w.check(); err != nil {
		return err
	}
	f.Open = w.open()
	return nil
}

func readFail(f *pipeline.Frame, b []byte) error {
	var w failWire
	if err := wire.Unmarshal(b, &w, mapLimits()); err != nil {
		return fmt.Errorf("%w: fail: %w", ErrProtocol, err)
	}
	if err := w.check(); err != nil {
		return err
	}
	f.Fail = &pipeline.Failure{Kind: pipeline.FailKind(w.Kind), Node: w.Node, Text: w.Text}
	return nil
}
