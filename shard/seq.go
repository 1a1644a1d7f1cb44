package shard

import (
	"fmt"
	"slices"

	"lamina/kernels"
)

// Seq is one sequence's cache in a Shard: a table of blocks of 64 positions. The first of them may be shared with other
// sequences and are never written to; the rest are its own. It belongs to one goroutine at a time; its methods must not be
// called during a Step that has the sequence among its rows.
type Seq struct {
	shard  *Shard // nil after Free
	blocks []*block
	table  kernels.KVBlocks // their memory
	kv     []kernels.KV     // of each layer, over table
	fixed  int              // so many blocks must not be written to: they are known by a key, or have been offered
	keys   []Key            // names of the first blocks, as they become full
	max    int
	mark   uint64
}

// NewSeq opens a sequence that may grow to max positions. What is cached under the longest run of prefix, from its first
// key on, is shared into it, and Len is then a multiple of BlockLen. No other memory is reserved. An encoder, whose rows
// see later ones, shares nothing. It fails with ErrContext or ErrClosed.
func (s *Shard) NewSeq(max int, prefix []Key) (*Seq, error) {
	if max < 1 || max > s.info.Context {
		return nil, fmt.Errorf("%w: %d positions asked for, the model has %d", ErrContext, max, s.info.Context)
	}
	q := &Seq{shard: s, kv: make([]kernels.KV, s.span.Layers()), max: max}
	for i := range q.kv {
		q.kv[i] = kernels.NewKV(&q.table, i, s.info.KVHeads, s.info.HeadDim)
	}
	p := s.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.closed {
		return nil, ErrClosed
	}
	if !s.info.Encoder {
		q.blocks = p.find(prefix[:min(len(prefix), max/BlockLen)])
	}
	for _, b := range q.blocks {
		q.table = append(q.table, b.mem)
	}
	q.fixed = len(q.blocks)
	q.setLen(q.fixed * BlockLen)
	return q, nil
}

// Reserve makes sure that the cache can hold n positions in all, at most as many as the sequence was opened for: no Step up
// to there runs out of memory. It fails with ErrNoMemory if the budget has no room, even without all blocks that no sequence
// holds; then nothing has changed.
func (q *Seq) Reserve(n int) error {
	if q.shard == nil {
		return ErrClosed
	}
	if n > q.max {
		return fmt.Errorf("%w: %d positions to reserve, the sequence was opened for %d", ErrContext, n, q.max)
	}
	need := max(0, (n+BlockLen-1)/BlockLen-len(q.blocks))
	if need == 0 && !q.stuck() {
		return nil
	}
	p := q.shard.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.closed {
		return ErrClosed
	}
	if err := q.reserve(p, need); err != nil {
		return fmt.Errorf("%w for %d positions", err, n)
	}
	return nil
}

// stuck tells whether the next row falls into a block that must not be written to.
func (q *Seq) stuck() bool { return q.Len() < q.fixed*BlockLen }

// reserve adds need blocks of the sequence's own, and makes the one that the next row falls into its own.
func (q *Seq) reserve(p *pool, need int) error {
	var last *block // to be made its own
	own := false    // as it is: there is no other reader
	if q.stuck() {
		last = q.blocks[q.fixed-1]
		if own = last.refs == 1 && (!last.named || need >= p.available()); !own {
			need++
		}
	}
	had := len(q.blocks)
	var err error
	if q.blocks, err = p.take(q.blocks, need); err != nil {
		return err
	}
	for _, b := range q.blocks[had:] {
		q.table = append(q.table, b.mem)
	}
	switch {
	case own:
		p.forget(last)
		q.fixed--
	case last != nil:
		q.fixed--
		fresh := q.blocks[len(q.blocks)-1]
		q.shorten(len(q.blocks) - 1)
		copy(fresh.bytes, last.bytes)
		q.set(q.fixed, fresh)
		p.release(last)
	}
	return nil
}

// set puts a block in another's place.
func (q *Seq) set(i int, b *block) { q.blocks[i], q.table[i] = b, b.mem }

// shorten drops the last blocks from the table.
func (q *Seq) shorten(n int) {
	clear(q.blocks[n:])
	clear(q.table[n:])
	q.blocks, q.table = q.blocks[:n], q.table[:n]
}

// room is how many rows the next steps may bring.
func (q *Seq) room() int {
	if q.stuck() {
		return 0
	}
	return len(q.blocks)*BlockLen - q.Len()
}

// Name tells under which keys the first len(keys) blocks of the sequence are known from now on, or from when they are full:
// sequences that are opened with them share the blocks, which stay cached after Free. If other blocks are known by the
// keys, the sequence goes on with those and its own are given up. The keys must be those of what was stepped; blocks whose
// contents differ from what is known by their key are not shared.
func (q *Seq) Name(keys []Key) {
	if q.shard == nil || q.shard.info.Encoder {
		return
	}
	q.keys = append(q.keys[:0], keys[:min(len(keys), q.max/BlockLen)]...)
	q.offer()
}

// offer makes full blocks known by their keys.
func (q *Seq) offer() {
	n := min(len(q.keys), q.Len()/BlockLen)
	if n <= q.fixed {
		return
	}
	p := q.shard.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.closed {
		return
	}
	for ; q.fixed < n; q.fixed++ {
		q.set(q.fixed, p.name(q.blocks[q.fixed], q.keys[q.fixed]))
	}
}

// Len returns the number of positions in the cache.
func (q *Seq) Len() int {
	if q.shard == nil {
		return 0
	}
	return q.kv[0].Len()
}

func (q *Seq) setLen(n int) {
	for i := range q.kv {
		q.kv[i].SetLen(n)
	}
}

// Rewind forgets the positions from pos on, and the names of blocks that are then not full; the next row is at pos. Beyond
// Len it does nothing. What others share stays with them: if there is no memory to replace it, less is reserved
// afterwards, and Step refuses until Reserve has succeeded.
func (q *Seq) Rewind(pos int) {
	if q.shard == nil || pos >= q.Len() {
		return
	}
	pos = max(pos, 0)
	q.setLen(pos)
	q.keys = q.keys[:min(len(q.keys), pos/BlockLen)]
	if q.fixed <= pos/BlockLen {
		return
	}
	p := q.shard.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.closed {
		return
	}
	had, keep := len(q.blocks), (pos+BlockLen-1)/BlockLen
	for i := q.fixed - 1; i >= keep; i-- {
		p.release(q.blocks[i])
	}
	q.blocks, q.table = slices.Delete(q.blocks, keep, q.fixed), slices.Delete(q.table, keep, q.fixed)
	q.fixed = keep
	_ = q.reserve(p, had-len(q.blocks)) // the caller learns it from Reserve
}

// Free lets go of the sequence's blocks. Freeing twice does nothing.
func (q *Seq) Free() {
	s := q.shard
	if s == nil {
		return
	}
	p := s.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if !p.closed {
		for _, b := range slices.Backward(q.blocks) {
			p.release(b)
		}
	}
	*q = Seq{mark: q.mark}
}
