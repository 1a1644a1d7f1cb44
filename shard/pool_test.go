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
func bare(budget int64) *Shard {
	s := &Shard{info: Info{Layers: 2, Context: 640, KVHeads: 1, HeadDim: 3}, span: Span{0, 2}}
	s.pool = newPool(int(s.info.KVBytes(s.span, BlockLen)), budget)
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
func (w *twin) step(t *rapid.T, tokens []int32) {
	if len(tokens) > w.q.room() {
		return
	}
	for _, x := range tokens {
		w.tokens = append(w.tokens, x)
		r := row(w.tokens)
		for i := range w.q.kv {
			w.q.kv[i].Append(r, r, 1)
		}
	}
	w.q.offer()
}

// check compares the sequence's blocks with those of one that has computed everything by itself.
func (w *twin) check(t *rapid.T) {
	if w.q.Len() != len(w.tokens) {
		t.Fatalf("%d positions, want %d", w.q.Len(), len(w.tokens))
	}
	size := kernels.KVBlockSize(1, 3)
	for pos := range w.tokens {
		want := row(w.tokens[:pos+1])
		block := w.q.table[pos/BlockLen]
		for layer := range 2 {
			for d := range 3 {
				key, value := block[layer*size+d*64+pos%64], block[layer*size+3*64+pos%64*16+d]
				if key != value || key != halfOf(want[d]) {
					t.Fatalf("position %d of %d, layer %d: %#x and %#x, want %#x", pos, len(w.tokens), layer, key, value, halfOf(want[d]))
				}
			}
		}
	}
}

// halfOf is the float16 of a whole number below 2048.
func halfOf(f float32) uint16 {
	var b kernels.KVBlocks = [][]uint16{make([]uint16, kernels.KVBlockSize(1, 1))}
	kv := kernels.NewKV(&b, 0, 1, 1)
	kv.Append([]float32{f}, []float32{f}, 1)
	return b[0][0]
}

// Whatever is opened, reserved, stepped, named, rewound and freed, in any order and under any budget: sequences hold what
// they computed, blocks have as many readers as there are, nothing is over the budget, and in the end nothing is in use.
func TestPoolKeepsItsBooks(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limit := rapid.IntRange(1, 12).Draw(t, "blocks")
		s := bare(0)
		defer s.Close()
		s.SetKVBudget(int64(limit)*s.KVStats().BlockBytes + 17)
		b := &books{s: s, limit: limit}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			b.act(t)
			b.audit(t)
		}
		for _, w := range b.live {
			w.check(t)
			w.q.Free()
		}
		b.live = nil
		b.audit(t)
		if held := s.TrimKV(0); held != 0 || len(s.pool.slabs.list) != 0 || len(s.pool.slabs.bare) != 0 || s.pool.slabs.mapped != 0 || len(s.pool.byKey) != 0 {
			t.Fatalf("%d bytes and %d slabs are left in the end", held, len(s.pool.slabs.list))
		}
	})
}

type books struct {
	s     *Shard
	limit int
	live  []*twin
}

// text of one of few families, so that many sequences begin alike.
func text(t *rapid.T) []int32 {
	family := rapid.Int32Range(0, 1).Draw(t, "family")
	fork := rapid.SampledFrom([]int{0, 64, 100, 128, 200, 256, 400}).Draw(t, "fork")
	out := make([]int32, 400)
	for i := range out {
		if out[i] = family; i >= fork {
			out[i] = 10 + family
		}
	}
	return out
}

