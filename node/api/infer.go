package api

// GenerateRequest is the body of POST /v1/infer: text from a language model. Exactly one of Messages, Prompt and Tokens is
// given: Messages goes through the model's chat template, Prompt is tokenized as it stands, Tokens are ids.
type GenerateRequest struct {
	Model    string    `json:"model"`
	Messages []Message `json:"messages,omitempty"`
	Prompt   string    `json:"prompt,omitempty"`
	Tokens   []int32   `json:"tokens,omitempty"`
	// Stream asks for a sequence of GenerateEvents instead of one GenerateReply.
	Stream  bool    `json:"stream,omitempty"`
	Options Options `json:"options,omitzero"`
	// Key groups requests that share a prefix, so that they meet the same replica.
	Key string `json:"key,omitempty"`
	// Echo repeats the prompt before the answer.
	Echo bool `json:"echo,omitempty"`
	// Logprobs asks for the log probability of every token and of so many alternatives (0 to 20); absent: none.
	Logprobs *int `json:"logprobs,omitempty"`
}

// Message is one turn of a chat.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
	Name    string `json:"name,omitempty"`
}

// Options says how the next token is chosen. What is absent has the default that node/server/DESIGN.md states.
type Options struct {
	MaxTokens        int               `json:"max_tokens,omitempty"` // 0: as far as the node's default goes
	Temperature      *float32          `json:"temperature,omitempty"`
	TopP             *float32          `json:"top_p,omitempty"`
	TopK             *int              `json:"top_k,omitempty"`
	MinP             *float32          `json:"min_p,omitempty"`
	RepeatPenalty    *float32          `json:"repeat_penalty,omitempty"`
	RepeatLastN      *int              `json:"repeat_last_n,omitempty"`
	PresencePenalty  *float32          `json:"presence_penalty,omitempty"`
	FrequencyPenalty *float32          `json:"frequency_penalty,omitempty"`
	Seed             *uint64           `json:"seed,omitempty"` // absent: random
	Stop             []string          `json:"stop,omitempty"`
	LogitBias        map[int32]float32 `json:"logit_bias,omitempty"`
	IgnoreEOS        bool              `json:"ignore_eos,omitempty"`
}

// GenerateReply is the whole answer to a GenerateRequest.
type GenerateReply struct {
	ID           string  `json:"id"`
	Model        string  `json:"model"`
	Digest       string  `json:"digest"`
	Route        string  `json:"route"` // "n1[0:10] n2[10:20]"
	Text         string  `json:"text"`
	Tokens       []Token `json:"tokens"`
	FinishReason string  `json:"finish_reason"` // stop or length
	StopString   string  `json:"stop_string,omitempty"`
	Usage        Usage   `json:"usage"`
	Timings      Timings `json:"timings"`
}

// Token is one token of an answer; Logprob and Top are there if asked for.
type Token struct {
	ID      int32      `json:"id"`
	Text    string     `json:"text"` // U+FFFD where the token is only a part of a character
	Logprob *float32   `json:"logprob,omitempty"`
	Top     []TopToken `json:"top,omitempty"`
}

// TopToken is an alternative to a token.
type TopToken struct {
	ID      int32   `json:"id"`
	Text    string  `json:"text"`
	Logprob float32 `json:"logprob"`
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int `json:"prompt_tokens"`
	CompletionTokens int `json:"completion_tokens"`
}

// Timings of one answer, measured at the gateway.
type Timings struct {
	QueueMS   float64 `json:"queue_ms"`   // until a route was picked
	PrefillMS float64 `json:"prefill_ms"` // until the first token
	DecodeMS  float64 `json:"decode_ms"`  // from the first token to the last
}

// The kinds of GenerateEvent, in the order in which they come.
const (
	EventStart = "start" // once: ID, Model, Digest, Route, Usage.PromptTokens
	EventText  = "text"  // any number: Text, Tokens
	EventEnd   = "end"   // at last: FinishReason, StopString, Usage, Timings
	EventError = "error" // instead of the end: Error
)

// GenerateEvent is one step of a streamed answer; Type says which fields are set. A stream without an end or an error was
// cut off.
type GenerateEvent struct {
	Type         string   `json:"type"`
	ID           string   `json:"id,omitempty"`
	Model        string   `json:"model,omitempty"`
	Digest       string   `json:"digest,omitempty"`
	Route        string   `json:"route,omitempty"`
	Text         string   `json:"text,omitempty"`
	Tokens       []Token  `json:"tokens,omitempty"`
	FinishReason string   `json:"finish_reason,omitempty"`
	StopString   string   `json:"stop_string,omitempty"`
	Usage        *Usage   `json:"usage,omitempty"`
	Timings      *Timings `json:"timings,omitempty"`
	Error        *Error   `json:"error,omitempty"`
}

// TokenizeRequest is the body of POST /v1/infer/tokenize. Special says whether names of special tokens in the text mean
// those tokens.
type TokenizeRequest struct {
	Model   string `json:"model"`
	Text    string `json:"text"`
	Special bool   `json:"special,omitempty"`
}

// TokenizeReply answers it.
type TokenizeReply struct {
	Tokens []int32 `json:"tokens"`
}

// DetokenizeRequest is the body of POST /v1/infer/detokenize.
type DetokenizeRequest struct {
	Model  string  `json:"model"`
	Tokens []int32 `json:"tokens"`
}

// DetokenizeReply answers it.
type DetokenizeReply struct {
	Text string `json:"text"`
}

// Error is what went wrong. It stands in an ErrorReply, or in the last event of a stream.
type Error struct {
	Message   string `json:"message"`
	Type      string `json:"type"`
	Param     string `json:"param,omitempty"` // the field at fault
	Code      string `json:"code"`
	RequestID string `json:"request_id,omitempty"`
	// Retryable says that the same request may succeed later.
	Retryable bool `json:"retryable,omitempty"`
	// EmittedTokens is how many tokens of the answer had been sent before.
	EmittedTokens int `json:"emitted_tokens,omitempty"`
	// Status is the HTTP status; the client fills it in.
	Status int `json:"-"`
}

// Error is the message with the code.
func (e *Error) Error() string {
	if e.Code == "" {
		return e.Message
	}
	return e.Message + " (" + e.Code + ")"
}

// ErrorReply is the body of every answer that is not 2xx.
type ErrorReply struct {
	Error Error `json:"error"`
}
