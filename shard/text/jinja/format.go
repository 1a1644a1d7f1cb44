package jinja

import (
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// spec is one formatting directive, of "%" or of str.format.
type spec struct {
	fill      string
	align     byte // '<' '>' '^' or 0
	sign      byte // '+' or ' ' or 0
	zero      bool
	alt       bool // '#'
	comma     bool
	width     int
	precision int // -1: not given
	verb      byte
}

// maxField bounds width and precision of a directive.
const maxField = 1 << 16

func filterFormat(in *interp, v any, a callArgs) (any, error) {
	s, err := in.str(v)
	if err != nil {
		return nil, err
	}
	if len(a.names) == 0 {
		return in.percent(s, tuple(a.pos))
	}
	if len(a.pos) > 0 {
		return nil, evalErrorf("format takes positional or named arguments, not both")
	}
	d := NewDict()
	if err := in.dictFrom(d, a); err != nil {
		return nil, err
	}
	return in.percent(s, d)
}

// percent is Python's s % args.
func (in *interp) percent(s string, args any) (any, error) {
	list, isTuple := args.(tuple)
	if !isTuple {
		list = tuple{args}
	}
	var out []byte
	used := 0
	for s != "" {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			i = len(s)
		}
		if err := in.made(len(out)+i, 1+i/32); err != nil {
			return nil, err
		}
		out = append(out, s[:i]...)
		if s = s[i:]; s == "" {
			break
		}
		sp, name, n, err := percentSpec(s)
		if err != nil {
			return nil, err
		}
		s = s[n:]
		if sp.verb == '%' {
			out = append(out, '%')
			continue
		}
		var v any
		if v, used, err = pickArg(list, args, name, used); err != nil {
			return nil, err
		}
		text, err := in.formatValue(sp, v)
		if err != nil {
			return nil, err
		}
		if err := in.made(len(out)+len(text), 1+len(text)/32); err != nil {
			return nil, err
		}
		out = append(out, text...)
	}
	if used < len(list) && !mayStaySpare(args) {
		return nil, evalErrorf("not all arguments of '%%' were used")
	}
	return string(out), nil
}

// mayStaySpare is true for arguments that Python takes for a mapping, which need not be used up.
func mayStaySpare(args any) bool {
	switch args.(type) {
	case *Dict, []any, undefined:
		return true
	}
	return false
}

// pickArg finds the value of a directive: by name in a mapping, else the next one.
func pickArg(list tuple, args any, name string, used int) (any, int, error) {
	if name != "" {
		d, ok := args.(*Dict)
		if !ok {
			return nil, used, evalErrorf("'%%(%s)' needs a mapping", name)
		}
		v, ok := d.Get(name)
		if !ok {
			return nil, used, evalErrorf("'%%' finds no key '%s'", name)
		}
		return v, len(list), nil
	}
	if used >= len(list) {
		return nil, used, evalErrorf("not enough arguments for '%%'")
	}
	return list[used], used + 1, nil
}

// percentSpec reads %(name)-05.2f and gives its length.
func percentSpec(s string) (sp spec, name string, n int, err error) {
	sp, n = spec{fill: " ", precision: -1}, 1
	if strings.HasPrefix(s[n:], "(") {
		end := strings.IndexByte(s, ')')
		if end < 0 {
			return sp, "", 0, evalErrorf("'%%(' has no ')'")
		}
		name, n = s[2:end], end+1
	}
	for ; n < len(s) && strings.IndexByte("-+ 0#", s[n]) >= 0; n++ {
		switch s[n] {
		case '-':
			sp.align = '<'
		case '0':
			sp.zero = true
		case '#':
			sp.alt = true
		case '+':
			sp.sign = '+'
		default:
			if sp.sign == 0 {
				sp.sign = ' '
			}
		}
	}
	if n, err = sp.sizes(s, n); err != nil {
		return sp, "", 0, err
	}
	if n >= len(s) {
		return sp, "", 0, evalErrorf("a directive of '%%' is cut short")
	}
	sp.verb = s[n]
	if strings.IndexByte("sradiufFeEgGxXoc%", sp.verb) < 0 {
		return sp, "", 0, evalErrorf("'%%' knows no directive '%c'", sp.verb)
	}
	if sp.align == 0 && strings.IndexByte("srac", sp.verb) >= 0 {
		sp.align = '>'
	}
	return sp, name, n + 1, nil
}

// sizes reads width and precision from s[n:] and gives where they end.
func (sp *spec) sizes(s string, n int) (int, error) {
	read := func() (int, bool) {
		k := digits(s[n:], isDecimal)
		v, err := strconv.Atoi(s[n : n+k])
		n += k
		return v, k == 0 || (err == nil && v <= maxField)
	}
	var ok bool
	if sp.width, ok = read(); !ok {
		return n, limitErrorf("a field wider than %d", maxField)
	}
	if n < len(s) && s[n] == ',' {
		sp.comma = true
		n++
	}
	if n < len(s) && s[n] == '.' {
		n++
		if sp.precision, ok = read(); !ok {
			return n, limitErrorf("a field wider than %d", maxField)
		}
	}
	return n, nil
}

