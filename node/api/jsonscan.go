package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"
)

// MaxDepth is how deeply a message may be nested, in either codec.
const MaxDepth = 64

// Refusals of a message before its fields are looked at.
var (
	// ErrDepth: nested deeper than MaxDepth.
	ErrDepth = errors.New("nested too deeply")
	// ErrDuplicate: an object names a key twice, so that readers could disagree on what it says.
	ErrDuplicate = errors.New("duplicate key")
	// ErrEncoding: the bytes are not UTF-8.
	ErrEncoding = errors.New("not valid UTF-8")
)

// ScanJSON walks a JSON text before it is decoded and refuses what encoding/json lets pass: nesting deeper than
// MaxDepth, an object that names a key twice (the outermost: twice but for case, which encoding/json does not tell apart
// in the fields of a message), and bytes that are not UTF-8 (which would become U+FFFD in a prompt).
// It allocates only for the keys of open objects. Syntax is left to encoding/json: on a malformed text ScanJSON may
// return nil, but it neither panics nor loops.
func ScanJSON(data []byte) error {
	if !utf8.Valid(data) {
		return fmt.Errorf("JSON text is %w", ErrEncoding)
	}
	s := jsonScanner{data: data}
	for s.pos < len(data) {
		if err := s.step(); err != nil {
			return err
		}
	}
	return nil
}

// jsonScanner is a position in a text and the objects and arrays open there.
type jsonScanner struct {
	data []byte
	pos  int
	open []jsonLevel
}

// jsonLevel is an open object or array. keys of a small object are compared one by one, of a large one by a map.
type jsonLevel struct {
	object  bool
	wantKey bool     // the next string is a key
	keys    [][]byte // parts of the text, where no escapes stand in them
	index   map[string]bool
}

// manyKeys is where comparing one by one gets slower than a map.
const manyKeys = 16

func (s *jsonScanner) step() error {
	switch c := s.data[s.pos]; c {
	case '{', '[':
		if len(s.open) == MaxDepth {
			return fmt.Errorf("JSON text is %w: more than %d levels at byte %d", ErrDepth, MaxDepth, s.pos)
		}
		s.push(c == '{')
	case '}', ']':
		if n := len(s.open); n > 0 {
			s.open = s.open[:n-1]
		}
	case ',':
		if n := len(s.open); n > 0 {
			s.open[n-1].wantKey = s.open[n-1].object
		}
	case '"':
		return s.str()
	}
	s.pos++
	return nil
}

// push opens a level, in the memory of an earlier one of this depth.
func (s *jsonScanner) push(object bool) {
	n := len(s.open)
	if n == cap(s.open) {
		s.open = append(s.open, jsonLevel{object: object, wantKey: object})
		return
	}
	s.open = s.open[:n+1]
	s.open[n] = jsonLevel{object: object, wantKey: object, keys: s.open[n].keys[:0]}
}

// str passes a string and, if it is a key, notes it.
func (s *jsonScanner) str() error {
	start, escaped := s.pos, false
	s.pos++
	for s.pos < len(s.data) && s.data[s.pos] != '"' {
		if s.data[s.pos] == '\\' {
			escaped = true
			s.pos++
		}
		s.pos++
	}
	if s.pos >= len(s.data) { // unterminated: encoding/json says so
		s.pos = len(s.data)
		return nil
	}
	s.pos++
	n := len(s.open)
	if n == 0 || !s.open[n-1].wantKey {
		return nil
	}
	s.open[n-1].wantKey = false
	key := keyText(s.data[start:s.pos], escaped)
	if n == 1 {
		key = fold(key)
	}
	return s.open[n-1].note(key)
}

// keyText is the key that a quoted string stands for.
func keyText(quoted []byte, escaped bool) []byte {
	if escaped {
		var key string
		if json.Unmarshal(quoted, &key) == nil {
			return []byte(key)
		}
	}
	return quoted[1 : len(quoted)-1]
}

// fold makes keys equal that encoding/json takes for the same field: those that differ in case only.
func fold(key []byte) []byte {
	plain := true
	for _, c := range key {
		plain = plain && c < utf8.RuneSelf && (c < 'A' || c > 'Z')
	}
	if plain {
		return key
	}
	return bytes.Map(func(r rune) rune {
		least := r
		for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
			least = min(least, o)
		}
		return unicode.ToLower(least)
	}, key)
}

func (l *jsonLevel) note(key []byte) error {
	if l.index == nil && len(l.keys) == manyKeys {
		l.index = make(map[string]bool, 2*manyKeys)
		for _, k := range l.keys {
			l.index[string(k)] = true
		}
	}
	if l.index != nil {
		if l.index[string(key)] {
			return duplicate(key)
		}
		l.index[string(key)] = true
		return nil
	}
	for _, k := range l.keys {
		if bytes.Equal(k, key) {
			return duplicate(key)
		}
	}
	l.keys = append(l.keys, key)
	return nil
}

func duplicate(key []byte) error {
	return fmt.Errorf("JSON text has a %w: %q; name each key once", ErrDuplicate, clip(string(key), 64))
}

// clip shortens a text from outside for a message.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}
