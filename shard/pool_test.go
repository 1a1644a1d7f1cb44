package shard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"lamina/kernels"
)

// bare is a shard without weights: what sequences need of it.
func bare(m *KVMemory, layers int) *Shard {
	s := &Shard{info: Info{Layers: layers, Context: 640, KVHeads: 1, HeadDim: 3}, span: Span{0, layers}}
	s.pool = newPool(m, int(s.info.KVBytes(s.span, BlockLen)))
	return s
}

// twin is a sequence beside what it must hold: the tokens whose rows were appended.
type twin struct {
	q      *Seq
	tokens []int32
}

// row of keys and values, the same ones, which depend on all tokens so far.
func row(tokens []int32) []float32 {
	h := uint32(len(tokens))
	for _, t := range tokens {
		h = h*31 + uint32(t)
	}
	return []float32{float32(h % 1021), float32(h % 509), float32(h % 251)}
}

// step appends rows as Step would, if they are reserved.
func (w *twin) step(tokens []int32) {
	if len(tokens) > w.q.room() {
		return
	}
	for _, x := range tokens {
		w.tokens = append(w.tokens[:len(w.tokens):len(w.tokens)], x)
		r := row(w.tokens)
		for i := range w.q.kv {
			w.q.kv[i].Append(r, r, 1)
		}
	}
	w.q.offer()
}

// check compares the sequence's blocks with what one that has computed everything by itself would hold.
func (w *twin) check(t *rapid.T) {
	if w.q.Len() != len(w.tokens) {
		t.Fatalf("%d positions, want %d", w.q.Len(), len(w.tokens))
	}
	size := kernels.KVBlockSize(1, 3)
	for pos := range w.tokens {
		want := row(w.tokens[:pos+1])
		block := w.q.table[pos/BlockLen]
		for layer := range w.q.kv {
			for d := range 3 {
				key, value := block[layer*size+d*64+pos%64], block[layer*size+3*64+pos%64*16+d]
				if key != value || key != halfOf(want[d]) {
					t.Fatalf("position %d of %d, layer %d: %#x and %#x, want %#x", pos, len(w.tokens), layer, key, value, halfOf(want[d]))
				}
			}
		}
	}
}

// halfOf is the float16 of a whole number from 0 to 2047.
func halfOf(f float32) uint16 {
	if f == 0 {
		return 0
	}
	n, exp := uint16(f), uint16(25)
	for ; n < 1024; n *= 2 {
		exp--
	}
	return exp<<10 | n&1023
}

// Whatever is opened, reserved, stepped, named, rewound and freed, in any order, in two shards that share any budget: sequences
// hold what they computed, blocks have as many readers as there are, nothing is over the budget, a sequence is refused
// memory only if there is none, and in the end nothing is left.
func TestPoolKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := &books{memory: NewKVMemory(0)}
		b.shards = []*Shard{bare(b.memory, 2), bare(b.memory, 3)}
		b.limit(t)
		for range 120 {
			b.act(t)
			b.audit(t)
		}
		for _, w := range b.live {
			w.q.Free()
		}
		b.live = nil
		b.audit(t)
		for _, s := range b.shards {
			p := s.pool
			if held := s.TrimKV(0); held != 0 || len(p.slabs.list) != 0 || len(p.slabs.bare) != 0 || p.slabs.mapped != 0 || len(p.byKey) != 0 {
				t.Fatalf("%d bytes and %d slabs are left in the end", held, len(p.slabs.list))
			}
			s.Close()
		}
		if held, used := b.memory.Bytes(); held != 0 || used != 0 || len(b.memory.pools) != 0 {
			t.Fatalf("%d bytes are held in the end, %d in use", held, used)
		}
	})
}

// books are what is open.
type books struct {
	memory *KVMemory
	shards []*Shard
	live   []*twin
}

