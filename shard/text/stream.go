package text

import "unicode/utf8"

// Stream turns tokens into text as they come. Each piece of text it gives is valid UTF-8 and final: a
// character that is not complete yet is held back. Control tokens are invisible. A Stream belongs to one
// goroutine; made by NewStream.
type Stream struct {
	t       *Tokenizer
	pending []byte // begins a character
}

// NewStream begins a text.
func (t *Tokenizer) NewStream() *Stream { return &Stream{t: t} }

// Add takes the next token and gives the text that it settles, which may be empty.
func (s *Stream) Add(id int32) string {
	if s.t.hidden(id) {
		return ""
	}
	s.pending = append(s.pending, s.t.piece(id)...)
	n := len(s.pending) - unfinished(s.pending)
	text := valid(s.pending[:n])
	s.pending = append(s.pending[:0], s.pending[n:]...)
	return text
}

// Flush ends the text and gives what was held back, as U+FFFD.
func (s *Stream) Flush() string {
	text := valid(s.pending)
	s.pending = s.pending[:0]
	return text
}

// unfinished counts the bytes at the end of b that begin a character without completing it.
func unfinished(b []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		c := b[len(b)-n]
		if !utf8.RuneStart(c) {
			continue
		}
		if c >= utf8.RuneSelf && !utf8.FullRune(b[len(b)-n:]) {
			return n
		}
		return 0
	}
	return 0
}
