package jinja

import (
	"math"
	"strings"
	"unicode/utf8"
)

// A value is one of: nil (None), bool, int64, float64, bigInt, string, []any (list), tuple, *Dict,
// *namespace, *view, *once, group, undefined, *loopState, *function, *macro. Lists are never changed after
// they are made, so they may be shared.
type (
	tuple []any

	// bigInt is an integer of the host's JSON that does not fit int64: it can be printed and
	// compared for equality, no more.
	bigInt string

	// undefined is what a missing variable or attribute gives: empty text, false, no elements;
	// any other use is an error that says msg.
	undefined struct{ msg string }

	// namespace is the one object whose attributes a template may set.
	namespace struct{ vars *Dict }

	// view is a range, or the keys, values or items of a dict: has a length, can be walked often.
	view struct {
		name  string // of the type
		text  string // how it prints, if not by its items
		items []any
	}

	// once is what Python's generators are to a template: always true, no length, walked once.
	once struct{ items []any }

	// group is an entry of groupby: a pair whose parts have names.
	group struct {
		grouper any
		list    []any
	}

	// function is a built-in or a bound method.
	function struct {
		name string
		call func(in *interp, a callArgs) (any, error)
	}
)

// Dict is a mapping that keeps the order of its keys. Made by NewDict, filled by Set; not to be
// changed while a template renders it.
type Dict struct {
	keys   []any
	values []any
	index  map[any]int
}

// NewDict makes an empty mapping.
func NewDict() *Dict { return &Dict{index: map[any]int{}} }

// Set puts a value under a key; a key that is there keeps its place.
func (d *Dict) Set(key string, value any) { d.set(key, key, value) }

// Get finds the value of a key.
func (d *Dict) Get(key string) (any, bool) {
	i, ok := d.index[key]
	if !ok {
		return nil, false
	}
	return d.values[i], true
}

// Len counts the keys.
func (d *Dict) Len() int { return len(d.keys) }

// set takes the key as it prints and as it hashes.
func (d *Dict) set(hash, key, value any) {
	if i, ok := d.index[hash]; ok {
		d.values[i] = value
		return
	}
	if d.index == nil {
		d.index = map[any]int{}
	}
	d.index[hash] = len(d.keys)
	d.keys = append(d.keys, key)
	d.values = append(d.values, value)
}

// How None and undefined values hash.
type (
	noneKey      struct{}
	undefinedKey struct{}
)

// hashKey maps a value to what Go can hash, so that keys equal in Python (1, 1.0, True) are equal.
func hashKey(v any) (any, error) {
	switch v := v.(type) {
	case nil:
		return noneKey{}, nil
	case undefined:
		return undefinedKey{}, nil
	case bool:
		if v {
			return int64(1), nil
		}
		return int64(0), nil
	case int64, string, bigInt:
		return v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			return int64(v), nil
		}
		return v, nil
	}
	return nil, evalErrorf("a %s cannot be a key of a mapping", typeName(v))
}

// typeName is Python's name of the type, for messages.
func typeName(v any) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case bool:
		return "bool"
	case int64, bigInt:
		return "int"
	case float64:
		return "float"
	case string:
		return "str"
	case []any:
		return "list"
	case tuple, group:
		return "tuple"
	case *Dict:
		return "dict"
	case *namespace:
		return "namespace"
	case *view:
		return v.name
	case *once:
		return "generator"
	case undefined:
		return "undefined"
	case *loopState:
		return "loop"
	}
	return "function"
}

// truth is Python's bool(v).
func truth(v any) bool {
	switch v := v.(type) {
	case nil, undefined:
		return false
	case bool:
		return v
	case int64:
		return v != 0
	case float64:
		return v != 0
	case string:
		return v != ""
	case []any:
		return len(v) > 0
	case tuple:
		return len(v) > 0
	case *Dict:
		return v.Len() > 0
	case *view:
		return len(v.items) > 0
	}
	return true
}

// need turns an undefined value into its error.
func need(v any) error {
	if u, ok := v.(undefined); ok {
		return evalErrorf("%s", u.msg)
	}
	return nil
}

// toInt accepts int and bool.
func toInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

// toFloat accepts numbers and bool.
func toFloat(v any) (float64, bool) {
	if f, ok := v.(float64); ok {
		return f, true
	}
	i, ok := toInt(v)
	return float64(i), ok
}

// length is len(v).
func length(v any) (int, bool) {
	switch v := v.(type) {
	case string:
		return utf8.RuneCountInString(v), true
	case []any:
		return len(v), true
	case tuple:
		return len(v), true
	case group:
		return 2, true
	case *Dict:
		return v.Len(), true
	case *view:
		return len(v.items), true
	case undefined:
		return 0, true
	}
	return 0, false
}

// elements walks a value: the characters of a string, the keys of a dict. The result must not be
// changed by the caller. A generator is empty afterwards.
func (in *interp) elements(v any) ([]any, error) {
	var items []any
	switch v := v.(type) {
	case []any:
		items = v
	case tuple:
		items = v
	case group:
		items = []any{v.grouper, v.list}
	case *Dict:
		items = v.keys
	case *view:
		items = v.items
	case *once:
		items, v.items = v.items, nil
	case undefined:
	case string:
		if err := in.spend(len(v)); err != nil {
			return nil, err
		}
		items = make([]any, 0, len(v))
		for _, r := range v {
			items = append(items, string(r))
		}
	default:
		return nil, evalErrorf("a %s cannot be walked", typeName(v))
	}
	return items, in.spend(len(items) / 8)
}

// isASCII is true if bytes and characters are the same thing.
func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r >= utf8.RuneSelf }) < 0
}
