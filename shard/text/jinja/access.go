package jinja

import "unicode/utf8"

// attr is v.name: a method or attribute of the type first, then an entry of a mapping; undefined if
// there is neither.
func (in *interp) attr(v any, name string) (any, error) {
	if err := need(v); err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case *namespace:
		if value, ok := x.vars.Get(name); ok {
			return value, nil
		}
	case *loopState:
		if value, ok := x.attr(name); ok {
			return value, nil
		}
	case group:
		switch name {
		case "grouper":
			return x.grouper, nil
		case "list":
			return x.list, nil
		}
	case *macro:
		if name == "name" {
			return x.def.name, nil
		}
	}
	if m := methodOf(v, name); m != nil {
		return m, nil
	}
	if d, ok := v.(*Dict); ok {
		if value, ok := d.Get(name); ok {
			return value, nil
		}
	}
	return undefined{"a " + typeName(v) + " has no attribute '" + name + "'"}, nil
}

// item is v[key]: an element or entry first, then, for a string, an attribute.
func (in *interp) item(v, key any) (any, error) {
	if err := need(v); err != nil {
		return nil, err
	}
	if d, ok := v.(*Dict); ok {
		hash, err := hashKey(key)
		if err != nil {
			return undefined{err.Error()}, nil
		}
		if err := in.hashed(key); err != nil {
			return nil, err
		}
		if i, ok := d.index[hash]; ok {
			return d.values[i], nil
		}
	}
	if i, ok := toInt(key); ok {
		return in.element(v, i)
	}
	if name, ok := key.(string); ok {
		return in.attr(v, name)
	}
	return undefined{"a " + typeName(v) + " has no element under a " + typeName(key)}, nil
}

// element is v[i] of a sequence; negative numbers count from the end.
func (in *interp) element(v any, i int64) (any, error) {
	var items []any
	switch x := v.(type) {
	case []any:
		items = x
	case tuple:
		items = x
	case group:
		items = []any{x.grouper, x.list}
	case *view:
		if x.name == "range" {
			items = x.items
		}
	case string:
		return in.character(x, i)
	}
	n := int64(len(items))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return undefined{"a " + typeName(v) + " has no such element"}, nil
	}
	return items[i], nil
}

func (in *interp) character(s string, i int64) (any, error) {
	if err := in.copied(len(s)); err != nil {
		return nil, err
	}
	n := int64(utf8.RuneCountInString(s))
	if i < 0 {
		i += n
	}
	if i < 0 || i >= n {
		return undefined{"a str has no such element"}, nil
	}
	if int64(len(s)) == n {
		return s[i : i+1], nil
	}
	for _, r := range s {
		if i == 0 {
			return string(r), nil
		}
		i--
	}
	return "", nil
}

func (in *interp) evalSlice(x *sliceExpr, sc *scope) (any, error) {
	v, err := in.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	if err := need(v); err != nil {
		return nil, err
	}
	var bounds [3]*int64
	for i, b := range []expr{x.lo, x.hi, x.step} {
		if b == nil {
			continue
		}
		n, err := in.eval(b, sc)
		if err != nil {
			return nil, err
		}
		if n == nil {
			continue
		}
		k, ok := toInt(n)
		if !ok {
			return nil, evalErrorf("a slice's bounds are integers, not a %s", typeName(n))
		}
		bounds[i] = &k
	}
	return in.slice(v, bounds[0], bounds[1], bounds[2])
}

// slice is v[lo:hi:step] of a string or sequence.
func (in *interp) slice(v any, lo, hi, step *int64) (any, error) {
	if step != nil && *step == 0 {
		return nil, evalErrorf("a slice's step cannot be zero")
	}
	switch x := v.(type) {
	case string:
		return in.sliceString(x, lo, hi, step)
	case []any:
		return in.sliceItems(x, lo, hi, step)
	case tuple:
		items, err := in.sliceItems(x, lo, hi, step)
		return tuple(items), err
	case *view:
		if x.name == "range" {
			return in.sliceItems(x.items, lo, hi, step)
		}
	}
	return undefined{"a " + typeName(v) + " cannot be sliced"}, nil
}

// sliceString cuts by characters; plain cuts share the bytes of s.
func (in *interp) sliceString(s string, lo, hi, step *int64) (any, error) {
	if err := in.copied(len(s)); err != nil {
		return nil, err
	}
	ascii := isASCII(s)
	n := len(s)
	if !ascii {
		n = utf8.RuneCountInString(s)
	}
	from, to, by := sliceRange(n, lo, hi, step)
	if by == 1 && ascii {
		return s[from:max(from, to)], nil
	}
	if err := in.spend(n / 4); err != nil {
		return nil, err
	}
	runes := []rune(s)
	var out []rune
	for i := from; (by > 0 && i < to) || (by < 0 && i > to); i += by {
		out = append(out, runes[i])
	}
	return string(out), nil
}

func (in *interp) sliceItems(items []any, lo, hi, step *int64) ([]any, error) {
	from, to, by := sliceRange(len(items), lo, hi, step)
	if by == 1 {
		return items[from:max(from, to):max(from, to)], nil
	}
	out := []any{}
	for i := from; (by > 0 && i < to) || (by < 0 && i > to); i += by {
		out = append(out, items[i])
	}
	return out, in.spend(len(out))
}

// sliceRange clamps bounds as Python does. The step is clamped too, so that adding it cannot overflow.
func sliceRange(n int, lo, hi, step *int64) (from, to, by int) {
	by = 1
	if step != nil {
		by = int(min(max(*step, -int64(n)-1), int64(n)+1))
	}
	low, high := 0, n
	if by < 0 {
		low, high = -1, n-1
	}
	clamp := func(p *int64, def int) int {
		if p == nil {
			return def
		}
		i := *p
		if i < 0 {
			i += int64(n)
		}
		return int(min(max(i, int64(low)), int64(high)))
	}
	if by > 0 {
		return clamp(lo, low), clamp(hi, high), by
	}
	return clamp(lo, high), clamp(hi, low), by
}
