package jinja

import (
	"math"
	"strconv"
	"strings"
)

func filterAbs(_ *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("abs"); err != nil {
		return nil, err
	}
	if f, ok := v.(float64); ok {
		return math.Abs(f), nil
	}
	if i, ok := toInt(v); ok && i >= 0 {
		return i, nil
	}
	return unary("-", v)
}

func filterInt(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("int", "default", "base")
	if err != nil {
		return nil, err
	}
	base, err := b.int(1, 10)
	if err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case bigInt:
		return x, nil
	case float64:
		if x > -math.MaxInt64 && x < math.MaxInt64 {
			return int64(x), nil
		}
		return b.get(0, int64(0)), nil
	case string:
		if i, ok := parseInt(x, base); ok {
			return i, in.spend(len(x) / 8)
		}
		if f, ok := parseFloat(x); ok && f > -math.MaxInt64 && f < math.MaxInt64 {
			return int64(f), in.spend(len(x) / 8)
		}
		return b.get(0, int64(0)), in.spend(len(x) / 8)
	}
	if err := need(v); err != nil {
		return nil, err
	}
	if i, ok := toInt(v); ok {
		return i, nil
	}
	return b.get(0, int64(0)), nil
}

// parseInt reads an integer as Python's int(s, base) does, if it fits 64 bits.
func parseInt(s string, base int) (int64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if base < 0 || base == 1 || base > 36 {
		return 0, false
	}
	sign, rest := "", s
	if rest != "" && (rest[0] == '-' || rest[0] == '+') {
		sign, rest = rest[:1], rest[1:]
	}
	if prefix := map[int]string{2: "0b", 8: "0o", 16: "0x"}[base]; prefix != "" && len(rest) > 2 &&
		strings.EqualFold(rest[:2], prefix) {
		rest = rest[2:]
	}
	if !underscoresOK(rest) {
		return 0, false
	}
	i, err := strconv.ParseInt(sign+strings.ReplaceAll(rest, "_", ""), base, 64)
	return i, err == nil
}

// underscoresOK is true if underscores stand only between digits, and the text begins as a number.
func underscoresOK(s string) bool {
	return s != "" && s[0] != '_' && s[0] != '-' && s[0] != '+' && s[len(s)-1] != '_' && !strings.Contains(s, "__")
}

// parseFloat reads a number as Python's float(s) does.
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if strings.ContainsAny(s, "xXpP") || s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return 0, false
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	return f, err == nil || math.IsInf(f, 0)
}

func filterFloat(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("float", "default")
	if err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		f, ok := parseFloat(s)
		if !ok {
			return b.get(0, 0.0), nil
		}
		return f, in.spend(len(s) / 8)
	}
	if err := need(v); err != nil {
		return nil, err
	}
	if f, ok := toFloat(v); ok {
		return f, nil
	}
	return b.get(0, 0.0), nil
}

func filterRound(_ *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("round", "precision", "method")
	if err != nil {
		return nil, err
	}
	precision, err := b.int(0, 0)
	if err != nil {
		return nil, err
	}
	method, err := b.str(1, "common")
	if err != nil {
		return nil, err
	}
	f, ok := toFloat(v)
	if !ok {
		if err := need(v); err != nil {
			return nil, err
		}
		return nil, evalErrorf("round needs a number, not a %s", typeName(v))
	}
	if precision < 0 || precision > 15 {
		return nil, evalErrorf("round: 'precision' is between 0 and 15")
	}
	scale := math.Pow(10, float64(precision))
	var out float64
	switch method {
	case "common":
		// Through the decimal digits, as Python rounds: exact ties go to the even digit.
		out, _ = strconv.ParseFloat(strconv.FormatFloat(f, 'f', precision, 64), 64)
	case "ceil":
		out = math.Ceil(f*scale) / scale
	case "floor":
		out = math.Floor(f*scale) / scale
	default:
		return nil, evalErrorf("round: 'method' is common, ceil or floor")
	}
	if _, isInt := toInt(v); isInt && method == "common" {
		return int64(out), nil
	}
	return out, nil
}
