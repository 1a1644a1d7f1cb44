package jinja

import (
	"math"
	"math/bits"
	"strings"
)

func unary(op string, v any) (any, error) {
	if op == "not" {
		return !truth(v), nil
	}
	if err := need(v); err != nil {
		return nil, err
	}
	if f, ok := v.(float64); ok {
		if op == "-" {
			f = -f
		}
		return f, nil
	}
	i, ok := toInt(v)
	if !ok {
		return nil, evalErrorf("'%s' does not fit a %s", op, typeName(v))
	}
	if op == "-" {
		if i == math.MinInt64 {
			return nil, errOverflow()
		}
		i = -i
	}
	return i, nil
}

func errOverflow() error { return limitErrorf("an integer does not fit 64 bits") }

// binary computes + - * / // % ** over numbers, and + * % over texts and lists.
func (in *interp) binary(op string, a, b any) (any, error) {
	if s, ok := a.(string); ok && op == "%" {
		return in.percent(s, b)
	}
	if err := need(a); err != nil {
		return nil, err
	}
	if err := need(b); err != nil {
		return nil, err
	}
	i, iok := toInt(a)
	j, jok := toInt(b)
	if iok && jok {
		return intOp(op, i, j)
	}
	x, xok := toFloat(a)
	y, yok := toFloat(b)
	if xok && yok {
		return floatOp(op, x, y)
	}
	switch {
	case op == "+":
		return in.plus(a, b)
	case op == "*" && jok:
		return in.repeat(a, j)
	case op == "*" && iok:
		return in.repeat(b, i)
	}
	return nil, evalErrorf("'%s' does not fit a %s and a %s", op, typeName(a), typeName(b))
}

// plus joins two strings, lists or tuples.
func (in *interp) plus(a, b any) (any, error) {
	switch x := a.(type) {
	case string:
		if y, ok := b.(string); ok {
			if err := in.text(len(x) + len(y)); err != nil {
				return nil, err
			}
			return x + y, nil
		}
	case []any:
		if y, ok := b.([]any); ok {
			return in.joinLists(x, y)
		}
	case tuple:
		if y, ok := b.(tuple); ok {
			items, err := in.joinLists(x, y)
			return tuple(items), err
		}
	}
	return nil, evalErrorf("'+' does not fit a %s and a %s", typeName(a), typeName(b))
}

func (in *interp) joinLists(x, y []any) ([]any, error) {
	if err := in.spend(len(x) + len(y)); err != nil {
		return nil, err
	}
	return append(append(make([]any, 0, len(x)+len(y)), x...), y...), nil
}

// repeat is text * n or list * n.
func (in *interp) repeat(v any, n int64) (any, error) {
	n = max(n, 0)
	switch v := v.(type) {
	case string:
		if len(v) > 0 && n > int64(in.limits.Output/len(v)) {
			return nil, in.text(in.limits.Output + 1)
		}
		if len(v) == 0 {
			return "", nil
		}
		if err := in.text(len(v) * int(n)); err != nil {
			return nil, err
		}
		return strings.Repeat(v, int(n)), nil
	case []any:
		return in.repeatList(v, n)
	case tuple:
		items, err := in.repeatList(v, n)
		return tuple(items), err
	}
	return nil, evalErrorf("'*' does not fit a %s and an int", typeName(v))
}

func (in *interp) repeatList(items []any, n int64) ([]any, error) {
	if len(items) == 0 {
		return []any{}, nil
	}
	if n > int64(in.fuel/len(items)) {
		return nil, in.spend(in.fuel + 1)
	}
	out := make([]any, 0, len(items)*int(n))
	for range n {
		out = append(out, items...)
	}
	return out, in.spend(len(out))
}

func intOp(op string, a, b int64) (any, error) {
	switch op {
	case "+":
		c := a + b
		if (c > a) != (b > 0) && b != 0 {
			return nil, errOverflow()
		}
		return c, nil
	case "-":
		c := a - b
		if (c < a) != (b > 0) && b != 0 {
			return nil, errOverflow()
		}
		return c, nil
	case "*":
		return intMul(a, b)
	case "**":
		return intPow(a, b)
	}
	if b == 0 {
		return nil, evalErrorf("division by zero")
	}
	if op == "/" {
		return float64(a) / float64(b), nil
	}
	if a == math.MinInt64 && b == -1 {
		if op == "%" {
			return int64(0), nil
		}
		return nil, errOverflow()
	}
	q, r := a/b, a%b
	if r != 0 && (r < 0) != (b < 0) { // Python rounds down
		q, r = q-1, r+b
	}
	if op == "%" {
		return r, nil
	}
	return q, nil
}

func intMul(a, b int64) (any, error) {
	neg := (a < 0) != (b < 0)
	hi, lo := bits.Mul64(absInt(a), absInt(b))
	if hi != 0 || lo > math.MaxInt64 {
		return nil, errOverflow()
	}
	if neg {
		return -int64(lo), nil
	}
	return int64(lo), nil
}

func absInt(a int64) uint64 {
	if a < 0 {
		return uint64(-(a + 1)) + 1
	}
	return uint64(a)
}

func intPow(a, b int64) (any, error) {
	if b < 0 {
		if a == 0 {
			return nil, evalErrorf("zero cannot be raised to a negative power")
		}
		return math.Pow(float64(a), float64(b)), nil
	}
	switch {
	case a == 0 && b > 0, a == 1:
		return a, nil
	case a == -1:
		return 1 - 2*(b&1), nil
	case b > 63:
		return nil, errOverflow()
	}
	var out any = int64(1)
	for range b {
		var err error
		if out, err = intMul(out.(int64), a); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func floatOp(op string, a, b float64) (any, error) {
	switch op {
	case "+":
		return a + b, nil
	case "-":
		return a - b, nil
	case "*":
		return a * b, nil
	case "**":
		return floatPow(a, b)
	}
	if b == 0 {
		return nil, evalErrorf("division by zero")
	}
	if op == "/" {
		return a / b, nil
	}
	r := math.Mod(a, b)
	if r != 0 && (r < 0) != (b < 0) {
		r += b
	}
	if op == "%" {
		if r == 0 {
			r = math.Copysign(0, b)
		}
		return r, nil
	}
	return math.Floor(math.Round((a - r) / b)), nil
}

func floatPow(a, b float64) (any, error) {
	v := math.Pow(a, b)
	switch {
	case a == 0 && b < 0:
		return nil, evalErrorf("zero cannot be raised to a negative power")
	case math.IsNaN(v) && !math.IsNaN(a) && !math.IsNaN(b):
		return nil, evalErrorf("complex numbers are not available")
	case math.IsInf(v, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0):
		return nil, evalErrorf("the result is too large")
	}
	return v, nil
}
