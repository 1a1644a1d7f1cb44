package kernels

import (
	"math"
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
	plan := planAttention(seqs, heads)
	a := attention{out: out, q: q, heads: heads, headDim: headDim, scale: scale}
	units := plan[len(plan)-1].unit
	var next atomic.Int64
	w.Do(min(units, w.N()), func(int) {
		t, p := newAttnTile(headDim), plan
		for u := int(next.Add(1)) - 1; u < units; u = int(next.Add(1)) - 1 {
			for u >= p[1].unit {
				p = p[1:]
			}
			a.run(t, &p[0], u-p[0].unit)
		}
	})
}

type attention struct {
	out, q         []float32
	heads, headDim int
	scale          float32
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
	t.begin(to - from)
	for r := range t.rows {
		pos, at := a.place(p, kvHead, from+r)
		t.setRow(r, a.q[at:at+a.headDim], a.scale, min(pos+1, p.seq.KV.length))
	}
	t.walk(p.seq.KV, kvHead)
	for r := range t.rows {
		_, at := a.place(p, kvHead, from+r)
		t.finish(r, a.out[at:at+a.headDim])
	}
}

// place returns the position of row i of a key-value head and where its elements are in q and out.
func (a *attention) place(p *attnPlan, kvHead, i int) (pos, at int) {
	n, head := i/p.group, kvHead*p.group+i%p.group
	return p.seq.First + n, ((p.row+n)*a.heads + head) * a.headDim
}

// attnTile is the state of up to tileRows rows on their way through the pages.
type attnTile struct {
	rows, dim int
	seen      [tileRows]int // keys that a row sees
	max       [tileRows]float32
	alpha     [tileRows]float32          // factor of the sums so far when the maximum grows
	sum       [tileRows][lanes]float32   // partial sums of the weights
	score     [tileRows][pageLen]float32 // scores of a page, then weights
	q         []float32                  // [dim][rows], scaled
	out       []float32                  // [tileRows][padLanes(dim)]
}

func newAttnTile(dim int) *attnTile {
	return &attnTile{dim: dim, q: make([]float32, tileRows*dim), out: make([]float32, tileRows*padLanes(dim))}
}

func (t *attnTile) begin(rows int) {
	t.rows = rows
	clear(t.out)
	clear(t.sum[:])
	for r := range rows {
		t.max[r] = float32(math.Inf(-1))
	}
}

func (t *attnTile) setRow(r int, q []float32, scale float32, seen int) {
	t.seen[r] = seen
	for d, v := range q {
		t.q[d*t.rows+r] = v * scale
	}
}

// walk takes the rows through the pages. Later rows see no fewer keys than earlier ones. Where rows see different
// numbers of keys of a page, the keys that all see are added for all rows together and the rest row by row: a value
// that a row does not see never meets it, not even with weight zero.
func (t *attnTile) walk(kv *KV, head int) {
	for base := 0; base < t.seen[t.rows-1]; base += pageLen {
		keys, values := kv.page(base/pageLen, head)
		t.scores(keys)
		for r := range t.rows {
			t.weigh(r, min(max(t.seen[r]-base, 0), pageLen))
		}
		all := min(max(t.seen[0]-base, 0), pageLen)
		for r := range t.rows {
			t.rescale(r)
			t.mix(r, values, 0, all)
			t.mix(r, values, all, min(max(t.seen[r]-base, 0), pageLen))
		}
	}
}

// scores fills score with q*K: one chain of fused multiply-adds over the dimensions for each key.
func (t *attnTile) scores(keys []uint16) {
	for r := range t.rows {
		s := &t.score[r]
		clear(s[:])
		for d := range t.dim {
			q := t.q[d*t.rows+r]
			for j, k := range keys[d*pageLen : (d+1)*pageLen] {
				s[j] = fma32(q, f16(k), s[j])
			}
		}
	}
}

// weigh turns the first n scores of a row into weights exp(score-max), the others into zeros, and adds them up.
func (t *attnTile) weigh(r, n int) {
	s, sum, m := &t.score[r], &t.sum[r], t.max[r]
	for _, v := range s[:n] {
		if v > m {
			m = v
		}
	}
	alpha := exp32(t.max[r] - m)
	for i := range sum {
		sum[i] = float32(sum[i] * alpha)
	}
	for j, v := range s[:n] {
		s[j] = exp32(v - m)
		sum[j%lanes] += s[j]
	}
	clear(s[n:])
	t.max[r], t.alpha[r] = m, alpha
}

func (t *attnTile) rescale(r int) {
	width := padLanes(t.dim)
	for i := range width {
		t.out[r*width+i] = float32(t.out[r*width+i] * t.alpha[r])
	}
}

// mix adds the values of keys from to to-1 by their weights, in order.
func (t *attnTile) mix(r int, values []uint16, from, to int) {
	width := padLanes(t.dim)
	out := t.out[r*width : (r+1)*width]
	for j := from; j < to; j++ {
		p := t.score[r][j]
		for d, v := range values[j*width : (j+1)*width] {
			out[d] = fma32(p, f16(v), out[d])
		}
	}
}

// finish divides by the sum of the weights.
func (t *attnTile) finish(r int, out []float32) {
	if t.seen[r] <= 0 {
		clear(out)
		return
	}
	inv := 1 / laneSum(&t.sum[r])
	for i, v := range t.out[r*padLanes(t.dim):][:len(out)] {
		out[i] = v * inv
	}
}
