package jinja

import "slices"

// maxNesting bounds how deep brackets, operators and blocks of the source may nest; maxChain how many
// operators may follow each other on one level. Real templates stay under 20 of each.
const (
	maxNesting = 100
	maxChain   = 500
)

// parser is a recursive descent over the tokens. Errors are *Error over ErrSyntax.
type parser struct {
	tokens  []token
	at      int
	nesting int
	loops   int        // enclosing for loops within the macro
	macro   *macroStmt // innermost macro or call block, nil outside
}

func (p *parser) peek() token { return p.tokens[p.at] }

// take gives the current token and moves on; it stays at the end.
func (p *parser) take() token {
	t := p.tokens[p.at]
	if t.kind != tokEOF {
		p.at++
	}
	return t
}

func (p *parser) isOp(op string) bool {
	t := p.peek()
	return t.kind == tokOp && t.text == op
}

func (p *parser) isName(name string) bool {
	t := p.peek()
	return t.kind == tokName && t.text == name
}

func (p *parser) skipOp(op string) bool {
	ok := p.isOp(op)
	if ok {
		p.at++
	}
	return ok
}

func (p *parser) skipName(name string) bool {
	ok := p.isName(name)
	if ok {
		p.at++
	}
	return ok
}

func (p *parser) expectOp(op string) error {
	if !p.skipOp(op) {
		return syntaxErrorf(p.peek().line, "expected '%s', found %s", op, p.peek().describe())
	}
	return nil
}

func (p *parser) expectName(name string) error {
	if !p.skipName(name) {
		return syntaxErrorf(p.peek().line, "expected '%s', found %s", name, p.peek().describe())
	}
	return nil
}

func (p *parser) expectKind(kind tokKind) (token, error) {
	t := p.take()
	if t.kind != kind {
		want := token{kind: kind, text: "name"}
		return t, syntaxErrorf(t.line, "expected %s, found %s", want.describe(), t.describe())
	}
	return t, nil
}

// enter goes one level deeper; the caller defers leave.
func (p *parser) enter() error {
	p.nesting++
	if p.nesting > maxNesting {
		return syntaxErrorf(p.peek().line, "nested deeper than %d", maxNesting)
	}
	return nil
}

func (p *parser) leave() { p.nesting-- }

func (p *parser) parseTemplate() ([]stmt, error) {
	body, _, err := p.parseBody(nil)
	return body, err
}

// parseBody reads statements up to a tag that begins with one of the names in ends, and gives that
// name; the rest of that tag is left to the caller. With no ends it reads to the end of the source.
func (p *parser) parseBody(ends []string) ([]stmt, string, error) {
	line := p.peek().line
	if err := p.enter(); err != nil {
		return nil, "", err
	}
	defer p.leave()
	var body []stmt
	for {
		t := p.take()
		var s stmt
		var err error
		switch t.kind {
		case tokEOF:
			if len(ends) > 0 {
				return nil, "", syntaxErrorf(line, "a block has no end, add '{%% %s %%}'", ends[len(ends)-1])
			}
			return body, "", nil
		case tokText:
			s = &textStmt{pos(t.line), t.text}
		case tokVarBegin:
			s, err = p.parseOutput(t)
		case tokBlockBegin:
			if name := p.peek(); name.kind == tokName && slices.Contains(ends, name.text) {
				p.at++
				return body, name.text, nil
			}
			s, err = p.parseBlock()
		default:
			err = syntaxErrorf(t.line, "unexpected %s", t.describe())
		}
		if err != nil {
			return nil, "", err
		}
		body = append(body, s)
	}
}

func (p *parser) parseOutput(t token) (stmt, error) {
	x, err := p.parseTuple(true)
	if err != nil {
		return nil, err
	}
	_, err = p.expectKind(tokVarEnd)
	return &outputStmt{pos(t.line), x}, err
}

// endBlock reads the body of a block and its closing tag.
func (p *parser) endBlock(end string) ([]stmt, error) {
	if _, err := p.expectKind(tokBlockEnd); err != nil {
		return nil, err
	}
	body, _, err := p.parseBody([]string{end})
	if err != nil {
		return nil, err
	}
	_, err = p.expectKind(tokBlockEnd)
	return body, err
}

