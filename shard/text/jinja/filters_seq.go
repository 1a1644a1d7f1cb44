package jinja

import (
	"slices"
	"strconv"
	"strings"
)

// attrKey makes the function that takes an attribute (a name, a path with dots, or an index) out of
// an element; no attribute: the element itself. def, if not nil, stands in for what is undefined.
func (in *interp) attrKey(attribute, def any) func(any) (any, error) {
	if attribute == nil {
		return func(v any) (any, error) { return v, nil }
	}
	var path []any
	if name, ok := attribute.(string); ok {
		for part := range strings.SplitSeq(name, ".") {
			if n, err := strconv.ParseUint(part, 10, 31); err == nil {
				path = append(path, int64(n))
			} else {
				path = append(path, part)
			}
		}
	} else {
		path = []any{attribute}
	}
	return func(v any) (any, error) {
		for _, part := range path {
			var err error
			if err = in.spend(1); err != nil {
				return nil, err
			}
			if v, err = in.item(v, part); err != nil {
				return nil, err
			}
			if _, missing := v.(undefined); missing && def != nil {
				return def, nil
			}
		}
		return v, nil
	}
}

// folded makes keys of sorting and comparing blind to case, unless caseSensitive.
func (in *interp) folded(key func(any) (any, error), caseSensitive bool) func(any) (any, error) {
	if caseSensitive {
		return key
	}
	return func(v any) (any, error) {
		v, err := key(v)
		if s, ok := v.(string); ok && err == nil {
			return lower(s), in.spend(1 + len(s)/8)
		}
		return v, err
	}
}

// someElements walks a value; what is false has no elements, whatever its type.
func (in *interp) someElements(v any) ([]any, error) {
	if !truth(v) {
		return nil, nil
	}
	return in.elements(v)
}

func filterMap(in *interp, v any, a callArgs) (any, error) {
	items, err := in.someElements(v)
	if err != nil {
		return nil, err
	}
	apply, err := in.mapping(a)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(items))
	for i, x := range items {
		if err := in.spend(1); err != nil {
			return nil, err
		}
		if out[i], err = apply(x); err != nil {
			return nil, err
		}
	}
	return &once{out}, nil
}

// mapping is what map does to an element: map(attribute="x", default=y) or map("filter", args).
func (in *interp) mapping(a callArgs) (func(any) (any, error), error) {
	if len(a.pos) == 0 {
		b, err := a.bind("map", "attribute", "default")
		if err != nil {
			return nil, err
		}
		if err := b.require(1); err != nil {
			return nil, err
		}
		return in.attrKey(b.get(0, nil), b.get(1, nil)), nil
	}
	name, ok := a.pos[0].(string)
	f := filterByName(name)
	if !ok || f == nil {
		return nil, evalErrorf("map: there is no filter '%s'", name)
	}
	rest := callArgs{pos: a.pos[1:], names: a.names, named: a.named}
	return func(v any) (any, error) { return f(in, v, rest) }, nil
}

func filterSelect(in *interp, v any, a callArgs) (any, error) { return in.sift(v, a, false, true) }
func filterReject(in *interp, v any, a callArgs) (any, error) { return in.sift(v, a, false, false) }
func filterSelectAttr(in *interp, v any, a callArgs) (any, error) {
	return in.sift(v, a, true, true)
}
func filterRejectAttr(in *interp, v any, a callArgs) (any, error) {
	return in.sift(v, a, true, false)
}

