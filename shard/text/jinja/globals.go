package jinja

import (
	"fmt"
	"strconv"
)

// maxRange is the longest range, as in Jinja2's sandbox.
const maxRange = 100_000

// Reserved is true for names that a host must not give to a template as variables, since the engine
// defines them.
func Reserved(name string) bool { return globalByName(name) != nil || name == "loop" }

// globalByName finds a built-in function, or nil.
func globalByName(name string) *function {
	switch name {
	case "range":
		return &function{name, globalRange}
	case "dict":
		return &function{name, globalDict}
	case "namespace":
		return &function{name, globalNamespace}
	case "raise_exception":
		return &function{name, globalRaise}
	case "strftime_now":
		return &function{name, globalStrftime}
	}
	return nil
}

func globalRange(in *interp, a callArgs) (any, error) {
	b, err := a.bind("range", "start", "stop", "step")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	start, err := b.int(0, 0)
	if err != nil {
		return nil, err
	}
	stop := 0
	if len(a.pos) == 1 {
		start, stop = 0, start
	} else if stop, err = b.int(1, 0); err != nil {
		return nil, err
	}
	step, err := b.int(2, 1)
	if err != nil {
		return nil, err
	}
	if step == 0 {
		return nil, evalErrorf("range: 'step' cannot be zero")
	}
	return in.makeRange(start, stop, step)
}

func (in *interp) makeRange(start, stop, step int) (any, error) {
	n := 0
	if step > 0 && stop > start {
		n = (stop - start + step - 1) / step
	} else if step < 0 && start > stop {
		n = (start - stop - step - 1) / -step
	}
	if n > maxRange {
		return nil, limitErrorf("a range of more than %d numbers", maxRange)
	}
	if err := in.spend(n); err != nil {
		return nil, err
	}
	items := make([]any, n)
	for i := range items {
		items[i] = int64(start + i*step)
	}
	text := "range(" + strconv.Itoa(start) + ", " + strconv.Itoa(stop)
	if step != 1 {
		text += ", " + strconv.Itoa(step)
	}
	return &view{name: "range", text: text + ")", items: items}, nil
}

// dictFrom fills d from a mapping or pairs, then from the named arguments.
func (in *interp) dictFrom(d *Dict, a callArgs) error {
	if len(a.pos) > 1 {
		return evalErrorf("a mapping is made of at most 1 argument, not %d", len(a.pos))
	}
	for _, v := range a.pos {
		if err := in.putAll(d, v); err != nil {
			return err
		}
	}
	for i, name := range a.names {
		if err := in.put(d, name, a.named[i]); err != nil {
			return err
		}
	}
	return nil
}

func (in *interp) putAll(d *Dict, v any) error {
	if src, ok := v.(*Dict); ok {
		for i, k := range src.keys {
			if err := in.put(d, k, src.values[i]); err != nil {
				return err
			}
		}
		return nil
	}
	pairs, err := in.elements(v)
	if err != nil {
		return err
	}
	for _, p := range pairs {
		pair, err := in.elements(p)
		if err != nil {
			return err
		}
		if len(pair) != 2 {
			return evalErrorf("a mapping is made of pairs, not of %d elements", len(pair))
		}
		if err := in.put(d, pair[0], pair[1]); err != nil {
			return err
		}
	}
	return nil
}

func globalDict(in *interp, a callArgs) (any, error) {
	d := NewDict()
	return d, in.dictFrom(d, a)
}

func globalNamespace(in *interp, a callArgs) (any, error) {
	ns := &namespace{NewDict()}
	return ns, in.dictFrom(ns.vars, a)
}

func globalRaise(in *interp, a callArgs) (any, error) {
	b, err := a.bind("raise_exception", "message")
	if err != nil {
		return nil, err
	}
	text, err := in.str(b.get(0, ""))
	if err != nil {
		return nil, err
	}
	return nil, fmt.Errorf("%w: %s", ErrRaised, text)
}

func globalStrftime(in *interp, a callArgs) (any, error) {
	b, err := a.bind("strftime_now", "format")
	if err != nil {
		return nil, err
	}
	if err := b.require(1); err != nil {
		return nil, err
	}
	format, err := b.str(0, "")
	if err != nil {
		return nil, err
	}
	if err := in.text(32 * len(format)); err != nil {
		return nil, err
	}
	return strftime(in.now, format)
}
