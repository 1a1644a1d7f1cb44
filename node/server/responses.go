package server

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"lamina/node/infer"
	"lamina/node/records"
)

// The Responses dialect of OpenAI: https://platform.openai.com/docs/api-reference/responses. Conversations kept by the server
// (previous_response_id), tools and reasoning are not there.

// responsesPath is the dialect's endpoint.
const responsesPath = "/v1/responses"

// responseRequest is the body of POST /v1/responses.
type responseRequest struct {
	Model              string            `json:"model"`
	Input              json.RawMessage   `json:"input"` // string, or list of items
	Instructions       *string           `json:"instructions"`
	MaxOutputTokens    *int              `json:"max_output_tokens"`
	Temperature        *float32          `json:"temperature"`
	TopP               *float32          `json:"top_p"`
	Seed               *int64            `json:"seed"` // an extension
	Stream             bool              `json:"stream"`
	Background         bool              `json:"background"`
	Store              *bool             `json:"store"`
	Metadata           map[string]string `json:"metadata"`
	PromptCacheKey     string            `json:"prompt_cache_key"`
	PreviousResponseID *string           `json:"previous_response_id"`
	Conversation       json.RawMessage   `json:"conversation"`
	Prompt             json.RawMessage   `json:"prompt"`
	Tools              json.RawMessage   `json:"tools"`
	ToolChoice         json.RawMessage   `json:"tool_choice"`
	Truncation         *string           `json:"truncation"`
	Text               *struct {
		Format json.RawMessage `json:"format"`
	} `json:"text"`
}

// responseObject is an answer as a whole, finished or not.
type responseObject struct {
	ID                 string             `json:"id"`
	Object             string             `json:"object"`
	CreatedAt          int64              `json:"created_at"`
	Status             string             `json:"status"`
	Background         bool               `json:"background"`
	Error              *responseError     `json:"error"`
	IncompleteDetails  *incompleteDetails `json:"incomplete_details"`
	Instructions       *string            `json:"instructions"`
	MaxOutputTokens    *int               `json:"max_output_tokens"`
	Model              string             `json:"model"`
	Output             []responseItem     `json:"output"`
	ParallelToolCalls  bool               `json:"parallel_tool_calls"`
	PreviousResponseID *string            `json:"previous_response_id"`
	Store              bool               `json:"store"`
	Temperature        float32            `json:"temperature"`
	Text               responseFormat     `json:"text"`
	ToolChoice         string             `json:"tool_choice"`
	Tools              []struct{}         `json:"tools"`
	TopP               float32            `json:"top_p"`
	Truncation         string             `json:"truncation"`
	Usage              *responseUsage     `json:"usage"`
	Metadata           map[string]string  `json:"metadata"`
}

type responseError struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type incompleteDetails struct {
	Reason string `json:"reason"`
}

type responseFormat struct {
	Format struct {
		Type string `json:"type"`
	} `json:"format"`
}

type responseItem struct {
	Type    string         `json:"type"`
	ID      string         `json:"id"`
	Status  string         `json:"status"`
	Role    string         `json:"role"`
	Content []responsePart `json:"content"`
}

type responsePart struct {
	Type        string     `json:"type"`
	Text        string     `json:"text"`
	Annotations []struct{} `json:"annotations"`
	Logprobs    []struct{} `json:"logprobs"`
}