// sift keeps the elements that pass a test (want) or fail it; attr takes an attribute of each first.
func (in *interp) sift(v any, a callArgs, attr, want bool) (any, error) {
	key := in.attrKey(nil, nil)
	args := a.pos
	if attr {
		if len(args) == 0 {
			return nil, evalErrorf("selectattr and rejectattr need the name of an attribute")
		}
		key, args = in.attrKey(args[0], nil), args[1:]
	}
	check := func(v any) (bool, error) { return truth(v), nil }
	if len(args) > 0 {
		name, ok := args[0].(string)
		if !ok {
			return nil, evalErrorf("the name of a test is a string, not a %s", typeName(args[0]))
		}
		rest := callArgs{pos: args[1:], names: a.names, named: a.named}
		check = func(v any) (bool, error) { return in.test(name, v, rest) }
	}
	items, err := in.someElements(v)
	if err != nil {
		return nil, err
	}
	var out []any
	for _, x := range items {
		if err := in.spend(1); err != nil {
			return nil, err
		}
		k, err := key(x)
		if err != nil {
			return nil, err
		}
		ok, err := check(k)
		if err != nil {
			return nil, err
		}
		if ok == want {
			out = append(out, x)
		}
	}
	return &once{out}, nil
}

// keyed is an element with what it is sorted by.
type keyed struct{ key, value any }

// sorted orders elements by their keys, stably.
func (in *interp) sorted(items []any, key func(any) (any, error), reverse bool) ([]keyed, error) {
	pairs := make([]keyed, len(items))
	for i, x := range items {
		k, err := key(x)
		if err != nil {
			return nil, err
		}
		pairs[i] = keyed{k, x}
	}
	if err := in.spend(2 * len(items)); err != nil {
		return nil, err
	}
	var failed error
	slices.SortStableFunc(pairs, func(a, b keyed) int {
		if failed != nil {
			return 0
		}
		c, err := in.order(a.key, b.key, 0)
		if err != nil {
			failed = err
		}
		if reverse {
			c = -c
		}
		return c
	})
	return pairs, failed
}

func values(pairs []keyed) []any {
	out := make([]any, len(pairs))
	for i, p := range pairs {
		out[i] = p.value
	}
	return out
}

