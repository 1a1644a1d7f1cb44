package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"
)

// driver is the pure core of the gateway's side of one sequence: frames come in by deliver; frames to send gather in the
// outbox, tokens in results. It starts no goroutine and reads no clock. The owner serialises all calls.
type driver struct {
	r       Request
	limits  Limits
	dropped *counters

	window window
	pace   pace      // of the route; the owner gives it at first and takes it at the end
	chunk  int       // rows of a chunk
	sent   int       // rows of the prompt sent
	credit time.Time // when the first chunk was done
	timed  float64   // rows since then, with the weight of their chunks
	scored int       // prompt tokens whose scores have come
	stats  Stats

	over bool  // ended, in whatever way
	err  error // why, if not well
	outbox
	results []Token
}

// newDriver checks the request, with errors that wrap ErrRequest, and takes copies of what the stages keep.
func newDriver(r Request, limits Limits, known pace, dropped *counters) (*driver, error) {
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrRequest, err)
	}
	r.Route, r.EOS = slices.Clone(r.Route), slices.Clone(r.EOS)
	r.Sampling.LogitBias = maps.Clone(r.Sampling.LogitBias)
	hops := len(r.Route)
	d := &driver{r: r, limits: limits, dropped: dropped, pace: known, chunk: known.chunkRows(len(r.Tokens), hops, limits.ChunkRows)}
	d.window.limit = hops + 1
	d.scored = 1 // nothing foretells the first token
	d.stats.PromptTokens = len(r.Tokens)
	return d, nil
}

func (r *Request) validate() error {
	if err := validateRoute(r.Route); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	if r.Model == "" || max(len(r.Model), len(r.Trace), len(r.Tenant)) > MaxName {
		return fmt.Errorf("model, trace context and tenant have at most %d bytes, the model at least one", MaxName)
	}
	if n := len(r.Tokens); n == 0 || n > MaxContext {
		return fmt.Errorf("tokens: %d, must be 1 to %d", n, MaxContext)
	}
	if r.MaxNew < 0 || r.MaxNew > MaxContext-len(r.Tokens) {
		return fmt.Errorf("max new tokens: %d, must be 0 to %d", r.MaxNew, MaxContext-len(r.Tokens))
	}
	if len(r.EOS) > MaxEOS {
		return fmt.Errorf("eos: %d tokens, must be at most %d", len(r.EOS), MaxEOS)
	}
	return r.Sampling.Validate()
}

// start opens the sequence and sends as much of the prompt as the window lets.
func (d *driver) start(self string, now time.Time, ttl time.Duration) {
	d.stats.Started = now
	r := &d.r
	need := r.Sampling.Window(len(r.Tokens))
	if r.PromptLogprobs {
		need = len(r.Tokens)
	}
	d.put(r.Route[0].Node, d.frame(Frame{Kind: KindOpen, Open: &OpenRequest{
		Model: r.Model, Route: r.Route, Gateway: self, Tenant: r.Tenant,
		Positions: len(r.Tokens) + max(r.MaxNew-1, 0), // the last token is never an input
		Prompt:    len(r.Tokens), Known: len(r.Tokens), MaxNew: r.MaxNew, EOS: r.EOS, Sampling: r.Sampling, PromptLogprobs: r.PromptLogprobs,
		History: slices.Clone(r.Tokens[len(r.Tokens)-need:]), Trace: r.Trace, TTL: ttl,
	}}))
	d.pump()
}

func (d *driver) frame(f Frame) Frame {
	f.Seq, f.Epoch = d.r.Seq, d.r.Epoch
	return f
}

// pump sends chunks while there is room.
func (d *driver) pump() {
	for d.sent < len(d.r.Tokens) && d.window.room() {
		end := d.sent + nextChunk(d.chunk, len(d.r.Tokens)-d.sent)
		flags := FlagPrompt
		if end == len(d.r.Tokens) && d.r.MaxNew > 0 {
			flags |= FlagSample
		}
		d.put(d.r.Route[0].Node, d.frame(Frame{
			Kind: KindStep, Flags: flags, Pos: uint32(d.sent), Count: uint32(end - d.sent), Tokens: d.r.Tokens[d.sent:end],
		}))
		d.sent = end
		d.window.sent(end)
		d.stats.Chunks++
	}
}

// tail is the node that samples.
func (d *driver) tail() string { return d.r.Route[len(d.r.Route)-1].Node }

// deliver takes a frame that came from a node.
func (d *driver) deliver(now time.Time, from string, f *Frame) {
	switch {
	case d.over || f.Epoch != d.r.Epoch || f.Attempt != 0:
		d.dropped.stale.Add(1)
	case f.Kind == KindFail && d.routed(from):
		d.onFail(from, f.Fail)
	case from != d.tail():
		d.dropped.foreign.Add(1)
	case f.Kind == KindCredit:
		d.onCredit(now, f)
	case f.Kind == KindToken && f.has(FlagPrompt):
		d.onScores(f)
	case f.Kind == KindToken:
		d.onToken(now, f)
	default:
		d.dropped.unknown.Add(1)
	}
}

