package jinja

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSource bounds a template; those of real models have up to some 20 KB.
const maxSource = 256 << 10

type tokKind uint8

const (
	tokEOF tokKind = iota
	tokText
	tokVarBegin
	tokVarEnd
	tokBlockBegin
	tokBlockEnd
	tokName
	tokString
	tokInt
	tokFloat
	tokOp
)

// token is a piece of source; text is the decoded string for tokString, else the characters.
type token struct {
	kind tokKind
	line int
	text string
	num  any // int64 or float64
}

// describe names a token in an error.
func (t token) describe() string {
	switch t.kind {
	case tokEOF:
		return "end of template"
	case tokText:
		return "text"
	case tokVarBegin:
		return "'{{'"
	case tokVarEnd:
		return "'}}'"
	case tokBlockBegin:
		return "'{%'"
	case tokBlockEnd:
		return "'%}'"
	case tokString:
		return "a string"
	}
	return "'" + t.text + "'"
}

// syntaxErrorf makes an ErrSyntax at a line.
func syntaxErrorf(line int, format string, a ...any) error {
	return &Error{Line: line, Err: fmt.Errorf("%w: %s", ErrSyntax, fmt.Sprintf(format, a...))}
}

type lexer struct {
	src    string
	pos    int
	line   int
	tokens []token
	// fresh is true where text begins a line as far as lstrip_blocks is concerned: at the start,
	// and after a tag whose end swallowed a newline.
	fresh bool
}

// lex turns the source into tokens, with the white space rules of trim_blocks and lstrip_blocks applied.
func lex(src string) ([]token, error) {
	if len(src) > maxSource {
		return nil, syntaxErrorf(1, "the template has %d bytes, at most %d are accepted", len(src), maxSource)
	}
	if !utf8.ValidString(src) {
		return nil, syntaxErrorf(1, "the template is not valid UTF-8")
	}
	src = strings.ReplaceAll(src, "\r\n", "\n")
	src = strings.ReplaceAll(src, "\r", "\n")
	src = strings.TrimSuffix(src, "\n")
	lx := &lexer{src: src, line: 1, fresh: true}
	for lx.pos < len(lx.src) {
		if err := lx.next(); err != nil {
			return nil, err
		}
	}
	lx.emit(token{kind: tokEOF})
	return lx.tokens, nil
}

func (lx *lexer) emit(t token) {
	t.line = lx.line
	lx.tokens = append(lx.tokens, t)
}

// skip moves over n bytes and counts their lines.
func (lx *lexer) skip(n int) {
	lx.line += strings.Count(lx.src[lx.pos:lx.pos+n], "\n")
	lx.pos += n
}

// next reads the text up to the next tag, and that tag.
func (lx *lexer) next() error {
	rest := lx.src[lx.pos:]
	begin := nextTag(rest)
	if begin < 0 {
		lx.emit(token{kind: tokText, text: rest})
		lx.skip(len(rest))
		return nil
	}
	kind := rest[begin+1]
	sign := byte(0)
	if begin+2 < len(rest) && (rest[begin+2] == '-' || rest[begin+2] == '+') {
		sign = rest[begin+2]
	}
	if text := lx.stripBefore(rest[:begin], kind, sign); text != "" {
		lx.emit(token{kind: tokText, text: text})
	}
	lx.skip(begin)
	size := 2
	if sign != 0 {
		size = 3
	}
	switch kind {
	case '#':
		return lx.comment(size)
	case '{':
		lx.emit(token{kind: tokVarBegin})
		lx.skip(size)
		return lx.tag('}')
	}
	if n := rawBegin(lx.src[lx.pos+size:]); n > 0 {
		return lx.raw(size + n)
	}
	lx.emit(token{kind: tokBlockBegin})
	lx.skip(size)
	return lx.tag('%')
}

// nextTag finds the first {%, {{ or {#, or -1.
func nextTag(s string) int {
	for i := 0; i+1 < len(s); i++ {
		j := strings.IndexByte(s[i:], '{')
		if j < 0 || i+j+1 >= len(s) {
			return -1
		}
		i += j
		if c := s[i+1]; c == '%' || c == '{' || c == '#' {
			return i
		}
	}
	return -1
}

