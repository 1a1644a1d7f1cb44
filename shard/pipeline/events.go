package pipeline

import "time"

// Events are called by a Host as things happen; nil functions are skipped. They are called from the stages'
// goroutines: they must be quick and must not call the Host.
type Events struct {
	// Chunk: a stage has computed a chunk of a prompt.
	Chunk func(StageInfo, ChunkStats)
	// Closed: a sequence has left a stage. Called once for each sequence that was opened there.
	Closed func(StageInfo, DecodeStats)
	// Panicked: a step panicked. The stage's sequences have failed; the stage goes on.
	Panicked func(info StageInfo, value any, stack []byte)
}

// StageInfo says where something happened.
type StageInfo struct {
	Trace      string // W3C traceparent from the Open frame
	Seq        uint64
	Model      string
	Node       string
	Index      int // of the hop
	First, End int // layers
}

// ChunkStats is one chunk at one stage.
type ChunkStats struct {
	Start, End time.Time     // of the step that computed it
	Queue      time.Duration // from arrival to Start
	Compute    time.Duration // of the whole step, shared with the rows that were stepped together
	Pos, Count int
}

// DecodeStats sums up the decoding steps of a sequence at a stage. Queue and Compute count the whole time that its
// rows waited or were in a step. Wire is known at stage 0 only: the time that went round the ring outside of
// any stage's queue and compute.
type DecodeStats struct {
	Tokens               int
	Guesses, Right       int // stage 0: tokens that were guessed, and of these were right
	Compute, Queue, Wire time.Duration
	First, Last          time.Time // end of the first and of the last step; zero without one
	Outcome              Outcome
}

// Outcome is how a sequence ended at a stage.
type Outcome uint8

// The outcomes; each sequence has exactly one.
const (
	OutcomeDone      Outcome = iota + 1 // its last token was made
	OutcomeFailed                       // a stage, a peer or time failed it
	OutcomeCancelled                    // the gateway closed it
)

func (o Outcome) String() string {
	switch o {
	case OutcomeDone:
		return "done"
	case OutcomeFailed:
		return "failed"
	case OutcomeCancelled:
		return "cancelled"
	}
	return "none"
}
