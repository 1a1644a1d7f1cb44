package shard

import (
	"fmt"

	"lamina/kernels"
)

// Seq is one sequence's cache in a Shard. It belongs to one goroutine at a time; Rewind and Free must
// not be called during a Step that has the sequence among its rows.
type Seq struct {
	shard *Shard // nil after Free
	kv    []*kernels.KV
	max   int
	bytes int64 // reserved
	mark  uint64
}

// NewSeq opens a sequence of at most max positions and reserves the memory of its cache, so that no
// later step can run out of it. The memory itself is taken as the sequence grows. It fails with
// ErrNoMemory or ErrContext.
func (s *Shard) NewSeq(max int) (*Seq, error) {
	if max < 1 || max > s.info.Context {
		return nil, fmt.Errorf("%w: %d positions asked for, the model has %d", ErrContext, max, s.info.Context)
	}
	need := s.info.KVBytes(s.span, max)
	if err := s.reserve(need); err != nil {
		return nil, fmt.Errorf("%w for %d positions", err, max)
	}
	q := &Seq{shard: s, kv: make([]*kernels.KV, s.span.Layers()), max: max, bytes: need}
	for i := range q.kv {
		q.kv[i] = kernels.NewKV(s.info.KVHeads, s.info.HeadDim)
	}
	return q, nil
}

func (s *Shard) reserve(need int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	if b := s.opt.KVBudget; b > 0 && need > b-s.reserved {
		return fmt.Errorf("%w: %d bytes needed, %d of %d free", ErrNoMemory, need, b-s.reserved, b)
	}
	s.reserved += need
	return nil
}

// Reserved returns the bytes that the open sequences have reserved.
func (s *Shard) Reserved() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reserved
}

// Len returns the number of positions in the cache.
func (q *Seq) Len() int {
	if q.shard == nil {
		return 0
	}
	return q.kv[0].Len()
}

// Rewind forgets the positions from pos on; the next row is at pos. Beyond Len it does nothing.
func (q *Seq) Rewind(pos int) {
	if q.shard == nil || pos >= q.Len() {
		return
	}
	for _, kv := range q.kv {
		kv.Truncate(max(pos, 0))
	}
}

// Free gives the sequence's memory back. Freeing twice does nothing.
func (q *Seq) Free() {
	s := q.shard
	if s == nil {
		return
	}
	q.shard, q.kv = nil, nil
	s.mu.Lock()
	s.reserved -= q.bytes
	s.mu.Unlock()
}
