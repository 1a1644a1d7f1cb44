package infer

import "strings"

// settler decides which text and tokens of an answer may be shown: it holds back what could still turn
// out to be the beginning of a stop string. It is pure; one settler serves one answer.
type settler struct {
	stops   []string
	pending string // text not shown yet
	shown   int    // bytes of the answer shown so far
	tokens  []settling
	total   int // bytes of the answer seen so far
}

// settling is a token whose text ends at byte end of the answer.
type settling struct {
	info TokenInfo
	end  int
}

// add takes the text that a token settled in the UTF-8 stream (it may be empty) and the token. It returns what may be
// shown now, and the stop string that ended the answer, if one did.
func (s *settler) add(text string, tok TokenInfo) (Event, string) {
	s.total += len(text)
	s.tokens = append(s.tokens, settling{tok, s.total})
	s.pending += text
	at, which := s.find()
	if which != "" {
		ev := s.show(at)
		s.pending, s.tokens = "", nil
		return ev, which
	}
	return s.show(len(s.pending) - s.held()), ""
}

// flush shows what is left when the answer ended by itself; text is what the UTF-8 stream still held.
func (s *settler) flush(text string) (Event, string) {
	s.pending += text
	s.total += len(text)
	if n := len(s.tokens); n > 0 {
		s.tokens[n-1].end = s.total
	}
	at, which := s.find()
	if which == "" {
		at = len(s.pending)
	}
	return s.show(at), which
}

// find returns the earliest stop string in the pending text.
func (s *settler) find() (at int, which string) {
	for _, stop := range s.stops {
		if i := strings.Index(s.pending, stop); i >= 0 && (which == "" || i < at) {
			at, which = i, stop
		}
	}
	return at, which
}

// held is the length of the longest end of the pending text that begins a stop string.
func (s *settler) held() int {
	longest := 0
	for _, stop := range s.stops {
		for n := min(len(stop)-1, len(s.pending)); n > longest; n-- {
			if strings.HasSuffix(s.pending, stop[:n]) {
				longest = n
			}
		}
	}
	return longest
}

// show takes n bytes off the pending text, with the tokens that end in them. A token that settled no text
// (it is in the middle of a character) goes with the token that completes it.
func (s *settler) show(n int) Event {
	ev := Event{Text: s.pending[:n]}
	s.pending = s.pending[n:]
	s.shown += n
	k := 0
	for k < len(s.tokens) && s.tokens[k].end <= s.shown {
		ev.Tokens = append(ev.Tokens, s.tokens[k].info)
		k++
	}
	s.tokens = s.tokens[k:]
	return ev
}