// onCredit makes room for more chunks, and learns how fast they go.
func (d *driver) onCredit(now time.Time, f *Frame) {
	chunks, rows := d.window.credit(int(f.Pos))
	if f.Count > 0 {
		d.pace.weight.add(float64(min(f.Count, maxWeight)))
	}
	if chunks == 0 {
		return
	}
	if d.credit.IsZero() {
		d.credit = now
	} else {
		d.timed += float64(rows) + float64(chunks)*d.pace.weight.v
	}
	if len(d.window.ends) == 1 && d.sent == len(d.r.Tokens) && d.timed > 0 { // the last one may end with a token, not a credit
		d.pace.row.add(float64(now.Sub(d.credit)) / d.timed)
	}
	d.pump()
}

func (d *driver) routed(node string) bool {
	return slices.ContainsFunc(d.r.Route, func(h Hop) bool { return h.Node == node })
}

// onFail turns a stage's word into an error. A lost peer is Broken only if it is a hop; that a stage lost its link to
// this gateway shows as that stage being gone.
func (d *driver) onFail(from string, f *Failure) {
	if f.Kind != PeerLost {
		d.finish(&Refused{Node: from, Kind: f.Kind, Text: f.Text})
		return
	}
	node := f.Node
	if !d.routed(node) {
		node = from
	}
	d.finish(&Broken{Node: node, Err: fmt.Errorf("seen by %s: %s", from, f.Text)})
}

// onScores hands prompt tokens on, each once and in order.
func (d *driver) onScores(f *Frame) {
	pos := int(f.Pos)
	if !d.r.PromptLogprobs || pos > d.scored || len(f.Scores) != int(f.Count) || pos+len(f.Scores) > len(d.r.Tokens) {
		d.disorder(f)
		return
	}
	if pos < d.scored {
		d.dropped.duplicate.Add(1)
		return
	}
	for _, t := range f.Scores {
		t.ID = d.r.Tokens[d.scored]
		d.results = append(d.results, Token{Token: t, Index: d.scored, Prompt: true})
		d.scored++
	}
}

// onToken hands a generated token on: the next one by its position; earlier ones have been here before.
func (d *driver) onToken(now time.Time, f *Frame) {
	index := int(f.Pos) - len(d.r.Tokens)
	if index < d.stats.Tokens {
		d.dropped.duplicate.Add(1)
		return
	}
	empty := f.has(FlagLast) && f.Count == 0 && d.r.MaxNew == 0
	if index > d.stats.Tokens || !empty && (f.Count != 1 || index >= d.r.MaxNew) || len(f.Scores) > 1 {
		d.disorder(f)
		return
	}
	var reason Reason
	if f.has(FlagLast) {
		reason = ReasonLength
		if f.has(FlagEOS) {
			reason = ReasonEOS
		}
	}
	if !empty {
		t := Token{Index: index, Last: reason != ReasonNone, Reason: reason}
		if len(f.Scores) == 1 {
			t.Token = f.Scores[0]
		}
		t.ID = f.ID
		d.results = append(d.results, t)
		d.stats.Tokens++
		if index == 0 {
			d.stats.First = now
		}
		d.stats.Last = now
	}
	if d.stats.Reason = reason; reason != ReasonNone {
		d.finish(nil)
	}
}

func (d *driver) disorder(f *Frame) {
	d.finish(&Refused{Node: d.tail(), Kind: BadFrame, Text: fmt.Sprintf(
		"%v of %d at position %d does not follow %d prompt and %d new tokens", f.Kind, f.Count, f.Pos, len(d.r.Tokens), d.stats.Tokens)})
}

// finish ends the sequence once, with an error or, complete, without, and closes it at every hop.
func (d *driver) finish(err error) {
	if d.over {
		return
	}
	d.over, d.err = true, err
	var flags Flags
	if err == nil {
		flags = FlagLast
	}
	for i, h := range d.r.Route {
		d.put(h.Node, d.frame(Frame{Kind: KindClose, Flags: flags, Stage: uint16(i)}))
	}
}

// peerDown ends the sequence if node is a hop of it.
func (d *driver) peerDown(node string, err error) {
	if d.routed(node) {
		d.finish(&Broken{Node: node, Err: err})
	}
}

// undeliverable takes note that a frame could not be sent. A Close has nobody left to tell.
func (d *driver) undeliverable(o outgoing, err error) {
	if o.f.Kind != KindClose {
		d.finish(&Broken{Node: o.to, Err: err})
	}
}

// expire ends the sequence when its time is over.
func (d *driver) expire() {
	d.finish(fmt.Errorf("%w after %d tokens: %w", ErrDeadline, d.stats.Tokens, context.DeadlineExceeded))
}
