package sample

import (
	"cmp"
	"math"
	"slices"

	"lamina/kernels"
)

// worse orders candidates: the smaller logit, among equals the higher id.
func worse(a, b Alt) bool {
	return a.Logprob < b.Logprob || a.Logprob == b.Logprob && a.ID > b.ID
}

// best fills sc.heap with the k largest logits, the worst at the root: one pass, one comparison for most elements.
func (sc *Scratch) best(logits []float32, k int) {
	k = min(k, len(logits))
	h := sc.heap[:0]
	for id, l := range logits[:k] {
		h = append(h, Alt{ID: int32(id), Logprob: l})
	}
	sc.heap = h
	for i := k/2 - 1; i >= 0; i-- {
		sink(h, i)
	}
	if k == 0 {
		return
	}
	for i, l := range logits[k:] {
		if l > h[0].Logprob { // an equal one has the higher id
			h[0] = Alt{ID: int32(k + i), Logprob: l}
			sink(h, 0)
		}
	}
}

func sink(h []Alt, i int) {
	for {
		c := 2*i + 1
		if c >= len(h) {
			return
		}
		if c+1 < len(h) && worse(h[c+1], h[c]) {
			c++
		}
		if worse(h[i], h[c]) {
			return
		}
		h[i], h[c] = h[c], h[i]
		i = c
	}
}

// top returns the n most likely tokens, best first, with the log probabilities that norm makes of their logits.
func (sc *Scratch) top(logits []float32, n int, norm float32) []Alt {
	if n == 0 {
		return nil
	}
	sc.best(logits, n)
	slices.SortFunc(sc.heap, func(a, b Alt) int {
		if worse(b, a) {
			return -1
		}
		return 1
	})
	out := slices.Clone(sc.heap)
	for i := range out {
		out[i].Logprob -= norm
	}
	return out
}

// topK returns the k best candidates by ascending id; ids is nil if all stay, and vals is then logits itself.
func (sc *Scratch) topK(logits []float32, k int) (ids []int32, vals []float32) {
	if k <= 0 || k >= len(logits) {
		return nil, logits
	}
	sc.best(logits, k)
	slices.SortFunc(sc.heap, func(a, b Alt) int { return cmp.Compare(a.ID, b.ID) })
	sc.ids, sc.vals = sc.ids[:0], sc.vals[:0]
	for _, a := range sc.heap {
		sc.ids, sc.vals = append(sc.ids, a.ID), append(sc.vals, a.Logprob)
	}
	return sc.ids, sc.vals
}

// truncate drops what top-p and min-p drop, and keeps the order. At least the most likely candidate stays.
func (sc *Scratch) truncate(ids []int32, vals []float32, topP, minP float32) ([]int32, []float32) {
	if topP >= 1 && minP <= 0 {
		return ids, vals
	}
	sc.probs = append(sc.probs[:0], vals...)
	kernels.Softmax(sc.probs)
	floor := sc.probs[kernels.Argmax(sc.probs)] * minP
	cut, ties := float32(0), len(vals)
	if topP < 1 {
		cut, ties = sc.nucleus(sc.probs, float64(topP))
	}
	kept, left := sc.ids[:0], vals[:0]
	for i, p := range sc.probs {
		if p < floor || p < cut {
			continue
		}
		if p == cut {
			if ties == 0 {
				continue
			}
			ties--
		}
		id := int32(i)
		if ids != nil {
			id = ids[i]
		}
		kept, left = append(kept, id), append(left, vals[i])
	}
	sc.ids = kept
	return kept, left
}

// histBuckets is the number of values of 11 bits.
const histBuckets = 1 << 11

// nucleus finds the fewest largest elements whose sum reaches the share p of the whole: those above cut and the
// first ties of those equal to it. The bits of positive floats order like the floats, so three histograms over 12
// (the sign is zero), 11 and 9 bits find the cut exactly, without sorting.
func (sc *Scratch) nucleus(probs []float32, p float64) (cut float32, ties int) {
	var prefix, mask uint32
	need := -1.0
	for _, level := range [3]struct{ shift, width int }{{20, 11}, {9, 11}, {0, 9}} {
		low := uint32(1)<<level.width - 1
		hist := sc.hist[:low+1]
		clear(hist)
		for _, v := range probs {
			if b := math.Float32bits(v); b&mask == prefix {
				hist[b>>level.shift&low] += float64(v)
			}
		}
		if need < 0 {
			var total float64
			for _, h := range hist {
				total += h
			}
			need = p * total
		}
		var b uint32
		b, need = descend(hist, need)
		prefix |= b << level.shift
		mask |= low << level.shift
	}
	cut = math.Float32frombits(prefix)
	return cut, max(1, int(math.Ceil(need/float64(cut))))
}

// descend walks the buckets from the top to the one in which need is met, and says how much of it that one has to
// give. If rounding leaves the need unmet, it is the lowest bucket with anything in it, whole.
func descend(hist []float64, need float64) (bucket uint32, rest float64) {
	for b := len(hist) - 1; b >= 0; b-- {
		h := hist[b]
		if h == 0 {
			continue
		}
		if need <= h {
			return uint32(b), need
		}
		need -= h
		bucket, rest = uint32(b), h
	}
	return bucket, rest
}
