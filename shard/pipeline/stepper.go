package pipeline

// Shape is what a pipeline needs to know of a shard.
type Shape struct {
	First, End int // its layers
	Layers     int // of the model
	Hidden     int // values of a row between stages
	Vocab      int
	Context    int // positions a sequence may have
}

// Stepper computes a span of a model's layers; ForShard makes one of a shard.Shard. Its methods are called from one
// goroutine at a time.
type Stepper interface {
	Shape() Shape
	// NewSeq reserves KV for max positions; the error wraps ErrNoMemory when there is no room.
	NewSeq(max int) (Seq, error)
	// Step advances each entry's sequence by its rows, at most one entry per sequence. The result of an entry is its
	// rows' activations (rows x Hidden) or, of the last span, the logits of its last Logits rows (Logits x Vocab).
	// Results are valid until the next Step, and the caller may overwrite them.
	Step(batch []Rows) ([][]float32, error)
}

// Seq is a sequence's KV in one shard.
type Seq interface {
	// Len is the number of positions held.
	Len() int
	// Rewind forgets the positions from pos on.
	Rewind(pos int)
	// Free gives the memory back; the Seq must not be used after.
	Free()
}

// Rows are consecutive positions of one sequence, from its Len on.
type Rows struct {
	Seq    Seq
	Tokens []int32   // the first span's input
	X      []float32 // the other spans' input: rows x Hidden
	Logits int       // last span: how many of the last rows want logits
}