// limit sets a budget of some blocks and a rest.
func (b *books) limit(t *rapid.T) {
	b.memory.SetBudget(int64(rapid.IntRange(1, 16).Draw(t, "blocks"))*b.shards[0].KVStats().BlockBytes + 17)
}

// text is one of few, of which many begin alike.
func text(t *rapid.T) []int32 {
	family := rapid.Int32Range(0, 1).Draw(t, "family")
	fork := rapid.SampledFrom([]int{0, 64, 100, 128, 200, 256, 400}).Draw(t, "fork")
	out := make([]int32, 640)
	for i := range out {
		if out[i] = family; i >= fork {
			out[i] = 10 + family
		}
	}
	return out
}

var deeds = []string{"open", "open", "reserve", "step", "step", "step", "step", "name", "name", "name", "lie", "rewind", "rewind", "rewind", "free", "free", "budget", "trim", "rest"}

func (b *books) act(t *rapid.T) {
	what := rapid.SampledFrom(deeds).Draw(t, "deed")
	if what == "open" && len(b.live) > 5 {
		what = "step"
	}
	switch what {
	case "open":
		s, x := rapid.SampledFrom(b.shards).Draw(t, "shard"), text(t)
		q, err := s.NewSeq(rapid.IntRange(1, 640).Draw(t, "max"), Keys(nil, x)[:rapid.IntRange(0, 8).Draw(t, "keys")])
		if err != nil {
			t.Fatal(err)
		}
		b.live = append(b.live, &twin{q, x[:q.Len()]})
	case "budget":
		b.limit(t)
	case "rest":
		b.memory.Rest()
	case "trim":
		s := rapid.SampledFrom(b.shards).Draw(t, "shard")
		s.TrimKV(rapid.Int64Range(0, 12).Draw(t, "keep") * s.KVStats().BlockBytes)
	default:
		if len(b.live) > 0 {
			b.actOn(t, what, rapid.IntRange(0, len(b.live)-1).Draw(t, "sequence"))
		}
	}
}

func (b *books) actOn(t *rapid.T, what string, i int) {
	w := b.live[i]
	switch have := len(w.tokens); what {
	case "reserve":
		b.reserve(t, w, rapid.IntRange(0, 650).Draw(t, "positions"))
	case "step":
		n := rapid.SampledFrom([]int{1, 20, 64, 128, 150, 200}).Draw(t, "rows")
		n = min(n, w.q.max-have)
		b.reserve(t, w, have+n)
		w.step(text(t)[have : have+n])
	case "name":
		w.q.Name(Keys(nil, w.tokens))
	case "lie": // keys by which nothing true is ever looked for
		w.q.Name([]Key{{1}, {1}, {2}, {byte(i)}}[:min(4, have/BlockLen)])
	case "rewind":
		pos := rapid.IntRange(-5, have+10).Draw(t, "position")
		w.q.Rewind(pos)
		w.tokens = w.tokens[:min(max(pos, 0), have)]
	case "free":
		w.q.Free()
		w.q.Free()
		b.live = append(b.live[:i], b.live[i+1:]...)
	}
}

// reserve must succeed exactly if there is room, and change nothing if it does not.
func (b *books) reserve(t *rapid.T, w *twin, n int) {
	stats := w.q.shard.KVStats
	before, room := stats(), w.q.room()
	more := max(0, (n+BlockLen-1)/BlockLen-len(w.q.blocks))
	if w.q.stuck() && w.q.blocks[w.q.fixed-1].refs > 1 {
		more++
	}
	err := w.q.Reserve(n)
	switch {
	case n > w.q.max:
		if !errors.Is(err, ErrContext) {
			t.Fatalf("Reserve(%d) of %d: %v", n, w.q.max, err)
		}
	case err == nil && more <= before.Available:
		if w.q.room() < n-w.q.Len() {
			t.Fatalf("Reserve(%d) gives room for %d after %d", n, w.q.room(), w.q.Len())
		}
		return
	case !errors.Is(err, ErrNoMemory) || more <= before.Available:
		t.Fatalf("Reserve(%d), %d more blocks of %d: %v", n, more, before.Available, err)
	}
	if after := stats(); before != after || w.q.room() != room {
		t.Fatalf("a refused Reserve changed %+v to %+v", before, after)
	}
}

