package jinja

// filterFunc computes v|name(args).
type filterFunc func(in *interp, v any, a callArgs) (any, error)

// filterByName is the list of filters.
func filterByName(name string) filterFunc {
	switch name {
	case "abs":
		return filterAbs
	case "batch":
		return filterBatch
	case "capitalize":
		return textFilter(capitalize)
	case "center":
		return filterCenter
	case "count", "length":
		return filterLength
	case "d", "default":
		return filterDefault
	case "dictsort":
		return filterDictSort
	case "e", "escape", "forceescape":
		return textFilter(escapeHTML)
	case "first":
		return filterFirst
	case "float":
		return filterFloat
	case "format":
		return filterFormat
	case "groupby":
		return filterGroupBy
	case "indent":
		return filterIndent
	case "int":
		return filterInt
	case "items":
		return filterItems
	case "join":
		return filterJoin
	case "last":
		return filterLast
	case "list":
		return filterList
	case "lower":
		return textFilter(lower)
	case "map":
		return filterMap
	case "max":
		return filterMax
	case "min":
		return filterMin
	case "reject":
		return filterReject
	case "rejectattr":
		return filterRejectAttr
	case "replace":
		return filterReplace
	case "reverse":
		return filterReverse
	case "round":
		return filterRound
	case "safe", "string":
		return textFilter(func(s string) string { return s })
	case "select":
		return filterSelect
	case "selectattr":
		return filterSelectAttr
	case "slice":
		return filterSlice
	case "sort":
		return filterSort
	case "sum":
		return filterSum
	case "title":
		return textFilter(titleWords)
	case "tojson":
		return filterToJSON
	case "trim":
		return filterTrim
	case "truncate":
		return filterTruncate
	case "unique":
		return filterUnique
	case "upper":
		return textFilter(upper)
	case "urlencode":
		return textFilter(urlEncode)
	case "wordcount":
		return filterWordCount
	}
	return nil
}

func (in *interp) applyFilter(x *filterExpr, v any, sc *scope) (any, error) {
	f := filterByName(x.name)
	if f == nil {
		return nil, at(x.line(), evalErrorf("there is no filter '%s'", x.name))
	}
	args, err := in.evalArgs(x.args, sc)
	if err != nil {
		return nil, err
	}
	out, err := f(in, v, args)
	if err != nil {
		return nil, at(x.line(), err)
	}
	return out, nil
}

func filterDefault(_ *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("default", "default_value", "boolean")
	if err != nil {
		return nil, err
	}
	if _, missing := v.(undefined); missing || (b.truth(1, false) && !truth(v)) {
		return b.get(0, ""), nil
	}
	return v, nil
}

func filterLength(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("length"); err != nil {
		return nil, err
	}
	return in.length(v)
}

// length is len(v) at its price.
func (in *interp) length(v any) (any, error) {
	n, ok := length(v)
	if !ok {
		return nil, evalErrorf("a %s has no length", typeName(v))
	}
	if s, ok := v.(string); ok {
		return int64(n), in.copied(len(s))
	}
	return int64(n), nil
}

func filterFirst(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("first"); err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		for _, r := range s {
			return string(r), nil
		}
	}
	items, err := in.elements(v)
	if err != nil || len(items) == 0 {
		return undefined{"the sequence has no first element"}, err
	}
	return items[0], nil
}

func filterLast(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("last"); err != nil {
		return nil, err
	}
	if _, ok := v.(*once); ok {
		return nil, evalErrorf("a generator cannot be walked from its end, use list first")
	}
	items, err := in.elements(v)
	if err != nil || len(items) == 0 {
		return undefined{"the sequence has no last element"}, err
	}
	return items[len(items)-1], nil
}

func filterList(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("list"); err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	if items == nil {
		items = []any{}
	}
	return items[:len(items):len(items)], nil
}

func filterItems(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("items"); err != nil {
		return nil, err
	}
	switch v := v.(type) {
	case undefined:
		return &once{}, nil
	case *Dict:
		pairs, err := in.pairs(v)
		return &once{pairs}, err
	}
	return nil, evalErrorf("items needs a mapping, not a %s", typeName(v))
}

// pairs are the entries of a mapping as tuples.
func (in *interp) pairs(d *Dict) ([]any, error) {
	if err := in.spend(2 * d.Len()); err != nil {
		return nil, err
	}
	pairs := make([]any, d.Len())
	for i, k := range d.keys {
		pairs[i] = tuple{k, d.values[i]}
	}
	return pairs, nil
}

func filterReverse(in *interp, v any, a callArgs) (any, error) {
	if _, err := a.bind("reverse"); err != nil {
		return nil, err
	}
	if s, ok := v.(string); ok {
		minusOne := int64(-1)
		return in.sliceString(s, nil, nil, &minusOne)
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	out := make([]any, len(items))
	for i, x := range items {
		out[len(items)-1-i] = x
	}
	return &once{out}, in.spend(len(out))
}

func filterJoin(in *interp, v any, a callArgs) (any, error) {
	b, err := a.bind("join", "d", "attribute")
	if err != nil {
		return nil, err
	}
	sep, err := in.str(b.get(0, ""))
	if err != nil {
		return nil, err
	}
	items, err := in.elements(v)
	if err != nil {
		return nil, err
	}
	key := in.attrKey(b.get(1, nil), nil)
	var out []byte
	for i, x := range items {
		if i > 0 {
			out = append(out, sep...)
		}
		if x, err = key(x); err != nil {
			return nil, err
		}
		s, err := in.str(x)
		if err != nil {
			return nil, err
		}
		if err := in.made(len(out)+len(s)+len(sep), 1+(len(s)+len(sep))/32); err != nil {
			return nil, err
		}
		out = append(out, s...)
	}
	return string(out), nil
}
