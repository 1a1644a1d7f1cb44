package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
	"unicode/utf8"
)

// message is one turn of a chat, as the API has it.
type message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// A failure is why a request gave no answer, and of what kind that is.
type failure struct {
	kind string // closed set, but for "http NNN"
	err  error
}

func (f *failure) Error() string { return f.err.Error() }

func fail(kind, format string, args ...any) *failure {
	return &failure{kind, fmt.Errorf(format, args...)}
}

// Kinds of failures besides "http NNN".
const (
	failConnect = "no connection"
	failTimeout = "timeout"
	failCut     = "cut off"         // the connection closed in the middle
	failSaid    = "error in answer" // the server put an error into a stream
	failReply   = "bad reply"       // not what the API says
	failStopped = "stopped"         // by whoever runs the benchmark; not counted
)

// An outcome is all that is known of one request.
type outcome struct {
	due                    time.Time // when it was to start: latency counts from here
	begun                  time.Time
	first, last, end       time.Time // first and last text, end of the answer
	gaps                   []time.Duration
	marks                  []time.Time // when text came
	prompt, answer, cached int
	usage                  bool // the server counted the tokens
	text                   string
	fail                   *failure
}

// openAI is the part of a reply that matters, whole or in pieces, chat or completion.
type openAI struct {
	Choices []struct {
		Delta   openAIText `json:"delta"`
		Message openAIText `json:"message"`
		Text    string     `json:"text"`
	} `json:"choices"`
	Usage *struct {
		Prompt  int `json:"prompt_tokens"`
		Answer  int `json:"completion_tokens"`
		Details struct {
			Cached int `json:"cached_tokens"`
		} `json:"prompt_tokens_details"`
	} `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type openAIText struct {
	Content   string `json:"content"`
	Reasoning string `json:"reasoning_content"`
}

// text is what the reply adds to the answer; of thinking only that there is some matters.
func (o *openAI) text() (s string, some bool) {
	for _, c := range o.Choices {
		for _, t := range []string{c.Delta.Content, c.Message.Content, c.Text} {
			s += t
		}
		some = some || c.Delta.Reasoning != "" || c.Message.Reasoning != ""
	}
	return s, some || s != ""
}

// failed is the error that the reply carries, if it does.
func (o *openAI) failed() *failure {
	if len(o.Error) == 0 || string(o.Error) == "null" {
		return nil
	}
	return fail(failSaid, "the server says in its answer: %s", said(o.Error))
}

// said is what an error object, or whatever else a server answers with, says to people.
func said(raw []byte) string {
	var e struct {
		Message string `json:"message"`
		Error   json.RawMessage
	}
	if json.Unmarshal(raw, &e) == nil {
		if e.Message != "" {
			return short(e.Message)
		}
		if len(e.Error) > 0 {
			return said(e.Error)
		}
	}
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return short(s)
	}
	return short(string(raw))
}

// short makes a line of what may be anything.
func short(s string) string {
	s = strings.Join(strings.Fields(strings.ToValidUTF8(s, "?")), " ")
	if len(s) <= 200 {
		return s
	}
	s = s[:200]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}

// client sends requests of one load.
type client struct {
	cfg  *Config
	http *http.Client
	base string
}

func newClient(cfg *Config) *client {
	t := &http.Transport{DialContext: cfg.Dial, DisableKeepAlives: cfg.Fresh, DisableCompression: true, MaxIdleConns: 0,
		MaxIdleConnsPerHost: maxConcurrency, MaxResponseHeaderBytes: 64 << 10, Proxy: http.ProxyFromEnvironment}
	return &client{cfg: cfg, base: cfg.base(), http: &http.Client{Transport: t,
		// The key goes to the server that was named, to no other.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// body is a request's. past is what was said before, the last message the question.
func (c *client) body(past []message, answer int) ([]byte, error) {
	b := maps.Clone(c.cfg.Fields)
	if b == nil {
		b = map[string]json.RawMessage{}
	}
	set := func(name string, v any) {
		data, err := json.Marshal(v)
		if err == nil {
			b[name] = data
		}
	}
	set("model", c.cfg.Model)
	set("max_tokens", answer)
	if c.cfg.API == Chat {
		set("messages", past)
	} else {
		var s strings.Builder
		for i, m := range past {
			if i > 0 {
				s.WriteByte('\n')
			}
			s.WriteString(m.Content)
		}
		set("prompt", s.String())
	}
	if c.cfg.Stream {
		set("stream", true)
		set("stream_options", map[string]bool{"include_usage": true})
	}
	return json.Marshal(b)
}

// path of the questions.
func (c *client) path() string {
	if c.cfg.API == Chat {
		return "/chat/completions"
	}
	return "/completions"
}

// ask sends one request and reads its answer. due is when it was to start.
func (c *client) ask(ctx context.Context, past []message, answer int, due time.Time) outcome {
	o := outcome{due: due, begun: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	body, err := c.body(past, answer)
	if err != nil {
		o.fail = fail(failReply, "cannot write the request: %w", err)
		return o
	}
	resp, err := c.send(ctx, http.MethodPost, c.path(), body)
	if err == nil {
		err = c.read(resp, &o, cancel)
		resp.Body.Close()
	}
	if o.end.IsZero() {
		o.end = time.Now()
	}
	o.fail = c.kind(ctx, err)
	return o
}

// send does a request. A status other than 200 is a failure.
func (c *client) send(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	// Without GetBody the transport cannot send a request again behind our back: each is sent once.
	var r io.Reader
	if body != nil {
		r = io.NopCloser(bytes.NewReader(body))
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, r)
	if err != nil {
		return nil, err
	}
	req.ContentLength = int64(len(body))
	req.Header.Set("Content-Type", "application/json")
	if c.cfg.Key != "" {
		req.Header.Set("Authorization", "Bearer "+c.cfg.Key)
	}
	resp, err := c.http.Do(req)
	if err != nil || resp.StatusCode == http.StatusOK {
		return resp, err
	}
	defer resp.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	return nil, fail(fmt.Sprintf("http %d", resp.StatusCode), "%s: %s", resp.Status, said(data))
}

// read takes an answer, whole or in pieces as the server chooses. giveUp ends the connection.
func (c *client) read(resp *http.Response, o *outcome, giveUp func()) error {
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "text/event-stream" {
		if err := readEvents(resp.Body, o); err != nil {
			return err
		}
		// A connection can be used again when its answer was read to the end. That is here, or comes at once, or we do without.
		late := time.AfterFunc(time.Second, giveUp)
		defer late.Stop()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10))
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent+1))
	if err != nil {
		return err
	}
	if len(data) > maxEvent {
		return fmt.Errorf("%w: the reply is larger than %d MiB", errTooLong, maxEvent>>20)
	}
	var reply openAI
	if err := json.Unmarshal(data, &reply); err != nil {
		return fail(failReply, "the server's reply is not JSON (%w): %s", err, short(string(data)))
	}
	if f := reply.failed(); f != nil {
		return f
	}
	if len(reply.Choices) == 0 {
		return fail(failReply, "the server's reply has no choices: %s", short(string(data)))
	}
	o.text, _ = reply.text()
	o.count(&reply)
	return nil
}

// readEvents reads a stream to its end. It is whole if [DONE] came.
func readEvents(body io.Reader, o *outcome) error {
	ev := newEvents(body)
	var text strings.Builder
	for {
		data, err := ev.next()
		if errors.Is(err, io.EOF) {
			return fail(failCut, "the stream ended without [DONE] after %d pieces", len(o.marks))
		}
		if err != nil {
			return err
		}
		if string(data) == "[DONE]" {
			break
		}
		var piece openAI
		if err := json.Unmarshal(data, &piece); err != nil {
			return fail(failReply, "an event is not JSON (%w): %s", err, short(string(data)))
		}
		if f := piece.failed(); f != nil {
			return f
		}
		s, some := piece.text()
		if some {
			o.mark(time.Now())
			text.WriteString(s)
		}
		o.count(&piece)
	}
	o.text, o.end = text.String(), time.Now()
	return nil
}

// mark notes that a piece of text came.
func (o *outcome) mark(now time.Time) {
	if o.first.IsZero() {
		o.first = now
	} else {
		o.gaps = append(o.gaps, now.Sub(o.last))
	}
	o.last = now
	o.marks = append(o.marks, now)
}

// count takes up what the server says of tokens.
func (o *outcome) count(reply *openAI) {
	if u := reply.Usage; u != nil && u.Prompt >= 0 && u.Answer >= 0 && u.Prompt+u.Answer > 0 && u.Prompt <= maxTokens && u.Answer <= maxTokens {
		o.usage, o.prompt, o.answer, o.cached = true, u.Prompt, u.Answer, u.Details.Cached
	}
}

// kind sorts an error.
func (c *client) kind(ctx context.Context, err error) *failure {
	var f *failure
	var op *net.OpError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		return f
	case errors.Is(ctx.Err(), context.Canceled):
		return &failure{failStopped, err}
	case errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded):
		return fail(failTimeout, "no whole answer in %v", c.cfg.Timeout)
	case errors.Is(err, errTooLong):
		return &failure{failReply, err}
	case errors.As(err, &op) && op.Op == "dial":
		return &failure{failConnect, err}
	}
	return &failure{failCut, err}
}

// models asks for the first model that the server lists.
func (c *client) models(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, min(c.cfg.Timeout, 30*time.Second))
	defer cancel()
	resp, err := c.send(ctx, http.MethodGet, "/models", nil)
	if err != nil {
		return "", fmt.Errorf("which models are there: %w", err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxEvent))
	if err != nil {
		return "", err
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(data, &list); err != nil {
		return "", fmt.Errorf("%w: the server's list of models is not JSON (%w): %s", ErrConfig, err, short(string(data)))
	}
	if len(list.Data) == 0 || list.Data[0].ID == "" {
		return "", fmt.Errorf("%w: the server lists no models; name one", ErrConfig)
	}
	return list.Data[0].ID, nil
}
