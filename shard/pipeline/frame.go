package pipeline

import (
	"sync"
	"time"

	"lamina/shard/sample"
)

// Kind says what a frame is. The numbers are on the wire: a kind is never renumbered or used again.
type Kind uint8

// The kinds of frames.
const (
	KindOpen   Kind = 1 // begins a sequence at a stage, or begins its next attempt; carries Frame.Open
	KindStep   Kind = 2 // rows of a sequence: tokens for stage 0, activations for the others
	KindToken  Kind = 3 // what the tail chose, or the log probabilities of the prompt
	KindCredit Kind = 4 // the tail is done with the prompt up to Pos
	KindClose  Kind = 5 // ends a sequence; never answered
	KindFail   Kind = 6 // a stage gave the sequence up; carries Frame.Fail
	KindReady  Kind = 7 // all stages have taken the sequence in, and hold it up to Pos already
)

var kindNames = [...]string{
	KindOpen: "open", KindStep: "step", KindToken: "token", KindCredit: "credit", KindClose: "close", KindFail: "fail", KindReady: "ready",
}

// Valid tells whether k is a kind of this version.
func (k Kind) Valid() bool { return k >= KindOpen && k <= KindReady }

func (k Kind) String() string {
	if !k.Valid() {
		return "unknown"
	}
	return kindNames[k]
}

// Flags qualify a frame; the bits are on the wire and never change their meaning.
type Flags uint8

// The flags.
const (
	// FlagPrompt marks a Step as a chunk of the prompt (the tail answers with a Credit) and a Token as scores of the prompt.
	FlagPrompt Flags = 1 << iota
	// FlagSample asks the tail to choose a token after the last row of this Step.
	FlagSample
	// FlagLast marks the Token that ends a sequence (Count 0: there is none, the prompt alone was asked for), and a Close
	// because it is complete.
	FlagLast
	// FlagEOS tells with FlagLast that the model ended its answer; without it the length was reached. On a Close it says that it
	// is the gateway's own, after which no more is told of the sequence.
	FlagEOS
	// FlagCopy marks a Token or Ready for stage 0 that the gateway, being the same node, takes too.
	FlagCopy
	// FlagMore marks a decoding row, or a Token for stage 0, behind which others of the same step follow at once.
	FlagMore
)

const knownFlags = FlagPrompt | FlagSample | FlagLast | FlagEOS | FlagCopy | FlagMore

// Valid tells whether only flags of this version are set.
func (f Flags) Valid() bool { return f&^knownFlags == 0 }

// Gateway is the Stage number of frames that are for the gateway's driver.
const Gateway = 0xFFFF

// MaxHops bounds a route.
const MaxHops = 256

// Frame is one message of a sequence. A Frame given to Sender.Send is lent for the call: whoever keeps it copies it.
// A Frame given to Host.Deliver belongs to the Host, which calls Release when it is done.
type Frame struct {
	Kind    Kind
	Flags   Flags
	Stage   uint16 // index of the hop it is for, or Gateway
	Seq     uint64 // the sequence, unique in the cluster
	Epoch   uint64 // the placement (log index that made it)
	Attempt uint32 // raised when a sequence goes on over another route; lower ones are stale
	Pos     uint32 // Step: position of the first row; Token: position the token will have; Credit: end of what is done; Open: position to rewind to; Ready: end of what is cached
	Count   uint32 // Step: rows; Token: tokens; Credit: rows that take as long as the fixed part of a step, 0: not known
	Spent   uint32 // microseconds of queue and compute in stages 1.. since the rows left stage 0; saturates

	ID     int32          // Token: the token, if Count is 1
	Tokens []int32        // Step for stage 0; Step for the others: guesses, the tokens of all rows but the first; Token: if Count is not 1
	X      []float32      // Step for the others: Count rows of Hidden values
	Scores []sample.Token // Token, if log probabilities were asked for; one per token
	Open   *OpenRequest   // Open
	Fail   *Failure       // Fail
	Keys   []Key          // Close from the gateway: the names of the sequence's full blocks

	pool *FramePool
}

// Release gives the frame and its buffers back to the pool it came from, if any. The frame must not be used after.
func (f *Frame) Release() {
	if f.pool != nil {
		f.pool.put(f)
	}
}

// has tells whether the flag is set.
func (f *Frame) has(flag Flags) bool { return f.Flags&flag != 0 }

