package server

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"time"

	"lamina/node/infer"
	"lamina/shard/sample"
)

// chatRequest is the body of POST /v1/chat/completions.
type chatRequest struct {
	openAIParams
	Messages            []json.RawMessage `json:"messages"`
	MaxCompletionTokens *int              `json:"max_completion_tokens"`
	Logprobs            bool              `json:"logprobs"`
	TopLogprobs         *int              `json:"top_logprobs"`
	ResponseFormat      json.RawMessage   `json:"response_format"`
	Tools               json.RawMessage   `json:"tools"`
	ToolChoice          json.RawMessage   `json:"tool_choice"`
	Functions           json.RawMessage   `json:"functions"`
	Audio               json.RawMessage   `json:"audio"`
	Modalities          []string          `json:"modalities"`
}

// chatMessage is one turn. Content is a string or a list of parts.
type chatMessage struct {
	Role      string          `json:"role"`
	Content   json.RawMessage `json:"content"`
	Name      string          `json:"name"`
	ToolCalls json.RawMessage `json:"tool_calls"`
}

// chatReply is the whole answer, or, with Object chat.completion.chunk, a piece of it.
type chatReply struct {
	ID          string         `json:"id"`
	Object      string         `json:"object"`
	Created     int64          `json:"created"`
	Model       string         `json:"model"`
	Fingerprint string         `json:"system_fingerprint"`
	Choices     []chatChoice   `json:"choices"`
	Usage       *openAIUsage   `json:"usage,omitempty"`
	Timings     *openAITimings `json:"timings,omitempty"`
}

type chatChoice struct {
	Index    int           `json:"index"`
	Message  *chatText     `json:"message,omitempty"`
	Delta    *chatText     `json:"delta,omitempty"`
	Logprobs *chatLogprobs `json:"logprobs"`
	Finish   *string       `json:"finish_reason"`
}

type chatText struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatLogprobs struct {
	Content []chatToken `json:"content"`
}

// chatToken is a token with its log probability; the alternatives have none of their own.
type chatToken struct {
	Token   string       `json:"token"`
	Logprob float32      `json:"logprob"`
	Bytes   []int        `json:"bytes"`
	Top     *[]chatToken `json:"top_logprobs,omitempty"`
}

// chat is POST /v1/chat/completions.
func (s *Server) chat(x *exchange) error {
	var r chatRequest
	if err := x.decodeOpenAI(&r); err != nil {
		return err
	}
	req, err := r.request(s, x.id)
	if err != nil {
		return err
	}
	reqs := repeat(req, r.n())
	head := chatReply{ID: "chatcmpl-" + s.newID(), Object: "chat.completion", Created: s.now().Unix()}
	if r.Stream {
		if len(reqs) == 1 {
			x.pin(&reqs[0].Sampling.Seed, &head.ID, &head.Created)
		}
		head.Object = "chat.completion.chunk"
		return s.streamChat(x, &r, head, reqs)
	}
	got := newCollector(len(reqs))
	if err := s.generate(x, reqs, got); err != nil {
		return err
	}
	head.Model, head.Fingerprint = got.answers[0].Model, fingerprint(got.answers[0].Digest)
	head.Usage, head.Timings = &openAIUsage{}, timingsOf(got.answers[0].Result)
	for i := range got.answers {
		a := &got.answers[i]
		text, finish := a.text.String(), string(a.Finish)
		c := chatChoice{Index: i, Message: &chatText{Role: "assistant", Content: &text}, Finish: &finish}
		if r.Logprobs {
			c.Logprobs = chatTokens(a.tokens)
		}
		head.Choices = append(head.Choices, c)
		head.Usage.add(a.Result, i == 0)
	}
	x.w.Header().Set(routeHeader, got.route())
	return x.reply(http.StatusOK, head)
}

