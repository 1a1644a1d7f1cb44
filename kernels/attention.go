package kernels

import (
	"slices"
	"sync/atomic"
)

// AttnSeq is one sequence in a batch of query rows.
type AttnSeq struct {
	KV    *KV // keys and values, those of these rows already appended
	First int // position of its first query row
	Rows  int // consecutive positions
}

// tileRows is the most query rows that share the loads of a page. A row is a query head at a position; those of a
// tile belong to one key-value head. How rows are grouped does not change a bit.
const tileRows = 6

// Attention writes softmax(q*K*scale)*V for each query row and head, causally: the row at position p sees the keys of
// 0 to p. q and out are rows x heads*headDim, the rows of the seqs one after another. heads is a multiple of each KV's
// heads: consecutive query heads share one (Ainslie et al., "GQA", 2023). A row with no key gives zeros.
//
// Each row walks its pages of 64 keys in order with the online softmax of Milakov and Gimelshein ("Online normalizer
// calculation for softmax", 2018); DESIGN.md gives the order of its operations.
func Attention(w *Workers, out, q []float32, seqs []AttnSeq, heads, headDim int, scale float32) {
	AttentionWith(w, out, q, seqs, heads, headDim, AttnOptions{Scale: scale})
}

// AttnOptions says which keys a row of AttentionWith sees and how it weighs them.
type AttnOptions struct {
	Scale  float32   // of the products q*K
	Window int       // if > 0, the row at position p sees the keys from p-Window+1 on (Beltagy et al., "Longformer", 2020)
	Cap    float32   // if > 0, a score s becomes Cap*tanh(s/Cap) (Bello et al., 2016; Gemma 2)
	Sinks  []float32 // for each head one more score, which has no value (Xiao et al., "Attention Sinks", 2023); nil: none
	Full   bool      // not causal: each row sees all keys that its sequence holds; Window has no effect
}

// AttentionWith is Attention with options. What a row sees stays a function of its position, and so do its bits: pages
// count from position 0 whatever the window, and a page of which a row sees nothing leaves it as it is.
func AttentionWith(w *Workers, out, q []float32, seqs []AttnSeq, heads, headDim int, opt AttnOptions) {
	plan := planAttention(seqs, heads)
	a := attention{out: out, q: q, heads: heads, headDim: headDim, opt: opt}
	units := plan[len(plan)-1].unit
	var next atomic.Int64
	w.Do(min(units, w.N()), func(int) {
		var t attnTile
		t.setDim(headDim)
		t.cap = opt.Cap
		p := plan
		for u := int(next.Add(1)) - 1; u < units; u = int(next.Add(1)) - 1 {
			for u >= p[1].unit {
				p = p[1:]
			}
			a.run(&t, &p[0], u-p[0].unit)
		}
	})
}

type attention struct {
	out, q         []float32
	heads, headDim int
	opt            AttnOptions
}

// attnPlan is a sequence's share of the work: units from unit on, tiles for each of its key-value heads.
type attnPlan struct {
	seq   AttnSeq
	row   int // its first row in the batch
	group int // query heads of a key-value head
	tiles int
	unit  int
}

// planAttention orders the sequences longest first, so that no long one is begun last. A final entry holds only the
// number of units.
func planAttention(seqs []AttnSeq, heads int) []attnPlan {
	plan := make([]attnPlan, 0, len(seqs)+1)
	row := 0
	for _, s := range seqs {
		if s.Rows > 0 {
			group := heads / s.KV.heads
			plan = append(plan, attnPlan{seq: s, row: row, group: group, tiles: (s.Rows*group + tileRows - 1) / tileRows})
			row += s.Rows
		}
	}
	slices.SortStableFunc(plan, func(a, b attnPlan) int { return (b.seq.First + b.seq.Rows) - (a.seq.First + a.seq.Rows) })
	units := 0
	for i := range plan {
		plan[i].unit = units
		units += plan[i].tiles * plan[i].seq.KV.heads
	}
	return append(plan, attnPlan{unit: units})
}

// run does one unit: a tile of rows of one key-value head. The tiles of a head go from its last positions, which see
// the most keys, to its first.
func (a *attention) run(t *attnTile, p *attnPlan, unit int) {
	kvHead, tile := unit/p.tiles, p.tiles-1-unit%p.tiles
	rows := p.seq.Rows * p.group
	from, to := rows*tile/p.tiles, rows*(tile+1)/p.tiles
	t.rows = to - from
	for r := range t.rows {
		pos, at := a.place(p, kvHead, from+r)
		t.first[r], t.seen[r] = a.sees(pos, p.seq.KV.length)
		t.begin(r, a.q[at:at+a.headDim], a.opt.Scale)
	}
	t.walk(p.seq.KV, kvHead)
	for r := range t.rows {
		_, at := a.place(p, kvHead, from+r)
		if a.opt.Sinks != nil {
			t.sink(r, a.opt.Sinks[at/a.headDim%a.heads])
		}
		t.finish(r, a.out[at:at+a.headDim])
	}
}

// sees returns the keys first to last-1 that the row at a position sees of length.
func (a *attention) sees(pos, length int) (first, last int) {
	if a.opt.Full {
		return 0, length
	}
	last = max(0, min(pos+1, length))
	if a.opt.Window > 0 {
		first = min(max(0, pos+1-a.opt.Window), last)
	}
	return first, last
}

// place returns the position of row i of a key-value head and where its elements are in q and out.
func (a *attention) place(p *attnPlan, kvHead, i int) (pos, at int) {
	n, head := i/p.group, kvHead*p.group+i%p.group
	return p.seq.First + n, ((p.row+n)*a.heads + head) * a.headDim
}
