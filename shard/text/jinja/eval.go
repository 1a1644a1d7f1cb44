package jinja

// eval computes an expression. Errors come with the line of the innermost node that failed.
func (in *interp) eval(x expr, sc *scope) (any, error) {
	if err := in.spend(1); err != nil {
		return nil, at(x.line(), err)
	}
	if in.nested++; in.nested > maxEval {
		return nil, at(x.line(), limitErrorf("expressions nested deeper than %d", maxEval))
	}
	v, err := in.evalNode(x, sc)
	in.nested--
	if err != nil {
		return nil, at(x.line(), err)
	}
	return v, nil
}

func (in *interp) evalNode(x expr, sc *scope) (any, error) {
	switch x := x.(type) {
	case *literalExpr:
		return x.value, nil
	case *nameExpr:
		return in.lookup(sc, x.name)
	case *listExpr:
		return in.evalItems(x.items, sc)
	case *tupleExpr:
		items, err := in.evalItems(x.items, sc)
		return tuple(items), err
	case *dictExpr:
		return in.evalDict(x, sc)
	case *unaryExpr:
		v, err := in.eval(x.x, sc)
		if err != nil {
			return nil, err
		}
		return unary(x.op, v)
	case *binaryExpr:
		return in.evalBinary(x, sc)
	case *logicExpr:
		v, err := in.eval(x.left, sc)
		if err != nil || truth(v) == x.or {
			return v, err
		}
		return in.eval(x.right, sc)
	case *concatExpr:
		return in.evalConcat(x, sc)
	case *compareExpr:
		return in.evalCompare(x, sc)
	case *condExpr:
		return in.evalCond(x, sc)
	case *attrExpr:
		v, err := in.eval(x.x, sc)
		if err != nil {
			return nil, err
		}
		return in.attr(v, x.name)
	case *indexExpr:
		return in.evalIndex(x, sc)
	case *sliceExpr:
		return in.evalSlice(x, sc)
	case *callExpr:
		return in.evalCall(x, sc, nil)
	case *filterExpr:
		v, err := in.eval(x.x, sc)
		if err != nil {
			return nil, err
		}
		return in.applyFilter(x, v, sc)
	case *testExpr:
		return in.evalTest(x, sc)
	}
	return nil, evalErrorf("unknown expression")
}

func (in *interp) evalItems(items []expr, sc *scope) ([]any, error) {
	out := make([]any, len(items))
	for i, x := range items {
		v, err := in.eval(x, sc)
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

func (in *interp) evalDict(x *dictExpr, sc *scope) (any, error) {
	d := NewDict()
	for i, k := range x.keys {
		key, err := in.eval(k, sc)
		if err != nil {
			return nil, err
		}
		value, err := in.eval(x.values[i], sc)
		if err != nil {
			return nil, err
		}
		if err := in.put(d, key, value); err != nil {
			return nil, err
		}
	}
	return d, nil
}

// put adds an entry to a mapping under construction.
func (in *interp) put(d *Dict, key, value any) error {
	hash, err := hashKey(key)
	if err != nil {
		return err
	}
	if err := in.hashed(key); err != nil {
		return err
	}
	d.set(hash, key, value)
	return in.spend(4)
}

func (in *interp) evalBinary(x *binaryExpr, sc *scope) (any, error) {
	left, err := in.eval(x.left, sc)
	if err != nil {
		return nil, err
	}
	right, err := in.eval(x.right, sc)
	if err != nil {
		return nil, err
	}
	return in.binary(x.op, left, right)
}

func (in *interp) evalConcat(x *concatExpr, sc *scope) (any, error) {
	var b []byte
	for _, item := range x.items {
		v, err := in.eval(item, sc)
		if err != nil {
			return nil, err
		}
		s, err := in.str(v)
		if err != nil {
			return nil, err
		}
		if err := in.made(len(b)+len(s), len(s)/32); err != nil {
			return nil, err
		}
		b = append(b, s...)
	}
	return string(b), nil
}

func (in *interp) evalCond(x *condExpr, sc *scope) (any, error) {
	v, err := in.eval(x.cond, sc)
	if err != nil {
		return nil, err
	}
	if truth(v) {
		return in.eval(x.yes, sc)
	}
	if x.no == nil {
		return undefined{"the inline if has no else and its condition is false"}, nil
	}
	return in.eval(x.no, sc)
}

func (in *interp) evalCompare(x *compareExpr, sc *scope) (any, error) {
	left, err := in.eval(x.first, sc)
	if err != nil {
		return nil, err
	}
	for i, op := range x.ops {
		right, err := in.eval(x.rest[i], sc)
		if err != nil {
			return nil, err
		}
		ok, err := in.compare(op, left, right)
		if err != nil || !ok {
			return false, err
		}
		left = right
	}
	return true, nil
}

func (in *interp) compare(op string, a, b any) (bool, error) {
	switch op {
	case "==":
		return in.equal(a, b, 0)
	case "!=":
		eq, err := in.equal(a, b, 0)
		return !eq, err
	case "in":
		return in.contains(b, a)
	case "notin":
		ok, err := in.contains(b, a)
		return !ok, err
	}
	if isNaN(a) || isNaN(b) {
		return false, nil
	}
	c, err := in.order(a, b, 0)
	switch op {
	case "<":
		return c < 0, err
	case "<=":
		return c <= 0, err
	case ">":
		return c > 0, err
	}
	return c >= 0, err
}

func isNaN(v any) bool {
	f, ok := v.(float64)
	return ok && f != f
}

func (in *interp) evalIndex(x *indexExpr, sc *scope) (any, error) {
	v, err := in.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	key, err := in.eval(x.index, sc)
	if err != nil {
		return nil, err
	}
	return in.item(v, key)
}

func (in *interp) evalTest(x *testExpr, sc *scope) (any, error) {
	v, err := in.eval(x.x, sc)
	if err != nil {
		return nil, err
	}
	args, err := in.evalArgs(x.args, sc)
	if err != nil {
		return nil, err
	}
	ok, err := in.test(x.name, v, args)
	return ok != x.not, err
}
