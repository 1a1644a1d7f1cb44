package jinja

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's str(v).
func (in *interp) str(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case undefined:
		return "", nil
	}
	b, err := in.repr(nil, v, 0)
	return string(b), err
}

// repr appends Python's repr(v) to b.
func (in *interp) repr(b []byte, v any, depth int) ([]byte, error) {
	if depth > maxValueDepth {
		return nil, limitErrorf("a value is nested deeper than %d", maxValueDepth)
	}
	if err := in.made(len(b), 1); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return append(b, "None"...), nil
	case bool:
		if v {
			return append(b, "True"...), nil
		}
		return append(b, "False"...), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case bigInt:
		return append(b, v...), nil
	case float64:
		return append(b, floatRepr(v)...), nil
	case string:
		return append(b, strRepr(v)...), in.copied(len(v))
	case []any:
		return in.reprItems(b, "[", v, "]", depth)
	case tuple:
		if len(v) == 1 {
			return in.reprItems(b, "(", v, ",)", depth)
		}
		return in.reprItems(b, "(", v, ")", depth)
	case group:
		return in.reprItems(b, "(", []any{v.grouper, v.list}, ")", depth)
	case *Dict:
		return in.reprDict(b, v, depth)
	case *namespace:
		b, err := in.reprDict(append(b, "<Namespace "...), v.vars, depth)
		return append(b, '>'), err
	case *view:
		if v.text != "" {
			return append(b, v.text...), nil
		}
		return in.reprItems(append(b, v.name...), "([", v.items, "])", depth)
	case undefined:
		return append(b, "Undefined"...), nil
	}
	return fmt.Appendf(b, "<%s>", typeName(v)), nil
}

func (in *interp) reprItems(b []byte, open string, items []any, end string, depth int) ([]byte, error) {
	b = append(b, open...)
	for i, x := range items {
		if i > 0 {
			b = append(b, ", "...)
		}
		var err error
		if b, err = in.repr(b, x, depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, end...), nil
}

func (in *interp) reprDict(b []byte, d *Dict, depth int) ([]byte, error) {
	b = append(b, '{')
	for i, k := range d.keys {
		if i > 0 {
			b = append(b, ", "...)
		}
		var err error
		if b, err = in.repr(b, k, depth+1); err != nil {
			return nil, err
		}
		if b, err = in.repr(append(b, ": "...), d.values[i], depth+1); err != nil {
			return nil, err
		}
	}
	return append(b, '}'), nil
}

// floatRepr is Python's repr of a float: the shortest digits that read back, with an exponent below
// 1e-4 and from 1e16 on, and always a point or an exponent.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// strRepr is Python's repr of a string.
func strRepr(s string) string {
	quote := byte('\'')
	if strings.Contains(s, "'") && !strings.Contains(s, `"`) {
		quote = '"'
	}
	b := make([]byte, 0, len(s)+2)
	b = append(b, quote)
	for _, r := range s {
		switch {
		case r == rune(quote) || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, `\n`...)
		case r == '\r':
			b = append(b, `\r`...)
		case r == '\t':
			b = append(b, `\t`...)
		case unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r < 0x100:
			b = fmt.Appendf(b, `\x%02x`, r)
		case r < 0x10000:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			b = fmt.Appendf(b, `\U%08x`, r)
		}
	}
	return string(append(b, quote))
}
