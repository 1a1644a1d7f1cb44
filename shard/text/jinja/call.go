package jinja

// callArgs are the evaluated arguments of a call.
type callArgs struct {
	pos    []any
	names  []string
	named  []any
	caller *macro // the body of a call block
}

// macro is a macro together with the scope it was defined in.
type macro struct {
	def   *macroStmt
	scope *scope
}

func (in *interp) evalArgs(a argList, sc *scope) (callArgs, error) {
	var out callArgs
	var err error
	if len(a.pos) > 0 {
		if out.pos, err = in.evalItems(a.pos, sc); err != nil {
			return out, err
		}
	}
	if len(a.named) > 0 {
		out.names = a.names
		if out.named, err = in.evalItems(a.named, sc); err != nil {
			return out, err
		}
	}
	if a.star != nil {
		v, err := in.eval(a.star, sc)
		if err != nil {
			return out, err
		}
		items, err := in.elements(v)
		if err != nil {
			return out, err
		}
		if out.pos, err = in.joinLists(out.pos, items); err != nil {
			return out, err
		}
	}
	if a.starStar != nil {
		return in.evalNamed(out, a.starStar, sc)
	}
	return out, nil
}

// evalNamed adds the entries of **kwargs.
func (in *interp) evalNamed(out callArgs, x expr, sc *scope) (callArgs, error) {
	v, err := in.eval(x, sc)
	if err != nil {
		return out, err
	}
	d, ok := v.(*Dict)
	if !ok {
		return out, evalErrorf("'**' needs a mapping, not a %s", typeName(v))
	}
	names := append([]string(nil), out.names...)
	for i, k := range d.keys {
		name, ok := k.(string)
		if !ok {
			return out, evalErrorf("names of arguments are strings, not a %s", typeName(k))
		}
		names, out.named = append(names, name), append(out.named, d.values[i])
	}
	out.names = names
	return out, in.spend(2 * len(d.keys))
}

func (in *interp) evalCall(x *callExpr, sc *scope, caller *macro) (any, error) {
	fn, err := in.eval(x.fn, sc)
	if err != nil {
		return nil, err
	}
	if err := need(fn); err != nil {
		return nil, err
	}
	args, err := in.evalArgs(x.args, sc)
	if err != nil {
		return nil, err
	}
	args.caller = caller
	switch f := fn.(type) {
	case *function:
		if caller != nil {
			return nil, evalErrorf("'%s' takes no call block", f.name)
		}
		return f.call(in, args)
	case *macro:
		return in.callMacro(f, args)
	}
	return nil, evalErrorf("a %s cannot be called", typeName(fn))
}

// execCall runs {% call %}: the called macro may print the body by caller().
func (in *interp) execCall(s *callStmt, sc *scope) error {
	v, err := in.evalCall(s.call, sc, &macro{def: s.macro, scope: sc})
	if err != nil {
		return err
	}
	return in.writeValue(v)
}

// callMacro binds the arguments in a new scope and gives the text of the body.
func (in *interp) callMacro(m *macro, a callArgs) (any, error) {
	if in.calls >= in.limits.Depth {
		return nil, limitErrorf("macros call each other deeper than %d", in.limits.Depth)
	}
	in.calls++
	defer func() { in.calls-- }()
	sc := m.scope.child()
	if err := in.bindMacro(m.def, a, sc); err != nil {
		return nil, err
	}
	return in.capture(func() error {
		_, err := in.execBody(m.def.body, sc)
		return err
	})
}

// bindMacro sets the parameters; what is left over goes to varargs and kwargs if the macro reads them.
func (in *interp) bindMacro(def *macroStmt, a callArgs, sc *scope) error {
	rest, err := in.bindNamed(def, a, sc)
	if err != nil {
		return err
	}
	for i, p := range def.params {
		_, named := sc.vars[p.name]
		switch {
		case i < len(a.pos) && named:
			return evalErrorf("macro '%s' got two values for '%s'", def.name, p.name)
		case i < len(a.pos):
			sc.set(p.name, a.pos[i])
		case named:
		case p.def != nil:
			v, err := in.eval(p.def, sc)
			if err != nil {
				return err
			}
			sc.set(p.name, v)
		default:
			sc.set(p.name, undefined{"parameter '" + p.name + "' was not provided"})
		}
	}
	if extra := len(a.pos) - len(def.params); extra > 0 && !def.varargs {
		return evalErrorf("macro '%s' takes %d arguments, not %d", def.name, len(def.params), len(a.pos))
	}
	if def.varargs {
		sc.set("varargs", tuple(a.pos[min(len(def.params), len(a.pos)):]))
	}
	if def.kwargs {
		sc.set("kwargs", rest)
	}
	return in.bindCaller(def, a, sc)
}

// bindNamed sets the parameters given by name and gives the names that are no parameters.
func (in *interp) bindNamed(def *macroStmt, a callArgs, sc *scope) (*Dict, error) {
	rest := NewDict()
	for i, name := range a.names {
		if err := in.spend(1 + len(def.params)/8); err != nil {
			return nil, err
		}
		if isParam(def, name) {
			sc.set(name, a.named[i])
			continue
		}
		if !def.kwargs {
			return nil, evalErrorf("macro '%s' takes no argument '%s'", def.name, name)
		}
		rest.Set(name, a.named[i])
	}
	return rest, nil
}

func isParam(def *macroStmt, name string) bool {
	for _, p := range def.params {
		if p.name == name {
			return true
		}
	}
	return false
}

func (in *interp) bindCaller(def *macroStmt, a callArgs, sc *scope) error {
	if !def.caller {
		if a.caller != nil {
			return evalErrorf("macro '%s' does not use caller() and cannot be in a call block", def.name)
		}
		return nil
	}
	if isParam(def, "caller") && a.caller == nil {
		return nil
	}
	if a.caller == nil {
		sc.set("caller", undefined{"macro '" + def.name + "' was not called by a call block"})
		return nil
	}
	sc.set("caller", a.caller)
	return nil
}