// audit counts everything anew.
func (b *books) audit(t *rapid.T) {
	refs := map[*block]int{}
	for _, w := range b.live {
		for i, x := range w.q.blocks {
			refs[x]++
			if &x.mem[0] != &w.q.table[i][0] || x.slab == nil {
				t.Fatal("the table of a sequence is not that of its blocks")
			}
			if (x.refs > 1 || x.named) && i >= w.q.fixed {
				t.Fatalf("block %d of which %d are fixed has %d readers", i, w.q.fixed, x.refs)
			}
		}
		w.check(t)
	}
	for x, n := range refs {
		if x.refs != n {
			t.Fatalf("a block has %d readers and counts %d", n, x.refs)
		}
	}
	var held, used int64
	for _, s := range b.shards {
		b.auditPool(t, s, refs)
		st := s.KVStats()
		held, used = held+st.Bytes, used+int64(st.InUse)*st.BlockBytes
	}
	if h, u := b.memory.Bytes(); h != held || u != used {
		t.Fatalf("%d bytes are held and %d used, the memory says %d and %d", held, used, h, u)
	}
	if held > b.memory.budget && held != used {
		t.Fatalf("%d bytes are held, of them %d by sequences, and the budget is %d", held, used, b.memory.budget)
	}
}

func (b *books) auditPool(t *rapid.T, s *Shard, refs map[*block]int) {
	p, free, cached, used := s.pool, map[*block]bool{}, 0, 0
	for x := p.ends.newer; x != &p.ends; x = x.newer {
		if cached++; x.refs != 0 || !x.named || p.byKey[x.key] != x || refs[x] != 0 || x.newer != &p.ends && x.newer.left <= x.left {
			t.Fatalf("a cached block with %d readers", x.refs)
		}
		free[x] = true
	}
	if p.spare < 0 || p.spare > len(p.empty) {
		t.Fatalf("%d of %d empty blocks are spare", p.spare, len(p.empty))
	}
	for _, list := range [][]*block{p.empty, p.slabs.bare} {
		for _, x := range list {
			if x.refs != 0 || x.named || refs[x] != 0 || free[x] {
				t.Fatalf("an empty block with %d readers, named %v, or there twice", x.refs, x.named)
			}
			free[x] = true
		}
	}
	for _, sl := range p.slabs.list {
		for i := range sl.blocks {
			if refs[&sl.blocks[i]] > 0 {
				used++
			}
		}
	}
	st := s.KVStats()
	if st.InUse != used || st.Cached != cached || st.Free != len(p.empty) || p.slabs.mapped != used+len(free) || st.Bytes != int64(p.held)*st.BlockBytes {
		t.Fatalf("%+v, but %d blocks are in use, %d cached, %d mapped of %d", st, used, cached, p.slabs.mapped, used+len(free))
	}
	for k, x := range p.byKey {
		if x.key != k || !x.named {
			t.Fatal("a key leads to another's block")
		}
	}
}

// Of a sequence that has gone, the first blocks stay longest: without them the others are of no use.
func TestEvictsFromTheEnd(t *testing.T) {
	m := NewKVMemory(0)
	s := bare(m, 2)
	defer s.Close()
	x := make([]int32, 256)
	a := &twin{q: must(s.NewSeq(256, nil))}
	if err := a.q.Reserve(256); err != nil {
		t.Fatal(err)
	}
	a.step(x)
	a.q.Name(Keys(nil, x))
	a.q.Free()
	for left := 4; left >= 0; left-- {
		s.TrimKV(int64(left) * s.KVStats().BlockBytes)
		q := must(s.NewSeq(256, Keys(nil, x)))
		if q.Len() != left*BlockLen {
			t.Errorf("%d positions are found, want %d blocks", q.Len(), left)
		}
		q.Free()
	}
}

