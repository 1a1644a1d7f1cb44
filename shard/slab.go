package shard

import "unsafe"

// block holds the keys and values of 64 positions in all layers of the span.
type block struct {
	bytes []byte
	mem   []uint16 // the same
	slab  *slab
	nth   int // in its slab
	refs  int // sequences that read it
	key   Key
	named bool // the pool finds it by key

	older, newer *block // of the cached ones, while nobody reads it
	left         uint64 // the memory's clock when its last reader left it
}

// slab is a piece of anonymous memory that is cut into blocks.
type slab struct {
	area   area
	blocks []block
	live   int // blocks that are out
}

// slabs hand out blocks of one size. A slab is mapped when the others have none left, and given back when none of its blocks
// is out; of one that is partly out, the memory of the rest is given back and stays mapped.
type slabs struct {
	size   int // bytes of a block
	mapped int // blocks in all slabs
	list   []*slab
	bare   []*block // mapped, without memory
}

// A slab has from 2 MiB, a huge page, to 64 MiB, or one block if that is larger.
const minSlab, maxSlab = 2 << 20, 64 << 20

// get takes a block without sense in it; limit is how many there may ever be. It fails if the system has no memory.
func (s *slabs) get(limit int) (*block, error) {
	if len(s.bare) == 0 {
		if err := s.grow(limit); err != nil {
			return nil, err
		}
	}
	b := s.bare[len(s.bare)-1]
	s.bare = s.bare[:len(s.bare)-1]
	b.slab.live++
	return b, nil
}

// grow maps a slab, as large as all that there are.
func (s *slabs) grow(limit int) error {
	n := min(max(s.mapped, minSlab/s.size), maxSlab/s.size)
	n = max(1, min(n, limit-s.mapped))
	a, err := mapArea(n * s.size)
	if err != nil {
		return err
	}
	sl := &slab{area: a, blocks: make([]block, n)}
	for i := range sl.blocks {
		b := &sl.blocks[i]
		b.bytes = a.mem[i*s.size : (i+1)*s.size : (i+1)*s.size]
		b.mem = unsafe.Slice((*uint16)(unsafe.Pointer(&b.bytes[0])), s.size/2)
		b.slab, b.nth = sl, i
	}
	for i := n - 1; i >= 0; i-- {
		s.bare = append(s.bare, &sl.blocks[i])
	}
	s.list = append(s.list, sl)
	s.mapped += n
	return nil
}

// put gives the memory of blocks back to the system, of neighbours together.
func (s *slabs) put(out []*block) {
	gone := map[*slab]map[int]bool{}
	for _, b := range out {
		if gone[b.slab] == nil {
			gone[b.slab] = map[int]bool{}
		}
		gone[b.slab][b.nth] = true
		b.slab.live--
	}
	kept := s.list[:0]
	for _, sl := range s.list {
		if here := gone[sl]; sl.live > 0 || here == nil {
			kept = append(kept, sl)
			s.empty(sl, here)
		}
	}
	clear(s.list[len(kept):])
	s.list = kept
	bare := s.bare[:0]
	for _, b := range s.bare {
		if b.slab.live > 0 || gone[b.slab] == nil {
			bare = append(bare, b)
		}
	}
	clear(s.bare[len(bare):])
	s.bare = bare
	for sl, here := range gone {
		if sl.live == 0 {
			s.mapped -= len(sl.blocks)
			sl.area.unmap()
			continue
		}
		for i := range here {
			s.bare = append(s.bare, &sl.blocks[i])
		}
	}
}

// empty gives back the memory of some blocks of a slab.
func (s *slabs) empty(sl *slab, which map[int]bool) {
	for i := 0; i < len(sl.blocks); i++ {
		from := i
		for i < len(sl.blocks) && which[i] {
			i++
		}
		if from < i {
			sl.area.giveBack(from*s.size, i*s.size)
		}
	}
}

// close gives everything back.
func (s *slabs) close() {
	for _, sl := range s.list {
		sl.area.unmap()
	}
	*s = slabs{size: s.size}
}
