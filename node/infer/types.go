package infer

import (
	"errors"
	"time"

	"lamina/shard/sample"
)

// Message is one turn of a chat, as the template sees it.
type Message struct {
	Role    string // system, user, assistant or tool
	Content string
	Name    string
}

// Request asks for text from a language model. Exactly one of Messages, Prompt and Tokens is set:
// Messages goes through the model's chat template, Prompt is tokenized as it is (with a leading BOS
// where the model wants one), Tokens is taken as the ids themselves.
type Request struct {
	ID       string // for logs and traces; made by the caller
	Model    string // name in the cluster
	Messages []Message
	Prompt   string
	Tokens   []int32
	// MaxTokens bounds the answer; 0 means as far as the context reaches.
	MaxTokens int
	// PromptOnly asks for no answer, only for what Echo shows of the prompt; MaxTokens does not count then.
	PromptOnly bool
	Sampling   sample.Params
	// Stop holds strings that end the answer; they are not part of it.
	Stop []string
	// IgnoreEOS goes on past the model's end-of-answer tokens (benchmarks).
	IgnoreEOS bool
	// Echo repeats the prompt's tokens (and their log probabilities, if asked) before the answer.
	Echo bool
	// Key groups requests that share a prefix (prompt_cache_key, a session); empty: taken from the prompt.
	Key string
}

// TokenLogprob is a token with its log probability under the model's own distribution
// (before temperature and truncation).
type TokenLogprob struct {
	ID      int32
	Bytes   []byte
	Logprob float32
	// NoLogprob marks the first token of an echoed prompt, which nothing predicts.
	NoLogprob bool
}

// TokenInfo is one emitted token: the text it completes and, if asked for, log probabilities.
type TokenInfo struct {
	TokenLogprob
	Top []TokenLogprob
}

// Event is one step of a running answer. Text is valid UTF-8 and may be empty while a character is
// incomplete or a stop string might be forming; Tokens are those whose text is settled by it.
type Event struct {
	Text   string
	Tokens []TokenInfo
}

// FinishReason says why an answer ended.
type FinishReason string

// The reasons; the strings are OpenAI's.
const (
	FinishStop   FinishReason = "stop"
	FinishLength FinishReason = "length"
)

// Started is told once, before the first Event: what was agreed for the request.
type Started struct {
	Model        string
	Digest       string
	Route        string // "n1[0:10] n2[10:20]"
	PromptTokens int
}

// Result closes an answer.
type Result struct {
	Finish           FinishReason
	StopString       string
	PromptTokens     int
	CachedTokens     int // of the prompt, that no node had to compute
	CompletionTokens int
	Timings          Timings
}

// Timings of one answer, measured at the gateway.
type Timings struct {
	Queue   time.Duration // until the route was picked
	Prefill time.Duration // until the first token
	Decode  time.Duration // from the first token to the last
}

// ModelInfo describes a model that can be asked for.
type ModelInfo struct {
	Name    string
	Digest  string
	Arch    string
	Layers  int
	Context int
	Vocab   int
	Created time.Time
	Ready   bool // at least one replica serves
	Chat    bool // has a chat template
}

// Errors of a request. The server maps them to HTTP in one table; each is wrapped with the particulars.
var (
	// ErrInvalid: the request cannot be answered as it stands; the text names the field and what to do.
	ErrInvalid = errors.New("invalid request")
	// ErrModelNotFound: no model of that name.
	ErrModelNotFound = errors.New("model not found")
	// ErrContextLength: prompt and asked-for answer do not fit the model's context.
	ErrContextLength = errors.New("context length exceeded")
	// ErrModelLoading: the model is known, no replica is ready yet. Try again soon.
	ErrModelLoading = errors.New("model is loading")
	// ErrNoCapacity: not enough free memory on the nodes for this model or sequence. Try again later.
	ErrNoCapacity = errors.New("no capacity")
	// ErrOverloaded: the queue is full. Try again later.
	ErrOverloaded = errors.New("overloaded")
	// ErrNodeLost: a stage was lost during the answer.
	ErrNodeLost = errors.New("a node was lost")
	// ErrDeadline: the request ran into its deadline.
	ErrDeadline = errors.New("deadline exceeded")
	// ErrNoChatTemplate: messages were given for a model that has no chat template.
	ErrNoChatTemplate = errors.New("model has no chat template")
)
