package shard

import (
	"bytes"
	"fmt"
	"math"
	"slices"
)

// pool is the memory of a shard's KV cache: blocks that sequences read, blocks that nobody reads but that are known by a
// key (cached, and evicted least recently used first), and empty ones that are kept from the system. All is guarded by the
// memory's lock.
type pool struct {
	memory *KVMemory
	closed bool
	slabs  slabs
	held   int      // blocks that are in use, cached or empty
	empty  []*block // last used last
	spare  int      // so many of them nobody has needed since the last Rest
	byKey  map[Key]*block
	cached int
	ends   block // of the ring of cached blocks: newer is the oldest, older the newest

	hits, misses, evictions uint64
}

// newPool makes a pool of blocks of so many bytes.
func newPool(m *KVMemory, size int) *pool {
	p := &pool{memory: m, slabs: slabs{size: size}, byKey: map[Key]*block{}}
	p.ends.older, p.ends.newer = &p.ends, &p.ends
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pools = append(m.pools, p)
	return p
}

// inUse is how many blocks sequences hold.
func (p *pool) inUse() int { return p.held - p.cached - len(p.empty) }

// available is how many blocks can be taken, if all that nobody uses is given up for them.
func (p *pool) available() int {
	m := p.memory
	if m.budget == 0 {
		return math.MaxInt
	}
	return int(max(0, m.budget-m.inUse()) / int64(p.slabs.size))
}

// take adds n blocks of any contents, read by one sequence, to list. On an error no block is taken.
func (p *pool) take(list []*block, n int) ([]*block, error) {
	if free := p.available(); n > free {
		size := int64(p.slabs.size)
		return list, fmt.Errorf("%w: %d bytes needed, %d of %d free", ErrNoMemory, int64(n)*size, int64(free)*size, p.memory.budget)
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

// one takes a block that is available: an empty one; a new one, if the budget has room or another shard gives up an empty
// block; the oldest cached one of this shard, or the room of older ones of others.
func (p *pool) one() (*block, error) {
	m, size := p.memory, int64(p.slabs.size)
	for {
		if n := len(p.empty); n > 0 {
			b := p.empty[n-1]
			p.empty = p.empty[:n-1]
			p.spare = min(p.spare, n-1)
			return b, nil
		}
		var err error
		if m.budget == 0 || m.held+size <= m.budget {
			var b *block
			if b, err = p.slabs.get(p.most()); err == nil {
				p.grew(1)
				return b, nil
			}
		} else if m.dropEmpty() {
			continue
		}
		oldest := m.oldest()
		switch {
		case oldest == p:
			return p.evict(), nil
		case oldest == nil:
			return nil, err
		}
		oldest.drop(oldest.evict())
	}
}

// most is how many blocks there may ever be.
func (p *pool) most() int {
	if p.memory.budget == 0 {
		return math.MaxInt
	}
	return int(p.memory.budget / int64(p.slabs.size))
}

// grew counts blocks that have come from the system, or gone to it.
func (p *pool) grew(n int) {
	p.held += n
	p.memory.held += int64(n) * int64(p.slabs.size)
}

// drop gives the memory of blocks that nobody uses back to the system.
func (p *pool) drop(out ...*block) {
	if len(out) > 0 {
		p.grew(-len(out))
		p.slabs.put(out)
	}
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
	p.memory.trim()
}

func (p *pool) link(b *block) {
	p.memory.clock++
	b.left = p.memory.clock
	b.older, b.newer = p.ends.older, &p.ends
	b.older.newer, b.newer.older = b, b
	p.cached++
}

func (p *pool) unlink(b *block) {
	b.older.newer, b.newer.older = b.newer, b.older
	b.older, b.newer = nil, nil
	p.cached--
}

// shrink gives memory back to the system, of empty blocks first, until at most n blocks are held or only used ones are.
func (p *pool) shrink(n int) {
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
	p.spare = min(p.spare, len(p.empty))
	p.drop(out...)
}

// rest gives back what has not been needed since the last time.
func (p *pool) rest() {
	p.drop(slices.Clone(p.empty[:p.spare])...)
	p.empty = slices.Delete(p.empty, 0, p.spare)
	p.spare = len(p.empty)
}

// close gives all memory back; sequences may still be there, but nobody reads.
func (p *pool) close() {
	m := p.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if p.closed {
		return
	}
	p.grew(-p.held)
	p.closed = true
	p.slabs.close()
	p.byKey, p.empty, p.cached, p.spare = nil, nil, 0, 0
	m.leave(p)
}
