package jinja

import (
	"unicode"
)

// test computes "v is name(args)".
func (in *interp) test(name string, v any, a callArgs) (bool, error) {
	if op := comparingTest(name); op != "" {
		b, err := a.bind(name, "other")
		if err != nil {
			return false, err
		}
		if err := b.require(1); err != nil {
			return false, err
		}
		return in.compare(op, v, b.values[0])
	}
	switch name {
	case "divisibleby":
		return in.testDivisible(v, a)
	case "sameas":
		return in.testSame(v, a)
	}
	if len(a.pos)+len(a.names) > 0 {
		return false, evalErrorf("the test '%s' takes no arguments", name)
	}
	switch name {
	case "odd", "even":
		r, err := in.binary("%", v, int64(2))
		if err != nil {
			return false, err
		}
		return in.equal(r, int64(len(name)%2), 0) // odd: 1, even: 0
	case "lower", "upper":
		s, err := in.str(v)
		if err != nil {
			return false, err
		}
		return isCased(s, name == "upper"), in.spend(len(s) / 8)
	}
	ok, known := typeTest(name, v)
	if !known {
		return false, evalErrorf("there is no test '%s'", name)
	}
	return ok, nil
}

// comparingTest gives the operator that a test stands for.
func comparingTest(name string) string {
	switch name {
	case "==", "eq", "equalto":
		return "=="
	case "!=", "ne":
		return "!="
	case "<", "lt", "lessthan":
		return "<"
	case "<=", "le":
		return "<="
	case ">", "gt", "greaterthan":
		return ">"
	case ">=", "ge":
		return ">="
	case "in":
		return "in"
	}
	return ""
}

// typeTest answers tests that look only at the kind of value; known is false for any other name.
func typeTest(name string, v any) (ok, known bool) {
	switch name {
	case "defined":
		return !isUndefined(v), true
	case "undefined":
		return isUndefined(v), true
	case "none":
		return v == nil, true
	case "true":
		b, ok := v.(bool)
		return ok && b, true
	case "false":
		b, ok := v.(bool)
		return ok && !b, true
	case "boolean":
		_, ok := v.(bool)
		return ok, true
	case "string":
		_, ok := v.(string)
		return ok, true
	case "integer":
		return isInteger(v), true
	case "float":
		_, ok := v.(float64)
		return ok, true
	case "number":
		_, isFloat := toFloat(v)
		return isFloat || isInteger(v), true
	case "mapping":
		_, ok := v.(*Dict)
		return ok, true
	case "sequence":
		return isSequence(v), true
	case "iterable":
		return isIterable(v), true
	case "callable":
		return isCallable(v), true
	case "filter":
		s, ok := v.(string)
		return ok && filterByName(s) != nil, true
	case "escaped":
		return false, true
	}
	return false, false
}

func isUndefined(v any) bool {
	_, ok := v.(undefined)
	return ok
}

func isInteger(v any) bool {
	switch v.(type) {
	case int64, bigInt:
		return true
	}
	return false
}

// isSequence is what has a length and elements by index; in Jinja2 a mapping passes, and so does undefined.
func isSequence(v any) bool {
	if w, ok := v.(*view); ok {
		return w.name == "range"
	}
	_, ok := length(v)
	return ok
}

func isIterable(v any) bool {
	if _, ok := v.(*once); ok {
		return true
	}
	_, ok := length(v)
	return ok
}

func isCallable(v any) bool {
	switch v.(type) {
	case *function, *macro, undefined: // calling undefined is its own error in Jinja2
		return true
	}
	return false
}

// isCased is Python's islower and isupper: there are letters with case, all of this one.
func isCased(s string, upper bool) bool {
	found := false
	for _, r := range s {
		up, low := unicode.IsUpper(r) || unicode.IsTitle(r), unicode.IsLower(r)
		if (up && !upper) || (low && upper) {
			return false
		}
		found = found || up || low
	}
	return found
}

func (in *interp) testDivisible(v any, a callArgs) (bool, error) {
	b, err := a.bind("divisibleby", "num")
	if err != nil {
		return false, err
	}
	if err := b.require(1); err != nil {
		return false, err
	}
	r, err := in.binary("%", v, b.values[0])
	if err != nil {
		return false, err
	}
	return in.equal(r, int64(0), 0)
}

// testSame is Python's "is": identity, which for simple values is equality within one type.
func (in *interp) testSame(v any, a callArgs) (bool, error) {
	b, err := a.bind("sameas", "other")
	if err != nil {
		return false, err
	}
	if err := b.require(1); err != nil {
		return false, err
	}
	other := b.values[0]
	switch v.(type) {
	case nil, bool, int64, float64, string, bigInt:
		if typeName(v) != typeName(other) {
			return false, nil
		}
		return in.equal(v, other, 0)
	}
	return same(v, other), nil
}
