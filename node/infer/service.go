// Package infer turns a request into the steps of a pipeline: chat template, tokens, route, drive, text. It repeats
// what a lost node interrupted on another route, from the prompt and the tokens already given: by the contract of the bits
// (DESIGN.md of kernels) the answer goes on with the tokens it would have had. It knows nothing of HTTP.
package infer

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"lamina/shard/pipeline"
	"lamina/shard/text"
)

// Model is what a gateway needs of a model to take requests for it.
type Model struct {
	ModelInfo
	Tokenizer   *text.Tokenizer
	Template    *text.Template // nil: the model has none, or TemplateErr says why it cannot be used
	TemplateErr error
	BOSText     string
	EOSText     string
}

// Catalog knows the models of the cluster.
type Catalog interface {
	// Model returns the model of that name, ErrModelNotFound, or ErrModelLoading while its metadata is on the way here.
	Model(ctx context.Context, name string) (*Model, error)
	Models(ctx context.Context) ([]ModelInfo, error)
}

// Route is a pipeline that serves a model.
type Route struct {
	Epoch   uint64
	Hops    []pipeline.Hop
	Release func() // to be called once, when the request has ended
}

// Router picks a route; it never blocks.
type Router interface {
	// Pick returns a route for the model, none of the skipped epochs; or ErrModelLoading, or ErrModelNotFound. Requests
	// of one key meet the same route while it is there and not overloaded.
	Pick(model string, key []byte, skip ...uint64) (Route, error)
	// Changed is closed at the next change of the routes.
	Changed() <-chan struct{}
}

// Driver runs one sequence through the hops of a route.
type Driver interface {
	Generate(ctx context.Context, r pipeline.Request, emit func(pipeline.Token) error) (pipeline.Stats, error)
}

// Tracer makes spans. The zero cost of no tracing is the implementation's business.
type Tracer interface {
	Start(ctx context.Context, name string, attrs ...slog.Attr) (context.Context, Span)
	// Traceparent is the W3C trace context of ctx, "" if there is none or it is not sampled.
	Traceparent(ctx context.Context) string
}

// Span is a piece of work in a trace.
type Span interface {
	Set(attrs ...slog.Attr)
	End(err error)
}

// Config of a Service.
type Config struct {
	Catalog Catalog
	Router  Router
	Driver  Driver
	Tracer  Tracer
	Log     *slog.Logger
	// DefaultMaxTokens bounds an answer whose request names no bound. Each stage reserves memory for it at admission.
	DefaultMaxTokens int
	// Attempts is how many routes in a row, and Patience how long after a loss, an answer may go without a token before it is given up.
	Attempts int
	Patience time.Duration
	// Arrival is how long a new request waits for a model of which no replica is ready here yet: other nodes hear a moment
	// later what the one that placed it knows.
	Arrival time.Duration
}

// Service answers requests. Safe for use by many goroutines.
type Service struct {
	cfg Config
}

// New returns a Service; Catalog, Router, Driver, Tracer and Log must be set.
func New(cfg Config) *Service {
	if cfg.DefaultMaxTokens <= 0 {
		cfg.DefaultMaxTokens = 2048
	}
	if cfg.Attempts <= 0 {
		cfg.Attempts = 16
	}
	if cfg.Patience <= 0 {
		cfg.Patience = 15 * time.Second
	}
	if cfg.Arrival <= 0 {
		cfg.Arrival = 2 * time.Second
	}
	return &Service{cfg: cfg}
}

// Models lists the models of the cluster.
func (s *Service) Models(ctx context.Context) ([]ModelInfo, error) { return s.cfg.Catalog.Models(ctx) }

// Tokenize returns the ids of a text; special says whether names of special tokens in it mean those tokens.
func (s *Service) Tokenize(ctx context.Context, model, txt string, special bool) ([]int32, error) {
	m, err := s.cfg.Catalog.Model(ctx, model)
	if err != nil {
		return nil, err
	}
	return m.Tokenizer.Encode(txt, special), nil
}

// Detokenize returns the text of ids, special tokens included by name.
func (s *Service) Detokenize(ctx context.Context, model string, ids []int32) (string, error) {
	m, err := s.cfg.Catalog.Model(ctx, model)
	if err != nil {
		return "", err
	}
	if err := checkTokens(ids, m.Tokenizer.Vocab()); err != nil {
		return "", err
	}
	return m.Tokenizer.Decode(ids, true), nil
}

