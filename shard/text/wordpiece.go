package text

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxPieces is the length in characters above which a word is the unknown token, as in the reference.
const maxPieces = 100

// wordpiece is the tokenizer of BERT: text is cleaned and cut at blanks, punctuation and Chinese characters; of each
// word the longest token that it begins with is taken, then the longest that goes on, and a word that does not come
// out whole is unknown (Devlin et al., 2019; Wu et al., 2016). Files mark tokens that begin a word with U+2581.
type wordpiece struct {
	*vocab
	longest int  // bytes of the longest token
	cased   bool // the vocabulary has capitals, so text keeps its capitals and accents
}

func newWordPiece(v *vocab) *wordpiece {
	m := &wordpiece{vocab: v}
	for text := range v.byText {
		m.longest = max(m.longest, len(text))
		if !strings.HasPrefix(text, "[") { // some files list [CLS] and its like as words
			m.cased = m.cased || strings.IndexFunc(text, func(r rune) bool { return unicode.ToLower(r) != r }) >= 0
		}
	}
	return m
}

// encode appends the tokens of text that holds no special tokens.
func (m *wordpiece) encode(dst []int32, text string) []int32 {
	for text != "" {
		n := cut(text, maxWord)
		for _, word := range m.words(text[:n]) {
			dst = m.encodeWord(dst, word)
		}
		text = text[n:]
	}
	return dst
}

// words cleans text and cuts it.
func (m *wordpiece) words(text string) []string {
	text = strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r == 0 || r == utf8.RuneError || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, text)
	var words []string
	for _, word := range strings.Fields(text) {
		words = m.split(words, word)
	}
	return words
}

// split appends the parts of what stands between blanks.
func (m *wordpiece) split(words []string, s string) []string {
	from := 0
	flush := func(to int) {
		if from < to {
			words = m.splitWord(words, m.plain(s[from:to]))
		}
	}
	for i, r := range s {
		if chinese(r) {
			flush(i)
			words = append(words, m.plain(string(r)))
			from = i + utf8.RuneLen(r)
		}
	}
	flush(len(s))
	return words
}

// splitWord appends what stands between punctuation, and the punctuation.
func (m *wordpiece) splitWord(words []string, s string) []string {
	from := 0
	for i, r := range s {
		if !punctuation(r) {
			continue
		}
		if from < i {
			words = append(words, s[from:i])
		}
		from = i + utf8.RuneLen(r)
		words = append(words, s[i:from])
	}
	if from < len(s) {
		words = append(words, s[from:])
	}
	return words
}

// plain takes accents and capitals away, unless the vocabulary has them.
func (m *wordpiece) plain(s string) string {
	if m.cased {
		return s
	}
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Mn, r) {
			return -1
		}
		return unicode.ToLower(r)
	}, norm.NFD.String(s))
}

// encodeWord appends the tokens of a word.
func (m *wordpiece) encodeWord(dst []int32, word string) []int32 {
	start := len(dst)
	if utf8.RuneCountInString(word) > maxPieces {
		return m.unknown(dst)
	}
	rest := spaceMark + word
	for rest != "" {
		id, n := m.longestPrefix(rest)
		if n == 0 {
			return m.unknown(dst[:start])
		}
		dst, rest = append(dst, id), rest[n:]
	}
	return dst
}

// longestPrefix finds the longest token that s begins with; a mark alone is none.
func (m *wordpiece) longestPrefix(s string) (id int32, n int) {
	for n = min(len(s), m.longest); n > 0 && s[:n] != spaceMark; n-- {
		if n < len(s) && !utf8.RuneStart(s[n]) {
			continue
		}
		if id, ok := m.byText[s[:n]]; ok {
			return id, n
		}
	}
	return -1, 0
}

func (m *wordpiece) unknown(dst []int32) []int32 {
	if m.unk < 0 {
		return dst
	}
	return append(dst, m.unk)
}

// chinese is true for the characters that each are a word.
func chinese(r rune) bool {
	switch {
	case r >= 0x4e00 && r <= 0x9fff, r >= 0x3400 && r <= 0x4dbf, r >= 0x20000 && r <= 0x2a6df, r >= 0x2a700 && r <= 0x2b73f,
		r >= 0x2b740 && r <= 0x2b81f, r >= 0x2b920 && r <= 0x2ceaf, r >= 0xf900 && r <= 0xfaff, r >= 0x2f800 && r <= 0x2fa1f:
		return true
	}
	return false
}

// punctuation is true for Unicode's and for all of ASCII that is neither letter, digit nor blank.
func punctuation(r rune) bool {
	if r < utf8.RuneSelf {
		return r > ' ' && r < 0x7f && !('0' <= r && r <= '9') && !('a' <= r|0x20 && r|0x20 <= 'z')
	}
	return unicode.IsPunct(r)
}