// request checks what a chat says.
func (r *chatRequest) request(s *Server, id string) (infer.Request, error) {
	for _, f := range []struct {
		name string
		n    *int
	}{{"max_completion_tokens", r.MaxCompletionTokens}, {"max_tokens", r.MaxTokens}} {
		if f.n != nil && *f.n < 1 {
			return infer.Request{}, invalid(f.name, "is %d; it must be 1 or more", *f.n)
		}
	}
	if r.MaxCompletionTokens != nil {
		r.MaxTokens = r.MaxCompletionTokens
	}
	req, err := r.check(s, id)
	if err != nil {
		return req, err
	}
	if err := r.refuse(); err != nil {
		return req, err
	}
	if r.TopLogprobs != nil {
		if !r.Logprobs {
			return req, invalid("top_logprobs", "needs logprobs: true")
		}
		if *r.TopLogprobs < 0 || *r.TopLogprobs > sample.MaxLogprobs {
			return req, invalid("top_logprobs", "is %d; it must be from 0 to %d", *r.TopLogprobs, sample.MaxLogprobs)
		}
		req.Sampling.Logprobs = *r.TopLogprobs
	}
	req.Sampling.WantLogprobs = r.Logprobs
	if len(r.Messages) == 0 {
		return req, invalid("messages", "give at least one message")
	}
	if len(r.Messages) > s.cfg.Limits.Messages {
		return req, invalid("messages", "has %d messages, at most %d are allowed", len(r.Messages), s.cfg.Limits.Messages)
	}
	for i, raw := range r.Messages {
		m, err := parseMessage(indexed("messages", i), raw)
		if err != nil {
			return req, err
		}
		req.Messages = append(req.Messages, m)
	}
	return req, nil
}

// refuse names what this server does not do yet, so that it is not silently ignored.
func (r *chatRequest) refuse() error {
	for _, f := range []struct {
		name string
		raw  json.RawMessage
	}{{"tools", r.Tools}, {"functions", r.Functions}} {
		if !absent(f.raw) && strings.Join(strings.Fields(string(f.raw)), "") != "[]" {
			return unsupported(f.name, "tools are not supported by this server; leave the field out")
		}
	}
	var choice string
	if !absent(r.ToolChoice) && (json.Unmarshal(r.ToolChoice, &choice) != nil || choice != "none" && choice != "auto") {
		return unsupported("tool_choice", "tools are not supported by this server; leave the field out")
	}
	if !absent(r.Audio) {
		return unsupported("audio", "this server answers in text only")
	}
	for _, m := range r.Modalities {
		if m != "text" {
			return unsupported("modalities", "this server answers in text only")
		}
	}
	if absent(r.ResponseFormat) {
		return nil
	}
	var format struct {
		Type string `json:"type"`
	}
	if err := within("response_format", r.ResponseFormat, &format); err != nil {
		return err
	}
	if format.Type != "text" {
		return unsupported("response_format", "the type %.40q is not supported by this server; only \"text\" is", format.Type)
	}
	return nil
}

// parseMessage reads one turn; place is its path, for errors.
func parseMessage(place string, raw json.RawMessage) (infer.Message, error) {
	var m chatMessage
	if err := within(place, raw, &m); err != nil {
		return infer.Message{}, err
	}
	switch m.Role {
	case "system", "user", "assistant":
	case "developer":
		m.Role = "system"
	case "tool", "function":
		return infer.Message{}, unsupported(place+".role", "tools are not supported by this server")
	default:
		return infer.Message{}, invalid(place+".role", "is %.40q; it must be system, developer, user or assistant", m.Role)
	}
	if !absent(m.ToolCalls) && first(m.ToolCalls) != '[' || len(m.ToolCalls) > 0 && strings.Contains(string(m.ToolCalls), "{") {
		return infer.Message{}, unsupported(place+".tool_calls", "tools are not supported by this server")
	}
	text, err := parseContent(place+".content", m.Content, "text")
	return infer.Message{Role: m.Role, Content: text, Name: m.Name}, err
}

