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

// NewSeq reserves KV in the shard.
func (s *shardStepper) NewSeq(max int) (Seq, error) {
	q, err := s.sh.NewSeq(max, nil)
	if err == nil {
		if err = q.Reserve(max); err != nil {
			q.Free()
		}
	}
	if errors.Is(err, shard.ErrNoMemory) {
		return nil, fmt.Errorf("%w: %w", ErrNoMemory, err)
	}
	if err != nil {
		return nil, err
	}
	return q, nil
}

// Step steps the shard.
func (s *shardStepper) Step(batch []Rows) ([][]float32, error) {
	s.batch = s.batch[:0]
	for i := range batch {
		r := &batch[i]
		q, ok := r.Seq.(*shard.Seq)
		if !ok {
			return nil, fmt.Errorf("entry %d: a sequence of type %T is not of this shard", i, r.Seq)
		}
		s.batch = append(s.batch, shard.Rows{Seq: q, Tokens: r.Tokens, X: r.X, Logits: r.Logits})
	}
	return s.sh.Step(s.batch)
}