// tokens are those of a Token frame.
func (f *Frame) tokens() []int32 {
	if f.Count == 1 && len(f.Tokens) == 0 {
		return []int32{f.ID}
	}
	return f.Tokens
}

// last is the last token of a Token frame.
func (f *Frame) last() int32 {
	if n := len(f.Tokens); n > 0 {
		return f.Tokens[n-1]
	}
	return f.ID
}

// circles tells whether the frame carries a decoding sequence on its round.
func (f *Frame) circles() bool {
	return f.Stage != Gateway && !f.has(FlagPrompt) && (f.Kind == KindStep || f.Kind == KindToken)
}

// OpenRequest is what the stages need to know of a sequence; it travels from stage to stage ahead of the first chunk.
type OpenRequest struct {
	Model     string // digest
	Route     []Hop
	Gateway   string // node
	Tenant    string // whose it is: stages share their time fairly between tenants
	Born      int64  // when the request came, in microseconds of the Unix epoch: where memory is short, older ones go first
	Positions int    // the most that it may grow to
	Prompt    int    // tokens of the prompt
	Known     int    // tokens so far: the prompt and, in a later attempt, what has been generated
	MaxNew    int    // tokens to generate at most, of all attempts; 0: the prompt alone
	Keys      []Key  // names of the full blocks of the known tokens, without one that holds the last of them
	Match     int    // positions that all stages passed so far have cached under Keys; the gateway sets it to all of these
	EOS       []int32
	Sampling  sample.Params
	// PromptLogprobs asks for the log probabilities of the prompt's tokens.
	PromptLogprobs bool
	// History is the end of the known tokens, as far as the tail needs it (penalties, PromptLogprobs).
	History []int32
	Trace   string        // W3C traceparent, or empty
	TTL     time.Duration // a stage gives the sequence up after this time; relative, since clocks differ
}

// Failure says why a stage gave a sequence up.
type Failure struct {
	Kind FailKind
	Node string // who failed; of PeerLost: who was lost
	Text string
}

// FailKind is the closed list of reasons. The numbers are on the wire: never renumbered or used again.
type FailKind uint8

// The reasons.
const (
	NotLoaded  FailKind = 1  // the node has no such stage
	WrongEpoch FailKind = 2  // the node serves the model under another placement
	NoMemory   FailKind = 3  // the KV cache would not hold the sequence if it were the only one
	Overloaded FailKind = 4  // too many sequences or rows wait
	BadFrame   FailKind = 5  // a frame that cannot be right
	Draining   FailKind = 6  // the stage is being stopped
	Internal   FailKind = 7  // the step failed
	Cancelled  FailKind = 8  // the gateway ended it
	PeerLost   FailKind = 9  // the gateway, the previous or the next hop is gone
	Expired    FailKind = 10 // the sequence's time is over
	Preempted  FailKind = 11 // an older sequence needs the memory, or there is none left by older ones
)

var failNames = [...]string{
	NotLoaded: "not loaded", WrongEpoch: "wrong epoch", NoMemory: "no memory", Overloaded: "overloaded",
	BadFrame: "bad frame", Draining: "draining", Internal: "internal error", Cancelled: "cancelled",
	PeerLost: "peer lost", Expired: "expired", Preempted: "preempted",
}

// Valid tells whether k is a reason of this version.
func (k FailKind) Valid() bool { return k >= NotLoaded && k <= Preempted }

func (k FailKind) String() string {
	if !k.Valid() {
		return "unknown"
	}
	return failNames[k]
}

// FramePool recycles frames and their buffers. The zero value is ready; it is safe for concurrent use.
type FramePool struct{ p sync.Pool }

// Get returns an empty frame whose slices may have capacity left from an earlier life.
func (p *FramePool) Get() *Frame {
	if f, ok := p.p.Get().(*Frame); ok {
		f.pool = p
		return f
	}
	return &Frame{pool: p}
}

func (p *FramePool) put(f *Frame) {
	*f = Frame{Tokens: f.Tokens[:0], X: f.X[:0]}
	p.p.Put(f)
}

// Copy returns a frame from the pool with the same content. Slices of numbers are copied; Open, Fail, Keys and Scores
// are shared, for nobody changes them once sent.
func (p *FramePool) Copy(f *Frame) *Frame {
	c := p.Get()
	tokens, x := append(c.Tokens[:0], f.Tokens...), append(c.X[:0], f.X...)
	*c = *f
	c.Tokens, c.X, c.pool = tokens, x, p
	return c
}
