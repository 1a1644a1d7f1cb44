package pipeline

import (
	"errors"
	"fmt"
	"time"

	"lamina/shard/sample"
)

// Hop is a stage of a route: the layers [First, End) on a node.
type Hop struct {
	Node       string
	First, End int
}

// StageKey names a stage. Epoch is the log index that made the placement, so no two placements in a cluster,
// of whatever model, share one.
type StageKey struct {
	Model string // digest
	Epoch uint64
	Index int
}

// Sender takes frames to other nodes, in order per destination. Send must not block for long and must not keep
// the frame or its slices. An error means that the node cannot be reached. Frames to the Host's own node
// never come here.
type Sender interface {
	Send(to string, f *Frame) error
}

// Gatherer is what a Sender may be besides: SendMore is Send with the word that another frame for the same node follows at
// once, so that both can leave in one write.
type Gatherer interface {
	SendMore(to string, f *Frame) error
}

// Request asks for one sequence.
type Request struct {
	// Seq is unique in the cluster, from a cryptographic random source.
	Seq    uint64
	Model  string // digest
	Epoch  uint64
	Route  []Hop
	Tokens []int32
	// Tenant is whose request it is: stages share their time fairly between tenants.
	Tenant string
	// MaxNew bounds the answer; 0 runs the prompt only (PromptLogprobs).
	MaxNew   int
	EOS      []int32
	Sampling sample.Params
	// PromptLogprobs reports the log probability of every prompt token but the first before the answer begins.
	PromptLogprobs bool
	Trace          string    // W3C traceparent, or empty
	Deadline       time.Time // zero: none but the context's
	// Born is when the request came, if that was earlier than Generate; older sequences come before younger ones where
	// memory is short.
	Born time.Time
}

// Reason says why a sequence is complete.
type Reason uint8

// The reasons.
const (
	ReasonNone   Reason = iota
	ReasonEOS           // the model chose one of Request.EOS
	ReasonLength        // MaxNew tokens were made
)

func (r Reason) String() string {
	switch r {
	case ReasonEOS:
		return "eos"
	case ReasonLength:
		return "length"
	}
	return "none"
}

// Token is a token as Generate hands it over.
type Token struct {
	sample.Token
	// Index counts the generated tokens from 0; of a prompt token it is its place in the prompt.
	Index int
	// Prompt marks a token of the prompt (Request.PromptLogprobs).
	Prompt bool
	// Last marks the end of the sequence, and Reason says why.
	Last   bool
	Reason Reason
}

// Stats closes a sequence.
type Stats struct {
	PromptTokens int
	Tokens       int // generated and handed over
	Chunks       int // the prompt went out in so many
	Cached       int // tokens of the prompt that no stage had to compute
	Attempts     int // how often it was taken in anew, after a stage had no memory for it
	Reason       Reason
	Started      time.Time
	First, Last  time.Time // arrival of the first and the last token; zero if there was none
}

// Errors besides Broken, Refused and the context's (a passed Request.Deadline is context.DeadlineExceeded too).
var (
	// ErrRequest: the request cannot be run as it stands; the text names the field.
	ErrRequest = errors.New("invalid pipeline request")
	// ErrClosed: the Host is closed.
	ErrClosed = errors.New("pipeline host is closed")
	// ErrDeadline: Request.Deadline, or the longest life of a sequence, has passed.
	ErrDeadline = errors.New("deadline of the sequence has passed")
	// ErrStop, returned by emit, ends the sequence without an error of Generate.
	ErrStop = errors.New("stop the sequence")
	// ErrNoMemory is wrapped by Seq.Reserve when the KV cache has no room.
	ErrNoMemory = errors.New("no memory for the sequence")
	// ErrServed: Serve was called for a stage that is served already.
	ErrServed = errors.New("stage is already served")
)

// Broken reports that a hop is gone.
type Broken struct {
	Node string
	Err  error
}

func (e *Broken) Error() string { return fmt.Sprintf("node %s is lost: %v", e.Node, e.Err) }

// Unwrap returns the cause.
func (e *Broken) Unwrap() error { return e.Err }

// Refused reports that a stage gave the sequence up.
type Refused struct {
	Node string
	Kind FailKind
	Text string
}

func (e *Refused) Error() string {
	return fmt.Sprintf("node %s refused the sequence: %v: %s", e.Node, e.Kind, e.Text)
}

// Limits bound what a Host takes on. Zero fields stand for the defaults.
type Limits struct {
	// Sequences at one stage at most; more are refused as Overloaded. Default 256.
	Sequences int
	// QueuedRows of prompts waiting at one stage at most. Default 16384. New sequences are refused from half of it on.
	QueuedRows int
	// ChunkRows is the longest chunk a gateway sends. Default 256.
	ChunkRows int
	// GroupRows bounds the prompt rows of a step. Default 256.
	GroupRows int
	// MixedRows bounds the prompt rows of a step while other sequences decode, until the stage has measured how many it can
	// bear. Default 64.
	MixedRows int
	// GroupDecodes bounds the decoding sequences of a step. Default 64.
	GroupDecodes int
	// Guesses is how many tokens may be guessed and checked along with one, where that pays; negative: none. Default 7, the most.
	Guesses int
	// LogitBytes bounds the logits of the prompts that are scored in a step at the tail. Default 8 MiB.
	LogitBytes int
	// Life is how long a sequence may live if its request has no deadline. Default 1 h.
	Life time.Duration
	// Waiting is how many sequences may wait at a gateway for memory in the stages of one route, and WaitingTokens how many tokens
	// they may have; more are refused as Overloaded. Default 256 and 262144. Running answers that wait again count, but
	// are never refused.
	Waiting, WaitingTokens int
	// Patience is how long a sequence waits that has not begun. Default 30 s.
	Patience time.Duration
	// Tombstones is how many ended sequences a stage remembers. Default 4096.
	Tombstones int
}

func (l Limits) withDefaults() Limits {
	def := func(v *int, d int) {
		if *v <= 0 {
			*v = d
		}
	}
	def(&l.Sequences, 256)
	def(&l.QueuedRows, 16384)
	def(&l.ChunkRows, 256)
	def(&l.GroupRows, 256)
	def(&l.MixedRows, 64)
	def(&l.GroupDecodes, 64)
	def(&l.LogitBytes, 8<<20)
	if l.Guesses == 0 {
		l.Guesses = maxGuesses
	}
	def(&l.Tombstones, 4096)
	def(&l.Waiting, 256)
	def(&l.WaitingTokens, 1<<18)
	if l.Patience <= 0 {
		l.Patience = 30 * time.Second
	}
	if l.Life <= 0 {
		l.Life = time.Hour
	}
	return l
}

// Load is how busy a Host's stages are.
type Load struct {
	Sequences  int // live at the stages of this node
	QueuedRows int // waiting for a step
	Driving    int // sequences this node is the gateway of
	Waiting    int // of these, for memory in the stages
}

// Dropped counts frames that had no effect.
type Dropped struct {
	Stale     uint64 // of an earlier attempt, or of a sequence that has ended
	Duplicate uint64 // of a position already taken
	Foreign   uint64 // from a node that has no part in it
	Unknown   uint64 // for a stage or sequence not here
}

// HostConfig is what a Host needs. It is copied by NewHost.
type HostConfig struct {
	Self   string // name of this node
	Send   Sender
	Events Events
	Limits Limits
	Clock  func() time.Time // default time.Now
}
