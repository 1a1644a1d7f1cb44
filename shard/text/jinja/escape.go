package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// unescape decodes the backslash escapes of a Python string literal. An escape that Python does not
// know stands for itself, with its backslash.
func unescape(s string) (string, error) {
	if strings.IndexByte(s, '\\') < 0 {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' || i+1 == len(s) {
			b.WriteByte(s[i])
			i++
			continue
		}
		n, err := unescapeOne(&b, s[i+1:])
		if err != nil {
			return "", err
		}
		i += 1 + n
	}
	return b.String(), nil
}

// unescapeOne decodes the escape after a backslash and gives how many bytes it took.
func unescapeOne(b *strings.Builder, s string) (int, error) {
	const from, to = `\'"abfnrtv`, "\\'\"\a\b\f\n\r\t\v"
	c := s[0]
	if k := strings.IndexByte(from, c); k >= 0 {
		b.WriteByte(to[k])
		return 1, nil
	}
	switch {
	case c == '\n':
		return 1, nil
	case c >= '0' && c <= '7':
		n := 1
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		v, err := strconv.ParseUint(s[:n], 8, 16)
		if err != nil {
			return 0, fmt.Errorf("bad escape \\%s", s[:n])
		}
		b.WriteRune(rune(v))
		return n, nil
	case c == 'x':
		return unescapeHex(b, s, 2)
	case c == 'u':
		return unescapeHex(b, s, 4)
	case c == 'U':
		return unescapeHex(b, s, 8)
	case c == 'N':
		return 0, fmt.Errorf("characters by name (\\N) are not supported, write \\u")
	}
	b.WriteByte('\\')
	return 0, nil
}

// unescapeHex decodes x, u or U with a fixed count of digits.
func unescapeHex(b *strings.Builder, s string, size int) (int, error) {
	if len(s) < size+1 {
		return 0, fmt.Errorf("escape \\%s is cut short", s)
	}
	v, err := strconv.ParseUint(s[1:size+1], 16, 32)
	if err != nil || v > utf8.MaxRune {
		return 0, fmt.Errorf("bad escape \\%s", s[:size+1])
	}
	b.WriteRune(rune(v)) // a lone surrogate becomes U+FFFD: strings here are UTF-8
	return size + 1, nil
}
