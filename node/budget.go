package node

import (
	"fmt"
	"sync"
	"time"

	"lamina/shard"
	"lamina/shard/pipeline"
)

// A budget is the memory that this node gives to weights and KV caches. Weights are taken by the keeper when it loads a
// span; what they leave is shared by the sequences of all stages, each of which reserves its cache at admission.
// The planner counts on less (plan.SpanBytes reserves KV room for each placement), so a loaded span always leaves
// some room; a model that nobody asks leaves its part to the others.
type budget struct {
	total int64
	mu    struct {
		sync.Mutex
		weights int64
		kv      int64
	}
}

// errNoRoom: the weights of a span do not fit this node.
type errNoRoom struct{ need, free int64 }

func (e errNoRoom) Error() string {
	return fmt.Sprintf("the span's weights take %d MiB, %d MiB of this node's memory are free", e.need>>20, e.free>>20)
}

func (b *budget) takeWeights(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := b.total - b.mu.weights; n > free {
		return errNoRoom{n, free}
	}
	b.mu.weights += n
	return nil
}

func (b *budget) giveWeights(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.weights -= n
}

func (b *budget) takeKV(n int64) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if free := b.total - b.mu.weights - b.mu.kv; n > free {
		return fmt.Errorf("%w: its KV cache takes %d MiB here, %d MiB are free", pipeline.ErrNoMemory, (n+1<<20-1)>>20, max(free, 0)>>20)
	}
	b.mu.kv += n
	return nil
}

func (b *budget) giveKV(n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.mu.kv -= n
}

// free is what is neither weights nor reserved for sequences.
func (b *budget) free() int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(0, b.total-b.mu.weights-b.mu.kv)
}

// used is what weights and sequences take.
func (b *budget) used() (weights, kv int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.weights, b.mu.kv
}

// stepper is a shard whose sequences share the node's budget.
type stepper struct {
	pipeline.Stepper
	info   shard.Info
	span   shard.Span
	budget *budget
	meter  *meter
	model  string // digest
	// bytes of weights that a step gets through for a token of an answer, and of a prompt
	answer, prompt float64
	batch          []pipeline.Rows // scratch of Step
}

// NewSeq implements pipeline.Stepper.
func (s *stepper) NewSeq(max int) (pipeline.Seq, error) {
	n := s.info.KVBytes(s.span, max)
	if err := s.budget.takeKV(n); err != nil {
		return nil, err
	}
	q, err := s.Stepper.NewSeq(max)
	if err != nil {
		s.budget.giveKV(n)
		return nil, err
	}
	s.meter.sequence(s.model, 1)
	return &budgetSeq{Seq: q, n: n, stepper: s}, nil
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
		if q, ok := s.batch[i].Seq.(*budgetSeq); ok {
			s.batch[i].Seq = q.Seq
		}
	}
	begun := time.Now()
	res, err := s.Stepper.Step(s.batch)
	if err == nil {
		s.meter.step(s.model, rows, s.answer, s.prompt, time.Since(begun))
	}
	return res, err
}

// budgetSeq gives its part of the budget back when it is freed.
type budgetSeq struct {
	pipeline.Seq
	n       int64
	stepper *stepper
	once    sync.Once
}

// Free implements pipeline.Seq.
func (q *budgetSeq) Free() {
	q.Seq.Free()
	q.once.Do(func() {
		q.stepper.budget.giveKV(q.n)
		q.stepper.meter.sequence(q.stepper.model, -1)
	})
}
