package text

import (
	"unicode"
	"unicode/utf8"
)

// nextCased cuts a word by the expressions of GPT-4o and Tekken, in which a word of letters has its capitals first:
//
//	[^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// with U for [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], L for [\p{Ll}\p{Lm}\p{Lo}\p{M}] and C for a contraction, which Tekken has
// not; its digits stand alone.
func (p *splitter) nextCased(s string) int {
	c, n := p.at(s, 0)
	starts := []int{0} // of the letters, without a character before them
	if c == other || c == space {
		starts = []int{n, 0}
	}
	for _, word := range []func(string, int) int{lowerWord, upperWord} {
		for _, from := range starts {
			if end := word(s, from); end > 0 {
				if p.contractions {
					end += contraction(s[end:], true)
				}
				return end
			}
		}
	}
	if c == number {
		return p.digitRun(s, n)
	}
	start := 0
	if s[0] == ' ' {
		start = 1
	}
	if end := p.run(s, start, others); end > start {
		for end < len(s) && (s[end] == '\r' || s[end] == '\n' || s[end] == '/') {
			end++
		}
		return end
	}
	return p.blankRun(s)
}

// lowerWord gives the end of U*L+ from s[i:] on, 0 if there is none. Where no L follows the longest U*, the last
// character of it that is both is the end.
func lowerWord(s string, i int) int {
	both, end := 0, runOf(s, i, upperLike)
	if after := runOf(s, end, lowerLike); after > end {
		return after
	}
	for at, r := range s[i:end] {
		if lowerLike(r) {
			both = i + at + utf8.RuneLen(r)
		}
	}
	return both
}

// upperWord gives the end of U+L* from s[i:] on, 0 if there is none.
func upperWord(s string, i int) int {
	end := runOf(s, i, upperLike)
	if end == i {
		return 0
	}
	return runOf(s, end, lowerLike)
}

func runOf(s string, i int, in func(rune) bool) int {
	for i < len(s) {
		r, n := utf8.DecodeRuneInString(s[i:])
		if r == utf8.RuneError && n == 1 || !in(r) {
			break
		}
		i += n
	}
	return i
}

func upperLike(r rune) bool {
	if r < utf8.RuneSelf {
		return 'A' <= r && r <= 'Z'
	}
	return unicode.In(r, unicode.Lu, unicode.Lt, unicode.Lm, unicode.Lo, unicode.M)
}

func lowerLike(r rune) bool {
	if r < utf8.RuneSelf {
		return 'a' <= r && r <= 'z'
	}
	return unicode.In(r, unicode.Ll, unicode.Lm, unicode.Lo, unicode.M)
}
