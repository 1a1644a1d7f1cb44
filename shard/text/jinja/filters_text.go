package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// textFilter makes a filter without arguments of a function over strings that grows them at most sixfold.
func textFilter(f func(string) string) filterFunc {
	return func(in *interp, v any, a callArgs) (any, error) {
		if len(a.pos)+len(a.names) > 0 {
			return nil, evalErrorf("this filter takes no arguments")
		}
		s, err := in.str(v)
		if err != nil {
			return nil, err
		}
		if err := in.spend(len(s) / 16); err != nil {
			return nil, err
		}
		out := f(s)
		return out, in.text(len(out))
	}
}

func upper(s string) string { return strings.ToUpper(strings.ReplaceAll(s, "ß", "SS")) }
func lower(s string) string { return strings.ToLower(s) }

// capitalize makes the first character upper case and the others lower.
func capitalize(s string) string {
	_, n := utf8.DecodeRuneInString(s)
	return upper(s[:n]) + lower(s[n:])
}

// titleWords capitalizes each word; words begin after white space and opening brackets and dashes.
func titleWords(s string) string {
	var b strings.Builder
	first := true
	for _, r := range s {
		if isSpace(r) || strings.ContainsRune("-({[<", r) {
			first = true
			b.WriteRune(r)
			continue
		}
		if first {
			b.WriteString(upper(string(r)))
		} else {
			b.WriteString(lower(string(r)))
		}
		first = false
	}
	return b.String()
}

func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;").Replace(s)
}

