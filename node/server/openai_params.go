package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"lamina/node/api"
	"lamina/node/infer"
	"lamina/shard/sample"
)

// The OpenAI dialect: https://platform.openai.com/docs/api-reference. What is here is what chat and completions share.

// openAIParams are the fields that both kinds of request have. top_k, min_p, repetition_penalty and ignore_eos are
// extensions under the names that other servers gave them.
type openAIParams struct {
	Model             string             `json:"model"`
	MaxTokens         *int               `json:"max_tokens"`
	Temperature       *float32           `json:"temperature"`
	TopP              *float32           `json:"top_p"`
	TopK              *int               `json:"top_k"`
	MinP              *float32           `json:"min_p"`
	PresencePenalty   *float32           `json:"presence_penalty"`
	FrequencyPenalty  *float32           `json:"frequency_penalty"`
	RepetitionPenalty *float32           `json:"repetition_penalty"`
	LogitBias         map[string]float32 `json:"logit_bias"`
	Seed              *int64             `json:"seed"`
	Stop              json.RawMessage    `json:"stop"` // string or list
	N                 *int               `json:"n"`
	Stream            bool               `json:"stream"`
	StreamOptions     *struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	PromptCacheKey string `json:"prompt_cache_key"`
	User           string `json:"user"`
	IgnoreEOS      bool   `json:"ignore_eos"`
}

// check bounds the fields and makes the part of the request that both kinds have. OpenAI's defaults: temperature 1,
// top_p 1, nothing else cuts or punishes.
func (p *openAIParams) check(s *Server, id string) (infer.Request, error) {
	r := infer.Request{ID: id, Model: p.Model, Key: p.PromptCacheKey, IgnoreEOS: p.IgnoreEOS}
	if p.Model == "" {
		return r, invalid("model", "is missing; GET /v1/models lists the models")
	}
	if p.StreamOptions != nil && !p.Stream {
		return r, invalid("stream_options", "is for requests with stream: true")
	}
	if n := p.n(); n < 1 || n > s.cfg.Limits.Choices {
		return r, invalid("n", "is %d; it must be from 1 to %d", n, s.cfg.Limits.Choices)
	}
	if err := p.checkRanges(); err != nil {
		return r, err
	}
	var err error
	if r.Sampling, err = p.sampling(s); err != nil {
		return r, err
	}
	if r.Stop, err = parseStop(p.Stop); err != nil {
		return r, err
	}
	if p.MaxTokens != nil {
		r.MaxTokens = *p.MaxTokens
	}
	return r, s.checkStops("stop", r.Stop)
}

// checkRanges names the first number that is out of OpenAI's range, or of the extension's.
func (p *openAIParams) checkRanges() error {
	for _, f := range []struct {
		name   string
		v      *float32
		lo, hi float32
	}{
		{"temperature", p.Temperature, 0, 2}, {"top_p", p.TopP, 0, 1}, {"min_p", p.MinP, 0, 1},
		{"presence_penalty", p.PresencePenalty, -2, 2}, {"frequency_penalty", p.FrequencyPenalty, -2, 2},
		{"repetition_penalty", p.RepetitionPenalty, 0.01, 100},
	} {
		if f.v != nil && !(*f.v >= f.lo && *f.v <= f.hi) {
			return invalid(f.name, "is %v; it must be from %v to %v", *f.v, f.lo, f.hi)
		}
	}
	if p.TopK != nil && *p.TopK < -1 {
		return invalid("top_k", "is %d; it must be 1 or more, or 0 or -1 for all", *p.TopK)
	}
	return nil
}

func (p *openAIParams) sampling(s *Server) (sample.Params, error) {
	out := sample.Params{Temperature: 1, TopP: 1, RepeatPenalty: 1, RepeatLastN: -1}
	set(&out.Temperature, p.Temperature)
	set(&out.TopP, p.TopP)
	set(&out.MinP, p.MinP)
	set(&out.PresencePenalty, p.PresencePenalty)
	set(&out.FrequencyPenalty, p.FrequencyPenalty)
	set(&out.RepeatPenalty, p.RepetitionPenalty)
	if p.TopK != nil {
		out.TopK = max(*p.TopK, 0)
	}
	if p.Seed != nil {
		out.Seed = uint64(*p.Seed)
	} else {
		out.Seed = s.seed()
	}
	if len(p.LogitBias) > sample.MaxLogitBias {
		return out, invalid("logit_bias", "has %d entries, at most %d are allowed", len(p.LogitBias), sample.MaxLogitBias)
	}
	for key, bias := range p.LogitBias {
		id, err := strconv.ParseInt(key, 10, 32)
		if err != nil || id < 0 {
			return out, invalid("logit_bias", "%.40q is not a token id", key)
		}
		if !(bias >= -100 && bias <= 100) {
			return out, invalid("logit_bias", "the bias of token %d is %v; it must be from -100 to 100", id, bias)
		}
		if out.LogitBias == nil {
			out.LogitBias = make(map[int32]float32, len(p.LogitBias))
		}
		out.LogitBias[int32(id)] = bias
	}
	return out, nil
}

func (p *openAIParams) n() int {
	if p.N == nil {
		return 1
	}
	return *p.N
}

