package jinja

import "strings"

// equal is Python's ==.
func (in *interp) equal(a, b any, depth int) (bool, error) {
	if depth > maxValueDepth {
		return false, limitErrorf("a value is nested deeper than %d", maxValueDepth)
	}
	if err := in.spend(1); err != nil {
		return false, err
	}
	if x, ok := toFloat(a); ok {
		y, ok := toFloat(b)
		if !ok {
			return false, nil
		}
		i, iok := toInt(a)
		j, jok := toInt(b)
		if iok && jok {
			return i == j, nil
		}
		return x == y, nil
	}
	switch a := a.(type) {
	case nil:
		return b == nil, nil
	case string:
		s, ok := b.(string)
		if !ok || len(a) != len(s) {
			return false, nil
		}
		return a == s, in.copied(len(a))
	case bigInt:
		n, ok := b.(bigInt)
		return ok && a == n, nil
	case undefined:
		_, ok := b.(undefined)
		return ok, nil
	case []any:
		l, ok := b.([]any)
		return in.equalItems(a, l, ok, depth)
	case tuple:
		l, ok := b.(tuple)
		return in.equalItems(a, l, ok, depth)
	case *Dict:
		d, ok := b.(*Dict)
		if !ok || a.Len() != d.Len() {
			return false, nil
		}
		return in.equalDicts(a, d, depth)
	}
	return same(a, b), nil
}

// same is identity of the values that have one.
func same(a, b any) bool {
	switch a := a.(type) {
	case *namespace:
		x, ok := b.(*namespace)
		return ok && x == a
	case *view:
		x, ok := b.(*view)
		return ok && x == a
	case *once:
		x, ok := b.(*once)
		return ok && x == a
	case *loopState:
		x, ok := b.(*loopState)
		return ok && x == a
	case *function:
		x, ok := b.(*function)
		return ok && x == a
	case *macro:
		x, ok := b.(*macro)
		return ok && x == a
	case *Dict:
		x, ok := b.(*Dict)
		return ok && x == a
	case []any:
		x, ok := b.([]any)
		return ok && len(x) == len(a) && (len(a) == 0 || &x[0] == &a[0])
	}
	return false
}

func (in *interp) equalItems(a, b []any, ok bool, depth int) (bool, error) {
	if !ok || len(a) != len(b) {
		return false, nil
	}
	for i := range a {
		if eq, err := in.equal(a[i], b[i], depth+1); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

func (in *interp) equalDicts(a, b *Dict, depth int) (bool, error) {
	for i, k := range a.keys {
		hash, err := hashKey(k)
		if err != nil {
			return false, err
		}
		j, ok := b.index[hash]
		if !ok {
			return false, nil
		}
		if eq, err := in.equal(a.values[i], b.values[j], depth+1); err != nil || !eq {
			return false, err
		}
	}
	return true, nil
}

// order is -1, 0 or 1; values that Python does not order are an error.
func (in *interp) order(a, b any, depth int) (int, error) {
	if depth > maxValueDepth {
		return 0, limitErrorf("a value is nested deeper than %d", maxValueDepth)
	}
	if err := in.spend(1); err != nil {
		return 0, err
	}
	if err := need(a); err != nil {
		return 0, err
	}
	if err := need(b); err != nil {
		return 0, err
	}
	i, iok := toInt(a)
	j, jok := toInt(b)
	if iok && jok {
		return cmp(i, j), nil
	}
	x, xok := toFloat(a)
	y, yok := toFloat(b)
	if xok && yok {
		return cmp(x, y), nil
	}
	switch a := a.(type) {
	case string:
		if s, ok := b.(string); ok {
			return strings.Compare(a, s), in.copied(min(len(a), len(s)))
		}
	case []any:
		if l, ok := b.([]any); ok {
			return in.orderItems(a, l, depth)
		}
	case tuple:
		if l, ok := b.(tuple); ok {
			return in.orderItems(a, l, depth)
		}
	}
	return 0, evalErrorf("a %s and a %s have no order", typeName(a), typeName(b))
}

func cmp[T int64 | float64 | int](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

func (in *interp) orderItems(a, b []any, depth int) (int, error) {
	for i := range min(len(a), len(b)) {
		eq, err := in.equal(a[i], b[i], depth+1)
		if err != nil {
			return 0, err
		}
		if !eq {
			return in.order(a[i], b[i], depth+1)
		}
	}
	return cmp(len(a), len(b)), nil
}

// contains is Python's "x in v".
func (in *interp) contains(v, x any) (bool, error) {
	switch v := v.(type) {
	case string:
		s, ok := x.(string)
		if !ok {
			if err := need(x); err != nil {
				return false, err
			}
			return false, evalErrorf("'in' over a string needs a string, not a %s", typeName(x))
		}
		return strings.Contains(v, s), in.copied(len(v))
	case *Dict:
		hash, err := hashKey(x)
		if err != nil {
			return false, err
		}
		_, ok := v.index[hash]
		return ok, in.hashed(x)
	}
	items, err := in.elements(v)
	if err != nil {
		return false, err
	}
	for _, item := range items {
		if eq, err := in.equal(item, x, 0); err != nil || eq {
			return eq, err
		}
	}
	return false, nil
}
