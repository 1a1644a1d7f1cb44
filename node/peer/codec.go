package peer

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"lamina/node/wire"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
)

// DefaultMaxPayload bounds a payload: 256 rows of 16384 float32 fit twice.
const DefaultMaxPayload = 32 << 20

// maxMapPayload bounds msgpack: an Open with the history of the longest context.
const maxMapPayload = 4*pipeline.MaxContext + 1<<20

// appendPayload appends the payload of f and tells its type.
func appendPayload(dst []byte, f *pipeline.Frame) ([]byte, byte, error) {
	switch {
	case f.Kind == pipeline.KindOpen && f.Open != nil:
		return appendMap(dst, openToWire(f.Open))
	case f.Kind == pipeline.KindFail && f.Fail != nil:
		return appendMap(dst, &failWire{Kind: uint8(f.Fail.Kind), Node: f.Fail.Node, Text: f.Fail.Text})
	case f.Kind == pipeline.KindStep && len(f.X) > 0 && len(f.Tokens) > 0:
		return appendTokens(appendFloats(dst, f.X), f.Tokens), typeGuess, nil
	case f.Kind == pipeline.KindStep && len(f.X) > 0:
		return appendFloats(dst, f.X), typeF32, nil
	case f.Kind == pipeline.KindStep:
		return appendTokens(dst, f.Tokens), typeI32, nil
	case f.Kind == pipeline.KindToken && len(f.Scores) > 0:
		return appendScores(dst, f.Scores), typeScores, nil
	case f.Kind == pipeline.KindToken && f.Count == 1:
		return binary.LittleEndian.AppendUint32(dst, uint32(f.ID)), typeI32, nil
	case f.Kind == pipeline.KindToken && f.Count > 1:
		return appendTokens(dst, f.Tokens), typeI32, nil
	case f.Kind == pipeline.KindClose && len(f.Keys) > 0:
		return appendKeys(dst, f.Keys), typeKeys, nil
	case f.Kind == pipeline.KindToken, f.Kind == pipeline.KindCredit, f.Kind == pipeline.KindClose, f.Kind == pipeline.KindReady:
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

func appendKeys(dst []byte, keys []pipeline.Key) []byte {
	for i := range keys {
		dst = append(dst, keys[i][:]...)
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
	Born           int64      `msgpack:"born_us"`
	Keys           []byte     `msgpack:"keys,omitempty"` // as in a payload of type 7
	Match          int        `msgpack:"match,omitempty"`
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
		History: appendTokens(nil, o.History), Born: o.Born, Keys: appendKeys(nil, o.Keys), Match: o.Match,
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
	case len(w.Keys)%keySize != 0 || len(w.Keys)/keySize > pipeline.MaxContext/pipeline.BlockLen || w.Match < 0 || w.Match > pipeline.MaxContext:
		return fmt.Errorf("%w: %d bytes of keys, a match of %d positions", ErrProtocol, len(w.Keys), w.Match)
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
		Born: w.Born, Keys: readKeys(w.Keys), Match: w.Match,
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
