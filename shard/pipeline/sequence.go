package pipeline

import (
	"cmp"
	"fmt"
	"time"

	"lamina/shard/sample"
)

// sequence is one sequence at one stage.
type sequence struct {
	id      uint64
	attempt uint32
	open    *OpenRequest
	prev    string // who sends its rows: the gateway or the previous hop
	next    string // who gets its rows; "" at the tail
	ring    string // with several hops: at stage 0 the tail's node, at the tail stage 0's
	expires time.Time

	kv      Seq  // nil until settled
	match   int  // it may begin at any position up to this one, which is cached
	started bool // its first rows have come
	held    bool // stage 0: until Ready tells where to begin, no row is computed
	rewind  int  // position to rewind to before the next step, or -1
	queued  int  // position after the rows that have arrived
	have    int  // position after the rows that are computed
	grouped bool
	ended   bool
	decodes bool            // a decoding row has been seen: it counts as one of the sequences that circulate
	sampler *sample.Sampler // tail

	tenant *tenant
	listed bool      // scratch of pickPrompts
	began  time.Time // of the last step with a decoding row of it
	mark   uint64    // stage.mixed then

	circle  *circle   // stage 0: the group in which it is on its way round
	guess   *guesser  // stage 0; nil: nothing is guessed
	awaited int       // stage 0: position of the next token
	base    int       // position of the first row that came last
	loose   bool      // guesses came with it: the next rows may begin anywhere behind base
	final   bool      // the gateway has closed it
	names   []Key     // what it then told of the blocks
	left    time.Time // stage 0: when the last row went on
	beside  int       // stage 0: rows that decoded in that step
	stats   DecodeStats
}

// has tells whether node has a part in the sequence that it cannot go on without, seen from this stage.
func (q *sequence) has(node string) bool {
	return node == q.open.Gateway || node == q.prev || node == q.next || node == q.ring
}

// work is rows of a sequence that wait for a step or are in one.
type work struct {
	seq      *sequence
	attempt  uint32
	frame    *Frame                // where the rows are; nil for a token
	token    [1 + maxGuesses]int32 // stage 0: the token and guesses of what follows
	pos      int                   // of the first row that is not computed yet
	count    int                   // rows left
	part     int                   // rows in the running step; 0: none
	flags    Flags
	spent    uint32
	arrived  time.Time
	prompted time.Duration // stage.prompted then

	// Of the sequence, as it was when the step began: the step runs while the owner's lock is free.
	open    *OpenRequest
	sampler *sample.Sampler

	scored []sample.Token // tail: what the step's rows say of the prompt
	chosen []sample.Token // tail: the next tokens, if this part ends with a sampled row: one, and one for each right guess
	err    error
}

// guesses are the tokens of all rows but the first, of a decoding sequence's.
func (w *work) guesses() []int32 {
	if w.frame != nil {
		return w.frame.Tokens
	}
	return w.token[1:w.count]
}

// decodes tells whether the rows are a token's, and not a prompt's.
func (w *work) decodes() bool { return w.flags&FlagPrompt == 0 }

// sampled tells whether the part in the step ends with a row after which a token is chosen.
func (w *work) sampled() bool { return w.flags&FlagSample != 0 && w.part == w.count }

// Bounds of an OpenRequest; the codec checks the same before it allocates.
const (
	MaxName    = 256
	MaxEOS     = 64
	MaxText    = 512
	MaxContext = 1 << 24
)

// validate checks what a stage relies on: that the hop is this node's with the stage's span, and that every number is
// in range. An error is for the gateway to read.
func (o *OpenRequest) validate(self string, index int, sh Shape) error {
	if err := validateRoute(o.Route); err != nil {
		return err
	}
	if index >= len(o.Route) {
		return fmt.Errorf("hop %d of a route of %d", index, len(o.Route))
	}
	if h := o.Route[index]; h.Node != self || h.First != sh.First || h.End != sh.End {
		return fmt.Errorf("hop %d is %s with layers %d to %d, but this is %s with %d to %d", index, h.Node, h.First, h.End, self, sh.First, sh.End)
	}
	if end := o.Route[len(o.Route)-1].End; end != sh.Layers {
		return fmt.Errorf("the route ends at layer %d of %d", end, sh.Layers)
	}
	if o.Prompt < 1 || o.Known < o.Prompt || o.Positions < o.Known || o.MaxNew < 0 || len(o.History) > o.Known {
		return fmt.Errorf("prompt of %d, %d known tokens, %d positions, history of %d do not fit together", o.Prompt, o.Known, o.Positions, len(o.History))
	}
	if o.Positions > sh.Context {
		return fmt.Errorf("%d positions, but the model's context is %d", o.Positions, sh.Context)
	}
	if o.PromptLogprobs && len(o.History) != o.Known {
		return fmt.Errorf("scores of a prompt need all %d tokens, not %d", o.Known, len(o.History))
	}
	if o.Match < 0 || o.Match > len(o.Keys)*BlockLen || o.Match%BlockLen != 0 || len(o.Keys)*BlockLen >= o.Known+BlockLen || o.Match >= o.Known {
		return fmt.Errorf("%d keys and a match of %d positions do not fit %d known tokens", len(o.Keys), o.Match, o.Known)
	}
	return o.Sampling.Validate()
}

// older tells which of two sequences goes first where memory is short: the same one at every stage.
func (q *sequence) older(o *sequence) bool {
	return cmp.Or(cmp.Compare(q.open.Born, o.open.Born), cmp.Compare(q.id, o.id)) < 0
}

// validateRoute checks that the hops cover the layers from 0 on without a gap.
func validateRoute(route []Hop) error {
	if len(route) == 0 || len(route) > MaxHops {
		return fmt.Errorf("a route of %d hops, must be 1 to %d", len(route), MaxHops)
	}
	at := 0
	for i, h := range route {
		if h.First != at || h.End <= h.First || h.Node == "" || len(h.Node) > MaxName {
			return fmt.Errorf("hop %d is %q with layers %d to %d, must begin at %d", i, h.Node, h.First, h.End, at)
		}
		at = h.End
	}
	return nil
}
