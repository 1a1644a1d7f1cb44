package jinja

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// jsonStyle is how tojson writes: the options of Python's json.dumps.
type jsonStyle struct {
	ascii    bool
	sortKeys bool
	pretty   bool
	indent   string
	item     string // between elements
	key      string // between key and value
}

func filterToJSON(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("tojson", "ensure_ascii", "indent", "separators", "sort_keys")
	if err != nil {
		return nil, err
	}
	st := jsonStyle{ascii: b.truth(0, false), sortKeys: b.truth(3, false), item: ", ", key: ": "}
	switch indent := b.get(1, nil).(type) {
	case nil:
	case string:
		st.pretty, st.indent, st.item = true, indent, ","
	default:
		n, err := b.int(1, 0)
		if err != nil {
			return nil, err
		}
		if n > 64 {
			return nil, limitErrorf("tojson: 'indent' is at most 64")
		}
		st.pretty, st.indent, st.item = true, strings.Repeat(" ", max(n, 0)), ","
	}
	if sep := b.get(2, nil); sep != nil {
		if err := st.setSeparators(in, sep); err != nil {
			return nil, err
		}
	}
	out, err := in.appendJSON(nil, v, &st, 0)
	return string(out), err
}

func (st *jsonStyle) setSeparators(in *interp, v any) error {
	parts, err := in.elements(v)
	if err != nil {
		return err
	}
	if len(parts) == 2 {
		item, ok1 := parts[0].(string)
		key, ok2 := parts[1].(string)
		if ok1 && ok2 {
			st.item, st.key = item, key
			return nil
		}
	}
	return evalErrorf("tojson: 'separators' is a pair of strings")
}

// newline begins a line of a pretty text.
func (in *interp) newline(b []byte, st *jsonStyle, depth int) ([]byte, error) {
	if !st.pretty {
		return b, nil
	}
	if err := in.made(len(b)+depth*len(st.indent), depth*len(st.indent)/32); err != nil {
		return nil, err
	}
	b = append(b, '\n')
	for range depth {
		b = append(b, st.indent...)
	}
	return b, nil
}

func (in *interp) appendJSON(b []byte, v any, st *jsonStyle, depth int) ([]byte, error) {
	if depth > maxValueDepth {
		return nil, limitErrorf("a value is nested deeper than %d", maxValueDepth)
	}
	if err := in.made(len(b), 1); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case int64:
		return strconv.AppendInt(b, v, 10), nil
	case bigInt:
		return append(b, v...), nil
	case float64:
		return append(b, jsonFloat(v)...), nil
	case string:
		if err := in.copied(len(v)); err != nil {
			return nil, err
		}
		return appendJSONString(b, v, st.ascii), nil
	case []any:
		return in.appendJSONList(b, v, st, depth)
	case tuple:
		return in.appendJSONList(b, v, st, depth)
	case group:
		return in.appendJSONList(b, []any{v.grouper, v.list}, st, depth)
	case *Dict:
		return in.appendJSONDict(b, v, st, depth)
	}
	if err := need(v); err != nil {
		return nil, err
	}
	return nil, evalErrorf("tojson: a %s has no form in JSON", typeName(v))
}

func (in *interp) appendJSONList(b []byte, items []any, st *jsonStyle, depth int) ([]byte, error) {
	if len(items) == 0 {
		return append(b, "[]"...), nil
	}
	b = append(b, '[')
	var err error
	for i, x := range items {
		if i > 0 {
			b = append(b, st.item...)
		}
		if b, err = in.newline(b, st, depth+1); err != nil {
			return nil, err
		}
		if b, err = in.appendJSON(b, x, st, depth+1); err != nil {
			return nil, err
		}
	}
	b, err = in.newline(b, st, depth)
	return append(b, ']'), err
}

func (in *interp) appendJSONDict(b []byte, d *Dict, st *jsonStyle, depth int) ([]byte, error) {
	if d.Len() == 0 {
		return append(b, "{}"...), nil
	}
	order, err := in.jsonOrder(d, st)
	if err != nil {
		return nil, err
	}
	b = append(b, '{')
	for n, i := range order {
		if n > 0 {
			b = append(b, st.item...)
		}
		if b, err = in.newline(b, st, depth+1); err != nil {
			return nil, err
		}
		key, err := jsonKey(d.keys[i])
		if err != nil {
			return nil, err
		}
		if err := in.made(len(b)+len(key), 1+len(key)/32); err != nil {
			return nil, err
		}
		b = append(appendJSONString(b, key, st.ascii), st.key...)
		if b, err = in.appendJSON(b, d.values[i], st, depth+1); err != nil {
			return nil, err
		}
	}
	b, err = in.newline(b, st, depth)
	return append(b, '}'), err
}

// jsonOrder gives the indices of the entries in the order in which they are written.
func (in *interp) jsonOrder(d *Dict, st *jsonStyle) ([]int, error) {
	order := make([]int, d.Len())
	for i := range order {
		order[i] = i
	}
	if !st.sortKeys {
		return order, nil
	}
	var failed error
	slices.SortStableFunc(order, func(i, j int) int {
		c, err := in.order(d.keys[i], d.keys[j], 0)
		if err != nil {
			failed = err
		}
		return c
	})
	return order, failed
}

// jsonKey is the string that stands for a key.
func jsonKey(k any) (string, error) {
	switch k := k.(type) {
	case nil:
		return "null", nil
	case bool:
		return strconv.FormatBool(k), nil
	case int64:
		return strconv.FormatInt(k, 10), nil
	case bigInt:
		return string(k), nil
	case float64:
		return jsonFloat(k), nil
	case string:
		return k, nil
	}
	return "", evalErrorf("tojson: a %s cannot be a key", typeName(k))
}

func jsonFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "NaN"
	case math.IsInf(f, 1):
		return "Infinity"
	case math.IsInf(f, -1):
		return "-Infinity"
	}
	return floatRepr(f)
}

func appendJSONString(b []byte, s string, ascii bool) []byte {
	const named, letters = "\"\\\n\r\t\f\b", `"\nrtfb`
	b = append(b, '"')
	for _, r := range s {
		k := -1
		if r < utf8.RuneSelf {
			k = strings.IndexByte(named, byte(r))
		}
		switch {
		case k >= 0:
			b = append(b, '\\', letters[k])
		case r < 0x20 || (ascii && r >= 0x7f && r < 0x10000):
			b = fmt.Appendf(b, `\u%04x`, r)
		case ascii && r >= 0x10000:
			hi, lo := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, hi, lo)
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return append(b, '"')
}
