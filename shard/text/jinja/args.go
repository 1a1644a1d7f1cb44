package jinja

import "math"

// bound are the arguments of a built-in in the order of its parameters; unset marks those not given.
type bound struct {
	name   string
	params []string
	values []any
}

type unset struct{}

// bind matches arguments to parameters.
func (a callArgs) bind(name string, params ...string) (bound, error) {
	b := bound{name, params, make([]any, len(params))}
	if len(a.pos) > len(params) {
		return b, evalErrorf("%s takes at most %d arguments, not %d", name, len(params), len(a.pos))
	}
	for i := range b.values {
		b.values[i] = unset{}
	}
	copy(b.values, a.pos)
next:
	for i, n := range a.names {
		for k, p := range params {
			if p != n {
				continue
			}
			if b.has(k) {
				return b, evalErrorf("%s got two values for '%s'", name, n)
			}
			b.values[k] = a.named[i]
			continue next
		}
		return b, evalErrorf("%s takes no argument '%s'", name, n)
	}
	return b, nil
}

// has is true if argument i was given.
func (b bound) has(i int) bool {
	_, missing := b.values[i].(unset)
	return !missing
}

// get is argument i, or def.
func (b bound) get(i int, def any) any {
	if !b.has(i) {
		return def
	}
	return b.values[i]
}

// require fails unless the first n arguments were given.
func (b bound) require(n int) error {
	for i := range n {
		if !b.has(i) {
			return evalErrorf("%s needs the argument '%s'", b.name, b.params[i])
		}
	}
	return nil
}

// str is argument i as a string.
func (b bound) str(i int, def string) (string, error) {
	v := b.get(i, def)
	if s, ok := v.(string); ok {
		return s, nil
	}
	if err := need(v); err != nil {
		return "", err
	}
	return "", evalErrorf("%s: '%s' is a string, not a %s", b.name, b.params[i], typeName(v))
}

// int is argument i as an integer of 32 bits, which every count and width fits.
func (b bound) int(i, def int) (int, error) {
	v := b.get(i, int64(def))
	if err := need(v); err != nil {
		return 0, err
	}
	n, ok := toInt(v)
	if !ok {
		return 0, evalErrorf("%s: '%s' is an integer, not a %s", b.name, b.params[i], typeName(v))
	}
	if n < math.MinInt32 || n > math.MaxInt32 {
		return 0, limitErrorf("%s: '%s' is out of range", b.name, b.params[i])
	}
	return int(n), nil
}

// truth is argument i as a condition.
func (b bound) truth(i int, def bool) bool { return truth(b.get(i, def)) }
