package jinja

import "strings"

// parseTuple reads an expression, or several with commas between them, which make a tuple. cond says
// whether an inline if may stand at the top (not so in the head of for and if).
func (p *parser) parseTuple(cond bool) (expr, error) {
	one := p.parseOr
	if cond {
		one = p.parseExpr
	}
	at := pos(p.peek().line)
	var items []expr
	tuple := false
	for !p.endOfTuple() {
		x, err := one()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
		if !p.skipOp(",") {
			break
		}
		tuple = true
	}
	if tuple {
		return &tupleExpr{at, items}, nil
	}
	if len(items) == 0 {
		return nil, syntaxErrorf(p.peek().line, "expected an expression, found %s", p.peek().describe())
	}
	return items[0], nil
}

func (p *parser) endOfTuple() bool {
	k := p.peek().kind
	return k == tokVarEnd || k == tokBlockEnd || k == tokEOF || p.isOp(")") || p.isOp("]")
}

// parseExpr reads an expression with its inline ifs.
func (p *parser) parseExpr() (expr, error) {
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	x, err := p.parseOr()
	for n := 0; err == nil && p.isName("if"); n++ {
		if n > maxChain {
			return nil, p.tooLong()
		}
		c := &condExpr{pos: pos(p.take().line), yes: x}
		if c.cond, err = p.parseOr(); err != nil {
			return nil, err
		}
		if p.skipName("else") {
			if c.no, err = p.parseExpr(); err != nil {
				return nil, err
			}
		}
		x = c
	}
	return x, err
}

func (p *parser) tooLong() error {
	return syntaxErrorf(p.peek().line, "an expression has more than %d operators in a row", maxChain)
}

func (p *parser) parseOr() (expr, error) {
	x, err := p.parseAnd()
	for n := 0; err == nil && p.isName("or"); n++ {
		if n > maxChain {
			return nil, p.tooLong()
		}
		l := &logicExpr{pos: pos(p.take().line), or: true, left: x}
		l.right, err = p.parseAnd()
		x = l
	}
	return x, err
}

func (p *parser) parseAnd() (expr, error) {
	x, err := p.parseNot()
	for n := 0; err == nil && p.isName("and"); n++ {
		if n > maxChain {
			return nil, p.tooLong()
		}
		l := &logicExpr{pos: pos(p.take().line), left: x}
		l.right, err = p.parseNot()
		x = l
	}
	return x, err
}

func (p *parser) parseNot() (expr, error) {
	if !p.isName("not") {
		return p.parseCompare()
	}
	if err := p.enter(); err != nil {
		return nil, err
	}
	defer p.leave()
	at := pos(p.take().line)
	x, err := p.parseNot()
	return &unaryExpr{at, "not", x}, err
}

func (p *parser) parseCompare() (expr, error) {
	x, err := p.parseSum()
	if err != nil {
		return nil, err
	}
	c := &compareExpr{pos: pos(p.peek().line), first: x}
	for {
		op := p.comparison()
		if op == "" {
			break
		}
		if len(c.ops) > maxChain {
			return nil, p.tooLong()
		}
		right, err := p.parseSum()
		if err != nil {
			return nil, err
		}
		c.ops, c.rest = append(c.ops, op), append(c.rest, right)
	}
	if len(c.ops) == 0 {
		return x, nil
	}
	return c, nil
}

// comparison takes a comparing operator, or gives "".
func (p *parser) comparison() string {
	t := p.peek()
	switch {
	case t.kind == tokOp:
		switch t.text {
		case "==", "!=", "<", "<=", ">", ">=":
			p.at++
			return t.text
		}
	case p.isName("in"):
		p.at++
		return "in"
	case p.isName("not"):
		if next := p.tokens[p.at+1]; next.kind == tokName && next.text == "in" {
			p.at += 2
			return "notin"
		}
	}
	return ""
}

// binary reads operand (op operand)* for operators of one rank.
func (p *parser) binary(operand func() (expr, error), ops ...string) (expr, error) {
	x, err := operand()
	for n := 0; err == nil; n++ {
		op := ""
		for _, o := range ops {
			if p.isOp(o) {
				op = o
			}
		}
		if op == "" {
			return x, nil
		}
		if n > maxChain {
			return nil, p.tooLong()
		}
		b := &binaryExpr{pos: pos(p.take().line), op: op, left: x}
		b.right, err = operand()
		x = b
	}
	return nil, err
}

func (p *parser) parseSum() (expr, error) { return p.binary(p.parseConcat, "+", "-") }

