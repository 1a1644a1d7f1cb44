package pipeline

import "lamina/shard"

// BlockLen is the number of positions in a block of KV cache: the unit in which it is reserved and shared.
const BlockLen = shard.BlockLen

// Key names a block of KV cache by whose it is, the model, and all tokens up to its end.
type Key = shard.Key

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
	// NewSeq opens a sequence that may grow to max positions. What is cached under the longest run of prefix, from the first
	// key on, is shared into it: Len is then a multiple of BlockLen. Nothing else is reserved.
	NewSeq(max int, prefix []Key) (Seq, error)
	// Capacity is how many positions one sequence may have if there is no other; 0 means any number.
	Capacity() int
	// Step advances each entry's sequence by its rows, at most one entry per sequence. The result of an entry is its
	// rows' activations (rows x Hidden) or, of the last span, the logits of its last Logits rows (Logits x Vocab).
	// Results are valid until the next Step, and the caller may overwrite them.
	Step(batch []Rows) ([][]float32, error)
}

// Seq is a sequence's KV in one shard.
type Seq interface {
	// Len is the number of positions held.
	Len() int
	// Reserve makes room for n positions in all; the error wraps ErrNoMemory when there is none, and nothing has changed.
	Reserve(n int) error
	// Rewind forgets the positions from pos on. What was reserved beyond may be lost.
	Rewind(pos int)
	// Name tells the keys of the first blocks: sequences that are opened with them share the blocks, which stay cached after
	// Free as long as there is memory. They must be the keys of what was stepped.
	Name(keys []Key)
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
