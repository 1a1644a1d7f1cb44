package jinja

import (
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// plainMethod makes a method without arguments.
func plainMethod(f func(string) string) method {
	filter := textFilter(f)
	return func(in *interp, s string, a callArgs) (any, error) { return filter(in, s, a) }
}

// pyTitle is str.title: a letter after a letter is lower case, any other upper.
func pyTitle(s string) string {
	var b strings.Builder
	inside := false
	for _, r := range s {
		cased := unicode.IsUpper(r) || unicode.IsLower(r) || unicode.IsTitle(r)
		switch {
		case cased && inside:
			b.WriteString(lower(string(r)))
		case cased:
			b.WriteRune(unicode.ToTitle(r))
		default:
			b.WriteRune(r)
		}
		inside = cased
	}
	return b.String()
}

func swapCase(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsUpper(r) {
			b.WriteString(lower(string(r)))
		} else {
			b.WriteString(upper(string(r)))
		}
	}
	return b.String()
}

// classMethod makes isdigit and its kin, or nil.
func classMethod(name string) method {
	var f func(string) bool
	all := func(ok func(rune) bool) func(string) bool {
		return func(s string) bool {
			return s != "" && strings.IndexFunc(s, func(r rune) bool { return !ok(r) }) < 0
		}
	}
	switch name {
	case "isalpha":
		f = all(unicode.IsLetter)
	case "isdigit", "isdecimal":
		f = all(unicode.IsDigit)
	case "isnumeric":
		f = all(unicode.IsNumber)
	case "isalnum":
		f = all(func(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) })
	case "isspace":
		f = all(isSpace)
	case "isascii":
		f = isASCII
	case "islower":
		f = func(s string) bool { return isCased(s, false) }
	case "isupper":
		f = func(s string) bool { return isCased(s, true) }
	default:
		return nil
	}
	return func(in *interp, s string, a callArgs) (any, error) {
		if _, err := a.bind(name); err != nil {
			return nil, err
		}
		return f(s), in.spend(len(s) / 8)
	}
}

func stripMethod(left, right bool) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("strip", "chars")
		if err != nil {
			return nil, err
		}
		return in.strip(s, b.get(0, nil), left, right)
	}
}

// splitArgs reads sep (nil: white space) and maxsplit (-1: no bound).
func splitArgs(in *interp, s string, a callArgs) (sep *string, n int, err error) {
	b, err := a.bind("split", "sep", "maxsplit")
	if err != nil {
		return nil, 0, err
	}
	if b.get(0, nil) != nil {
		text, err := b.str(0, "")
		if err != nil {
			return nil, 0, err
		}
		if text == "" {
			return nil, 0, evalErrorf("split: the separator is empty")
		}
		sep = &text
	}
	if n, err = b.int(1, -1); err != nil {
		return nil, 0, err
	}
	if n < 0 {
		n = len(s)
	}
	return sep, n, in.spend(len(s) / 8)
}

func (in *interp) stringList(parts []string) (any, error) {
	if err := in.spend(2 * len(parts)); err != nil {
		return nil, err
	}
	items := make([]any, len(parts))
	for i, p := range parts {
		items[i] = p
	}
	return items, nil
}

func methodSplit(in *interp, s string, a callArgs) (any, error) {
	sep, n, err := splitArgs(in, s, a)
	if err != nil {
		return nil, err
	}
	if sep == nil {
		return in.stringList(splitSpace(s, n))
	}
	if err := in.spend(min(n, strings.Count(s, *sep))); err != nil {
		return nil, err
	}
	return in.stringList(strings.SplitN(s, *sep, n+1))
}

// splitSpace cuts at white space, at most n times from the left.
func splitSpace(s string, n int) []string {
	var parts []string
	for s = strings.TrimLeftFunc(s, isSpace); s != "" && len(parts) < n; s = strings.TrimLeftFunc(s, isSpace) {
		end := strings.IndexFunc(s, isSpace)
		if end < 0 {
			end = len(s)
		}
		parts = append(parts, s[:end])
		s = s[end:]
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}

func methodRSplit(in *interp, s string, a callArgs) (any, error) {
	sep, n, err := splitArgs(in, s, a)
	if err != nil {
		return nil, err
	}
	var parts []string // from the right
	if sep == nil {
		parts = rsplitSpace(s, n)
	} else {
		if err := in.spend(min(n, strings.Count(s, *sep))); err != nil {
			return nil, err
		}
		for len(parts) < n {
			i := strings.LastIndex(s, *sep)
			if i < 0 {
				break
			}
			parts = append(parts, s[i+len(*sep):])
			s = s[:i]
		}
		parts = append(parts, s)
	}
	slices.Reverse(parts)
	return in.stringList(parts)
}

// rsplitSpace cuts at white space, at most n times from the right; the last word comes first.
func rsplitSpace(s string, n int) []string {
	var parts []string
	for s = strings.TrimRightFunc(s, isSpace); s != "" && len(parts) < n; s = strings.TrimRightFunc(s, isSpace) {
		begin := 0
		if i := strings.LastIndexFunc(s, isSpace); i >= 0 {
			_, size := utf8.DecodeRuneInString(s[i:])
			begin = i + size
		}
		parts = append(parts, s[begin:])
		s = s[:begin]
	}
	if s != "" {
		parts = append(parts, s)
	}
	return parts
}

func methodSplitLines(in *interp, s string, a callArgs) (any, error) {
	b, err := a.bind("splitlines", "keepends")
	if err != nil {
		return nil, err
	}
	if err := in.spend(len(s)/8 + 2*countLines(s)); err != nil {
		return nil, err
	}
	lines := splitLines(s)
	if b.truth(0, false) {
		at := 0
		for i, line := range lines {
			end := len(s)
			if i+1 < len(lines) {
				end = at + len(line) + lineEndSize(s[at+len(line):])
			}
			lines[i] = s[at:end]
			at = end
		}
	}
	return in.stringList(lines)
}

func lineEndSize(s string) int {
	if strings.HasPrefix(s, "\r\n") {
		return 2
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

func partitionMethod(last bool) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("partition", "sep")
		if err != nil {
			return nil, err
		}
		sep, err := b.str(0, "")
		if err != nil {
			return nil, err
		}
		if sep == "" {
			return nil, evalErrorf("partition: the separator is empty")
		}
		i := strings.Index(s, sep)
		if last {
			i = strings.LastIndex(s, sep)
		}
		switch {
		case i >= 0:
			return tuple{s[:i], sep, s[i+len(sep):]}, in.copied(len(s))
		case last:
			return tuple{"", "", s}, in.copied(len(s))
		}
		return tuple{s, "", ""}, in.copied(len(s))
	}
}

// affixMethod is startswith or endswith; the argument is a string or a tuple of them.
func affixMethod(prefix bool) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("startswith", "prefix")
		if err != nil {
			return nil, err
		}
		options, isTuple := b.get(0, nil).(tuple)
		if !isTuple {
			options = tuple{b.get(0, nil)}
		}
		for _, o := range options {
			p, ok := o.(string)
			if !ok {
				if err := need(o); err != nil {
					return nil, err
				}
				return nil, evalErrorf("startswith and endswith need a string, not a %s", typeName(o))
			}
			if err := in.spend(1 + len(p)/32); err != nil {
				return nil, err
			}
			if (prefix && strings.HasPrefix(s, p)) || (!prefix && strings.HasSuffix(s, p)) {
				return true, nil
			}
		}
		return false, nil
	}
}