// stripBefore applies the begin of a tag to the text before it.
func (lx *lexer) stripBefore(text string, kind, sign byte) string {
	if sign == '-' {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == '+' || kind == '{' {
		return text
	}
	bol := strings.LastIndexByte(text, '\n') + 1
	if (bol > 0 || lx.fresh) && strings.TrimLeftFunc(text[bol:], isSpace) == "" {
		return text[:bol]
	}
	return text
}

// isSpace is Python's str.isspace for one character.
func isSpace(r rune) bool { return unicode.IsSpace(r) || (r >= 0x1c && r <= 0x1f) }

// spaces counts the bytes of leading white space.
func spaces(s string) int { return len(s) - len(strings.TrimLeftFunc(s, isSpace)) }

// tagEnd measures the end of a block or comment ('%' or '#') at the start of s, with the white space
// that it swallows: all of it after -%}, one newline after %}, none after +%}. 0: no end here.
func tagEnd(s string, mark byte) int {
	closing := string([]byte{mark, '}'})
	switch {
	case strings.HasPrefix(s, "-"+closing):
		return 3 + spaces(s[3:])
	case strings.HasPrefix(s, "+"+closing):
		return 3
	case strings.HasPrefix(s, closing+"\n"):
		return 3
	case strings.HasPrefix(s, closing):
		return 2
	}
	return 0
}

// closeTag moves over the end of a tag.
func (lx *lexer) closeTag(n int) {
	lx.skip(n)
	lx.fresh = lx.src[lx.pos-1] == '\n'
}

func (lx *lexer) comment(size int) error {
	line := lx.line
	lx.skip(size)
	for i := lx.pos; i < len(lx.src); i++ {
		if n := tagEnd(lx.src[i:], '#'); n > 0 {
			lx.skip(i - lx.pos)
			lx.closeTag(n)
			return nil
		}
	}
	return syntaxErrorf(line, "a comment has no end, add '#}'")
}

// rawBegin measures "raw %}" after the begin of a block, or gives 0.
func rawBegin(s string) int {
	n := spaces(s)
	if !strings.HasPrefix(s[n:], "raw") {
		return 0
	}
	n += 3
	n += spaces(s[n:])
	switch {
	case strings.HasPrefix(s[n:], "-%}"):
		return n + 3 + spaces(s[n+3:])
	case strings.HasPrefix(s[n:], "%}"):
		return n + 2
	}
	return 0
}

// raw emits everything up to endraw as text.
func (lx *lexer) raw(size int) error {
	line := lx.line
	lx.closeTag(size)
	rest := lx.src[lx.pos:]
	for i := 0; ; i++ {
		j := strings.Index(rest[i:], "{%")
		if j < 0 {
			return syntaxErrorf(line, "a raw block has no end, add '{%% endraw %%}'")
		}
		i += j
		sign := byte(0)
		n := i + 2
		if n < len(rest) && (rest[n] == '-' || rest[n] == '+') {
			sign = rest[n]
			n++
		}
		n += spaces(rest[n:])
		if !strings.HasPrefix(rest[n:], "endraw") {
			continue
		}
		n += len("endraw")
		n += spaces(rest[n:])
		end := tagEnd(rest[n:], '%')
		if end == 0 {
			continue
		}
		if text := lx.stripBefore(rest[:i], '%', sign); text != "" {
			lx.emit(token{kind: tokText, text: text})
		}
		lx.closeTag(n + end)
		return nil
	}
}

// tag reads the expression tokens of a {% or {{ tag up to its end.
func (lx *lexer) tag(mark byte) error {
	line := lx.line
	var open []byte // brackets not yet closed: inside them "}}" is two braces
	for lx.pos < len(lx.src) {
		rest := lx.src[lx.pos:]
		if len(open) == 0 {
			if done := lx.endOfTag(rest, mark); done {
				return nil
			}
		}
		if n := spaces(rest); n > 0 {
			lx.skip(n)
			continue
		}
		var err error
		if open, err = lx.operand(rest, open); err != nil {
			return err
		}
	}
	return syntaxErrorf(line, "a tag has no end, add '%c}'", mark)
}

// endOfTag closes the tag if its end is here.
func (lx *lexer) endOfTag(rest string, mark byte) bool {
	if mark == '%' {
		if n := tagEnd(rest, '%'); n > 0 {
			lx.emit(token{kind: tokBlockEnd})
			lx.closeTag(n)
			return true
		}
		return false
	}
	n := 0
	if strings.HasPrefix(rest, "-}}") {
		n = 3 + spaces(rest[3:])
	} else if strings.HasPrefix(rest, "}}") {
		n = 2
	}
	if n > 0 {
		lx.emit(token{kind: tokVarEnd})
		lx.closeTag(n)
	}
	return n > 0
}

// operand reads one number, name, string or operator.
func (lx *lexer) operand(rest string, open []byte) ([]byte, error) {
	r, _ := utf8.DecodeRuneInString(rest)
	switch {
	case r >= '0' && r <= '9':
		return open, lx.number(rest)
	case r == '_' || unicode.IsLetter(r):
		n := strings.IndexFunc(rest, func(r rune) bool {
			return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.M, r)
		})
		if n < 0 {
			n = len(rest)
		}
		lx.emit(token{kind: tokName, text: rest[:n]})
		lx.skip(n)
		return open, nil
	case r == '\'' || r == '"':
		return open, lx.str(rest)
	}
	return lx.operator(rest, open)
}

