package node

import (
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"lamina/shard"
	"lamina/shard/pipeline"
)

// stepper is a shard whose sequences and steps are measured.
type stepper struct {
	pipeline.Stepper
	info  shard.Info
	span  shard.Span
	meter *meter
	model string // digest
	// bytes of weights that a step gets through for a token of an answer, and of a prompt
	answer, prompt float64
	fault          func(error)     // is told that the weights cannot be read
	batch          []pipeline.Rows // scratch of Step
}

// NewSeq implements pipeline.Stepper.
func (s *stepper) NewSeq(max int, prefix []pipeline.Key) (pipeline.Seq, error) {
	q, err := s.Stepper.NewSeq(max, prefix)
	if err != nil {
		return nil, err
	}
	s.meter.sequence(s.model, 1)
	return &countedSeq{Seq: q, stepper: s}, nil
}

// Step implements pipeline.Stepper: the shard gets its own sequences.
func (s *stepper) Step(batch []pipeline.Rows) ([][]float32, error) {
	s.batch = append(s.batch[:0], batch...)
	rows := 0
	for i := range s.batch {
		if r := &s.batch[i]; s.span.First == 0 {
			rows += len(r.Tokens)
		} else {
			rows += len(r.X) / s.info.Hidden
		}
		if q, ok := s.batch[i].Seq.(*countedSeq); ok {
			s.batch[i].Seq = q.Seq
		}
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			if err, ok := p.(faultError); ok {
				s.fault(fmt.Errorf("a file of the model was cut short or its disk cannot be read: %w", err))
			}
			panic(p) // the pipeline fails the sequences
		}
	}()
	begun := time.Now()
	res, err := s.Stepper.Step(s.batch)
	if err == nil {
		s.meter.step(s.model, rows, s.answer, s.prompt, time.Since(begun))
	}
	return res, err
}

// faultError is what the runtime panics with when memory cannot be read.
type faultError interface {
	error
	Addr() uintptr
}

// countedSeq is counted until it is freed.
type countedSeq struct {
	pipeline.Seq
	stepper *stepper
	once    sync.Once
}

// Free implements pipeline.Seq.
func (q *countedSeq) Free() {
	q.Seq.Free()
	q.once.Do(func() { q.stepper.meter.sequence(q.stepper.model, -1) })
}
