package jinja

// loopState is the variable "loop" of a for loop.
type loopState struct {
	items   []any
	index   int // from 0
	changed []any
	seen    bool // changed holds a value
}

func (in *interp) execFor(s *forStmt, sc *scope) error {
	v, err := in.eval(s.iter, sc)
	if err != nil {
		return err
	}
	items, err := in.elements(v)
	if err != nil {
		return err
	}
	if s.filter != nil {
		if items, err = in.filterLoop(s, items, sc); err != nil {
			return err
		}
	}
	if len(items) == 0 {
		_, err := in.execBody(s.orElse, sc.child())
		return err
	}
	loop := &loopState{items: items}
	for i, item := range items {
		loop.index = i
		inner := &scope{vars: map[string]any{"loop": loop}, parent: sc}
		if err := in.spend(1); err != nil {
			return err
		}
		if err := in.assign(s.target, item, inner); err != nil {
			return err
		}
		sig, err := in.execBody(s.body, inner)
		if err != nil {
			return err
		}
		if sig == sigBreak {
			break
		}
	}
	return nil
}

// filterLoop keeps the items for which the loop's condition holds.
func (in *interp) filterLoop(s *forStmt, items []any, sc *scope) ([]any, error) {
	var kept []any
	for _, item := range items {
		inner := sc.child()
		if err := in.assign(s.target, item, inner); err != nil {
			return nil, err
		}
		ok, err := in.eval(s.filter, inner)
		if err != nil {
			return nil, err
		}
		if truth(ok) {
			kept = append(kept, item)
		}
	}
	return kept, nil
}

// attr gives an attribute of the loop variable.
func (l *loopState) attr(name string) (any, bool) {
	n := len(l.items)
	switch name {
	case "index":
		return int64(l.index + 1), true
	case "index0":
		return int64(l.index), true
	case "revindex":
		return int64(n - l.index), true
	case "revindex0":
		return int64(n - l.index - 1), true
	case "first":
		return l.index == 0, true
	case "last":
		return l.index == n-1, true
	case "length":
		return int64(n), true
	case "depth":
		return int64(1), true // recursive loops are not available
	case "depth0":
		return int64(0), true
	case "previtem":
		if l.index == 0 {
			return undefined{"there is no previous item"}, true
		}
		return l.items[l.index-1], true
	case "nextitem":
		if l.index == n-1 {
			return undefined{"there is no next item"}, true
		}
		return l.items[l.index+1], true
	case "cycle":
		return &function{"cycle", l.cycle}, true
	case "changed":
		return &function{"changed", l.hasChanged}, true
	}
	return nil, false
}

func (l *loopState) cycle(_ *interp, a callArgs) (any, error) {
	if len(a.pos) == 0 {
		return nil, evalErrorf("loop.cycle needs values")
	}
	return a.pos[l.index%len(a.pos)], nil
}

func (l *loopState) hasChanged(in *interp, a callArgs) (any, error) {
	eq, err := in.equalItems(l.changed, a.pos, l.seen, 0)
	l.changed, l.seen = a.pos, true
	return !eq, err
}