// Of shards that share memory, the one whose blocks have not been used for longest gives way.
func TestShardsShareMemory(t *testing.T) {
	m := NewKVMemory(0)
	shards := []*Shard{bare(m, 2), bare(m, 2), bare(m, 2)}
	size := shards[0].KVStats().BlockBytes
	m.SetBudget(2 * size)
	x := make([]int32, 64)
	run := func(s *Shard) {
		w := &twin{q: must(s.NewSeq(64, nil))}
		if err := w.q.Reserve(64); err != nil {
			t.Fatal(err)
		}
		w.step(x)
		w.q.Name(Keys(nil, x))
		w.q.Free()
	}
	find := func(s *Shard) int {
		q := must(s.NewSeq(64, Keys(nil, x)))
		defer q.Free()
		return q.Len()
	}
	run(shards[0])
	run(shards[1])
	if find(shards[0]) != 64 {
		t.Error("what fits the budget is not found")
	}
	run(shards[2]) // in the place of the second's block, for the first's has just been used
	for i, want := range []int{64, 0, 64} {
		if got := find(shards[i]); got != want {
			t.Errorf("shard %d has %d positions, want %d", i, got, want)
		}
	}
	if held, used := m.Bytes(); held != 2*size || used != 0 {
		t.Errorf("%d bytes are held, %d used", held, used)
	}
	for _, s := range shards {
		s.Close()
		s.Close()
	}
	if held, _ := m.Bytes(); held != 0 {
		t.Errorf("%d bytes are held after Close", held)
	}
}

// Rest leaves what has been needed since the last time.
func TestRest(t *testing.T) {
	m := NewKVMemory(0)
	s := bare(m, 2)
	defer s.Close()
	work := func(blocks int) {
		q := must(s.NewSeq(640, nil))
		if err := q.Reserve(blocks * BlockLen); err != nil {
			t.Fatal(err)
		}
		q.Free()
	}
	work(8)
	for i, want := range []int{8, 5, 5, 0} {
		m.Rest()
		if got := s.KVStats(); got.Free != want || got.Bytes != int64(want)*got.BlockBytes {
			t.Errorf("%d blocks after Rest %d, want %d", got.Free, i, want)
		}
		if i < 2 {
			work(5)
		}
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// What has been given back is mapped anew, as zero, and small slabs are joined by larger ones.
func TestSlabs(t *testing.T) {
	s := slabs{size: 1 << 20}
	var out []*block
	for i := range 40 {
		b, err := s.get(1000)
		if err != nil {
			t.Fatal(err)
		}
		for j := range b.bytes {
			if b.bytes[j] != 0 {
				t.Fatalf("block %d is not zero", i)
			}
		}
		binary.LittleEndian.PutUint64(b.bytes, uint64(i)+1)
		binary.LittleEndian.PutUint64(b.bytes[len(b.bytes)-8:], uint64(i)+1)
		out = append(out, b)
	}
	sizes := fmt.Sprint(len(s.list[0].blocks), len(s.list[1].blocks), len(s.list[2].blocks), s.mapped)
	if sizes != "2 2 4 64" {
		t.Errorf("slabs of %s", sizes)
	}
	s.put(out[1:3])
	for i, b := range out {
		if i != 1 && i != 2 && binary.LittleEndian.Uint64(b.bytes) != uint64(i)+1 {
			t.Errorf("block %d has changed", i)
		}
	}
	again, err := s.get(1000)
	if err != nil || again != out[1] && again != out[2] {
		t.Errorf("memory that was given back is not used again: %v", err)
	}
	s.put(append(out[3:], out[0], again))
	if s.mapped != 0 || len(s.list) != 0 || len(s.bare) != 0 {
		t.Errorf("%d blocks are still mapped", s.mapped)
	}
}
