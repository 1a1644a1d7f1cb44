package pipeline

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"lamina/shard"
)

// driver is the pure core of the gateway's side of one sequence: frames come in by deliver; frames to send gather in the
// outbox, tokens in results. It starts no goroutine and reads no clock. The owner serialises all calls.
//
// A sequence that a stage has no memory for is parked: it is closed everywhere, and begins anew with all its tokens, as the next
// attempt, when the owner calls open.
type driver struct {
	r        Request
	limits   Limits
	dropped  *counters
	self     string
	born     int64
	known    []int32 // the prompt and what was generated
	attempt  uint32
	parked   bool     // no attempt is under way
	why      *Failure // the last time it was parked by a stage
	admitted bool     // an attempt has been, once
	ready    bool     // all stages have taken the attempt in

	window window
	pace   pace      // of the route; the owner gives it at first and takes it at the end
	chunk  int       // rows of a chunk
	sent   int       // rows of the known tokens sent
	cached int       // of these so many need no computing, as far as is known
	opened time.Time // the attempt
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
	d := &driver{r: r, limits: limits, dropped: dropped, pace: known, known: slices.Clone(r.Tokens), parked: true}
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

// start begins the sequence with its first attempt.
func (d *driver) start(self string, now time.Time, ttl time.Duration) {
	d.begin(self, now)
	d.open(now, ttl)
}

// begin takes note of who drives the sequence and since when.
func (d *driver) begin(self string, now time.Time) {
	d.self, d.stats.Started, d.born = self, now, now.UnixMicro()
	if !d.r.Born.IsZero() {
		d.born = d.r.Born.UnixMicro()
	}
}

// open begins an attempt, and sends as much of the known tokens as the window lets.
func (d *driver) open(now time.Time, ttl time.Duration) {
	r := &d.r
	scores := r.PromptLogprobs && d.scored < len(r.Tokens)
	need := r.Sampling.Window(len(d.known))
	if scores {
		need = len(d.known)
	}
	o := &OpenRequest{
		Model: r.Model, Route: r.Route, Gateway: d.self, Tenant: r.Tenant, Born: d.born,
		Positions: len(r.Tokens) + max(r.MaxNew-1, 0), // the last token is never an input
		Prompt:    len(r.Tokens), Known: len(d.known), MaxNew: r.MaxNew, EOS: r.EOS, Sampling: r.Sampling, PromptLogprobs: scores,
		History: slices.Clone(d.known[len(d.known)-need:]), Trace: r.Trace, TTL: ttl,
	}
	if !scores { // every row of a prompt that is scored has to be computed
		o.Keys = d.names()
		o.Match = len(o.Keys) * BlockLen
	}
	d.parked, d.ready, d.opened, d.credit, d.timed = false, false, now, time.Time{}, 0
	d.sent, d.cached, d.window = 0, 0, window{limit: len(r.Route) + 1}
	d.chunk = d.pace.chunkRows(len(d.known), len(r.Route), d.limits.ChunkRows)
	d.stats.Attempts++
	d.put(r.Route[0].Node, d.frame(Frame{Kind: KindOpen, Open: o}))
	d.pump()
}

// names are the keys of the blocks that are full of known tokens. The last token is left out: it is never in the cache yet.
func (d *driver) names() []Key {
	scope := fmt.Appendf(nil, "%d %s %s", len(d.r.Tenant), d.r.Tenant, d.r.Model)
	return shard.Keys(scope, d.known[:len(d.known)-1])
}

func (d *driver) frame(f Frame) Frame {
	f.Seq, f.Epoch, f.Attempt = d.r.Seq, d.r.Epoch, d.attempt
	return f
}

// pump sends chunks while there is room. Tokens that are cached go too, for nothing: stage 0 wants to know them.
func (d *driver) pump() {
	for d.sent < len(d.known) && d.window.room() {
		end := d.sent + nextChunk(d.chunk, len(d.known)-d.sent)
		flags := FlagPrompt
		if end == len(d.known) && d.r.MaxNew > 0 {
			flags |= FlagSample
		}
		d.put(d.r.Route[0].Node, d.frame(Frame{
			Kind: KindStep, Flags: flags, Pos: uint32(d.sent), Count: uint32(end - d.sent), Tokens: d.known[d.sent:end],
		}))
		d.sent = end
		if end > d.cached {
			d.window.sent(end)
		}
		d.stats.Chunks++
	}
}

// tail is the node that samples.
func (d *driver) tail() string { return d.r.Route[len(d.r.Route)-1].Node }

// deliver takes a frame that came from a node.
func (d *driver) deliver(now time.Time, from string, f *Frame) {
	switch {
	case d.over || f.Epoch != d.r.Epoch || f.Attempt != d.attempt || d.parked:
		d.dropped.stale.Add(1)
	case f.Kind == KindFail && d.routed(from):
		d.onFail(from, f.Fail)
	case from != d.tail():
		d.dropped.foreign.Add(1)
	case f.Kind == KindReady:
		d.onReady(now, int(f.Pos))
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
	if len(d.window.ends) == 1 && d.sent == len(d.known) && d.timed > 0 { // the last one may end with a token, not a credit
		d.pace.row.add(float64(now.Sub(d.credit)) / d.timed)
	}
	d.pump()
}

func (d *driver) routed(node string) bool {
	return slices.ContainsFunc(d.r.Route, func(h Hop) bool { return h.Node == node })
}

// onReady takes note that all stages have the sequence, and how much of it from before.
func (d *driver) onReady(now time.Time, pos int) {
	if d.ready {
		d.dropped.duplicate.Add(1)
		return
	}
	d.ready, d.cached = true, min(pos, len(d.known)-1)
	if !d.admitted {
		d.admitted = true
		d.stats.Cached = min(d.cached, len(d.r.Tokens))
	}
	if len(d.r.Route) > 1 {
		d.pace.wire.add(float64(now.Sub(d.opened)))
	}
	d.window.credit(d.cached)
	d.pump()
}

// park gives an attempt up for want of memory: the sequence is closed everywhere, under the names by which its blocks can
// be found again, and waits.
func (d *driver) park(why *Failure) {
	d.why = why
	d.close(FlagEOS)
	d.attempt++
	d.parked, d.ready = true, false
}

// close closes the attempt at every hop.
func (d *driver) close(flags Flags) {
	names := d.names()
	for i, h := range d.r.Route {
		d.put(h.Node, d.frame(Frame{Kind: KindClose, Flags: flags, Stage: uint16(i), Count: uint32(len(names)), Keys: names}))
	}
}

// onFail turns a stage's word into an error, but for that there is no room now: then it waits. A lost peer is Broken only if it is a hop; that a stage lost its link to
// this gateway shows as that stage being gone.
func (d *driver) onFail(from string, f *Failure) {
	if f.Kind == Preempted || f.Kind == Overloaded {
		d.park(f)
		return
	}
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
	if pos+len(f.Scores) <= d.scored {
		d.dropped.duplicate.Add(1)
		return
	}
	for _, t := range f.Scores[d.scored-pos:] { // an earlier attempt may have been cut otherwise
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
	n := int(f.Count)
	empty := f.has(FlagLast) && n == 0 && d.r.MaxNew == 0
	ids := f.tokens()
	if index > d.stats.Tokens || !empty && (n < 1 || len(ids) != n || index+n > d.r.MaxNew) || len(f.Scores) > 0 && len(f.Scores) != n {
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
	for i, id := range ids[:n] {
		t := Token{Index: index + i}
		if len(f.Scores) > 0 {
			t.Token = f.Scores[i]
		}
		if t.ID = id; i == n-1 {
			t.Last, t.Reason = reason != ReasonNone, reason
		}
		d.results = append(d.results, t)
		d.known = append(d.known, id)
		d.stats.Tokens++
		if t.Index == 0 {
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
	flags := FlagEOS
	if err == nil {
		flags |= FlagLast
	}
	if d.stats.Attempts > 0 {
		d.close(flags)
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