func (p *openAIParams) includeUsage() bool {
	return p.StreamOptions != nil && p.StreamOptions.IncludeUsage
}

// absent says whether a field is missing or null.
func absent(raw json.RawMessage) bool {
	t := bytes.TrimSpace(raw)
	return len(t) == 0 || string(t) == "null"
}

// first is the first byte of a JSON value: it tells the type.
func first(raw json.RawMessage) byte {
	t := bytes.TrimSpace(raw)
	if len(t) == 0 {
		return 0
	}
	return t[0]
}

// parseStop reads a string or a list of strings.
func parseStop(raw json.RawMessage) ([]string, error) {
	switch {
	case absent(raw):
		return nil, nil
	case first(raw) == '"':
		var s string
		if err := within("stop", raw, &s); err != nil {
			return nil, err
		}
		return []string{s}, nil
	case first(raw) == '[':
		var list []string
		return list, within("stop", raw, &list)
	}
	return nil, invalid("stop", "a string or an array of strings is wanted")
}

// within decodes a part of a message; errors name the part's place in it.
func within(place string, raw json.RawMessage, v any) error {
	err := api.DecodeJSON(raw, v, false)
	var d *api.DecodeError
	if !errors.As(err, &d) {
		return err
	}
	if d.Field != "" {
		place += "." + d.Field
	}
	return &api.DecodeError{Field: place, Err: d.Err}
}

// openAIUsage counts tokens; the prompt counts once, however many answers it got.
type openAIUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	TotalTokens      int `json:"total_tokens"`
	// Details is left out when nothing was cached.
	Details *promptDetails `json:"prompt_tokens_details,omitempty"`
}

// promptDetails tells what became of the prompt's tokens.
type promptDetails struct {
	CachedTokens int `json:"cached_tokens"`
}

// add counts one answer; newPrompt says that it is the first to its prompt.
func (u *openAIUsage) add(res infer.Result, newPrompt bool) {
	if newPrompt {
		u.PromptTokens += res.PromptTokens
		if res.CachedTokens > 0 {
			if u.Details == nil {
				u.Details = new(promptDetails)
			}
			u.Details.CachedTokens += res.CachedTokens
		}
	}
	u.CompletionTokens += res.CompletionTokens
	u.TotalTokens = u.PromptTokens + u.CompletionTokens
}

// openAITimings is an extension: where the time of an answer went.
type openAITimings struct {
	api.Timings
	PromptPerSecond     float64 `json:"prompt_per_second"`
	CompletionPerSecond float64 `json:"completion_per_second"`
}

func timingsOf(res infer.Result) *openAITimings {
	t := &openAITimings{Timings: *EndEvent(res).Timings}
	if s := res.Timings.Prefill.Seconds(); s > 0 {
		t.PromptPerSecond = float64(res.PromptTokens) / s
	}
	if s := res.Timings.Decode.Seconds(); s > 0 && res.CompletionTokens > 1 {
		t.CompletionPerSecond = float64(res.CompletionTokens-1) / s
	}
	return t
}

// fingerprint names what answered: equal ones give equal answers to equal requests.
func fingerprint(digest string) string {
	const head = len("sha256:") + 12
	if len(digest) < head {
		return "lamina"
	}
	return "lamina-" + digest[len("sha256:"):head]
}

// openAIFailure is the body of an error: param and code are null where there is none.
type openAIFailure struct {
	Error struct {
		Message       string  `json:"message"`
		Type          string  `json:"type"`
		Param         *string `json:"param"`
		Code          string  `json:"code"`
		RequestID     string  `json:"request_id"`
		Retryable     bool    `json:"retryable,omitempty"`
		EmittedTokens int     `json:"emitted_tokens,omitempty"`
	} `json:"error"`
}

func openAIError(e api.Error) (out openAIFailure) {
	out.Error.Message, out.Error.Type, out.Error.Code = e.Message, e.Type, e.Code
	out.Error.RequestID, out.Error.Retryable, out.Error.EmittedTokens = e.RequestID, e.Retryable, e.EmittedTokens
	if e.Param != "" {
		out.Error.Param = &e.Param
	}
	return out
}

// openAIStream is what the sinks of both kinds share: headers at the first start, the error at the end.
type openAIStream struct {
	stream
	usage openAIUsage
	seen  map[int]bool // prompts that are counted
}

// open sends the headers when the first answer starts.
func (o *openAIStream) open(st infer.Started) error {
	if o.begun() {
		return nil
	}
	o.x.w.Header().Set(routeHeader, st.Route)
	if err := o.x.keep(st); err != nil {
		return err
	}
	return o.begin()
}

// count adds an answer to the usage of the whole.
func (o *openAIStream) count(prompt int, res infer.Result) {
	if o.seen == nil {
		o.seen = map[int]bool{}
	}
	o.usage.add(res, !o.seen[prompt])
	o.seen[prompt] = true
}

// fail ends a stream that has begun with an error event and no [DONE]; else the error is the answer.
func (o *openAIStream) fail(err error) error {
	if !o.begun() {
		return err
	}
	f := o.x.note(o.x.cause(err))
	return o.stream.fail(o.x.errorBody(f))
}

// indexed is a parameter's name with an index.
func indexed(name string, i int) string { return fmt.Sprintf("%s[%d]", name, i) }