// formatValue applies a directive to a value.
func (in *interp) formatValue(sp spec, v any) (string, error) {
	if err := in.spend(1 + (sp.width+max(sp.precision, 0))/32); err != nil {
		return "", err
	}
	switch sp.verb {
	case 's', 'r', 'a':
		text, err := in.str(v)
		if err == nil && sp.verb != 's' {
			var b []byte
			b, err = in.repr(nil, v, 0)
			text = string(b)
		}
		if sp.precision >= 0 && utf8.RuneCountInString(text) > sp.precision {
			text = string([]rune(text)[:sp.precision])
		}
		return sp.place(text, '<'), err
	case 'c':
		if s, ok := v.(string); ok && utf8.RuneCountInString(s) == 1 {
			return sp.place(s, '<'), nil
		}
		return "", evalErrorf("the directive c needs a character, not a %s", typeName(v))
	}
	if err := need(v); err != nil {
		return "", err
	}
	digits, negative, err := sp.number(v)
	if err != nil {
		return "", err
	}
	sign := ""
	if negative {
		sign = "-"
	} else if sp.sign != 0 {
		sign = string(sp.sign)
	}
	if sp.zero && sp.align == 0 {
		if missing := sp.width - len(sign) - len(digits); missing > 0 {
			digits = strings.Repeat("0", missing) + digits
		}
	}
	return sp.place(sign+digits, '>'), nil
}

// number writes the digits of |v|.
func (sp spec) number(v any) (digits string, negative bool, err error) {
	f, ok := toFloat(v)
	if !ok {
		return "", false, evalErrorf("the directive %c needs a number, not a %s", sp.verb, typeName(v))
	}
	if base := map[byte]int{'d': 10, 'i': 10, 'u': 10, 'x': 16, 'X': 16, 'o': 8}[sp.verb]; base > 0 {
		i, isInt := toInt(v)
		if !isInt {
			if base != 10 || math.Abs(f) >= 1<<62 || math.IsNaN(f) {
				return "", false, evalErrorf("the directive %c needs an integer", sp.verb)
			}
			i = int64(f)
		}
		digits = strconv.FormatUint(absInt(i), base)
		if missing := sp.precision - len(digits); missing > 0 {
			digits = strings.Repeat("0", missing) + digits
		}
		if sp.comma {
			digits = thousands(digits)
		}
		if sp.alt && base != 10 {
			digits = map[int]string{16: "0x", 8: "0o"}[base] + digits
		}
		if sp.verb == 'X' {
			digits = upper(digits)
		}
		return digits, i < 0, nil
	}
	return sp.floatDigits(math.Abs(f)), math.Signbit(f), nil
}

func (sp spec) floatDigits(f float64) string {
	precision := sp.precision
	if precision < 0 {
		precision = 6
	}
	verb := sp.verb | 0x20
	if verb == 'g' {
		precision = max(precision, 1)
	}
	if math.IsInf(f, 0) || math.IsNaN(f) {
		return strings.ToLower(strings.TrimPrefix(strconv.FormatFloat(f, 'g', -1, 64), "+"))
	}
	var s string
	if verb == 'g' {
		s = generalFloat(f, precision)
	} else {
		s = strconv.FormatFloat(f, verb, precision, 64)
	}
	if sp.comma {
		whole, rest, found := strings.Cut(s, ".")
		if s = thousands(whole); found {
			s += "." + rest
		}
	}
	if sp.verb != verb {
		s = upper(s)
	}
	return s
}

// generalFloat is C's %g: as many digits as the precision, without trailing zeros.
func generalFloat(f float64, precision int) string {
	s := strconv.FormatFloat(f, 'e', precision-1, 64)
	mantissa, exp, _ := strings.Cut(s, "e")
	e, _ := strconv.Atoi(exp)
	if e >= -4 && e < precision {
		s = strconv.FormatFloat(f, 'f', precision-1-e, 64)
		if strings.Contains(s, ".") {
			s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
		}
		return s
	}
	if strings.Contains(mantissa, ".") {
		mantissa = strings.TrimRight(strings.TrimRight(mantissa, "0"), ".")
	}
	return mantissa + "e" + exp
}

// thousands puts a comma before every third digit.
func thousands(digits string) string {
	var b strings.Builder
	for i := range len(digits) {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteByte(digits[i])
	}
	return b.String()
}

// place fills the text to the width; def is the alignment if none is asked for.
func (sp spec) place(text string, def byte) string {
	missing := sp.width - utf8.RuneCountInString(text)
	if missing <= 0 {
		return text
	}
	align := sp.align
	if align == 0 {
		align = def
	}
	before := missing
	switch align {
	case '<':
		before = 0
	case '^':
		before = missing / 2
	}
	return strings.Repeat(sp.fill, before) + text + strings.Repeat(sp.fill, missing-before)
}
