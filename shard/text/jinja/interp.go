package jinja

import (
	"fmt"
	"time"
)

// interp is one rendering.
type interp struct {
	limits Limits
	now    time.Time
	fuel   int
	out    []byte // of the innermost text being made
	calls  int    // macros within macros
	nested int    // expressions within expressions, over all macros
}

// maxEval bounds the stack that nested evaluations take.
const maxEval = 2000

func limitErrorf(format string, a ...any) error {
	return fmt.Errorf("%w: %s", ErrLimit, fmt.Sprintf(format, a...))
}

// spend takes n steps of fuel.
func (in *interp) spend(n int) error {
	if n < 0 || n > in.fuel {
		in.fuel = 0
		return limitErrorf("more than %d steps", in.limits.Steps)
	}
	in.fuel -= n
	return nil
}

// copied pays for n bytes read or written.
func (in *interp) copied(n int) error { return in.spend(n / 32) }

// made pays for n steps and checks the size of the string that is being made.
func (in *interp) made(size, n int) error {
	if size > in.limits.Output {
		return limitErrorf("a text of more than %d bytes", in.limits.Output)
	}
	return in.spend(n)
}

// text pays for a new string of the given size.
func (in *interp) text(size int) error { return in.made(size, size/32) }

// hashed pays for hashing a key.
func (in *interp) hashed(key any) error {
	if s, ok := key.(string); ok {
		return in.copied(len(s))
	}
	return nil
}

// write appends to the output.
func (in *interp) write(s string) error {
	if err := in.made(len(in.out)+len(s), len(s)/32); err != nil {
		return err
	}
	in.out = append(in.out, s...)
	return nil
}

// capture runs f and gives what it wrote.
func (in *interp) capture(f func() error) (string, error) {
	outer := in.out
	in.out = nil
	err := f()
	s := string(in.out)
	in.out = outer
	return s, err
}

// scope holds names; a name that is not here is looked for in the parent.
type scope struct {
	vars   map[string]any
	parent *scope
}

func (sc *scope) child() *scope { return &scope{parent: sc} }

func (sc *scope) set(name string, v any) {
	if sc.vars == nil {
		sc.vars = map[string]any{}
	}
	sc.vars[name] = v
}

// lookup finds a name in the scopes, then among the globals; hops over scopes cost fuel.
func (in *interp) lookup(sc *scope, name string) (any, error) {
	hops := 0
	for s := sc; s != nil; s = s.parent {
		if v, ok := s.vars[name]; ok {
			return v, in.spend(hops / 4)
		}
		hops++
	}
	if f := globalByName(name); f != nil {
		return f, nil
	}
	return undefined{"'" + name + "' is undefined"}, in.spend(hops / 4)
}

// signal is how a statement ends: normally, or on its way out of a loop.
type signal uint8

const (
	sigNone signal = iota
	sigBreak
	sigContinue
)

// execBody runs statements in order until one of them leaves the loop around.
func (in *interp) execBody(body []stmt, sc *scope) (signal, error) {
	for _, s := range body {
		if err := in.spend(1); err != nil {
			return sigNone, at(s.line(), err)
		}
		sig, err := in.exec(s, sc)
		if err != nil {
			return sigNone, at(s.line(), err)
		}
		if sig != sigNone {
			return sig, nil
		}
	}
	return sigNone, nil
}

func (in *interp) exec(s stmt, sc *scope) (signal, error) {
	switch s := s.(type) {
	case *textStmt:
		return sigNone, in.write(s.text)
	case *outputStmt:
		return sigNone, in.execOutput(s, sc)
	case *ifStmt:
		return in.execIf(s, sc)
	case *forStmt:
		return sigNone, in.execFor(s, sc)
	case *setStmt:
		v, err := in.eval(s.value, sc)
		if err != nil {
			return sigNone, err
		}
		return sigNone, in.assign(s.target, v, sc)
	case *setBlockStmt:
		return sigNone, in.execSetBlock(s, sc)
	case *macroStmt:
		sc.set(s.name, &macro{def: s, scope: sc})
		return sigNone, nil
	case *callStmt:
		return sigNone, in.execCall(s, sc)
	case *filterStmt:
		text, err := in.filteredBody(s.body, s.filters, sc)
		if err != nil {
			return sigNone, err
		}
		return sigNone, in.writeValue(text)
	case *withStmt:
		return in.execWith(s, sc)
	case *scopeStmt:
		return in.execBody(s.body, sc.child())
	case *loopStmt:
		return s.signal, nil
	}
	return sigNone, evalErrorf("unknown statement")
}

func (in *interp) execOutput(s *outputStmt, sc *scope) error {
	v, err := in.eval(s.x, sc)
	if err != nil {
		return err
	}
	return in.writeValue(v)
}

// writeValue prints str(v).
func (in *interp) writeValue(v any) error {
	text, err := in.str(v)
	if err != nil {
		return err
	}
	return in.write(text)
}

func (in *interp) execIf(s *ifStmt, sc *scope) (signal, error) {
	for i, cond := range s.conds {
		v, err := in.eval(cond, sc)
		if err != nil {
			return sigNone, err
		}
		if truth(v) {
			return in.execBody(s.bodies[i], sc)
		}
	}
	return in.execBody(s.orElse, sc)
}

func (in *interp) execSetBlock(s *setBlockStmt, sc *scope) error {
	v, err := in.filteredBody(s.body, s.filters, sc)
	if err != nil {
		return err
	}
	return in.assign(s.target, v, sc)
}

// filteredBody runs a body in its own scope and passes its text through filters.
func (in *interp) filteredBody(body []stmt, filters []*filterExpr, sc *scope) (any, error) {
	inner := sc.child()
	text, err := in.capture(func() error {
		_, err := in.execBody(body, inner)
		return err
	})
	var v any = text
	for _, f := range filters {
		if err != nil {
			return nil, err
		}
		v, err = in.applyFilter(f, v, sc)
	}
	return v, err
}

func (in *interp) execWith(s *withStmt, sc *scope) (signal, error) {
	inner := sc.child()
	for i, x := range s.values {
		v, err := in.eval(x, sc)
		if err != nil {
			return sigNone, err
		}
		if err := in.assign(s.targets[i], v, inner); err != nil {
			return sigNone, err
		}
	}
	return in.execBody(s.body, inner)
}

// assign stores a value under a target in the scope, or in a namespace.
func (in *interp) assign(t target, v any, sc *scope) error {
	switch {
	case t.items != nil:
		items, err := in.elements(v)
		if err != nil {
			return err
		}
		if len(items) != len(t.items) {
			return evalErrorf("%d values for %d names", len(items), len(t.items))
		}
		for i, item := range items {
			if err := in.assign(t.items[i], item, sc); err != nil {
				return err
			}
		}
	case t.attr != "":
		owner, err := in.lookup(sc, t.name)
		if err != nil {
			return err
		}
		ns, ok := owner.(*namespace)
		if !ok {
			return evalErrorf("cannot set '%s.%s': only a namespace's attributes can be set", t.name, t.attr)
		}
		ns.vars.Set(t.attr, v)
	default:
		sc.set(t.name, v)
	}
	return nil
}
