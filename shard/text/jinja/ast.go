package jinja

// pos is the line of a node; every node embeds it.
type pos int

func (p pos) line() int { return int(p) }

// expr is an expression. The kinds below are all there are.
type expr interface{ line() int }

type (
	literalExpr struct {
		pos
		value any
	}
	nameExpr struct {
		pos
		name string
	}
	listExpr struct {
		pos
		items []expr
	}
	tupleExpr struct {
		pos
		items []expr
	}
	dictExpr struct {
		pos
		keys, values []expr
	}
	unaryExpr struct {
		pos
		op string // "-", "+", "not"
		x  expr
	}
	binaryExpr struct {
		pos
		op          string // + - * / // % **
		left, right expr
	}
	// logicExpr is "and" or "or": it gives one of its operands, as in Python.
	logicExpr struct {
		pos
		or          bool
		left, right expr
	}
	concatExpr struct {
		pos
		items []expr // joined by ~
	}
	// compareExpr is a chain: a < b <= c.
	compareExpr struct {
		pos
		first expr
		ops   []string // == != < <= > >= in notin
		rest  []expr
	}
	condExpr struct {
		pos
		cond, yes, no expr // no may be nil
	}
	attrExpr struct {
		pos
		x    expr
		name string
	}
	indexExpr struct {
		pos
		x, index expr
	}
	sliceExpr struct {
		pos
		x            expr
		lo, hi, step expr // each may be nil
	}
	callExpr struct {
		pos
		fn   expr
		args argList
	}
	filterExpr struct {
		pos
		x    expr // nil in a filter block or set block: the block's text
		name string
		args argList
	}
	testExpr struct {
		pos
		x    expr
		name string
		args argList
		not  bool
	}
)

// argList is what stands between the parentheses of a call.
type argList struct {
	pos      []expr
	names    []string
	named    []expr
	star     expr // *args, or nil
	starStar expr // **kwargs, or nil
}

// target is what for, set and with assign to: a name, an attribute of a namespace, or several targets.
type target struct {
	pos
	name  string
	attr  string   // with name: the namespace's attribute
	items []target // else: unpacked
}

// param is a parameter of a macro.
type param struct {
	name string
	def  expr // nil: no default
}

// stmt is a statement. The kinds below are all there are.
type stmt interface{ line() int }

type (
	textStmt struct {
		pos
		text string
	}
	outputStmt struct {
		pos
		x expr
	}
	ifStmt struct {
		pos
		conds  []expr
		bodies [][]stmt
		orElse []stmt
	}
	forStmt struct {
		pos
		target target
		iter   expr
		filter expr // nil: none
		body   []stmt
		orElse []stmt
	}
	setStmt struct {
		pos
		target target
		value  expr
	}
	// setBlockStmt is {% set x %}text{% endset %}.
	setBlockStmt struct {
		pos
		target  target
		filters []*filterExpr
		body    []stmt
	}
	macroStmt struct {
		pos
		name   string
		params []param
		body   []stmt
		// Which of the special names the body reads; a macro takes surplus arguments only then.
		varargs, kwargs, caller bool
	}
	// callStmt is {% call(params) fn(args) %}body{% endcall %}.
	callStmt struct {
		pos
		call  *callExpr
		macro *macroStmt
	}
	filterStmt struct {
		pos
		filters []*filterExpr
		body    []stmt
	}
	withStmt struct {
		pos
		targets []target
		values  []expr
		body    []stmt
	}
	// scopeStmt is a body with its own scope: {% generation %}.
	scopeStmt struct {
		pos
		body []stmt
	}
	// loopStmt is break or continue.
	loopStmt struct {
		pos
		signal signal
	}
)
