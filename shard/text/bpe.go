package text

import (
	"strings"
	"sync/atomic"

	"golang.org/x/text/unicode/norm"
)

// maxWord bounds the bytes of one word, so that the memory of a merge is bounded too. A longer run of
// letters or blanks is cut there, which the reference does not do.
const maxWord = 256 << 10

// bpe is a byte-level BPE model.
type bpe struct {
	*vocab
	split *splitter
	pairs pairTable
	// whole remembers, two bits for each token, whether its bytes as a word give that token alone:
	// most words are tokens, and need no merging once that is known.
	whole []atomic.Uint32
}

const (
	wholeYes = 1
	wholeNo  = 2
)

func newBPE(v *vocab) (*bpe, error) {
	f := preFamilies()[v.pre]
	if !f.known {
		return nil, tokenizerErrorf("tokenizer.ggml.pre %.40q is not supported, only these are: %s", v.pre, supportedPre())
	}
	m := &bpe{vocab: v, split: newSplitter(f), whole: make([]atomic.Uint32, (len(v.texts)+15)/16)}
	m.pairs.fill(v)
	return m, nil
}

// rank implements ranker by the file's list of merges.
func (m *bpe) rank(_ string, a, b symbol) pair { return m.pairs.find(a.id, b.id) }

// encode appends the tokens of text that holds no special tokens.
func (m *bpe) encode(dst []int32, text string, scratch *merger) []int32 {
	scratch.ranker = m
	if m.split.nfc && !norm.NFC.IsNormalString(text) {
		text = norm.NFC.String(text)
	}
	for text != "" {
		n := m.split.next(text[:cut(text, maxWord)])
		dst = m.encodeWord(dst, text[:n], scratch)
		text = text[n:]
	}
	return dst
}

func (m *bpe) encodeWord(dst []int32, word string, scratch *merger) []int32 {
	id, ok := m.byText[word]
	if !ok {
		return m.merge(dst, word, scratch)
	}
	if m.split.whole && m.kinds[id] == kindNormal {
		return append(dst, id)
	}
	shift := uint(id%16) * 2
	bits := &m.whole[id/16]
	switch bits.Load() >> shift & 3 {
	case wholeYes:
		return append(dst, id)
	case wholeNo:
		return m.merge(dst, word, scratch)
	}
	start := len(dst)
	dst = m.merge(dst, word, scratch)
	answer := uint32(wholeNo)
	if len(dst) == start+1 && dst[start] == id {
		answer = wholeYes
	}
	bits.Or(answer << shift)
	return dst
}

// merge appends the tokens of a word. Bytes without a token are left out, as in the reference.
func (m *bpe) merge(dst []int32, word string, scratch *merger) []int32 {
	scratch.syms = scratch.syms[:0]
	for i := range len(word) {
		scratch.syms = append(scratch.syms, symbol{m.bytes[word[i]], int32(i), int32(i + 1)})
	}
	scratch.run(word)
	for _, s := range scratch.syms {
		if s.id >= 0 {
			dst = append(dst, s.id)
		}
	}
	return dst
}

// pairTable maps a pair of tokens to the rank of their merge and its result: a hash table with open
// addressing, at most half full. An empty slot has id -1.
type pairTable struct {
	slots []pairSlot
	shift uint
}

type pairSlot struct {
	key uint64 // both ids
	pair
}

// fill takes the merges of the vocabulary; one that names tokens which are not there can never be done.
func (t *pairTable) fill(v *vocab) {
	bits := uint(4)
	for 1<<bits < 2*len(v.merges) {
		bits++
	}
	t.slots = make([]pairSlot, 1<<bits)
	t.shift = 64 - bits
	for i := range t.slots {
		t.slots[i].id = -1
	}
	byText := make(map[string]int32, len(v.texts))
	for id, text := range v.texts {
		if _, twice := byText[text]; !twice {
			byText[text] = int32(id)
		}
	}
	var joined []byte
	for rank, line := range v.merges {
		// The parts hold no space, but for a first character that is one.
		n := strings.IndexByte(line[min(1, len(line)):], ' ') + 1
		if n == 0 {
			continue
		}
		a, b := line[:n], line[n+1:]
		joined = append(append(joined[:0], a...), b...)
		left, ok1 := byText[a]
		right, ok2 := byText[b]
		result, ok3 := byText[string(joined)]
		if ok1 && ok2 && ok3 {
			t.add(left, right, pair{uint32(rank), result})
		}
	}
	v.merges = nil
}

// slot begins the search for a key (Fibonacci hashing).
func (t *pairTable) slot(a, b int32) (key, slot uint64) {
	key = uint64(uint32(a))<<32 | uint64(uint32(b))
	return key, key * 0x9e3779b97f4a7c15 >> t.shift
}

// add puts a merge in; of several for one pair the first counts.
func (t *pairTable) add(a, b int32, p pair) {
	key, i := t.slot(a, b)
	for ; t.slots[i].id >= 0; i = (i + 1) % uint64(len(t.slots)) {
		if t.slots[i].key == key {
			return
		}
	}
	t.slots[i] = pairSlot{key, p}
}

func (t *pairTable) find(a, b int32) pair {
	key, i := t.slot(a, b)
	for ; t.slots[i].id >= 0; i = (i + 1) % uint64(len(t.slots)) {
		if t.slots[i].key == key {
			return t.slots[i].pair
		}
	}
	return pair{noRank, -1}
}
