package shard

import (
	"slices"
	"sync"
)

// KVMemory is the memory that the KV caches of several shards share: what one of them does not need is the others', and of
// all cached blocks the least recently used gives way first. Its methods may be called from any goroutine.
type KVMemory struct {
	mu     sync.Mutex
	budget int64 // 0: none
	held   int64 // by all blocks
	pools  []*pool
	clock  uint64 // counts the blocks that have become cached
}

// NewKVMemory makes a memory of a number of bytes; 0 means no bound, and then all that is named is kept until TrimKV or
// Close of its shard.
func NewKVMemory(bytes int64) *KVMemory { return &KVMemory{budget: max(0, bytes)} }

// SetBudget changes the bound. What nobody uses beyond it is given back to the system at once, what sequences hold as they are
// freed; until then Reserve refuses.
func (m *KVMemory) SetBudget(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.budget = max(0, bytes)
	m.trim()
}

// Rest gives back to the system those of the empty blocks that nobody has needed since the last Rest. Called now and then,
// it leaves a working shard what it works with, and an idle one what is cached.
func (m *KVMemory) Rest() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.pools {
		p.rest()
	}
}

// Bytes returns the memory that is held, and the part of it that sequences hold; the rest is cached or empty and gives way
// to them.
func (m *KVMemory) Bytes() (held, inUse int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.held, m.inUse()
}

func (m *KVMemory) inUse() (n int64) {
	for _, p := range m.pools {
		n += int64(p.inUse()) * int64(p.slabs.size)
	}
	return n
}

// oldest returns the pool with the cached block that has not been used for longest, nil if nothing is cached.
func (m *KVMemory) oldest() (found *pool) {
	for _, p := range m.pools {
		if p.cached > 0 && (found == nil || p.ends.newer.left < found.ends.newer.left) {
			found = p
		}
	}
	return found
}

// dropEmpty gives an empty block back to the system, if there is one.
func (m *KVMemory) dropEmpty() bool {
	for _, p := range m.pools {
		if len(p.empty) > 0 {
			p.shrink(p.held - 1)
			return true
		}
	}
	return false
}

// trim gives back what is over the budget and not used.
func (m *KVMemory) trim() {
	for m.budget > 0 && m.held > m.budget {
		if m.dropEmpty() {
			continue
		}
		p := m.oldest()
		if p == nil {
			return
		}
		p.drop(p.evict())
	}
}

// leave takes a pool out that holds nothing.
func (m *KVMemory) leave(p *pool) {
	m.pools = slices.DeleteFunc(m.pools, func(x *pool) bool { return x == p })
}

// KVStats is the state of a shard's KV cache.
type KVStats struct {
	BlockBytes int64 // memory of a block: 64 positions in all layers of the span
	Bytes      int64 // memory held, of all blocks
	Budget     int64 // of this and the shards that it shares its memory with; 0: no limit
	InUse      int   // blocks that sequences hold
	Cached     int   // blocks that no sequence holds, known by their keys
	Free       int   // empty blocks that are kept from the system
	// Available is how many blocks sequences could reserve now, if everything gave way that no sequence holds.
	Available int
	// Since the shard was opened: blocks of prefixes that were found, and were not; cached blocks whose memory was taken.
	Hits, Misses, Evictions uint64
}

// KVStats may be called from any goroutine.
func (s *Shard) KVStats() KVStats {
	p := s.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	st := KVStats{BlockBytes: int64(p.slabs.size), Budget: p.memory.budget, Hits: p.hits, Misses: p.misses, Evictions: p.evictions}
	if !p.closed {
		st.Bytes, st.Available = int64(p.held)*st.BlockBytes, p.available()
		st.InUse, st.Cached, st.Free = p.inUse(), p.cached, len(p.empty)
	}
	return st
}

// TrimKV gives memory back to the system, of empty blocks first, then of the least recently used cached ones, until at most
// keep bytes are held or none but blocks of sequences. It returns how many bytes are held. It may be called from any goroutine.
func (s *Shard) TrimKV(keep int64) int64 {
	p := s.pool
	p.memory.mu.Lock()
	defer p.memory.mu.Unlock()
	if p.closed {
		return 0
	}
	p.shrink(int(keep / int64(p.slabs.size)))
	return int64(p.held) * int64(p.slabs.size)
}