func (p *parser) parseConcat() (expr, error) {
	x, err := p.parseProduct()
	if err != nil || !p.isOp("~") {
		return x, err
	}
	c := &concatExpr{pos: pos(p.peek().line), items: []expr{x}}
	for p.skipOp("~") {
		if len(c.items) > maxChain {
			return nil, p.tooLong()
		}
		x, err := p.parseProduct()
		if err != nil {
			return nil, err
		}
		c.items = append(c.items, x)
	}
	return c, nil
}

func (p *parser) parseProduct() (expr, error) { return p.binary(p.parsePower, "*", "/", "//", "%") }

func (p *parser) parsePower() (expr, error) {
	return p.binary(func() (expr, error) { return p.parseUnary(true) }, "**")
}

// parseUnary reads a signed operand; filters bind looser than the sign.
func (p *parser) parseUnary(filters bool) (expr, error) {
	var x expr
	var err error
	if p.isOp("-") || p.isOp("+") {
		if err := p.enter(); err != nil {
			return nil, err
		}
		defer p.leave()
		t := p.take()
		x, err = p.parseUnary(false)
		x = &unaryExpr{pos(t.line), t.text, x}
	} else if x, err = p.parsePrimary(); err == nil {
		x, err = p.parsePostfix(x)
	}
	if err != nil || !filters {
		return x, err
	}
	return p.parseFilterTail(x)
}

func (p *parser) parsePrimary() (expr, error) {
	t := p.take()
	at := pos(t.line)
	switch t.kind {
	case tokName:
		switch t.text {
		case "true", "True":
			return &literalExpr{at, true}, nil
		case "false", "False":
			return &literalExpr{at, false}, nil
		case "none", "None":
			return &literalExpr{at, nil}, nil
		}
		p.noteSpecial(t.text)
		return &nameExpr{at, t.text}, nil
	case tokString:
		return &literalExpr{at, p.joinStrings(t.text)}, nil
	case tokInt, tokFloat:
		return &literalExpr{at, t.num}, nil
	case tokOp:
		switch t.text {
		case "(":
			return p.parseParens(at)
		case "[":
			items, err := p.parseItems("]")
			return &listExpr{at, items}, err
		case "{":
			return p.parseDict(at)
		}
	}
	return nil, syntaxErrorf(t.line, "expected an expression, found %s", t.describe())
}

// joinStrings appends the string literals that follow the first one.
func (p *parser) joinStrings(first string) string {
	if p.peek().kind != tokString {
		return first
	}
	var b strings.Builder
	b.WriteString(first)
	for p.peek().kind == tokString {
		b.WriteString(p.take().text)
	}
	return b.String()
}

// noteSpecial remembers that the macro around reads varargs, kwargs or caller.
func (p *parser) noteSpecial(name string) {
	if p.macro == nil {
		return
	}
	switch name {
	case "varargs":
		p.macro.varargs = true
	case "kwargs":
		p.macro.kwargs = true
	case "caller":
		p.macro.caller = true
	}
}

func (p *parser) parseParens(at pos) (expr, error) {
	if p.skipOp(")") {
		return &tupleExpr{pos: at}, nil
	}
	x, err := p.parseTuple(true)
	if err != nil {
		return nil, err
	}
	return x, p.expectOp(")")
}

// parseItems reads expressions with commas between and perhaps after them, up to the bracket.
func (p *parser) parseItems(end string) ([]expr, error) {
	var items []expr
	for !p.skipOp(end) {
		if len(items) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp(end) {
				break
			}
		}
		x, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		items = append(items, x)
	}
	return items, nil
}

func (p *parser) parseDict(at pos) (expr, error) {
	d := &dictExpr{pos: at}
	for !p.skipOp("}") {
		if len(d.keys) > 0 {
			if err := p.expectOp(","); err != nil {
				return nil, err
			}
			if p.skipOp("}") {
				break
			}
		}
		k, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		if err := p.expectOp(":"); err != nil {
			return nil, err
		}
		v, err := p.parseExpr()
		if err != nil {
			return nil, err
		}
		d.keys, d.values = append(d.keys, k), append(d.values, v)
	}
	return d, nil
}

// parsePostfix reads .name, [index] and (arguments) after x.
func (p *parser) parsePostfix(x expr) (expr, error) {
	var err error
	for n := 0; err == nil; n++ {
		if n > maxChain {
			return nil, p.tooLong()
		}
		at := pos(p.peek().line)
		switch {
		case p.skipOp("."):
			t := p.take()
			switch t.kind {
			case tokName:
				x = &attrExpr{at, x, t.text}
			case tokInt:
				x = &indexExpr{at, x, &literalExpr{at, t.num}}
			default:
				err = syntaxErrorf(t.line, "expected a name after '.', found %s", t.describe())
			}
		case p.skipOp("["):
			x, err = p.parseSubscript(at, x)
		case p.skipOp("("):
			x, err = p.parseCall(at, x)
		default:
			return x, nil
		}
	}
	return nil, err
}