func (b *books) act(t *rapid.T) {
	what := rapid.SampledFrom([]string{"open", "open", "reserve", "step", "step", "step", "name", "name", "lie", "rewind", "free", "free", "budget", "trim"}).Draw(t, "what")
	switch what {
	case "open":
		x := text(t)
		keys := Keys(nil, x)[:rapid.IntRange(0, 6).Draw(t, "keys")]
		q, err := b.s.NewSeq(rapid.IntRange(1, 500).Draw(t, "max"), keys)
		if err != nil {
			t.Fatal(err)
		}
		b.live = append(b.live, &twin{q, x[:q.Len()]})
		return
	case "budget":
		b.limit = rapid.IntRange(1, 12).Draw(t, "blocks")
		b.s.SetKVBudget(int64(b.limit) * b.s.KVStats().BlockBytes)
		return
	case "trim":
		b.s.TrimKV(rapid.Int64Range(0, 12).Draw(t, "keep") * b.s.KVStats().BlockBytes)
		return
	}
	if len(b.live) == 0 {
		return
	}
	i := rapid.IntRange(0, len(b.live)-1).Draw(t, "sequence")
	w := b.live[i]
	switch what {
	case "reserve":
		b.reserve(t, w, rapid.IntRange(0, 600).Draw(t, "positions"))
	case "step":
		x := text(t)
		n := rapid.IntRange(1, 150).Draw(t, "rows")
		w.step(t, x[min(len(w.tokens), 250):][:n])
	case "name":
		w.q.Name(Keys(nil, w.tokens))
	case "lie": // a key of its own kind, so that nothing true is ever found by it
		w.q.Name([]Key{{1}, {1}, {2}, {byte(i)}})
		w.q.Name(nil)
	case "rewind":
		pos := rapid.IntRange(-5, len(w.tokens)+10).Draw(t, "position")
		w.q.Rewind(pos)
		w.tokens = w.tokens[:min(max(pos, 0), len(w.tokens))]
	case "free":
		w.check(t)
		w.q.Free()
		w.q.Free()
		b.live = append(b.live[:i], b.live[i+1:]...)
	}
}

// reserve must succeed exactly if there is room, and change nothing if it does not.
func (b *books) reserve(t *rapid.T, w *twin, n int) {
	before, room := b.s.KVStats(), w.q.room()
	more := (n+BlockLen-1)/BlockLen - len(w.q.blocks)
	err := w.q.Reserve(n)
	after := b.s.KVStats()
	switch {
	case n > w.q.max:
		if !errors.Is(err, ErrContext) {
			t.Fatalf("Reserve(%d) of %d: %v", n, w.q.max, err)
		}
	case err == nil:
		if w.q.room() < n-w.q.Len() {
			t.Fatalf("Reserve(%d) gives room for %d after %d", n, w.q.room(), w.q.Len())
		}
		return
	case !errors.Is(err, ErrNoMemory) || before.Available > more:
		t.Fatalf("Reserve(%d), %d more blocks of %d: %v", n, more, before.Available, err)
	}
	if before != after || w.q.room() != room {
		t.Fatalf("a refused Reserve changed %+v to %+v", before, after)
	}
}

// audit counts everything anew.
func (b *books) audit(t *rapid.T) {
	p, refs := b.s.pool, map[*block]int{}
	for _, w := range b.live {
		for i, x := range w.q.blocks {
			refs[x]++
			if &x.mem[0] != &w.q.table[i][0] {
				t.Fatal("the table of a sequence is not that of its blocks")
			}
			if x.refs > 1 && i >= w.q.fixed {
				t.Fatalf("block %d of which %d are fixed has %d readers", i, w.q.fixed, x.refs)
			}
		}
	}
	for x, n := range refs {
		if x.refs != n {
			t.Fatalf("a block has %d readers and counts %d", n, x.refs)
		}
	}
	free := map[*block]bool{}
	cached := 0
	for x := p.ends.newer; x != &p.ends; x = x.newer {
		if cached++; x.refs != 0 || !x.named || p.byKey[x.key] != x || refs[x] != 0 {
			t.Fatalf("a cached block with %d readers", x.refs)
		}
		free[x] = true
	}
	for _, list := range [][]*block{p.empty, p.slabs.bare} {
		for _, x := range list {
			if x.refs != 0 || x.named || refs[x] != 0 || free[x] {
				t.Fatalf("an empty block with %d readers, named %v, or there twice", x.refs, x.named)
			}
			free[x] = true
		}
	}
	st := b.s.KVStats()
	if st.InUse != len(refs) || st.Cached != cached || st.Free != len(p.empty) || p.slabs.mapped != len(refs)+len(free) || st.Bytes != int64(p.held)*st.BlockBytes {
		t.Fatalf("%+v, but %d blocks are in use, %d cached, %d mapped of %d", st, len(refs), cached, p.slabs.mapped, len(refs)+len(free))
	}
	if over := p.held - b.limit; over > 0 && p.held != len(refs) {
		t.Fatalf("%d blocks are held, of them %d by sequences, and the budget is %d", p.held, len(refs), b.limit)
	}
	b.contents(t)
}

// contents of a cached block are those of its first owner: nobody writes to it.
func (b *books) contents(t *rapid.T) {
	for k, x := range b.s.pool.byKey {
		if x.key != k || !x.named {
			t.Fatal("a key leads to another's block")
		}
	}
	for _, w := range b.live {
		w.check(t)
	}
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
