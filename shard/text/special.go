package text

import (
	"slices"
	"sort"
	"strings"
)

// specials finds special tokens in text: of those that begin leftmost, the longest.
type specials struct {
	texts []string // sorted
	ids   []int32
	first [256]bool // bytes that begin one
}

// newSpecials collects the tokens of the given kinds.
func newSpecials(v *vocab, kinds ...kind) *specials {
	s := &specials{}
	var ids []int32
	for id, text := range v.texts {
		if text != "" && len(text) <= maxSpecial && slices.Contains(kinds, v.kinds[id]) {
			ids = append(ids, int32(id))
		}
	}
	slices.SortFunc(ids, func(a, b int32) int {
		if c := strings.Compare(v.texts[a], v.texts[b]); c != 0 {
			return c
		}
		return int(a - b)
	})
	for _, id := range ids {
		if n := len(s.texts); n > 0 && s.texts[n-1] == v.texts[id] {
			continue
		}
		s.texts = append(s.texts, v.texts[id])
		s.ids = append(s.ids, id)
		s.first[v.texts[id][0]] = true
	}
	return s
}

// next finds the first special token of text: where it is, how long, and its id. id -1: there is none.
func (s *specials) next(text string) (at, size int, id int32) {
	if len(s.texts) == 0 {
		return len(text), 0, -1
	}
	for i := range len(text) {
		if !s.first[text[i]] {
			continue
		}
		if size, id := s.match(text[i:]); id >= 0 {
			return i, size, id
		}
	}
	return len(text), 0, -1
}

// match gives the longest special token that text begins with. The candidates are those that agree with
// text in the bytes read so far: a range of the sorted texts that each byte narrows.
func (s *specials) match(text string) (size int, id int32) {
	id = -1
	lo, hi := 0, len(s.texts)
	for n := 0; n < len(text) && lo < hi; n++ {
		c := text[n]
		lo += sort.Search(hi-lo, func(i int) bool { t := s.texts[lo+i]; return len(t) > n && t[n] >= c })
		hi = lo + sort.Search(hi-lo, func(i int) bool { return s.texts[lo+i][n] > c })
		if lo < hi && len(s.texts[lo]) == n+1 {
			size, id = n+1, s.ids[lo]
		}
	}
	return size, id
}
