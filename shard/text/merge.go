package text

import "math"

// Both kinds of BPE work alike: a word begins as single symbols, and the pair of neighbours with the
// best rank is joined until no pair can be; of equal ranks the leftmost goes first (Sennrich et al.,
// "Neural Machine Translation of Rare Words with Subword Units", 2016). They differ in how a pair is ranked.

// noRank is the rank of a pair that cannot be joined.
const noRank = math.MaxUint32

// symbol is a part of the word: its token (-1: none) and its bytes.
type symbol struct {
	id         int32
	start, end int32
}

// pair is what joining two neighbours gives, and how early it is done.
type pair struct {
	rank uint32
	id   int32
}

// ranker gives the pair that two neighbours of a word make; its rank is noRank if they cannot be joined.
type ranker interface {
	rank(word string, a, b symbol) pair
}

// merger joins the symbols of words. It keeps its scratch between words.
type merger struct {
	ranker ranker
	word   string
	syms   []symbol
	pairs  []pair  // of each symbol with its right neighbour
	next   []int32 // long words: the neighbours of each symbol
	prev   []int32
	heap   []uint64 // long words: rank and index of pairs
}

// manySymbols is where looking through all pairs for each merge becomes slower than a heap.
const manySymbols = 48

// run joins what can be joined in m.syms, which hold the symbols of word.
func (m *merger) run(word string) {
	m.word = word
	m.pairs = m.pairs[:0]
	for i := range m.syms {
		m.pairs = append(m.pairs, m.pairAt(i, i+1))
	}
	if len(m.syms) > manySymbols {
		m.runLong()
		return
	}
	for len(m.syms) > 1 {
		best, at := uint32(noRank), 0
		for i, p := range m.pairs {
			if p.rank < best {
				best, at = p.rank, i
			}
		}
		if best == noRank {
			return
		}
		m.join(at, at+1)
		m.syms = append(m.syms[:at+1], m.syms[at+2:]...)
		m.pairs = append(m.pairs[:at+1], m.pairs[at+2:]...)
		m.pairs[at] = m.pairAt(at, at+1)
		if at > 0 {
			m.pairs[at-1] = m.pairAt(at-1, at)
		}
	}
}

func (m *merger) pairAt(i, j int) pair {
	if j >= len(m.syms) {
		return pair{noRank, -1}
	}
	return m.ranker.rank(m.word, m.syms[i], m.syms[j])
}

// join makes symbol i the union of i and its right neighbour j.
func (m *merger) join(i, j int) {
	m.syms[i] = symbol{m.pairs[i].id, m.syms[i].start, m.syms[j].end}
}

// runLong does the same with linked symbols and a heap of pairs. A pair in the heap is stale if its
// rank is no longer that of its symbol.
func (m *merger) runLong() {
	n := len(m.syms)
	m.next, m.prev, m.heap = m.next[:0], m.prev[:0], m.heap[:0]
	for i := range n {
		m.next, m.prev = append(m.next, int32(i+1)), append(m.prev, int32(i-1))
		m.push(i)
	}
	for len(m.heap) > 0 {
		top := m.pop()
		i := int(uint32(top))
		if m.pairs[i].rank != uint32(top>>32) {
			continue
		}
		j := int(m.next[i])
		m.join(i, j)
		m.pairs[j].rank = noRank
		m.next[i] = m.next[j]
		if k := int(m.next[i]); k < n {
			m.prev[k] = int32(i)
		}
		m.pairs[i] = m.pairAt(i, int(m.next[i]))
		m.push(i)
		if h := int(m.prev[i]); h >= 0 {
			m.pairs[h] = m.pairAt(h, i)
			m.push(h)
		}
	}
	kept := 0
	for i := 0; i < n; i = int(m.next[i]) {
		m.syms[kept] = m.syms[i]
		kept++
	}
	m.syms = m.syms[:kept]
}

// push puts the pair that begins at symbol i into the heap.
func (m *merger) push(i int) {
	if m.pairs[i].rank == noRank {
		return
	}
	h := append(m.heap, uint64(m.pairs[i].rank)<<32|uint64(i))
	for c := len(h) - 1; c > 0; {
		p := (c - 1) / 2
		if h[p] <= h[c] {
			break
		}
		h[p], h[c] = h[c], h[p]
		c = p
	}
	m.heap = h
}

// pop takes the pair with the lowest rank, the leftmost of equals.
func (m *merger) pop() uint64 {
	h := m.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	for p := 0; ; {
		c := 2*p + 1
		if c >= last {
			break
		}
		if c+1 < last && h[c+1] < h[c] {
			c++
		}
		if h[p] <= h[c] {
			break
		}
		h[p], h[c] = h[c], h[p]
		p = c
	}
	m.heap = h
	return top
}
