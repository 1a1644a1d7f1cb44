package infer

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func feed(stops []string, pieces []string) (text, stop string, tokens int) {
	s := settler{stops: stops}
	for i, p := range pieces {
		ev, which := s.add(p, TokenInfo{TokenLogprob: TokenLogprob{ID: int32(i)}})
		text += ev.Text
		tokens += len(ev.Tokens)
		if which != "" {
			return text, which, tokens
		}
	}
	ev, which := s.flush("")
	return text + ev.Text, which, tokens + len(ev.Tokens)
}

func TestStopStringAcrossTokens(t *testing.T) {
	for _, c := range []struct {
		stops, pieces []string
		text, stop    string
		tokens        int
	}{
		{[]string{"END"}, []string{"ab", "cE", "N", "D", "x"}, "abc", "END", 1},
		{[]string{"END"}, []string{"ab", "E", "N", "x"}, "abENx", "", 4},
		{[]string{"\n\n", "###"}, []string{"a\n", "\nb"}, "a", "\n\n", 0},
		{[]string{"bc", "ab"}, []string{"abc"}, "", "ab", 0},
		{nil, []string{"a", "", "b"}, "ab", "", 3},
		{[]string{"aab"}, []string{"a", "a", "a", "b"}, "a", "aab", 1},
	} {
		text, stop, tokens := feed(c.stops, c.pieces)
		if text != c.text || stop != c.stop || tokens != c.tokens {
			t.Errorf("stops %q pieces %q: text %q stop %q tokens %d, want %q %q %d", c.stops, c.pieces, text, stop, tokens, c.text, c.stop, c.tokens)
		}
	}
}

// However a text is cut into tokens, what is shown is the text up to the earliest stop string that is complete first.
func TestStopDoesNotDependOnTheCut(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		whole := rapid.StringMatching(`[ab]{0,30}`).Draw(t, "text")
		stop := rapid.StringMatching(`[ab]{1,4}`).Draw(t, "stop")
		var pieces []string
		for rest := whole; rest != ""; {
			n := rapid.IntRange(0, len(rest)).Draw(t, "n")
			pieces, rest = append(pieces, rest[:n]), rest[n:]
			if n == 0 && len(pieces) > 200 {
				pieces, rest = append(pieces, rest), ""
			}
		}
		want, _, found := strings.Cut(whole, stop)
		text, which, _ := feed([]string{stop}, pieces)
		if text != want || found != (which == stop) {
			t.Fatalf("text %q stop %q pieces %q: got %q (%q), want %q (%v)", whole, stop, pieces, text, which, want, found)
		}
	})
}