// parseContent reads a string, or a list of parts of text under one of the names given, which are put together with line breaks.
func parseContent(place string, raw json.RawMessage, names ...string) (string, error) {
	var s string
	if first(raw) == '"' {
		return s, within(place, raw, &s)
	}
	if first(raw) != '[' {
		return "", invalid(place, "a string or an array of parts is wanted")
	}
	var parts []struct {
		Type string  `json:"type"`
		Text *string `json:"text"`
	}
	if err := within(place, raw, &parts); err != nil {
		return "", err
	}
	var texts []string
	for i, p := range parts {
		if !slices.Contains(names, p.Type) {
			return "", unsupported(indexed(place, i)+".type", "is %.40q; this model takes text only", p.Type)
		}
		if p.Text == nil {
			return "", invalid(indexed(place, i)+".text", "is missing")
		}
		texts = append(texts, *p.Text)
	}
	return strings.Join(texts, "\n"), nil
}

// chatTokens is the log probabilities of tokens in the shape of chat.
func chatTokens(tokens []infer.TokenInfo) *chatLogprobs {
	out := &chatLogprobs{Content: []chatToken{}}
	for _, t := range tokens {
		c, top := chatTokenOf(t.TokenLogprob), []chatToken{}
		for _, alt := range t.Top {
			top = append(top, chatTokenOf(alt))
		}
		c.Top = &top
		out.Content = append(out.Content, c)
	}
	return out
}

func chatTokenOf(t infer.TokenLogprob) chatToken {
	c := chatToken{Token: tokenText(t.Bytes), Logprob: finiteLogprob(t.Logprob), Bytes: make([]int, len(t.Bytes))}
	for i, b := range t.Bytes {
		c.Bytes[i] = int(b)
	}
	return c
}

// chatStream sends the answers' pieces as they come, those of several answers mixed and told apart by index.
type chatStream struct {
	openAIStream
	head     chatReply
	logprobs bool
	usageOn  bool
}

func (s *Server) streamChat(x *exchange, r *chatRequest, head chatReply, reqs []infer.Request) error {
	out := &chatStream{openAIStream: openAIStream{stream: stream{x: x}}, head: head, logprobs: r.Logprobs, usageOn: r.includeUsage()}
	if err := s.generate(x, reqs, out); err != nil {
		return out.fail(err)
	}
	if out.usageOn {
		last := out.head
		last.Choices, last.Usage = []chatChoice{}, &out.usage
		if err := out.stream.event(last); err != nil {
			return err
		}
	}
	return out.done()
}

// chunk sends a piece of one answer.
func (c *chatStream) chunk(choice chatChoice, t *openAITimings) error {
	m := c.head
	m.Choices, m.Timings = []chatChoice{choice}, t
	return c.stream.event(m)
}

func (c *chatStream) started(i int, st infer.Started) error {
	c.head.Model, c.head.Fingerprint = st.Model, fingerprint(st.Digest)
	if err := c.open(st); err != nil {
		return err
	}
	empty := ""
	return c.chunk(chatChoice{Index: i, Delta: &chatText{Role: "assistant", Content: &empty}}, nil)
}

func (c *chatStream) event(i int, ev infer.Event) error {
	choice := chatChoice{Index: i, Delta: &chatText{Content: &ev.Text}}
	if c.logprobs {
		choice.Logprobs = chatTokens(ev.Tokens)
	} else if ev.Text == "" {
		return nil
	}
	return c.chunk(choice, nil)
}

func (c *chatStream) finished(i int, res infer.Result) error {
	c.count(0, res)
	finish := string(res.Finish)
	return c.chunk(chatChoice{Index: i, Delta: &chatText{}, Finish: &finish}, timingsOf(res))
}

// created is a time as OpenAI's dialect has it; a model without one was made at the beginning of time.
func created(t time.Time) int64 { return max(t.Unix(), 0) }