func filterSort(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("sort", "reverse", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	key, err := in.sortKey(b.get(2, nil), b.truth(1, false))
	if err != nil {
		return nil, err
	}
	pairs, err := in.sorted(items, key, b.truth(0, false))
	return values(pairs), err
}

// sortKey orders by one attribute, or by several with commas between them.
func (in *interp) sortKey(attribute any, caseSensitive bool) (func(any) (any, error), error) {
	name, ok := attribute.(string)
	if !ok || !strings.Contains(name, ",") {
		return in.folded(in.attrKey(attribute, nil), caseSensitive), nil
	}
	if err := in.spend(len(name)); err != nil {
		return nil, err
	}
	var parts []func(any) (any, error)
	for part := range strings.SplitSeq(name, ",") {
		parts = append(parts, in.folded(in.attrKey(part, nil), caseSensitive))
	}
	return func(v any) (any, error) {
		key := make([]any, len(parts))
		for i, part := range parts {
			var err error
			if key[i], err = part(v); err != nil {
				return nil, err
			}
		}
		return key, nil
	}, nil
}

func filterDictSort(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("dictsort", "case_sensitive", "by", "reverse")
	if err != nil {
		return nil, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return nil, evalErrorf("dictsort needs a mapping, not a %s", typeName(v))
	}
	by, err := b.str(1, "key")
	if err != nil {
		return nil, err
	}
	part := int64(0)
	switch by {
	case "key":
	case "value":
		part = 1
	default:
		return nil, evalErrorf("dictsort: 'by' is \"key\" or \"value\"")
	}
	pairs, err := in.pairs(d)
	if err != nil {
		return nil, err
	}
	key := in.folded(in.attrKey(part, nil), b.truth(0, false))
	out, err := in.sorted(pairs, key, b.truth(2, false))
	return values(out), err
}

func filterGroupBy(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("groupby", "attribute", "default", "case_sensitive")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	plain := in.attrKey(b.get(0, nil), b.get(1, nil))
	pairs, err := in.sorted(items, in.folded(plain, b.truth(2, false)), false)
	if err != nil {
		return nil, err
	}
	out := []any{}
	for i := 0; i < len(pairs); {
		j := i + 1
		for ; j < len(pairs); j++ {
			if eq, err := in.equal(pairs[i].key, pairs[j].key, 0); err != nil {
				return nil, err
			} else if !eq {
				break
			}
		}
		grouper, err := plain(pairs[i].value)
		if err != nil {
			return nil, err
		}
		out = append(out, group{grouper, values(pairs[i:j])})
		i = j
	}
	return out, nil
}

func filterUnique(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("unique", "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	key := in.folded(in.attrKey(b.get(1, nil), nil), b.truth(0, false))
	seen := NewDict()
	var out []any
	for _, x := range items {
		k, err := key(x)
		if err != nil {
			return nil, err
		}
		before := seen.Len()
		if err := in.put(seen, k, nil); err != nil {
			return nil, err
		}
		if seen.Len() > before {
			out = append(out, x)
		}
	}
	return &once{out}, nil
}

func filterMin(in *interp, v any, a callArgs) (any, error) { return in.extreme("min", v, a, -1) }
func filterMax(in *interp, v any, a callArgs) (any, error) { return in.extreme("max", v, a, 1) }

func (in *interp) extreme(name string, v any, a callArgs, sign int) (any, error) {
	b, err := a.bind(name, "case_sensitive", "attribute")
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	key := in.folded(in.attrKey(b.get(1, nil), nil), b.truth(0, false))
	var best, bestKey any = undefined{"the sequence is empty"}, nil
	for i, x := range items {
		k, err := key(x)
		if err != nil {
			return nil, err
		}
		if i == 0 {
			best, bestKey = x, k
			continue
		}
		c, err := in.order(k, bestKey, 0)
		if err != nil {
			return nil, err
		}
		if c == sign {
			best, bestKey = x, k
		}
	}
	return best, nil
}

func filterSum(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("sum", "attribute", "start")
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	key := in.attrKey(b.get(0, nil), nil)
	total := b.get(1, int64(0))
	for _, x := range items {
		k, err := key(x)
		if err != nil {
			return nil, err
		}
		if err := in.spend(1); err != nil {
			return nil, err
		}
		if total, err = in.binary("+", total, k); err != nil {
			return nil, err
		}
	}
	return total, nil
}

func filterBatch(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("batch", "linecount", "fill_with")
	if err != nil {
		return nil, err
	}
	n, err := b.int(0, 0)
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, evalErrorf("batch: 'linecount' is at least 1")
	}
	var out []any
	for len(items) > 0 {
		k := min(n, len(items))
		row := items[:k:k]
		items = items[k:]
		if fill := b.get(1, nil); fill != nil && k < n {
			if row, err = in.padded(row, fill, n); err != nil {
				return nil, err
			}
		}
		out = append(out, row)
	}
	return &once{out}, in.spend(len(out))
}

// padded is a copy of row with fill up to n elements.
func (in *interp) padded(row []any, fill any, n int) ([]any, error) {
	if err := in.spend(n); err != nil {
		return nil, err
	}
	row = slices.Clone(row)
	for len(row) < n {
		row = append(row, fill)
	}
	return row, nil
}

func filterSlice(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("slice", "slices", "fill_with")
	if err != nil {
		return nil, err
	}
	n, err := b.int(0, 0)
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	if n < 1 {
		return nil, evalErrorf("slice: 'slices' is at least 1")
	}
	if err := in.spend(n); err != nil {
		return nil, err
	}
	per, extra := len(items)/n, len(items)%n
	out := make([]any, n)
	for i := range out {
		k := per
		if i < extra {
			k++
		}
		row := items[:k:k]
		items = items[k:]
		if fill := b.get(1, nil); fill != nil && extra > 0 && i >= extra {
			if row, err = in.padded(row, fill, k+1); err != nil {
				return nil, err
			}
		}
		out[i] = row
	}
	return &once{out}, nil
}