type responseUsage struct {
	InputTokens        int `json:"input_tokens"`
	InputTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"input_tokens_details"`
	OutputTokens        int `json:"output_tokens"`
	OutputTokensDetails struct {
		ReasoningTokens int `json:"reasoning_tokens"`
	} `json:"output_tokens_details"`
	TotalTokens int `json:"total_tokens"`
}

// The statuses of a response.
const (
	statusQueued     = "queued"
	statusInProgress = "in_progress"
	statusCompleted  = "completed"
	statusIncomplete = "incomplete"
	statusFailed     = "failed"
	statusCancelled  = "cancelled"
)

// kept says whether the response may be asked for later.
func (r *responseRequest) kept() bool { return r.Store == nil || *r.Store }

// respond is POST /v1/responses.
func (s *Server) respond(x *exchange) error {
	var r responseRequest
	if err := x.decodeOpenAI(&r); err != nil {
		return err
	}
	rec := records.Record{
		ID: "resp_" + s.newID(), Owner: x.who.Key, Route: responsesPath, Body: x.data, Type: x.dataType, Seed: s.seed(), Created: s.now().Unix(),
	}
	run, err := s.newRun(&r, rec)
	if err != nil {
		return err
	}
	if r.Background { // nobody may be there any more to be told
		if run.record.Digest, err = s.digestOf(x, r.Model); err != nil {
			return err
		}
	}
	if r.kept() {
		if err := s.runs.add(run); err != nil {
			return err
		}
	}
	x.w.Header().Set("Lamina-Response", run.record.ID)
	if !r.Background {
		return s.foreground(x, run, r.Stream)
	}
	if shadow := s.cfg.Records.Keep(x.r.Context(), run.record); shadow != "" {
		x.w.Header().Set(shadowHeader, shadow)
	}
	if err := s.begin(run); err != nil {
		return err
	}
	if r.Stream {
		return s.follow(x, run, -1)
	}
	return x.reply(http.StatusOK, run.object())
}

// digestOf is the content of a model that can be asked.
func (s *Server) digestOf(x *exchange, name string) (string, error) {
	list, err := s.cfg.Service.Models(x.r.Context())
	if err != nil {
		return "", err
	}
	for _, m := range list {
		if m.Name == name {
			return m.Digest, nil
		}
	}
	return "", fmt.Errorf("%w: %.140q; GET /v1/models lists the models", infer.ErrModelNotFound, name)
}

// request checks a request and makes one of package infer.
func (r *responseRequest) request(s *Server, rec records.Record) (infer.Request, error) {
	p := openAIParams{Model: r.Model, MaxTokens: r.MaxOutputTokens, Temperature: r.Temperature, TopP: r.TopP, Seed: r.Seed, PromptCacheKey: r.PromptCacheKey}
	req, err := p.check(s, rec.ID)
	if err != nil {
		return req, err
	}
	if r.Seed == nil {
		req.Sampling.Seed = rec.Seed
	}
	if err := r.refuse(); err != nil {
		return req, err
	}
	if r.Instructions != nil {
		req.Messages = append(req.Messages, infer.Message{Role: "system", Content: *r.Instructions})
	}
	return req, r.input(s, &req)
}

// input reads the messages.
func (r *responseRequest) input(s *Server, req *infer.Request) error {
	switch first(r.Input) {
	case '"':
		var text string
		if err := within("input", r.Input, &text); err != nil {
			return err
		}
		req.Messages = append(req.Messages, infer.Message{Role: "user", Content: text})
		return nil
	case '[':
	default:
		return invalid("input", "a string or an array of messages is wanted")
	}
	var items []json.RawMessage
	if err := within("input", r.Input, &items); err != nil {
		return err
	}
	if len(items) == 0 || len(items) > s.cfg.Limits.Messages {
		return invalid("input", "has %d items; it must have 1 to %d", len(items), s.cfg.Limits.Messages)
	}
	for i, raw := range items {
		m, err := parseItem(indexed("input", i), raw)
		if err != nil {
			return err
		}
		req.Messages = append(req.Messages, m)
	}
	return nil
}

// parseItem reads one message of the input.
func parseItem(place string, raw json.RawMessage) (infer.Message, error) {
	var item struct {
		Type    string          `json:"type"`
		Role    string          `json:"role"`
		Content json.RawMessage `json:"content"`
	}
	if err := within(place, raw, &item); err != nil {
		return infer.Message{}, err
	}
	if item.Type != "" && item.Type != "message" {
		return infer.Message{}, unsupported(place+".type", "is %.40q; this server takes messages only", item.Type)
	}
	m := infer.Message{Role: item.Role}
	switch item.Role {
	case "system", "user", "assistant":
	case "developer":
		m.Role = "system"
	default:
		return m, invalid(place+".role", "is %.40q; it must be system, developer, user or assistant", item.Role)
	}
	var err error
	m.Content, err = parseContent(place+".content", item.Content, "input_text", "output_text", "text")
	return m, err
}

// refuse names what this server does not do, so that it is not silently ignored.
func (r *responseRequest) refuse() error {
	switch {
	case r.MaxOutputTokens != nil && *r.MaxOutputTokens < 1:
		return invalid("max_output_tokens", "is %d; it must be 1 or more", *r.MaxOutputTokens)
	case r.Background && !r.kept():
		return invalid("background", "needs store: true, or the answer could not be asked for")
	case r.PreviousResponseID != nil:
		return unsupported("previous_response_id", "conversations are not kept by this server; send the earlier messages in input")
	case !absent(r.Conversation):
		return unsupported("conversation", "conversations are not kept by this server; send the earlier messages in input")
	case !absent(r.Prompt):
		return unsupported("prompt", "prompt templates are not kept by this server")
	case !absent(r.Tools) && strings.Join(strings.Fields(string(r.Tools)), "") != "[]":
		return unsupported("tools", "tools are not supported by this server; leave the field out")
	case r.Truncation != nil && *r.Truncation != "disabled":
		return unsupported("truncation", "this server cuts no input; shorten it")
	case len(r.Metadata) > 16:
		return invalid("metadata", "has %d entries, at most 16 are allowed", len(r.Metadata))
	}
	var choice string
	if !absent(r.ToolChoice) && (json.Unmarshal(r.ToolChoice, &choice) != nil || choice != "none" && choice != "auto") {
		return unsupported("tool_choice", "tools are not supported by this server; leave the field out")
	}
	if r.Text == nil || absent(r.Text.Format) {
		return nil
	}
	var format struct {
		Type string `json:"type"`
	}
	if err := within("text.format", r.Text.Format, &format); err != nil {
		return err
	}
	if format.Type != "text" {
		return unsupported("text.format", "the type %.40q is not supported by this server; only \"text\" is", format.Type)
	}
	return nil
}

// newObject is the response before anything is known of the answer.
func (r *responseRequest) newObject(rec records.Record, req infer.Request) responseObject {
	o := responseObject{
		ID: rec.ID, Object: "response", CreatedAt: rec.Created, Status: statusInProgress, Background: r.Background, Instructions: r.Instructions,
		MaxOutputTokens: r.MaxOutputTokens, Model: r.Model, Output: []responseItem{}, ParallelToolCalls: true, Store: r.kept(),
		Temperature: req.Sampling.Temperature, TopP: req.Sampling.TopP, ToolChoice: "auto", Tools: []struct{}{}, Truncation: "disabled", Metadata: r.Metadata,
	}
	o.Text.Format.Type = "text"
	if o.Metadata == nil {
		o.Metadata = map[string]string{}
	}
	if r.Background {
		o.Status = statusQueued
	}
	return o
}