// urlEncode quotes all but letters, digits and _.-~/ as %XX.
func urlEncode(s string) string {
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if isDecimal(c) || (c|0x20 >= 'a' && c|0x20 <= 'z') || strings.IndexByte("_.-~/", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

func filterTrim(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("trim", "chars")
	if err != nil {
		return nil, err
	}
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	return in.strip(s, b.get(0, nil), true, true)
}

// strip takes white space, or the given characters, off the ends of s. The result shares s.
func (in *interp) strip(s string, chars any, left, right bool) (any, error) {
	drop := isSpace
	if chars != nil {
		set, ok := chars.(string)
		if !ok {
			return nil, evalErrorf("the characters to strip are a string, not a %s", typeName(chars))
		}
		if err := in.made(len(set), len(set)/32); err != nil {
			return nil, err
		}
		if len(set) > 64 {
			return nil, limitErrorf("more than 64 bytes of characters to strip")
		}
		drop = func(r rune) bool { return strings.ContainsRune(set, r) }
	}
	n := len(s)
	if left {
		s = strings.TrimLeftFunc(s, drop)
	}
	if right {
		s = strings.TrimRightFunc(s, drop)
	}
	return s, in.spend((n - len(s)) / 4)
}

func filterReplace(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("replace", "old", "new", "count")
	if err != nil {
		return nil, err
	}
	if err := b.require(2); err != nil {
		return nil, err
	}
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	old, err := in.str(b.get(0, ""))
	if err != nil {
		return nil, err
	}
	repl, err := in.str(b.get(1, ""))
	if err != nil {
		return nil, err
	}
	n := -1
	if b.get(2, nil) != nil {
		if n, err = b.int(2, -1); err != nil {
			return nil, err
		}
	}
	return in.replace(s, old, repl, n)
}

// replace is Python's str.replace; the size of the result is checked before it is made.
func (in *interp) replace(s, old, repl string, n int) (any, error) {
	if err := in.spend(len(s) / 16); err != nil {
		return nil, err
	}
	hits := strings.Count(s, old) // for "": one more than there are characters
	if n >= 0 {
		hits = min(hits, n)
	}
	if hits == 0 {
		return s, nil
	}
	if grow := len(repl) - len(old); grow > 0 && hits > in.limits.Output/grow {
		return nil, in.text(in.limits.Output + 1)
	}
	if err := in.text(len(s) + hits*(len(repl)-len(old))); err != nil {
		return nil, err
	}
	return strings.Replace(s, old, repl, hits), in.spend(hits)
}

// countLines is an upper bound of what splitLines gives.
func countLines(s string) int {
	n := 1
	for _, r := range s {
		if isLineEnd(r) {
			n++
		}
	}
	return n
}

// splitLines is Python's str.splitlines.
func splitLines(s string) []string {
	var lines []string
	start := 0
	for i, r := range s {
		if i < start || !isLineEnd(r) {
			continue
		}
		lines = append(lines, s[start:i])
		start = i + utf8.RuneLen(r)
		if r == '\r' && strings.HasPrefix(s[start:], "\n") {
			start++
		}
	}
	if start < len(s) {
		lines = append(lines, s[start:])
	}
	return lines
}

func isLineEnd(r rune) bool {
	switch r {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

func filterIndent(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("indent", "width", "first", "blank")
	if err != nil {
		return nil, err
	}
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	prefix, isText := b.get(0, nil).(string)
	if !isText {
		n, err := b.int(0, 4)
		if err != nil {
			return nil, err
		}
		if err := in.text(n); err != nil {
			return nil, err
		}
		prefix = strings.Repeat(" ", max(n, 0))
	}
	if err := in.spend(len(s)/8 + 2*countLines(s)); err != nil {
		return nil, err
	}
	lines := splitLines(s + "\n")
	var out []byte
	for i, line := range lines {
		if err := in.made(len(out)+len(prefix)+len(line), len(prefix)/32); err != nil {
			return nil, err
		}
		if i > 0 {
			out = append(out, '\n')
		}
		if (i > 0 && (line != "" || b.truth(2, false))) || (i == 0 && b.truth(1, false)) {
			out = append(out, prefix...)
		}
		out = append(out, line...)
	}
	return string(out), nil
}

func filterCenter(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("center", "width")
	if err != nil {
		return nil, err
	}
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	n, err := b.int(0, 80)
	if err != nil {
		return nil, err
	}
	return in.pad(s, n, " ", 0)
}

// pad fills s to a width in characters: side -1 puts it left, 1 right, 0 in the middle.
func (in *interp) pad(s string, width int, fill string, side int) (any, error) {
	if utf8.RuneCountInString(fill) != 1 {
		return nil, evalErrorf("the fill is one character")
	}
	missing := width - utf8.RuneCountInString(s)
	if missing <= 0 {
		return s, in.copied(len(s))
	}
	if missing > in.limits.Output {
		return nil, in.text(missing)
	}
	if err := in.text(len(s) + missing*len(fill)); err != nil {
		return nil, err
	}
	before := 0
	switch side {
	case 0:
		before = missing/2 + (missing & width & 1)
	case 1:
		before = missing
	}
	return strings.Repeat(fill, before) + s + strings.Repeat(fill, missing-before), nil
}

func filterTruncate(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("truncate", "length", "killwords", "end", "leeway")
	if err != nil {
		return nil, err
	}
	s, isText := v.(string)
	limit, err := b.int(0, 255)
	if err != nil {
		return nil, err
	}
	end, err := b.str(2, "...")
	if err != nil {
		return nil, err
	}
	leeway := 5
	if b.get(3, nil) != nil {
		if leeway, err = b.int(3, 5); err != nil {
			return nil, err
		}
	}
	if n, ok := length(v); !isText && (!ok || n > limit+leeway) {
		return nil, evalErrorf("truncate needs a string, not a %s", typeName(v))
	} else if !isText {
		return v, nil
	}
	if err := in.spend(len(s) / 4); err != nil {
		return nil, err
	}
	runes, tail := []rune(s), utf8.RuneCountInString(end)
	if limit < tail || leeway < 0 {
		return nil, evalErrorf("truncate: 'length' is at least that of 'end', 'leeway' not negative")
	}
	if len(runes) <= limit+leeway {
		return s, nil
	}
	cut := string(runes[:limit-tail])
	if !b.truth(1, false) {
		if i := strings.LastIndexByte(cut, ' '); i >= 0 {
			cut = cut[:i]
		}
	}
	return cut + end, in.text(len(cut) + len(end))
}

func filterWordCount(in *interp, v any, a callArgs) (any, error) {
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	n, inside := int64(0), false
	for _, r := range s {
		word := r == '_' || unicode.IsLetter(r) || unicode.IsNumber(r)
		if word && !inside {
			n++
		}
		inside = word
	}
	return n, in.spend(len(s) / 4)
}