// operator reads one operator and keeps count of brackets.
func (lx *lexer) operator(rest string, open []byte) ([]byte, error) {
	n := 1
	if len(rest) > 1 {
		switch rest[:2] {
		case "**", "//", "==", "!=", "<=", ">=":
			n = 2
		}
	}
	op := rest[:n]
	if n == 1 && !strings.Contains("+-*/%~<>=.:|,;()[]{}", op) {
		r, _ := utf8.DecodeRuneInString(rest)
		return nil, syntaxErrorf(lx.line, "unexpected character %q", r)
	}
	switch op {
	case "(", "[", "{":
		open = append(open, op[0])
	case ")", "]", "}":
		want := map[string]byte{")": '(', "]": '[', "}": '{'}[op]
		if len(open) == 0 || open[len(open)-1] != want {
			return nil, syntaxErrorf(lx.line, "unexpected '%s'", op)
		}
		open = open[:len(open)-1]
	}
	lx.emit(token{kind: tokOp, text: op})
	lx.skip(n)
	return open, nil
}

// digits counts leading digits of a base; single underscores may stand between them.
func digits(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) {
		if !ok(s[n]) && !(s[n] == '_' && n > 0 && s[n-1] != '_' && n+1 < len(s) && ok(s[n+1])) {
			break
		}
		n++
	}
	return n
}

func isDecimal(c byte) bool { return c >= '0' && c <= '9' }
func isHex(c byte) bool     { return isDecimal(c) || (c|0x20 >= 'a' && c|0x20 <= 'f') }

// number reads an integer (decimal, 0x, 0o, 0b) or a float.
func (lx *lexer) number(rest string) error {
	if len(rest) > 2 && rest[0] == '0' && strings.IndexByte("xXoObB", rest[1]) >= 0 {
		if n := digits(rest[2:], isHex); n > 0 {
			return lx.integer(rest[:n+2])
		}
	}
	n := digits(rest, isDecimal)
	afterDot := lx.pos > 0 && lx.src[lx.pos-1] == '.'
	end := n
	if !afterDot {
		if end < len(rest)-1 && rest[end] == '.' && isDecimal(rest[end+1]) {
			end += 1 + digits(rest[end+1:], isDecimal)
		}
		end += exponent(rest[end:])
	}
	if end == n {
		return lx.integer(rest[:n])
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(rest[:end], "_", ""), 64)
	if err != nil {
		return syntaxErrorf(lx.line, "number %s is out of range", rest[:end])
	}
	lx.emit(token{kind: tokFloat, text: rest[:end], num: f})
	lx.skip(end)
	return nil
}

// exponent measures e+12 at the start of s.
func exponent(s string) int {
	if s == "" || s[0]|0x20 != 'e' {
		return 0
	}
	n := 1
	if n < len(s) && (s[n] == '+' || s[n] == '-') {
		n++
	}
	d := digits(s[n:], isDecimal)
	if d == 0 {
		return 0
	}
	return n + d
}

func (lx *lexer) integer(text string) error {
	plain := strings.ReplaceAll(text, "_", "")
	base := 10
	if len(plain) > 1 && plain[0] == '0' && !isDecimal(plain[1]) {
		base = 0
	}
	v, err := strconv.ParseInt(plain, base, 64)
	if err != nil {
		return syntaxErrorf(lx.line, "number %s is out of range", text)
	}
	lx.emit(token{kind: tokInt, text: text, num: v})
	lx.skip(len(text))
	return nil
}

// str reads a quoted string.
func (lx *lexer) str(rest string) error {
	quote := rest[0]
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case quote:
			s, err := unescape(rest[1:i])
			if err != nil {
				return syntaxErrorf(lx.line, "%v", err)
			}
			lx.emit(token{kind: tokString, text: s})
			lx.skip(i + 1)
			return nil
		}
	}
	return syntaxErrorf(lx.line, "a string has no end, add %c", quote)
}
