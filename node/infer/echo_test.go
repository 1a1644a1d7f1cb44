package infer

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"lamina/shard/gguf"
	"lamina/shard/pipeline"
	"lamina/shard/sample"
	"lamina/shard/text"
	"lamina/shard/tiny"
)

// oneModel is a Catalog and a Router of one model with one route.
type oneModel struct{ m *Model }

func (o oneModel) Model(context.Context, string) (*Model, error) { return o.m, nil }
func (o oneModel) Models(context.Context) ([]ModelInfo, error)   { return nil, nil }
func (o oneModel) Pick(string, []byte, ...uint64) (Route, error) {
	return Route{Epoch: 1, Hops: hops, Release: func() {}}, nil
}
func (o oneModel) Changed() <-chan struct{}           { return always }
func (o oneModel) Traceparent(context.Context) string { return "" }
func (o oneModel) Set(...slog.Attr)                   {}
func (o oneModel) End(error)                          {}
func (o oneModel) Start(ctx context.Context, _ string, _ ...slog.Attr) (context.Context, Span) {
	return ctx, o
}

var (
	hops   = []pipeline.Hop{{Node: "n1", First: 0, End: 4}}
	always = func() chan struct{} { c := make(chan struct{}); close(c); return c }()
)

// scorer is a Driver that scores prompts, loses its route after `lose` scores the first time, and answers with token 5.
type scorer struct {
	lose  int
	calls []pipeline.Request
}

func (d *scorer) Generate(_ context.Context, r pipeline.Request, emit func(pipeline.Token) error) (pipeline.Stats, error) {
	d.calls = append(d.calls, r)
	for i := 1; i < len(r.Tokens) && r.PromptLogprobs; i++ {
		if len(d.calls) == 1 && i > d.lose {
			return pipeline.Stats{}, &pipeline.Broken{Node: "n1", Err: errors.New("gone")}
		}
		if err := emit(pipeline.Token{Token: sample.Token{ID: r.Tokens[i], Logprob: -float32(i)}, Index: i, Prompt: true}); err != nil {
			return pipeline.Stats{}, err
		}
	}
	for i := range r.MaxNew {
		if err := emit(pipeline.Token{Token: sample.Token{ID: 'A'}, Index: i, Last: i == r.MaxNew-1, Reason: pipeline.ReasonLength}); err != nil {
			return pipeline.Stats{}, err
		}
	}
	return pipeline.Stats{}, nil
}

func tinyModel(t *testing.T) *Model {
	f, err := gguf.Parse(tiny.Llama(tiny.Config{}))
	if err != nil {
		t.Fatal(err)
	}
	tok, err := text.NewTokenizer(f)
	if err != nil {
		t.Fatal(err)
	}
	return &Model{ModelInfo: ModelInfo{Name: "m", Context: 16, Ready: true}, Tokenizer: tok}
}

// An echoed prompt comes once, whole and in its own characters, whatever is asked for besides, and whatever gets lost.
func TestEcho(t *testing.T) {
	m := tinyModel(t)
	const prompt = "é 🌱" // seven byte tokens
	n := len(m.Tokenizer.Encode(prompt, true))
	for _, c := range []struct {
		what     string
		r        Request
		lose     int
		wantText string
		scored   int
		calls    int
	}{
		{"text alone", Request{Prompt: prompt, PromptOnly: true}, 99, prompt, 0, 0},
		{"scores alone", Request{Prompt: prompt, PromptOnly: true, Sampling: sample.Params{WantLogprobs: true}}, 99, prompt, n, 1},
		{"scores and an answer", Request{Prompt: prompt, MaxTokens: 2, Sampling: sample.Params{WantLogprobs: true}}, 99, prompt + "AA", n, 1},
		{"a route lost among the scores", Request{Prompt: prompt, MaxTokens: 1, Sampling: sample.Params{WantLogprobs: true}}, 3, prompt + "A", n, 2},
		{"one token", Request{Tokens: []int32{'A'}, PromptOnly: true, Sampling: sample.Params{WantLogprobs: true}}, 99, "A", 1, 1},
		{"a prompt that fills the context", Request{Tokens: slices.Repeat([]int32{'A'}, 16), PromptOnly: true, Sampling: sample.Params{WantLogprobs: true}}, 99, "AAAAAAAAAAAAAAAA", 16, 1},
	} {
		d := &scorer{lose: c.lose}
		s := New(Config{Catalog: oneModel{m}, Router: oneModel{m}, Tracer: oneModel{m}, Driver: d, Log: slog.New(slog.DiscardHandler)})
		c.r.Model, c.r.Echo, c.r.IgnoreEOS = "m", true, true
		c.r.Sampling.TopP, c.r.Sampling.RepeatPenalty = 1, 1
		var out string
		var tokens []TokenInfo
		res, err := s.Generate(t.Context(), c.r, func(Started) error { return nil }, func(e Event) error {
			out += e.Text
			tokens = append(tokens, e.Tokens...)
			return nil
		})
		if err != nil {
			t.Errorf("%s: %v", c.what, err)
			continue
		}
		if res.Finish != FinishLength || len(d.calls) != c.calls {
			t.Errorf("%s: finish %q after %d calls, want length after %d", c.what, res.Finish, len(d.calls), c.calls)
		}
		if out != c.wantText {
			t.Errorf("%s: the text is %q, want %q", c.what, out, c.wantText)
		}
		tokens = tokens[:max(0, len(tokens)-res.CompletionTokens)]
		if len(tokens) != c.scored {
			t.Errorf("%s: %d tokens of the prompt, want %d", c.what, len(tokens), c.scored)
			continue
		}
		for i, tok := range tokens {
			if tok.NoLogprob != (i == 0) || i > 0 && tok.Logprob != -float32(i) {
				t.Errorf("%s: token %d: %+v", c.what, i, tok)
			}
		}
	}
}