// parseBlock reads one {% ... %} statement with its body.
func (p *parser) parseBlock() (stmt, error) {
	t, err := p.expectKind(tokName)
	if err != nil {
		return nil, err
	}
	at := pos(t.line)
	switch t.text {
	case "if":
		return p.parseIf(at)
	case "for":
		return p.parseFor(at)
	case "set":
		return p.parseSet(at)
	case "macro":
		return p.parseMacro(at)
	case "call":
		return p.parseCallBlock(at)
	case "filter":
		return p.parseFilterBlock(at)
	case "with":
		return p.parseWith(at)
	case "generation":
		body, err := p.endBlock("endgeneration")
		return &scopeStmt{at, body}, err
	case "break", "continue":
		if p.loops == 0 {
			return nil, syntaxErrorf(t.line, "'%s' outside of a loop", t.text)
		}
		s := sigBreak
		if t.text == "continue" {
			s = sigContinue
		}
		_, err := p.expectKind(tokBlockEnd)
		return &loopStmt{at, s}, err
	case "include", "import", "from", "extends", "block":
		return nil, syntaxErrorf(t.line, "'%s' is not available: a chat template stands alone", t.text)
	}
	return nil, syntaxErrorf(t.line, "unknown tag '%s'", t.text)
}

func (p *parser) parseIf(at pos) (stmt, error) {
	s := &ifStmt{pos: at}
	for {
		cond, err := p.parseTuple(false)
		if err != nil {
			return nil, err
		}
		if _, err := p.expectKind(tokBlockEnd); err != nil {
			return nil, err
		}
		body, end, err := p.parseBody([]string{"elif", "else", "endif"})
		if err != nil {
			return nil, err
		}
		s.conds, s.bodies = append(s.conds, cond), append(s.bodies, body)
		switch end {
		case "elif":
			continue
		case "else":
			s.orElse, err = p.endBlock("endif")
		default:
			_, err = p.expectKind(tokBlockEnd)
		}
		return s, err
	}
}

func (p *parser) parseFor(at pos) (stmt, error) {
	s := &forStmt{pos: at}
	var err error
	if s.target, err = p.parseTarget("in"); err != nil {
		return nil, err
	}
	if err := p.expectName("in"); err != nil {
		return nil, err
	}
	if s.iter, err = p.parseTuple(false); err != nil {
		return nil, err
	}
	if p.skipName("if") {
		if s.filter, err = p.parseExpr(); err != nil {
			return nil, err
		}
	}
	if p.isName("recursive") {
		return nil, syntaxErrorf(p.peek().line, "recursive loops are not available, use a macro")
	}
	if _, err := p.expectKind(tokBlockEnd); err != nil {
		return nil, err
	}
	p.loops++
	body, end, err := p.parseBody([]string{"else", "endfor"})
	p.loops--
	if err != nil {
		return nil, err
	}
	s.body = body
	if end == "else" {
		s.orElse, err = p.endBlock("endfor")
	} else {
		_, err = p.expectKind(tokBlockEnd)
	}
	return s, err
}

// parseTarget reads what is assigned to, up to the word or operator end ("in", "=").
func (p *parser) parseTarget(end string) (target, error) {
	if err := p.enter(); err != nil {
		return target{}, err
	}
	defer p.leave()
	at := pos(p.peek().line)
	var items []target
	tuple := false
	for {
		item, err := p.parseTargetItem()
		if err != nil {
			return target{}, err
		}
		items = append(items, item)
		if !p.skipOp(",") {
			break
		}
		tuple = true
		if p.isName(end) || p.isOp(end) {
			break
		}
	}
	if !tuple {
		return items[0], nil
	}
	return target{pos: at, items: items}, nil
}

// parseTargetItem reads a name, namespace.attribute, or targets in parentheses.
func (p *parser) parseTargetItem() (target, error) {
	if p.skipOp("(") {
		t, err := p.parseTarget(")")
		if err != nil {
			return t, err
		}
		return t, p.expectOp(")")
	}
	t, err := p.expectKind(tokName)
	if err != nil {
		return target{}, err
	}
	if isConstant(t.text) {
		return target{}, syntaxErrorf(t.line, "'%s' cannot be assigned to", t.text)
	}
	out := target{pos: pos(t.line), name: t.text}
	if p.skipOp(".") {
		attr, err := p.expectKind(tokName)
		if err != nil {
			return target{}, err
		}
		out.attr = attr.text
	}
	return out, nil
}

