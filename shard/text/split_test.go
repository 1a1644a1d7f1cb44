package text

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"
)

// TestSplit states the words of the pre-tokenizers in the places where they differ or look ahead.
func TestSplit(t *testing.T) {
	for _, c := range []struct {
		pre, words string // | between words
	}{
		{"gpt-2", "I|'m| sure| it|'s|'|S| 12345| x|42"},
		{"gpt-2", "a|  | b|\n|\n|c|   "},
		{"gpt-2", " ...|\n|x| !?|  "},
		{"gpt-2", "\u00a0|x|\u3000|\u3000|y"},
		{"gpt-2", "'ll|am| '|ll"},
		{"smollm", "a|1|2| |3|  |4| b|  | c"},
		{"smollm", "½|²| |٣| x|7|'s"},
		{"llama-bpe", "123|456|78| |1|.x"},
		{"llama-bpe", "I|'M| DON|'T|\tx|\n\n|y|  \n| z"},
		{"llama-bpe", "#include| <|stdio|.h|>\n\n|int"},
		{"llama-bpe", " !!|a|.b|  | c| \r\n \n|   | d"},
		{"qwen2", "1|2|3| |4|'ſ|'\n|,x"},
		{"qwen2", "e|\u0301| \u0301|x|\u0301"},
		{"qwen35", "e\u0301x| \u0301x|1|\u0301|.\u0301"},
	} {
		words := strings.Split(c.words, "|")
		s, p := strings.Join(words, ""), newSplitter(preFamilies()[c.pre])
		var got []string
		for s != "" {
			n := p.next(s)
			got = append(got, s[:n])
			s = s[n:]
		}
		if !slices.Equal(got, words) {
			t.Errorf("%s: %q, want %q", c.pre, got, words)
		}
	}
}

// TestSplitProgress: every pre-tokenizer cuts any bytes into words that are not empty, and never within
// a character.
func TestSplitProgress(t *testing.T) {
	alphabet := []rune("ab'sTé0½ \t\n\r\u00a0漢😀\u0301!<")
	for name, f := range preFamilies() {
		p := newSplitter(f)
		rapid.Check(t, func(t *rapid.T) {
			s := rapid.OneOf(rapid.StringOf(rapid.RuneFrom(alphabet)), rapid.String(),
				rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text")
			ok := utf8.ValidString(s)
			for s != "" {
				n := p.next(s)
				if n <= 0 || n > len(s) || (ok && !utf8.ValidString(s[:n])) {
					t.Fatalf("%s: a word of %d bytes in %q", name, n, s)
				}
				s = s[n:]
			}
		})
	}
}

// TestClasses checks the table of classes against the definition.
func TestClasses(t *testing.T) {
	for _, f := range []family{{}, {marks: true}} {
		c := newClasses(f)
		for r := range rune(len(c)) {
			if c[r] != classOf(r, f) {
				t.Fatalf("marks %v: %U is of class %d, want %d", f.marks, r, c[r], classOf(r, f))
			}
		}
	}
}

// table is a ranker over ids in which any pair may be joined, at a rank that is a function of the pair.
type table struct{ seed, holes uint64 }

func (r table) rank(_ string, a, b symbol) pair {
	h := (uint64(uint32(a.id))<<32 | uint64(uint32(b.id))) * (r.seed | 1)
	h ^= h >> 29
	h *= 0x9e3779b97f4a7c15
	if h>>40%8 < r.holes {
		return pair{noRank, -1}
	}
	return pair{uint32(h >> 60), int32(h >> 33 & 15)}
}

// TestMergeOrders: the heap for long words joins the same pairs as looking through all of them.
func TestMergeOrders(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := table{rapid.Uint64().Draw(t, "seed"), rapid.Uint64Range(1, 7).Draw(t, "holes")}
		n := rapid.IntRange(1, manySymbols).Draw(t, "symbols")
		rng := rand.New(rand.NewPCG(r.seed, 1))
		var short, long merger
		for i := range n {
			s := symbol{int32(rng.IntN(4)), int32(i), int32(i + 1)}
			short.syms, long.syms = append(short.syms, s), append(long.syms, s)
		}
		short.ranker, long.ranker = r, r
		short.run("")
		for i := range long.syms {
			long.pairs = append(long.pairs, long.pairAt(i, i+1))
		}
		long.runLong()
		if !slices.Equal(short.syms, long.syms) {
			t.Fatalf("short %v\nlong  %v", short.syms, long.syms)
		}
	})
}

// TestSpecialsAgainstSearch compares the search for special tokens with trying every text at every place.
func TestSpecialsAgainstSearch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringOfN(rapid.RuneFrom([]rune("ab<")), 0, 5, -1)
		v := &vocab{texts: rapid.SliceOfN(word, 0, 12).Draw(t, "tokens")}
		for range v.texts {
			v.kinds = append(v.kinds, kindControl)
		}
		s := rapid.StringOfN(rapid.RuneFrom([]rune("ab<")), 0, 20, -1).Draw(t, "text")
		at, size, id := newSpecials(v, kindControl).next(s)
		wantAt, wantID := len(s), -1
		for i := 0; i < len(s) && wantID < 0; i++ {
			for k, text := range v.texts {
				if text != "" && strings.HasPrefix(s[i:], text) && (wantID < 0 || len(text) > len(v.texts[wantID])) {
					wantAt, wantID = i, k
				}
			}
		}
		if at != wantAt || int(id) != wantID || (wantID >= 0 && size != len(v.texts[wantID])) {
			t.Fatalf("found %d at %d, want %d at %d", id, at, wantID, wantAt)
		}
	})
}

func TestCut(t *testing.T) {
	for _, c := range []struct {
		s           string
		limit, want int
	}{{"abc", 5, 3}, {"abc", 2, 2}, {"aé", 2, 1}, {"漢字", 4, 3}, {"漢字", 5, 3}, {"\x80\x80\x80\x80\x80\x80", 5, 5}, {"😀😀", 7, 4}} {
		if got := cut(c.s, c.limit); got != c.want {
			t.Errorf("cut(%q, %d) = %d, want %d", c.s, c.limit, got, c.want)
		}
	}
}
