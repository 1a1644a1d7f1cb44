package text

import (
	"slices"
	"strings"
	"unicode/utf8"
)

// spaceMark is how SentencePiece writes a space (U+2581).
const spaceMark = "▁"

// spm is a SentencePiece BPE model: any two neighbours may be joined whose joint text is a token; the
// token with the best score goes first. Characters without a token are spelt as bytes (Kudo and
// Richardson, "SentencePiece", 2018).
type spm struct {
	*vocab
	ranks []uint32 // of each token, by score
	// before holds the last characters before a space within any token. Where a space follows any
	// other character no token reaches across, so text is cut there.
	before map[rune]bool
}

func newSPM(v *vocab) *spm {
	m := &spm{vocab: v, before: map[rune]bool{}}
	order := make([]int32, len(v.texts))
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		switch x, y := v.scores[a], v.scores[b]; {
		case x > y:
			return -1
		case x < y:
			return 1
		}
		return 0
	})
	m.ranks = make([]uint32, len(order))
	rank := uint32(0)
	for i, id := range order {
		if i > 0 && v.scores[id] != v.scores[order[i-1]] {
			rank++
		}
		m.ranks[id] = rank
	}
	v.scores = nil
	for text := range v.byText {
		m.noteBefore(text)
	}
	return m
}

// noteBefore remembers the characters that stand before a space in text.
func (m *spm) noteBefore(text string) {
	for i := 0; ; {
		n := strings.Index(text[i:], spaceMark)
		if n < 0 {
			return
		}
		i += n
		if r, size := utf8.DecodeLastRuneInString(text[:i]); size > 0 {
			m.before[r] = true
		}
		i += len(spaceMark)
	}
}

// rank implements ranker by the scores.
func (m *spm) rank(word string, a, b symbol) pair {
	id, ok := m.byText[word[a.start:b.end]]
	if !ok {
		return pair{noRank, -1}
	}
	return pair{m.ranks[id], id}
}

// encode appends the tokens of text that holds no special tokens. first is true where a space is put
// before the text, if the model wants one.
func (m *spm) encode(dst []int32, text string, first bool, scratch *merger) []int32 {
	scratch.ranker = m
	if first && m.addSpace {
		text = " " + text
	}
	text = strings.ReplaceAll(text, " ", spaceMark)
	for text != "" {
		n := m.next(text[:cut(text, maxWord)])
		dst = m.encodeWord(dst, text[:n], scratch)
		text = text[n:]
	}
	return dst
}

// next gives the end of the first word of s.
func (m *spm) next(s string) int {
	for i := len(spaceMark); ; i += len(spaceMark) {
		if i > len(s) {
			return len(s)
		}
		n := strings.Index(s[i:], spaceMark)
		if n < 0 {
			return len(s)
		}
		i += n
		if r, _ := utf8.DecodeLastRuneInString(s[:i]); !m.before[r] {
			return i
		}
	}
}

func (m *spm) encodeWord(dst []int32, word string, scratch *merger) []int32 {
	scratch.syms = scratch.syms[:0]
	for i := 0; i < len(word); {
		_, n := utf8.DecodeRuneInString(word[i:])
		id, ok := m.byText[word[i:i+n]]
		if !ok {
			id = -1
		}
		scratch.syms = append(scratch.syms, symbol{id, int32(i), int32(i + n)})
		i += n
	}
	scratch.run(word)
	for _, s := range scratch.syms {
		if s.id >= 0 {
			dst = append(dst, s.id)
			continue
		}
		dst = m.spell(dst, word[s.start:s.end])
	}
	return dst
}

// spell appends the bytes of a character without a token, or the unknown token once.
func (m *spm) spell(dst []int32, char string) []int32 {
	start := len(dst)
	for i := range len(char) {
		id := m.bytes[char[i]]
		if id < 0 {
			dst = dst[:start]
			if m.unk >= 0 {
				dst = append(dst, m.unk)
			}
			return dst
		}
		dst = append(dst, id)
	}
	return dst
}
