package shard

import (
	"bytes"
	"fmt"
	"math"
	"sync"
)

// pool is the memory of a shard's KV cache: blocks that sequences read, blocks that nobody reads but that are known by a
// key (cached, and evicted least recently used first), and empty ones that are kept from the system. Together they never
// take more than the budget, unless that has been lowered below what sequences hold.
type pool struct {
	mu     sync.Mutex
	closed bool
	slabs  slabs
	limit  int // blocks
	budget int64
	held   int      // blocks that are in use, cached or empty
	empty  []*block // last used last
	byKey  map[Key]*block
	cached int
	ends   block // of the ring of cached blocks: newer is the oldest, older the newest

	hits, misses, evictions uint64
}

// newPool makes a pool of blocks of so many bytes.
func newPool(size int, budget int64) *pool {
	p := &pool{slabs: slabs{size: size}, byKey: map[Key]*block{}}
	p.ends.older, p.ends.newer = &p.ends, &p.ends
	p.setBudget(budget)
	return p
}

func (p *pool) setBudget(budget int64) {
	p.budget, p.limit = budget, math.MaxInt
	if budget > 0 {
		p.limit = int(budget / int64(p.slabs.size))
	}
	p.trim(p.limit)
}

// has tells whether n blocks can be taken.
func (p *pool) has(n int) bool { return n <= len(p.empty)+p.cached+p.limit-p.held }

// take adds n blocks of any contents, read by one sequence, to list: empty ones, else new ones, else those of the oldest
// cached. On an error no block is taken.
func (p *pool) take(list []*block, n int) ([]*block, error) {
	if !p.has(n) {
		size := int64(p.slabs.size)
		return list, fmt.Errorf("%w: %d bytes needed, %d of %d free", ErrNoMemory, int64(n)*size, size*int64(max(0, len(p.empty)+p.cached+p.limit-p.held)), p.budget)
	}
	had := len(list)
	for len(list) < had+n {
		b, err := p.one()
		if err != nil {
			p.empty = append(p.empty, list[had:]...)
			return list[:had], fmt.Errorf("%w: %w", ErrNoMemory, err)
		}
		list = append(list, b)
	}
	for _, b := range list[had:] {
		b.refs = 1
	}
	return list, nil
}

func (p *pool) one() (*block, error) {
	if n := len(p.empty); n > 0 {
		b := p.empty[n-1]
		p.empty = p.empty[:n-1]
		return b, nil
	}
	var err error
	if p.held < p.limit {
		var b *block
		if b, err = p.slabs.get(p.limit); err == nil {
			p.held++
			return b, nil
		}
	}
	if p.cached > 0 {
		return p.evict(), nil
	}
	return nil, err
}

// evict takes the oldest cached block.
func (p *pool) evict() *block {
	b := p.ends.newer
	p.unlink(b)
	p.forget(b)
	p.evictions++
	return b
}

// find returns the blocks of the longest run of keys, from the first on, that are here, for one more reader.
func (p *pool) find(keys []Key) []*block {
	var list []*block
	for _, k := range keys {
		b := p.byKey[k]
		if b == nil {
			break
		}
		p.hold(b)
		list = append(list, b)
	}
	p.hits += uint64(len(list))
	p.misses += uint64(len(keys) - len(list))
	return list
}

// name makes a full block known by a key and returns the block that its reader goes on with: the one that is known by the
// key already, if its contents are the same. If they are not, a key is wrong, and the block stays unknown.
func (p *pool) name(b *block, k Key) *block {
	old := p.byKey[k]
	switch {
	case b.named || old == b:
		return b
	case old == nil:
		b.key, b.named = k, true
		p.byKey[k] = b
		return b
	case bytes.Equal(old.bytes, b.bytes):
		p.hold(old)
		p.release(b)
		return old
	}
	return b
}

// forget makes a block unknown.
func (p *pool) forget(b *block) {
	if b.named {
		delete(p.byKey, b.key)
		b.named = false
	}
}

func (p *pool) hold(b *block) {
	if b.refs == 0 {
		p.unlink(b)
	}
	b.refs++
}

// release takes away a reader. Of several blocks of a sequence the last one is released first, so that it is the older:
// without those before it, it is of no use.
func (p *pool) release(b *block) {
	if b.refs--; b.refs > 0 {
		return
	}
	if b.named {
		p.link(b)
	} else {
		p.empty = append(p.empty, b)
	}
	p.trim(p.limit)
}

func (p *pool) link(b *block) {
	b.older, b.newer = p.ends.older, &p.ends
	b.older.newer, b.newer.older = b, b
	p.cached++
}

func (p *pool) unlink(b *block) {
	b.older.newer, b.newer.older = b.newer, b.older
	b.older, b.newer = nil, nil
	p.cached--
}

// trim gives memory back to the system, of empty blocks first, until at most n blocks are held or only used ones are.
func (p *pool) trim(n int) {
	var out []*block
	for p.held-len(out) > n {
		if k := len(p.empty); k > 0 {
			out, p.empty = append(out, p.empty[k-1]), p.empty[:k-1]
		} else if p.cached > 0 {
			out = append(out, p.evict())
		} else {
			break
		}
	}
	if len(out) > 0 {
		p.held -= len(out)
		p.slabs.put(out)
	}
}

// close gives all memory back; sequences may still be there, but nobody reads.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.slabs.close()
	p.byKey, p.empty = nil, nil
}

// KVStats is the state of a shard's KV cache.
type KVStats struct {
	BlockBytes int64 // memory of a block: 64 positions in all layers of the span
	Bytes      int64 // memory held, of all blocks
	Budget     int64 // what Bytes may become; 0: no limit
	InUse      int   // blocks that sequences hold
	Cached     int   // blocks that no sequence holds, known by their keys
	Free       int   // empty blocks that are kept from the system
	// Available is how many blocks sequences could still reserve now, cached ones included.
	Available int
	// Since the shard was opened: blocks of prefixes that were found, and were not; cached blocks whose memory was taken.
	Hits, Misses, Evictions uint64
}

// KVStats may be called from any goroutine.
func (s *Shard) KVStats() KVStats {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	st := KVStats{
		BlockBytes: int64(p.slabs.size), Bytes: int64(p.held) * int64(p.slabs.size), Budget: p.budget,
		InUse: p.held - p.cached - len(p.empty), Cached: p.cached, Free: len(p.empty),
		Available: max(0, len(p.empty)+p.cached+p.limit-p.held),
		Hits:      p.hits, Misses: p.misses, Evictions: p.evictions,
	}
	if p.closed {
		st.Bytes, st.InUse, st.Cached, st.Free, st.Available = 0, 0, 0, 0, 0
	}
	return st
}

// SetKVBudget changes Options.KVBudget. Cached and empty blocks beyond it are given back to the system at once, those of
// sequences as they are freed; until then Reserve refuses. It may be called from any goroutine.
func (s *Shard) SetKVBudget(bytes int64) {
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if !s.pool.closed {
		s.pool.setBudget(bytes)
	}
}

// TrimKV gives memory back to the system, of empty blocks first, then of the least recently used cached ones, until at most
// keep bytes are held or none but blocks of sequences. It returns how many bytes are held. It may be called from any goroutine.
func (s *Shard) TrimKV(keep int64) int64 {
	p := s.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return 0
	}
	p.trim(int(keep / int64(p.slabs.size)))
	return int64(p.held) * int64(p.slabs.size)
}