func (p *parser) parseCall(at pos, fn expr) (expr, error) {
	args, err := p.parseArgs()
	return &callExpr{at, fn, args}, err
}

// parseSubscript reads what follows "[": an index, a slice, or several indices that make a tuple.
func (p *parser) parseSubscript(at pos, x expr) (expr, error) {
	var index expr
	var err error
	if !p.isOp(":") {
		if index, err = p.parseTuple(true); err != nil {
			return nil, err
		}
		if p.skipOp("]") {
			return &indexExpr{at, x, index}, nil
		}
	}
	s := &sliceExpr{pos: at, x: x, lo: index}
	if err := p.expectOp(":"); err != nil {
		return nil, err
	}
	if !p.isOp("]") && !p.isOp(":") {
		if s.hi, err = p.parseExpr(); err != nil {
			return nil, err
		}
	}
	if p.skipOp(":") && !p.isOp("]") {
		if s.step, err = p.parseExpr(); err != nil {
			return nil, err
		}
	}
	return s, p.expectOp("]")
}

// parseFilterTail reads |filter, is test and (call) after x.
func (p *parser) parseFilterTail(x expr) (expr, error) {
	var err error
	for n := 0; err == nil; n++ {
		if n > maxChain {
			return nil, p.tooLong()
		}
		at := pos(p.peek().line)
		switch {
		case p.skipOp("|"):
			x, err = p.parseFilter(x)
		case p.skipName("is"):
			x, err = p.parseTest(at, x)
		case p.skipOp("("):
			x, err = p.parseCall(at, x)
		default:
			return x, nil
		}
	}
	return nil, err
}

func (p *parser) parseFilter(x expr) (*filterExpr, error) {
	t, err := p.expectKind(tokName)
	if err != nil {
		return nil, err
	}
	f := &filterExpr{pos: pos(t.line), x: x, name: t.text}
	for p.skipOp(".") {
		part, err := p.expectKind(tokName)
		if err != nil {
			return nil, err
		}
		f.name += "." + part.text
	}
	if p.skipOp("(") {
		f.args, err = p.parseArgs()
	}
	return f, err
}

// parseTest reads a test's name and arguments; a single argument needs no parentheses.
func (p *parser) parseTest(at pos, x expr) (expr, error) {
	s := &testExpr{pos: at, x: x, not: p.skipName("not")}
	t, err := p.expectKind(tokName)
	if err != nil {
		return nil, err
	}
	s.name = t.text
	if p.skipOp("(") {
		s.args, err = p.parseArgs()
		return s, err
	}
	if !p.startsTestArg() {
		return s, nil
	}
	arg, err := p.parsePrimary()
	if err == nil {
		arg, err = p.parsePostfix(arg)
	}
	s.args.pos = []expr{arg}
	return s, err
}

func (p *parser) startsTestArg() bool {
	t := p.peek()
	switch t.kind {
	case tokString, tokInt, tokFloat:
		return true
	case tokOp:
		return t.text == "[" || t.text == "{"
	case tokName:
		switch t.text {
		case "else", "or", "and", "is", "if", "in", "not":
			return false
		}
		return true
	}
	return false
}

// parseArgs reads the arguments of a call after "(".
func (p *parser) parseArgs() (argList, error) {
	var a argList
	for first := true; !p.skipOp(")"); first = false {
		if !first {
			if err := p.expectOp(","); err != nil {
				return a, err
			}
			if p.skipOp(")") {
				break
			}
		}
		if err := p.parseArg(&a); err != nil {
			return a, err
		}
	}
	return a, nil
}

func (p *parser) parseArg(a *argList) error {
	t := p.peek()
	var err error
	switch {
	case a.star == nil && p.skipOp("*"):
		a.star, err = p.parseExpr()
		return err
	case a.starStar == nil && p.skipOp("**"):
		a.starStar, err = p.parseExpr()
		return err
	case t.kind == tokName && p.tokens[p.at+1].kind == tokOp && p.tokens[p.at+1].text == "=":
		p.at += 2
		x, err := p.parseExpr()
		a.names, a.named = append(a.names, t.text), append(a.named, x)
		return err
	}
	if len(a.names) > 0 || a.starStar != nil {
		return syntaxErrorf(t.line, "a positional argument follows a named one")
	}
	x, err := p.parseExpr()
	a.pos = append(a.pos, x)
	return err
}
