package server

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"

	"lamina/node/infer"
	"lamina/shard/sample"
)

// completionTokens is OpenAI's max_tokens for completions that name none.
const completionTokens = 16

// completionRequest is the body of POST /v1/completions.
type completionRequest struct {
	openAIParams
	Prompt   json.RawMessage `json:"prompt"` // string, list of strings, ids, list of lists of ids
	Suffix   *string         `json:"suffix"`
	Echo     bool            `json:"echo"`
	Logprobs *int            `json:"logprobs"`
	BestOf   *int            `json:"best_of"`
}

// completionReply is the whole answer or a piece of it.
type completionReply struct {
	ID          string             `json:"id"`
	Object      string             `json:"object"`
	Created     int64              `json:"created"`
	Model       string             `json:"model"`
	Fingerprint string             `json:"system_fingerprint"`
	Choices     []completionChoice `json:"choices"`
	Usage       *openAIUsage       `json:"usage,omitempty"`
	Timings     *openAITimings     `json:"timings,omitempty"`
}

type completionChoice struct {
	Text     string              `json:"text"`
	Index    int                 `json:"index"`
	Logprobs *completionLogprobs `json:"logprobs"`
	Finish   *string             `json:"finish_reason"`
}

// completionLogprobs are parallel lists; a token that nothing predicts (the first of an echoed prompt) has null.
// Offsets count characters from the beginning of the text.
type completionLogprobs struct {
	Tokens  []string             `json:"tokens"`
	Values  []*float32           `json:"token_logprobs"`
	Top     []map[string]float32 `json:"top_logprobs"`
	Offsets []int                `json:"text_offset"`
}

// completions is POST /v1/completions.
func (s *Server) completions(x *exchange) error {
	var r completionRequest
	if err := x.decodeOpenAI(&r); err != nil {
		return err
	}
	reqs, err := r.requests(s, x.id)
	if err != nil {
		return err
	}
	head := completionReply{ID: "cmpl-" + s.newID(), Object: "text_completion", Created: s.now().Unix()}
	if r.Stream {
		if len(reqs) == 1 {
			x.pin(&reqs[0].Sampling.Seed, &head.ID, &head.Created)
		}
		return s.streamCompletions(x, &r, head, reqs)
	}
	got := newCollector(len(reqs))
	if err := s.generate(x, reqs, got); err != nil {
		return err
	}
	head.Model, head.Fingerprint = got.answers[0].Model, fingerprint(got.answers[0].Digest)
	head.Usage, head.Timings = &openAIUsage{}, timingsOf(got.answers[0].Result)
	for i := range got.answers {
		a := &got.answers[i]
		finish := string(a.Finish)
		c := completionChoice{Text: a.text.String(), Index: i, Finish: &finish}
		if r.Logprobs != nil {
			c.Logprobs, _ = completionTokensOf(a.tokens, 0)
		}
		head.Choices = append(head.Choices, c)
		head.Usage.add(a.Result, i%r.n() == 0)
	}
	x.w.Header().Set(routeHeader, got.route())
	return x.reply(http.StatusOK, head)
}

// requests checks what a request says and makes one of package infer for each prompt and answer.
func (r *completionRequest) requests(s *Server, id string) ([]infer.Request, error) {
	req, err := r.check(s, id)
	if err != nil {
		return nil, err
	}
	if r.Suffix != nil && *r.Suffix != "" {
		return nil, unsupported("suffix", "is not supported by this server; leave it out")
	}
	if r.BestOf != nil && *r.BestOf != r.n() {
		return nil, unsupported("best_of", "is not supported by this server; leave it out")
	}
	switch {
	case r.MaxTokens == nil:
		req.MaxTokens = completionTokens
	case *r.MaxTokens == 0 && r.Echo: // the prompt's log probabilities alone
		req.PromptOnly = true
	case *r.MaxTokens < 1:
		return nil, invalid("max_tokens", "is %d; it must be 1 or more, or 0 with echo", *r.MaxTokens)
	}
	req.Echo = r.Echo
	if r.Logprobs != nil {
		if *r.Logprobs < 0 || *r.Logprobs > sample.MaxLogprobs {
			return nil, invalid("logprobs", "is %d; it must be from 0 to %d", *r.Logprobs, sample.MaxLogprobs)
		}
		req.Sampling.WantLogprobs, req.Sampling.Logprobs = true, *r.Logprobs
	}
	prompts, err := parsePrompts(r.Prompt)
	if err != nil {
		return nil, err
	}
	if n := len(prompts) * r.n(); n > s.cfg.Limits.Answers {
		return nil, invalid("prompt", "%d prompts with n = %d are %d answers, at most %d are given to one request", len(prompts), r.n(), n, s.cfg.Limits.Answers)
	}
	var out []infer.Request
	for _, p := range prompts {
		req.Prompt, req.Tokens = p.Prompt, p.Tokens
		out = append(out, repeat(req, r.n())...)
	}
	return out, nil
}