func removeMethod(prefix bool) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("removeprefix", "affix")
		if err != nil {
			return nil, err
		}
		p, err := b.str(0, "")
		if err != nil {
			return nil, err
		}
		if prefix {
			return strings.TrimPrefix(s, p), in.copied(len(p))
		}
		return strings.TrimSuffix(s, p), in.copied(len(p))
	}
}

// findMethod is find, rfind, index or rindex; positions count characters.
func findMethod(last, must bool) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("find", "sub", "start", "end")
		if err != nil {
			return nil, err
		}
		sub, err := b.str(0, "")
		if err != nil {
			return nil, err
		}
		if err := in.spend(1 + len(s)/8); err != nil {
			return nil, err
		}
		cut, offset, err := findWindow(in, s, b)
		if err != nil {
			return nil, err
		}
		i := strings.Index(cut, sub)
		if last {
			i = strings.LastIndex(cut, sub)
		}
		if i < 0 {
			if must {
				return nil, evalErrorf("index: the text is not in the string")
			}
			return int64(-1), nil
		}
		return int64(offset + utf8.RuneCountInString(cut[:i])), nil
	}
}

// findWindow cuts s by the optional start and end and gives the characters before the cut.
func findWindow(in *interp, s string, b bound) (string, int, error) {
	if !b.has(1) {
		return s, 0, nil
	}
	start, err := b.int(1, 0)
	if err != nil {
		return "", 0, err
	}
	n := utf8.RuneCountInString(s)
	lo, hi := int64(start), int64(n)
	if b.get(2, nil) != nil {
		end, err := b.int(2, n)
		if err != nil {
			return "", 0, err
		}
		hi = int64(end)
	}
	cut, err := in.sliceString(s, &lo, &hi, nil)
	if err != nil {
		return "", 0, err
	}
	from, _, _ := sliceRange(n, &lo, &hi, nil)
	text, _ := cut.(string)
	return text, from, nil
}

func methodCount(in *interp, s string, a callArgs) (any, error) {
	b, err := a.bind("count", "sub")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	sub, err := b.str(0, "")
	if err != nil {
		return nil, err
	}
	return int64(strings.Count(s, sub)), in.spend(1 + len(s)/8)
}

func methodJoin(in *interp, s string, a callArgs) (any, error) {
	b, err := a.bind("join", "iterable")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	items, err := in.elements(b.values[0])
	if err != nil {
		return nil, err
	}
	for _, x := range items {
		if _, ok := x.(string); !ok {
			return nil, evalErrorf("join: an element is a %s, not a string", typeName(x))
		}
	}
	return filterJoin(in, items, callArgs{pos: []any{s}})
}

func padMethod(side int) method {
	return func(in *interp, s string, a callArgs) (any, error) {
		b, err := a.bind("justify", "width", "fillchar")
		if err != nil {
			return nil, err
		}
		width, err := b.int(0, 0)
		if err != nil {
			return nil, err
		}
		fill, err := b.str(1, " ")
		if err != nil {
			return nil, err
		}
		return in.pad(s, width, fill, side)
	}
}

func methodZFill(in *interp, s string, a callArgs) (any, error) {
	b, err := a.bind("zfill", "width")
	if err != nil {
		return nil, err
	}
	width, err := b.int(0, 0)
	if err != nil {
		return nil, err
	}
	sign, rest := "", s
	if s != "" && (s[0] == '-' || s[0] == '+') {
		sign, rest = s[:1], s[1:]
	}
	out, err := in.pad(rest, width-len(sign), "0", 1)
	if err != nil {
		return nil, err
	}
	text, _ := out.(string)
	return sign + text, nil
}
