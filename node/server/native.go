package server

import (
	"context"
	"net/http"
	"time"

	"lamina/node/api"
	"lamina/node/infer"
	"lamina/shard/sample"
)

// infer is POST /v1/infer.
func (s *Server) infer(x *exchange) error {
	var r api.GenerateRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	req, err := s.nativeRequest(r)
	if err != nil {
		return err
	}
	req.ID = x.id
	if r.Stream {
		created := s.now().Unix()
		x.pin(&req.Sampling.Seed, &req.ID, &created)
	}
	out := &nativeSink{stream: stream{x: x}, full: r.Stream, logprobs: r.Logprobs != nil}
	if err := s.generate(x, []infer.Request{req}, out); err != nil {
		return out.fail(err)
	}
	if r.Stream {
		return nil
	}
	x.w.Header().Set(routeHeader, out.reply.Route)
	return x.reply(http.StatusOK, out.reply)
}

// nativeRequest checks a request and gives what it leaves out a value.
func (s *Server) nativeRequest(r api.GenerateRequest) (infer.Request, error) {
	req, err := InferRequest(r, s.seed)
	if err != nil {
		return req, err
	}
	if len(r.Messages) > s.cfg.Limits.Messages {
		return req, invalid("messages", "at most %d are allowed", s.cfg.Limits.Messages)
	}
	return req, s.checkStops("options.stop", req.Stop)
}

// InferRequest turns a native request into one of package infer. What it leaves out is sample.Default's, and the seed is
// seed's. Errors name the field.
func InferRequest(r api.GenerateRequest, seed func() uint64) (infer.Request, error) {
	req := infer.Request{
		Model: r.Model, Prompt: r.Prompt, Tokens: r.Tokens, MaxTokens: r.Options.MaxTokens, Stop: r.Options.Stop,
		IgnoreEOS: r.Options.IgnoreEOS, Echo: r.Echo, Key: r.Key, Sampling: sampling(r.Options, seed),
	}
	if r.Model == "" {
		return req, invalid("model", "is missing; name a model of the cluster")
	}
	given := 0
	for _, set := range []bool{len(r.Messages) > 0, r.Prompt != "", len(r.Tokens) > 0} {
		if set {
			given++
		}
	}
	if given != 1 {
		return req, invalid("prompt", "give exactly one of messages, prompt and tokens, and not an empty one")
	}
	if r.Options.MaxTokens < 0 {
		return req, invalid("options.max_tokens", "must be 1 or more, or absent")
	}
	for _, m := range r.Messages {
		req.Messages = append(req.Messages, infer.Message{Role: m.Role, Content: m.Content, Name: m.Name})
	}
	if r.Logprobs != nil {
		req.Sampling.WantLogprobs, req.Sampling.Logprobs = true, *r.Logprobs
	}
	if err := req.Sampling.Validate(); err != nil {
		return req, invalid("options", "%v", err)
	}
	return req, nil
}

// sampling is the defaults overlaid with what the options say.
func sampling(o api.Options, seed func() uint64) sample.Params {
	p := sample.Default()
	set(&p.Temperature, o.Temperature)
	set(&p.TopP, o.TopP)
	set(&p.TopK, o.TopK)
	set(&p.MinP, o.MinP)
	set(&p.RepeatPenalty, o.RepeatPenalty)
	set(&p.RepeatLastN, o.RepeatLastN)
	set(&p.PresencePenalty, o.PresencePenalty)
	set(&p.FrequencyPenalty, o.FrequencyPenalty)
	p.LogitBias = o.LogitBias
	if o.Seed != nil {
		p.Seed = *o.Seed
	} else {
		p.Seed = seed()
	}
	return p
}

// set takes over a value that is there.
func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

// checkStops bounds the stop strings.
func (s *Server) checkStops(param string, stops []string) error {
	if len(stops) > s.cfg.Limits.Stops {
		return invalid(param, "at most %d are allowed", s.cfg.Limits.Stops)
	}
	for _, t := range stops {
		if t == "" || len(t) > s.cfg.Limits.StopBytes {
			return invalid(param, "each must have 1 to %d bytes", s.cfg.Limits.StopBytes)
		}
	}
	return nil
}

// nativeSink streams the events of an answer (full), or gathers them in reply.
type nativeSink struct {
	stream
	full     bool
	logprobs bool
	reply    api.GenerateReply
}