// parsePrompts reads the four shapes that a prompt may have. Only Prompt or Tokens of the results is set.
func parsePrompts(raw json.RawMessage) ([]infer.Request, error) {
	const wanted = "a string, an array of strings, an array of token ids or an array of such arrays is wanted, and not an empty one"
	var out []infer.Request
	switch shape := promptShape(raw); shape {
	case `"`:
		var s string
		if err := within("prompt", raw, &s); err != nil {
			return nil, err
		}
		out = []infer.Request{{Prompt: s}}
	case `["`:
		var list []string
		if err := within("prompt", raw, &list); err != nil {
			return nil, err
		}
		for _, s := range list {
			out = append(out, infer.Request{Prompt: s})
		}
	case "[[":
		var list [][]int32
		if err := within("prompt", raw, &list); err != nil {
			return nil, err
		}
		for _, ids := range list {
			out = append(out, infer.Request{Tokens: ids})
		}
	case "[0":
		var ids []int32
		if err := within("prompt", raw, &ids); err != nil {
			return nil, err
		}
		out = []infer.Request{{Tokens: ids}}
	}
	for i, p := range out {
		if p.Prompt == "" && len(p.Tokens) == 0 {
			return nil, invalid(indexed("prompt", i), "is empty; give at least one character or token")
		}
	}
	if len(out) == 0 {
		return nil, invalid("prompt", wanted)
	}
	return out, nil
}

// promptShape tells the shapes apart by their first bytes: `"`, `["`, `[[` or `[0`; anything else is "".
func promptShape(raw json.RawMessage) string {
	t := bytes.TrimSpace(raw)
	if len(t) == 0 {
		return ""
	}
	if t[0] == '"' {
		return `"`
	}
	rest := bytes.TrimLeft(t[1:], " \t\r\n")
	if t[0] != '[' || len(rest) == 0 {
		return ""
	}
	switch d := rest[0]; {
	case d == '"', d == '[':
		return "[" + string(d)
	case d == '-', d >= '0' && d <= '9':
		return "[0"
	}
	return ""
}

// completionTokensOf is the log probabilities of tokens in the shape of completions; offset is where in the text the
// first one begins, and next where the one after the last would.
func completionTokensOf(tokens []infer.TokenInfo, offset int) (out *completionLogprobs, next int) {
	out = &completionLogprobs{Tokens: []string{}, Values: []*float32{}, Top: []map[string]float32{}, Offsets: []int{}}
	for _, t := range tokens {
		name := completionToken(t.Bytes)
		out.Tokens = append(out.Tokens, name)
		out.Offsets = append(out.Offsets, offset)
		offset += utf8.RuneCountInString(tokenText(t.Bytes))
		if t.NoLogprob {
			out.Values, out.Top = append(out.Values, nil), append(out.Top, nil)
			continue
		}
		lp := finiteLogprob(t.Logprob)
		top := map[string]float32{name: lp}
		for _, alt := range t.Top {
			n, v := completionToken(alt.Bytes), finiteLogprob(alt.Logprob)
			if old, there := top[n]; !there || v > old {
				top[n] = v
			}
		}
		out.Values, out.Top = append(out.Values, &lp), append(out.Top, top)
	}
	return out, offset
}

// completionToken is a token's text; this shape has no field for bytes, so parts of characters are written out.
func completionToken(b []byte) string {
	if utf8.Valid(b) {
		return string(b)
	}
	var s strings.Builder
	s.WriteString("bytes:")
	for _, c := range b {
		s.WriteString(`\x`)
		s.WriteString(strconv.FormatUint(uint64(c>>4), 16))
		s.WriteString(strconv.FormatUint(uint64(c&15), 16))
	}
	return s.String()
}

// completionStream sends the answers' pieces as they come.
type completionStream struct {
	openAIStream
	head     completionReply
	n        int // answers a prompt
	logprobs bool
	usageOn  bool
	offsets  []int // by answer
}

func (s *Server) streamCompletions(x *exchange, r *completionRequest, head completionReply, reqs []infer.Request) error {
	out := &completionStream{openAIStream: openAIStream{stream: stream{x: x}}, head: head, n: r.n(), logprobs: r.Logprobs != nil, usageOn: r.includeUsage(), offsets: make([]int, len(reqs))}
	if err := s.generate(x, reqs, out); err != nil {
		return out.fail(err)
	}
	if out.usageOn {
		last := out.head
		last.Choices, last.Usage = []completionChoice{}, &out.usage
		if err := out.stream.event(last); err != nil {
			return err
		}
	}
	return out.done()
}

func (c *completionStream) chunk(choice completionChoice, t *openAITimings) error {
	m := c.head
	m.Choices, m.Timings = []completionChoice{choice}, t
	return c.stream.event(m)
}

func (c *completionStream) started(_ int, st infer.Started) error {
	c.head.Model, c.head.Fingerprint = st.Model, fingerprint(st.Digest)
	return c.open(st)
}

func (c *completionStream) event(i int, ev infer.Event) error {
	choice := completionChoice{Index: i, Text: ev.Text}
	if c.logprobs {
		choice.Logprobs, c.offsets[i] = completionTokensOf(ev.Tokens, c.offsets[i])
	} else if ev.Text == "" {
		return nil
	}
	return c.chunk(choice, nil)
}

func (c *completionStream) finished(i int, res infer.Result) error {
	c.count(i/c.n, res)
	finish := string(res.Finish)
	return c.chunk(completionChoice{Index: i, Finish: &finish}, timingsOf(res))
}