// isConstant is true for names that are literals.
func isConstant(name string) bool {
	switch name {
	case "true", "false", "none", "True", "False", "None":
		return true
	}
	return false
}

func (p *parser) parseSet(at pos) (stmt, error) {
	dst, err := p.parseTarget("=")
	if err != nil {
		return nil, err
	}
	if p.skipOp("=") {
		value, err := p.parseTuple(true)
		if err != nil {
			return nil, err
		}
		_, err = p.expectKind(tokBlockEnd)
		return &setStmt{at, dst, value}, err
	}
	filters, err := p.parseFilters(p.skipOp("|"))
	if err != nil {
		return nil, err
	}
	body, err := p.endBlock("endset")
	return &setBlockStmt{at, dst, filters, body}, err
}

// parseFilters reads filter|filter...; none unless first is true.
func (p *parser) parseFilters(first bool) ([]*filterExpr, error) {
	var filters []*filterExpr
	for more := first; more; more = p.skipOp("|") {
		f, err := p.parseFilter(nil)
		if err != nil {
			return nil, err
		}
		filters = append(filters, f)
	}
	return filters, nil
}

func (p *parser) parseFilterBlock(at pos) (stmt, error) {
	filters, err := p.parseFilters(true)
	if err != nil {
		return nil, err
	}
	body, err := p.endBlock("endfilter")
	return &filterStmt{at, filters, body}, err
}

func (p *parser) parseWith(at pos) (stmt, error) {
	s := &withStmt{pos: at}
	for p.peek().kind != tokBlockEnd {
		if len(s.targets) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
		}
		dst, err := p.parseTargetItem()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp("="); err != nil {
			return nil, err
		}
		value, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		s.targets, s.values = append(s.targets, dst), append(s.values, value)
	}
	var err error
	s.body, err = p.endBlock("endwith")
	return s, err
}

func (p *parser) parseMacro(at pos) (stmt, error) {
	name, err := p.expectKind(tokName)
	if err != nil {
		return nil, err
	}
	m := &macroStmt{pos: at, name: name.text}
	if !p.isOp("(") {
		return nil, syntaxErrorf(name.line, "expected '(' after the name of macro '%s'", name.text)
	}
	return m, p.macroBody(m, "endmacro")
}

func (p *parser) parseCallBlock(at pos) (stmt, error) {
	m := &macroStmt{pos: at, name: "caller"}
	if err := p.parseParams(m); err != nil {
		return nil, err
	}
	x, err := p.parseExpr()
	if err != nil {
		return nil, err
	}
	call, ok := x.(*callExpr)
	if !ok {
		return nil, syntaxErrorf(at.line(), "a call block needs a call, as in {%% call name() %%}")
	}
	return &callStmt{at, call, m}, p.macroBody(m, "endcall")
}

// macroBody reads parameters (if not read yet) and body, and notes which special names are read.
func (p *parser) macroBody(m *macroStmt, end string) error {
	outer, loops := p.macro, p.loops
	p.macro, p.loops = m, 0
	defer func() { p.macro, p.loops = outer, loops }()
	if end == "endmacro" {
		if err := p.parseParams(m); err != nil {
			return err
		}
	}
	var err error
	m.body, err = p.endBlock(end)
	return err
}

// parseParams reads (a, b=1); no parenthesis, no parameters.
func (p *parser) parseParams(m *macroStmt) error {
	if !p.skipOp("(") {
		return nil
	}
	for !p.skipOp(")") {
		if len(m.params) > 0 {
			if err := p.expectOp(","); err != nil {
				return err
			}
			if p.skipOp(")") {
				return nil
			}
		}
		name, err := p.expectKind(tokName)
		if err != nil {
			return err
		}
		prm := param{name: name.text}
		if p.skipOp("=") {
			if prm.def, err = p.parseExpr(); err != nil {
				return err
			}
		} else if n := len(m.params); n > 0 && m.params[n-1].def != nil {
			return syntaxErrorf(name.line, "parameter '%s' without a default follows one with a default", prm.name)
		}
		m.params = append(m.params, prm)
	}
	return nil
}
