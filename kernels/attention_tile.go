package kernels

import "math"

// tileDim is the longest head whose tile needs no memory of its own.
const tileDim = 256

// attnTile is the state of up to tileRows rows on their way through the pages.
type attnTile struct {
	rows, dim, width int           // width: padLanes(dim)
	cap              float32       // of the scores; 0: none
	first, seen      [tileRows]int // a row sees the keys first to seen-1
	high             [tileRows]float32
	alpha            [tileRows]float32           // exp(old-high) of a page: the factor of the sums so far
	sum              [tileRows][lanes]float32    // partial sums of the weights
	score            [tileRows][pageLen]float32  // scores of a page, then weights
	q                [tileRows * tileDim]float32 // [dim][rows], scaled
	out              [tileRows * tileDim]float32 // [rows][width]
	longQ, longOut   []float32                   // instead of q and out for long heads
}

func (t *attnTile) setDim(dim int) {
	t.dim, t.width = dim, padLanes(dim)
	if t.width > tileDim {
		t.longQ, t.longOut = make([]float32, tileRows*t.width), make([]float32, tileRows*t.width)
	}
}

func (t *attnTile) queries() []float32 {
	if t.width > tileDim {
		return t.longQ
	}
	return t.q[:]
}

func (t *attnTile) row(r int) []float32 {
	out := t.out[:]
	if t.width > tileDim {
		out = t.longOut
	}
	return out[r*t.width : (r+1)*t.width]
}

// begin sets out row r with a query; what it sees is set already.
func (t *attnTile) begin(r int, q []float32, scale float32) {
	t.high[r] = float32(math.Inf(-1))
	t.sum[r] = [lanes]float32{}
	clear(t.row(r))
	queries, at := t.queries(), r
	for _, v := range q {
		queries[at] = v * scale
		at += t.rows
	}
}

// walk takes the rows through the pages, in order. Later rows see no fewer keys than earlier ones, and none before
// those. Of a page, the keys that all rows see are added for all together, the rest row by row: a value that a row does
// not see never meets it, not even with weight zero, which an infinite value would turn into NaN.
func (t *attnTile) walk(kv *KV, head int) {
	for base := t.first[0] / pageLen * pageLen; base < t.seen[t.rows-1]; base += pageLen {
		keys, values := kv.page(base/pageLen, head)
		t.scores(keys)
		if t.cap > 0 {
			for r := range t.rows {
				softCap(t.score[r][:], t.cap)
			}
		}
		from, to := t.seenOf(0, base)
		lastFrom, lastTo := t.seenOf(t.rows-1, base)
		if from == lastFrom && to == lastTo && from < to {
			t.weigh(0, t.rows, from, to)
			t.mix(values, 0, t.rows, from, to)
		} else {
			t.edge(values, base, lastFrom, to)
		}
		safepoint()
	}
}

// edge does a page of which the rows see different keys; all see those from from to to-1, if there are any. A row that
// sees nothing of the page stays as it is.
func (t *attnTile) edge(values []uint16, base, from, to int) {
	for r := range t.rows {
		a, b := t.seenOf(r, base)
		if t.alpha[r] = 1; a < b {
			t.weigh(r, r+1, a, b)
			t.mixOnce(values, r, a, min(b, max(a, from)))
		}
	}
	if from < to {
		t.mix(values, 0, t.rows, from, to)
		for r := range t.rows {
			t.alpha[r] = 1
		}
	}
	for r := range t.rows {
		a, b := t.seenOf(r, base)
		t.mixOnce(values, r, max(a, from, min(to, b)), b)
	}
}

// mixOnce adds some values to one row, whose sums are scaled thereby.
func (t *attnTile) mixOnce(values []uint16, r, from, to int) {
	if from < to {
		t.mix(values, r, r+1, from, to)
		t.alpha[r] = 1
	}
}

// seenOf says which keys of the page at base row r sees: from to to-1.
func (t *attnTile) seenOf(r, base int) (from, to int) {
	return min(max(t.first[r]-base, 0), pageLen), min(max(t.seen[r]-base, 0), pageLen)
}

// scores fills score with q*K: for each key one chain of fused multiply-adds over the dimensions.
func (t *attnTile) scores(keys []uint16) {
	if t.scoresFast(keys) {
		return
	}
	queries := t.queries()
	for r := range t.rows {
		s := &t.score[r]
		clear(s[:])
		for d := range t.dim {
			q := queries[d*t.rows+r]
			for j, k := range keys[d*pageLen : (d+1)*pageLen] {
				s[j] = fma32(q, f16(k), s[j])
			}
		}
	}
}

// weigh turns the scores first to last-1 of rows from to to-1 into weights exp(score-high), with high the largest score
// so far, and the other scores into zeros. The weights are added to the 16 partial sums, each of which is first scaled by
// alpha to the new high.
func (t *attnTile) weigh(from, to, first, last int) {
	unseen := float32(math.Inf(-1)) // exp gives 0, which changes no sum
	for r := from; r < to; r++ {
		for j := range first {
			t.score[r][j] = unseen
		}
		for j := last; j < pageLen; j++ {
			t.score[r][j] = unseen
		}
	}
	if t.weighFast(from, to) {
		return
	}
	for r := from; r < to; r++ {
		s, sum, high := &t.score[r], &t.sum[r], t.high[r]
		for _, v := range s {
			high = larger(v, high)
		}
		t.alpha[r] = exp32(t.high[r] - high)
		t.high[r] = high
		for i := range sum {
			sum[i] = float32(sum[i] * t.alpha[r])
		}
		for j, v := range s {
			s[j] = exp32(v - high)
			sum[j%lanes] += s[j]
		}
	}
}

// mix scales the sums of rows from to to-1 by alpha and adds the values of keys first to last-1 by their weights, in
// order, each by a fused multiply-add.
func (t *attnTile) mix(values []uint16, from, to, first, last int) {
	if t.mixFast(values, from, to, first, last) {
		return
	}
	for r := from; r < to; r++ {
		out := t.row(r)
		for d := range out {
			out[d] = float32(out[d] * t.alpha[r])
		}
		for j := first; j < last; j++ {
			p := t.score[r][j]
			for d, v := range values[j*t.width : (j+1)*t.width] {
				out[d] = fma32(p, f16(v), out[d])
			}
		}
	}
}

// sink adds a score without a value to the sum of row r.
func (t *attnTile) sink(r int, score float32) {
	high := larger(score, t.high[r])
	alpha, out := exp32(t.high[r]-high), t.row(r)
	scaleInto(out, out, alpha)
	for i := range t.sum[r] {
		t.sum[r][i] = float32(t.sum[r][i] * alpha)
	}
	t.high[r] = high
	t.sum[r][0] += exp32(score - high)
}

// finish divides by the sum of the weights.
func (t *attnTile) finish(r int, out []float32) {
	if t.seen[r] == 0 {
		clear(out)
		return
	}
	scaleInto(out, t.row(r)[:len(out)], 1/laneSum(&t.sum[r]))
}
