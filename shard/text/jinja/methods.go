package jinja

// method computes recv.name(args) of a string.
type method func(in *interp, s string, a callArgs) (any, error)

// methodOf binds a method to its value, or gives nil if the type has no such method. Methods that
// change a value do not exist here: the sandbox of transformers refuses them too.
func methodOf(v any, name string) *function {
	switch v := v.(type) {
	case string:
		if m := stringMethod(name); m != nil {
			return &function{name, func(in *interp, a callArgs) (any, error) { return m(in, v, a) }}
		}
	case *Dict:
		return dictMethod(v, name)
	case []any:
		return listMethod(v, v, name)
	case tuple:
		return listMethod(v, v, name)
	}
	return nil
}

func dictMethod(d *Dict, name string) *function {
	var call func(in *interp, a callArgs) (any, error)
	switch name {
	case "items":
		call = func(in *interp, a callArgs) (any, error) {
			pairs, err := in.pairs(d)
			return &view{name: "dict_items", items: pairs}, err
		}
	case "keys":
		call = func(in *interp, a callArgs) (any, error) {
			return &view{name: "dict_keys", items: d.keys}, nil
		}
	case "values":
		call = func(in *interp, a callArgs) (any, error) {
			return &view{name: "dict_values", items: d.values}, nil
		}
	case "copy":
		call = func(in *interp, a callArgs) (any, error) {
			c := NewDict()
			return c, in.putAll(c, d)
		}
	case "get":
		return &function{name, func(in *interp, a callArgs) (any, error) { return dictGet(in, d, a) }}
	default:
		return nil
	}
	return &function{name, func(in *interp, a callArgs) (any, error) {
		if len(a.pos)+len(a.names) > 0 {
			return nil, evalErrorf("%s takes no arguments", name)
		}
		return call(in, a)
	}}
}

func dictGet(in *interp, d *Dict, a callArgs) (any, error) {
	b, err := a.bind("get", "key", "default")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	hash, err := hashKey(b.values[0])
	if err != nil {
		return nil, err
	}
	if i, ok := d.index[hash]; ok {
		return d.values[i], in.hashed(b.values[0])
	}
	return b.get(1, nil), in.hashed(b.values[0])
}

// listMethod takes the list as elements and as the value it is.
func listMethod(items []any, v any, name string) *function {
	switch name {
	case "index":
		return &function{name, func(in *interp, a callArgs) (any, error) {
			i, _, err := in.find(items, a, name)
			if err == nil && i < 0 {
				err = evalErrorf("index: the value is not in the list")
			}
			return int64(i), err
		}}
	case "count":
		return &function{name, func(in *interp, a callArgs) (any, error) {
			_, n, err := in.find(items, a, name)
			return int64(n), err
		}}
	case "copy":
		if _, ok := v.([]any); ok {
			return &function{name, func(in *interp, a callArgs) (any, error) { return in.joinLists(items, nil) }}
		}
	}
	return nil
}

// find gives the first place of a value (-1: none) and how often it is there.
func (in *interp) find(items []any, a callArgs, name string) (first, n int, err error) {
	b, err := a.bind(name, "value")
	if err != nil {
		return 0, 0, err
	}
	if err := b.require(1); err != nil {
		return 0, 0, err
	}
	first = -1
	for i, x := range items {
		eq, err := in.equal(x, b.values[0], 0)
		if err != nil {
			return 0, 0, err
		}
		if !eq {
			continue
		}
		if n++; first < 0 {
			first = i
		}
	}
	return first, n, nil
}

// stringMethod is the list of methods of strings.
func stringMethod(name string) method {
	switch name {
	case "capitalize":
		return plainMethod(capitalize)
	case "casefold", "lower":
		return plainMethod(lower)
	case "upper":
		return plainMethod(upper)
	case "title":
		return plainMethod(pyTitle)
	case "swapcase":
		return plainMethod(swapCase)
	case "strip":
		return stripMethod(true, true)
	case "lstrip":
		return stripMethod(true, false)
	case "rstrip":
		return stripMethod(false, true)
	case "split":
		return methodSplit
	case "rsplit":
		return methodRSplit
	case "splitlines":
		return methodSplitLines
	case "partition":
		return partitionMethod(false)
	case "rpartition":
		return partitionMethod(true)
	case "startswith":
		return affixMethod(true)
	case "endswith":
		return affixMethod(false)
	case "removeprefix":
		return removeMethod(true)
	case "removesuffix":
		return removeMethod(false)
	case "replace":
		return func(in *interp, s string, a callArgs) (any, error) { return filterReplace(in, s, a) }
	case "find":
		return findMethod(false, false)
	case "rfind":
		return findMethod(true, false)
	case "index":
		return findMethod(false, true)
	case "rindex":
		return findMethod(true, true)
	case "count":
		return methodCount
	case "join":
		return methodJoin
	case "format":
		return func(in *interp, s string, a callArgs) (any, error) { return in.braceFormat(s, a) }
	case "zfill":
		return methodZFill
	case "ljust":
		return padMethod(-1)
	case "rjust":
		return padMethod(1)
	case "center":
		return padMethod(0)
	}
	return classMethod(name)
}