func (n *nativeSink) started(_ int, st infer.Started) error {
	n.reply = api.GenerateReply{ID: n.x.id, Model: st.Model, Digest: st.Digest, Route: st.Route, Tokens: []api.Token{}}
	if !n.full {
		return nil
	}
	n.x.w.Header().Set(routeHeader, st.Route)
	if err := n.x.keep(st); err != nil {
		return err
	}
	if err := n.begin(); err != nil {
		return err
	}
	return n.stream.event(StartEvent(n.x.id, st))
}

func (n *nativeSink) event(_ int, ev infer.Event) error {
	e := TextEvent(ev, n.logprobs)
	if n.full {
		return n.stream.event(e)
	}
	n.reply.Text += e.Text
	n.reply.Tokens = append(n.reply.Tokens, e.Tokens...)
	return nil
}

func (n *nativeSink) finished(_ int, res infer.Result) error {
	e := EndEvent(res)
	n.reply.FinishReason, n.reply.StopString, n.reply.Usage, n.reply.Timings = e.FinishReason, e.StopString, *e.Usage, *e.Timings
	if n.full {
		return n.stream.event(e)
	}
	return nil
}

// fail ends a stream that has begun with an error event; else the error is the answer.
func (n *nativeSink) fail(err error) error {
	if !n.begun() {
		return err
	}
	err = n.x.cause(err)
	f := n.x.note(err)
	body := f.body(n.x.id, n.x.sent())
	return n.stream.fail(api.GenerateEvent{Type: api.EventError, Error: &body})
}

// StartEvent, TextEvent and EndEvent are the native events of an answer's steps.
func StartEvent(id string, st infer.Started) api.GenerateEvent {
	return api.GenerateEvent{Type: api.EventStart, ID: id, Model: st.Model, Digest: st.Digest, Route: st.Route, Usage: &api.Usage{PromptTokens: st.PromptTokens}}
}

// TextEvent: see StartEvent. Log probabilities are shown only if they were asked for.
func TextEvent(ev infer.Event, logprobs bool) api.GenerateEvent {
	e := api.GenerateEvent{Type: api.EventText, Text: ev.Text}
	for _, t := range ev.Tokens {
		tok := api.Token{ID: t.ID, Text: tokenText(t.Bytes)}
		if logprobs && !t.NoLogprob {
			lp := finiteLogprob(t.Logprob)
			tok.Logprob = &lp
		}
		for _, alt := range t.Top {
			tok.Top = append(tok.Top, api.TopToken{ID: alt.ID, Text: tokenText(alt.Bytes), Logprob: finiteLogprob(alt.Logprob)})
		}
		e.Tokens = append(e.Tokens, tok)
	}
	return e
}

// EndEvent: see StartEvent.
func EndEvent(res infer.Result) api.GenerateEvent {
	return api.GenerateEvent{
		Type: api.EventEnd, FinishReason: string(res.Finish), StopString: res.StopString,
		Usage:   &api.Usage{PromptTokens: res.PromptTokens, CompletionTokens: res.CompletionTokens},
		Timings: &api.Timings{QueueMS: ms(res.Timings.Queue), PrefillMS: ms(res.Timings.Prefill), DecodeMS: ms(res.Timings.Decode)},
	}
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Ask answers a native request in this process, without HTTP, as POST /v1/infer with stream would: emit gets every event.
func Ask(ctx context.Context, svc Service, r api.GenerateRequest, id string, emit func(api.GenerateEvent) error) error {
	req, err := InferRequest(r, randomSeed)
	if err != nil {
		return err
	}
	req.ID = id
	res, err := svc.Generate(ctx, req, func(st infer.Started) error {
		return emit(StartEvent(id, st))
	}, func(ev infer.Event) error {
		return emit(TextEvent(ev, r.Logprobs != nil))
	})
	if err != nil {
		return err
	}
	return emit(EndEvent(res))
}

// tokenize is POST /v1/infer/tokenize.
func (s *Server) tokenize(x *exchange) error {
	var r api.TokenizeRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	if r.Model == "" {
		return invalid("model", "is missing; name a model of the cluster")
	}
	ids, err := s.cfg.Service.Tokenize(x.r.Context(), r.Model, r.Text, r.Special)
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.TokenizeReply{Tokens: nonNil(ids)})
}

// detokenize is POST /v1/infer/detokenize.
func (s *Server) detokenize(x *exchange) error {
	var r api.DetokenizeRequest
	if err := x.decode(&r); err != nil {
		return err
	}
	if r.Model == "" {
		return invalid("model", "is missing; name a model of the cluster")
	}
	text, err := s.cfg.Service.Detokenize(x.r.Context(), r.Model, r.Tokens)
	if err != nil {
		return err
	}
	return x.reply(http.StatusOK, api.DetokenizeReply{Text: text})
}
