package infer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"lamina/node/auth"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
	"lamina/shard/text"
)

// answer is one request on its way. Its fields live from attempt to attempt.
type answer struct {
	s       *Service
	m       *Model
	r       Request
	prompt  []int32
	maxNew  int
	started func(Started) error
	emit    func(Event) error

	begun   time.Time
	routed  time.Time
	first   time.Time
	last    time.Time
	told    bool // started was called
	emitted []int32
	echoed  int // tokens of the prompt that were shown with their log probabilities
	stream  *text.Stream
	settle  settler
	result  Result
	done    bool
	broken  []uint64  // epochs of routes that failed since the last change
	lost    time.Time // when a route failed after which no token has come
	tries   int       // how many have failed since
}

// errStopped ends a sequence whose answer is complete by a stop string.
var errStopped = errors.New("a stop string was found")

// consumerError is an error of started or emit: the caller's own, not to be retried.
type consumerError struct{ error }

// Unwrap returns the caller's error.
func (e consumerError) Unwrap() error { return e.error }

func (a *answer) run(ctx context.Context) (Result, error) {
	a.stream = a.m.Tokenizer.NewStream()
	a.settle.stops = a.r.Stop
	a.result.PromptTokens = len(a.prompt)
	var err error
	for n := 0; ; n++ {
		had := len(a.emitted)
		var retry bool
		if retry, err = a.attempt(ctx, n); err == nil || !retry {
			break
		}
		if len(a.emitted) > had || a.lost.IsZero() {
			a.lost, a.tries = time.Now(), 0
		}
		if a.tries++; a.tries >= a.s.cfg.Attempts || time.Since(a.lost) >= a.s.cfg.Patience {
			break
		}
		a.s.cfg.Log.WarnContext(ctx, "a route failed; the answer goes on over another", "request", a.r.ID, "model", a.r.Model, "tokens", len(a.emitted), "err", err)
	}
	if err != nil {
		return a.finish(), err
	}
	return a.finish(), a.closeText()
}

// attempt runs what is left of the answer over one route.
func (a *answer) attempt(ctx context.Context, n int) (retry bool, err error) {
	route, err := a.route(ctx, n)
	if err != nil {
		return false, err
	}
	defer route.Release()
	if a.routed.IsZero() {
		a.routed = time.Now()
	}
	if err := a.tell(route); err != nil {
		return false, err
	}
	if a.r.PromptOnly && !a.scores() {
		return false, nil // nothing is to be computed
	}
	sctx, span := a.s.cfg.Tracer.Start(ctx, "generate", slog.String("lamina.route", RouteString(route.Hops)), slog.Int("lamina.attempt", n), slog.Int("lamina.resumed_at", len(a.emitted)))
	stats, err := a.s.cfg.Driver.Generate(sctx, a.request(sctx, route), a.take)
	if n == 0 {
		a.result.CachedTokens = stats.Cached
	}
	if errors.Is(err, errStopped) || err != nil && a.done {
		err = nil
	}
	span.Set(slog.Int("gen_ai.usage.output_tokens", len(a.emitted)), slog.Int("gen_ai.usage.cache_read.input_tokens", stats.Cached), slog.Int("lamina.taken_in", stats.Attempts))
	span.End(err)
	if err == nil {
		return false, nil
	}
	var mine consumerError
	if errors.As(err, &mine) {
		return false, mine.error
	}
	err, retry = mapError(err)
	if retry {
		a.broken = append(a.broken, route.Epoch)
	}
	return retry, err
}

// route picks a route. A new request waits a moment for a model that is about to be ready; after a loss it is one that has
// not failed yet, or a change that may have mended one, that is waited for, but not for ever. Where there is no other, the one that
// failed is tried again after a pause: a line that was bad for a moment changes nothing that the cluster agrees on.
func (a *answer) route(ctx context.Context, n int) (route Route, err error) {
	_, span := a.s.cfg.Tracer.Start(ctx, "route", slog.String("gen_ai.request.model", a.r.Model))
	defer func() { span.End(err) }()
	wait := a.s.cfg.Arrival
	var again <-chan time.Time
	if n > 0 {
		wait = a.s.cfg.Patience - time.Since(a.lost)
		pause := time.NewTimer(min(firstPause<<min(a.tries, 10), maxPause))
		defer pause.Stop()
		again = pause.C
	}
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		changed := a.s.cfg.Router.Changed()
		route, err = a.s.cfg.Router.Pick(a.m.Name, routeKey(a.r.Key, a.prompt), a.broken...)
		if err == nil || n == 0 && !errors.Is(err, ErrModelLoading) {
			return route, err
		}
		select {
		case <-changed:
			a.broken = nil
		case <-again:
			a.broken = nil
		case <-patience.C:
			if n == 0 {
				return Route{}, err
			}
			return Route{}, fmt.Errorf("%w, and no other route for %s came up within %v; try again in a few seconds", ErrNodeLost, a.m.Name, a.s.cfg.Patience)
		case <-ctx.Done():
			return Route{}, context.Cause(ctx)
		}
	}
}

// How long an answer waits before it tries a route again that has failed: the pause doubles with every failure in a row.
const (
	firstPause = 50 * time.Millisecond
	maxPause   = 2 * time.Second
)

// tell announces the answer once. Later attempts may run elsewhere; the client hears of the first.
func (a *answer) tell(route Route) error {
	if a.told {
		return nil
	}
	a.told = true
	if err := a.started(Started{Model: a.m.Name, Digest: a.m.Digest, Route: RouteString(route.Hops), PromptTokens: len(a.prompt)}); err != nil {
		return err
	}
	if !a.r.Echo {
		return nil
	}
	ev := Event{Text: a.m.Tokenizer.Decode(a.prompt, true)}
	if a.scores() { // nothing foretells the first token
		ev.Tokens = []TokenInfo{{TokenLogprob: TokenLogprob{ID: a.prompt[0], Bytes: a.m.Tokenizer.Piece(a.prompt[0]), NoLogprob: true}}}
		a.echoed = 1
	}
	return a.emit(ev)
}