// Generate answers one request. started is called once when the route is known, then emit for each event in order; an
// error from either ends the answer and is returned. The error is one of this package's, wrapped, or ctx's cause.
func (s *Service) Generate(ctx context.Context, r Request, started func(Started) error, emit func(Event) error) (Result, error) {
	m, err := s.cfg.Catalog.Model(ctx, r.Model)
	if err != nil {
		return Result{}, err
	}
	prompt, err := s.prompt(ctx, m, r)
	if err != nil {
		return Result{}, err
	}
	maxNew, err := s.budget(m, r, len(prompt))
	if err != nil {
		return Result{}, err
	}
	if err := r.Sampling.Validate(); err != nil {
		return Result{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	for id := range r.Sampling.LogitBias {
		if id < 0 || int(id) >= m.Tokenizer.Vocab() {
			return Result{}, fmt.Errorf("%w: logit_bias: token %d is not in the vocabulary (0 to %d)", ErrInvalid, id, m.Tokenizer.Vocab()-1)
		}
	}
	a := &answer{s: s, m: m, r: r, prompt: prompt, maxNew: maxNew, started: started, emit: emit, begun: time.Now()}
	return a.run(ctx)
}

// prompt turns the request into token ids.
func (s *Service) prompt(ctx context.Context, m *Model, r Request) ([]int32, error) {
	_, span := s.cfg.Tracer.Start(ctx, "tokenize")
	ids, err := encodePrompt(m, r)
	span.Set(slog.Int("lamina.prompt_tokens", len(ids)))
	span.End(err)
	return ids, err
}

func encodePrompt(m *Model, r Request) ([]int32, error) {
	given := 0
	for _, set := range []bool{r.Messages != nil, r.Prompt != "", r.Tokens != nil} {
		if set {
			given++
		}
	}
	if given > 1 {
		return nil, fmt.Errorf("%w: give one of messages, prompt and tokens, not several", ErrInvalid)
	}
	switch {
	case r.Tokens != nil:
		if err := checkTokens(r.Tokens, m.Tokenizer.Vocab()); err != nil {
			return nil, err
		}
		return nonEmpty(r.Tokens)
	case r.Messages != nil:
		return encodeChat(m, r.Messages)
	}
	return nonEmpty(withBOS(m.Tokenizer, m.Tokenizer.Encode(r.Prompt, true)))
}

func encodeChat(m *Model, messages []Message) ([]int32, error) {
	if m.TemplateErr != nil {
		return nil, fmt.Errorf("%w: %s: the template in the file cannot be used: %w", ErrNoChatTemplate, m.Name, m.TemplateErr)
	}
	if m.Template == nil {
		return nil, fmt.Errorf("%w: %s; ask it by /v1/completions with a prompt", ErrNoChatTemplate, m.Name)
	}
	c := text.TemplateContext{AddGenerationPrompt: true, BOS: m.BOSText, EOS: m.EOSText, Now: time.Now()}
	for _, x := range messages {
		c.Messages = append(c.Messages, text.Message{Role: x.Role, Content: x.Content, Name: x.Name})
	}
	out, err := m.Template.Render(c)
	if err != nil {
		return nil, fmt.Errorf("%w: messages: the model's chat template refuses them: %w", ErrInvalid, err)
	}
	ids := m.Tokenizer.Encode(out, true)
	// Templates that write the BOS themselves must not get a second one.
	if bos, ok := m.Tokenizer.BOS(); ok && len(ids) > 0 && ids[0] == bos {
		return ids, nil
	}
	return nonEmpty(withBOS(m.Tokenizer, ids))
}

func withBOS(t *text.Tokenizer, ids []int32) []int32 {
	if bos, ok := t.BOS(); ok && t.AddBOS() {
		return append([]int32{bos}, ids...)
	}
	return ids
}

func nonEmpty(ids []int32) ([]int32, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("%w: the prompt is empty; give at least one token", ErrInvalid)
	}
	return ids, nil
}

func checkTokens(ids []int32, vocab int) error {
	for i, id := range ids {
		if id < 0 || int(id) >= vocab {
			return fmt.Errorf("%w: token %d at index %d is not in the vocabulary (0 to %d)", ErrInvalid, id, i, vocab-1)
		}
	}
	return nil
}

// budget is how many tokens the answer may have.
func (s *Service) budget(m *Model, r Request, prompt int) (int, error) {
	room := m.Context - prompt
	if r.PromptOnly && room >= 0 {
		return 0, nil
	}
	if room < 1 {
		return 0, fmt.Errorf("%w: the prompt has %d tokens, the model's context holds %d; shorten the prompt", ErrContextLength, prompt, m.Context)
	}
	if r.MaxTokens < 0 {
		return 0, fmt.Errorf("%w: max_tokens is %d; it must not be negative", ErrInvalid, r.MaxTokens)
	}
	if r.MaxTokens == 0 {
		return min(room, s.cfg.DefaultMaxTokens), nil
	}
	if r.MaxTokens > room {
		return 0, fmt.Errorf("%w: the prompt has %d tokens and max_tokens is %d, together more than the model's context of %d; lower max_tokens to %d or shorten the prompt", ErrContextLength, prompt, r.MaxTokens, m.Context, room)
	}
	return r.MaxTokens, nil
}

// sequenceID names a sequence in every stage. Random, since gateways choose without asking each other.
func sequenceID() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return binary.LittleEndian.Uint64(b[:])
}

// mapError turns the pipeline's errors into this package's. retry says whether another route may do better.
func mapError(err error) (mapped error, retry bool) {
	var broken *pipeline.Broken
	var refused *pipeline.Refused
	switch {
	case errors.As(err, &broken):
		return fmt.Errorf("%w: %s: %w", ErrNodeLost, broken.Node, broken.Err), true
	case errors.As(err, &refused):
		return mapRefused(refused)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, pipeline.ErrDeadline):
		return fmt.Errorf("%w: %w", ErrDeadline, err), false
	}
	return err, false
}

func mapRefused(r *pipeline.Refused) (mapped error, retry bool) {
	switch r.Kind {
	case pipeline.NoMemory:
		return fmt.Errorf("%w: node %s: %s; lower max_tokens, or try again when other requests have ended", ErrNoCapacity, r.Node, r.Text), false
	case pipeline.Overloaded:
		return fmt.Errorf("%w: node %s: %s", ErrOverloaded, r.Node, r.Text), false
	case pipeline.Expired:
		return fmt.Errorf("%w: node %s: %s", ErrDeadline, r.Node, r.Text), false
	case pipeline.NotLoaded, pipeline.WrongEpoch, pipeline.Draining, pipeline.PeerLost:
		return fmt.Errorf("%w: %w", ErrNodeLost, r), true
	}
	return r, false
}
