package pipeline

import (
	"errors"
	"fmt"

	"lamina/shard"
)

// ForShard makes a Stepper of a shard. The shard stays the caller's to close, after the stage has been stopped.
func ForShard(sh *shard.Shard) Stepper {
	i, s := sh.Info(), sh.Span()
	return &shardStepper{sh: sh, shape: Shape{
		First: s.First, End: s.End, Layers: i.Layers, Hidden: i.Hidden, Vocab: i.Vocab, Context: i.Context,
	}}
}

type shardStepper struct {
	sh    *shard.Shard
	shape Shape
	batch []shard.Rows
}

var _ Stepper = (*shardStepper)(nil)

// Shape describes the shard.
func (s *shardStepper) Shape() Shape { return s.shape }

// NewSeq opens a sequence of the shard.
func (s *shardStepper) NewSeq(max int, prefix []Key) (Seq, error) {
	q, err := s.sh.NewSeq(max, prefix)
	if err != nil {
		return nil, err
	}
	return shardSeq{q}, nil
}

// Capacity is what the budget holds.
func (s *shardStepper) Capacity() int {
	st := s.sh.KVStats()
	if st.Budget == 0 {
		return 0
	}
	return max(int(st.Budget/st.BlockBytes)*BlockLen, 1)
}

// shardSeq speaks of memory in this package's words.
type shardSeq struct{ *shard.Seq }

// Reserve implements Seq.
func (q shardSeq) Reserve(n int) error {
	err := q.Seq.Reserve(n)
	if errors.Is(err, shard.ErrNoMemory) {
		return fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	return err
}

// Step steps the shard.
func (s *shardStepper) Step(batch []Rows) ([][]float32, error) {
	s.batch = s.batch[:0]
	for i := range batch {
		r := &batch[i]
		q, ok := r.Seq.(shardSeq)
		if !ok {
			return nil, fmt.Errorf("entry %d: a sequence of type %T is not of this shard", i, r.Seq)
		}
		s.batch = append(s.batch, shard.Rows{Seq: q.Seq, Tokens: r.Tokens, X: r.X, Logits: r.Logits})
	}
	return s.sh.Step(s.batch)
}