// scores says whether the prompt is shown with log probabilities.
func (a *answer) scores() bool { return a.r.Echo && a.r.Sampling.WantLogprobs }

// request is the rest of the answer as the pipeline sees it: what was emitted has become part of the prompt.
func (a *answer) request(ctx context.Context, route Route) pipeline.Request {
	tokens := make([]int32, 0, len(a.prompt)+len(a.emitted))
	tokens = append(append(tokens, a.prompt...), a.emitted...)
	r := pipeline.Request{
		Seq: sequenceID(), Model: a.m.Digest, Epoch: route.Epoch, Route: route.Hops, Tokens: tokens,
		Born: a.begun, MaxNew: a.maxNew - len(a.emitted), Sampling: a.r.Sampling,
		Tenant:         tenant(ctx),
		PromptLogprobs: a.scores() && len(a.emitted) == 0,
		Trace:          a.s.cfg.Tracer.Traceparent(ctx),
	}
	if !a.r.IgnoreEOS {
		r.EOS = a.m.Tokenizer.EOG()
	}
	if d, ok := ctx.Deadline(); ok {
		r.Deadline = d
	}
	return r
}

// tenant is whose request it is: the API key's, or everybody's without one.
func tenant(ctx context.Context) string {
	who, _ := auth.PrincipalFrom(ctx)
	return who.Key
}

// take receives a token of the pipeline.
func (a *answer) take(t pipeline.Token) error {
	if t.Prompt {
		return a.takePrompt(t)
	}
	now := time.Now()
	if a.first.IsZero() {
		a.first = now
	}
	a.last = now
	a.emitted = append(a.emitted, t.ID)
	if t.Last {
		a.done = true
		a.result.Finish = FinishLength
		if t.Reason == pipeline.ReasonEOS {
			a.result.Finish = FinishStop
		}
	}
	piece := ""
	if !a.m.Tokenizer.IsEOG(t.ID) || a.r.IgnoreEOS {
		piece = a.stream.Add(t.ID)
	} else if t.Last && t.Reason == pipeline.ReasonEOS {
		return nil // the end mark is not part of the answer
	}
	ev, stop := a.settle.add(piece, a.info(t.Token))
	if err := a.send(ev); err != nil {
		return err
	}
	if stop != "" {
		a.done = true
		a.result.Finish, a.result.StopString = FinishStop, stop
		return errStopped
	}
	return nil
}

// takePrompt shows a prompt token with its log probability, for echo with logprobs; the text was shown before. A route
// that follows a lost one scores the prompt again: what was shown is not shown twice.
func (a *answer) takePrompt(t pipeline.Token) error {
	if t.Index != a.echoed {
		return nil
	}
	a.echoed++
	return a.send(Event{Tokens: []TokenInfo{a.info(t.Token)}})
}

// closeText shows what was held back when the answer ended by itself.
func (a *answer) closeText() error {
	if a.result.StopString != "" {
		return nil
	}
	ev, stop := a.settle.flush(a.stream.Flush())
	if stop != "" {
		a.result.Finish, a.result.StopString = FinishStop, stop
	}
	err := a.send(ev)
	var mine consumerError
	if errors.As(err, &mine) {
		return mine.error
	}
	return err
}

func (a *answer) send(ev Event) error {
	if ev.Text == "" && len(ev.Tokens) == 0 {
		return nil
	}
	if err := a.emit(ev); err != nil {
		return consumerError{err}
	}
	return nil
}

func (a *answer) info(t sample.Token) TokenInfo {
	out := TokenInfo{TokenLogprob: TokenLogprob{ID: t.ID, Bytes: a.m.Tokenizer.Piece(t.ID), Logprob: t.Logprob}}
	for _, alt := range t.Top {
		out.Top = append(out.Top, TokenLogprob{ID: alt.ID, Bytes: a.m.Tokenizer.Piece(alt.ID), Logprob: alt.Logprob})
	}
	return out
}

func (a *answer) finish() Result {
	if a.r.PromptOnly && !a.routed.IsZero() {
		a.result.Finish = FinishLength
		a.first = time.Now()
		a.last = a.first
	}
	a.result.CompletionTokens = len(a.emitted)
	t := &a.result.Timings
	if !a.routed.IsZero() {
		t.Queue = a.routed.Sub(a.begun)
	}
	if !a.first.IsZero() {
		t.Prefill = a.first.Sub(a.routed)
		t.Decode = a.last.Sub(a.first)
	}
	return a.result
}

// RouteString writes a route as the header Lamina-Route has it: "n1[0:10] n2[10:20]".
func RouteString(hops []pipeline.Hop) string {
	parts := make([]string, len(hops))
	for i, h := range hops {
		parts[i] = fmt.Sprintf("%s[%d:%d]", h.Node, h.First, h.End)
	}
	return strings.Join(parts, " ")
}

// keyTokens is how much of a prompt decides where it goes: enough to tell system prompts apart, little enough that
// turns of one conversation agree.
const keyTokens = 64

// routeKey is what requests that share a prefix have in common.
func routeKey(key string, prompt []int32) []byte {
	if key != "" {
		return []byte(key)
	}
	n := min(len(prompt), keyTokens)
	out := make([]byte, 0, 4*n)
	for _, id := range prompt[:n] {
		out = append(out, byte(id), byte(id>>8), byte(id>>16), byte(id>>24))
	}
	return out
}
