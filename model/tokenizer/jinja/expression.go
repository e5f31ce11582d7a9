package jinja

import "strings"

// This file is the parser's second half: expressions, from the loosest binding
// (a tuple, then `a if b else c`) to the tightest (a name with its attributes,
// calls and filters). The ladder is jinja2's, which is not quite Python's: '~'
// binds tighter than '+', and '-' tighter than '**'.

func (p *parser) tupleEnd() bool {
	return p.cur.kind == tokenVariableEnd || p.cur.kind == tokenBlockEnd || p.cur.kind == tokenEOF || p.isOp(")")
}

// tuple reads an expression, or a tuple if commas follow. In parentheses it may
// be empty.
func (p *parser) tuple(conditional, parentheses bool) expr {
	line := p.cur.line
	var items []expr
	tuple := false
	for p.err == nil {
		if len(items) > 0 {
			p.expectOp(",")
		}
		if p.tupleEnd() {
			break
		}
		items = append(items, p.expression(conditional))
		if !p.isOp(",") {
			break
		}
		tuple = true
	}
	if !tuple {
		if len(items) > 0 {
			return items[0]
		}
		if !parentheses {
			p.fail(line, "expected an expression, got %s", p.cur.describe())
		}
	}
	return &tupleExpr{items: items}
}

func (p *parser) expression(conditional bool) expr {
	if !p.enter() {
		return &constExpr{}
	}
	defer p.leave()
	if !conditional {
		return p.or()
	}
	return p.conditional()
}

func (p *parser) conditional() expr {
	line := p.cur.line
	e := p.or()
	for p.skipName("if") {
		c := &condExpr{then: e, test: p.or(), line: line}
		if p.skipName("else") {
			if !p.enter() {
				return c
			}
			c.els = p.conditional()
			p.leave()
		}
		e = c
		line = p.cur.line
	}
	return e
}

func (p *parser) or() expr {
	left := p.and()
	for p.skipName("or") {
		left = &logicExpr{or: true, left: left, right: p.and()}
	}
	return left
}

func (p *parser) and() expr {
	left := p.not()
	for p.skipName("and") {
		left = &logicExpr{left: left, right: p.not()}
	}
	return left
}

func (p *parser) not() expr {
	if !p.skipName("not") {
		return p.compare()
	}
	if !p.enter() {
		return &constExpr{}
	}
	defer p.leave()
	return &notExpr{operand: p.not()}
}

func (p *parser) compare() expr {
	first := p.sum()
	var rest []comparison
	for p.err == nil {
		op := ""
		switch {
		case p.cur.kind == tokenOperator:
			switch p.cur.text {
			case "==", "!=", "<", "<=", ">", ">=":
				op = p.cur.text
			}
		case p.isName("in"):
			op = "in"
		case p.isName("not"):
			if next := p.look(); next.kind == tokenName && next.text == "in" {
				p.advance()
				op = "not in"
			}
		}
		if op == "" {
			break
		}
		p.advance()
		rest = append(rest, comparison{op: op, operand: p.sum()})
	}
	if rest == nil {
		return first
	}
	return &compareExpr{first: first, rest: rest}
}

func (p *parser) sum() expr {
	left := p.concat()
	for p.isOp("+") || p.isOp("-") {
		op := p.advance().text
		left = &binaryExpr{op: op, left: left, right: p.concat()}
	}
	return left
}

func (p *parser) concat() expr {
	first := p.product()
	if !p.isOp("~") {
		return first
	}
	parts := []expr{first}
	for p.skipOp("~") {
		parts = append(parts, p.product())
	}
	return &concatExpr{parts: parts}
}

func (p *parser) product() expr {
	left := p.power()
	for p.isOp("*") || p.isOp("/") || p.isOp("//") || p.isOp("%") {
		op := p.advance().text
		left = &binaryExpr{op: op, left: left, right: p.power()}
	}
	return left
}

func (p *parser) power() expr {
	left := p.unary(true)
	for p.skipOp("**") {
		left = &binaryExpr{op: "**", left: left, right: p.unary(true)}
	}
	return left
}

func (p *parser) unary(withFilters bool) expr {
	var e expr
	if p.isOp("-") || p.isOp("+") {
		op := p.advance().text[0]
		if !p.enter() {
			return &constExpr{}
		}
		e = &unaryExpr{op: op, operand: p.unary(false)}
		p.leave()
	} else {
		e = p.primary()
	}
	e = p.postfix(e)
	if withFilters {
		e = p.filterChain(e)
	}
	return e
}

func (p *parser) primary() expr {
	tok := p.cur
	switch {
	case tok.kind == tokenName:
		p.advance()
		switch tok.text {
		case "true", "True":
			return &constExpr{value: boolValue(true)}
		case "false", "False":
			return &constExpr{value: boolValue(false)}
		case "none", "None":
			return &constExpr{}
		}
		return &nameExpr{name: tok.text}
	case tok.kind == tokenString:
		first := p.advance().text
		if p.cur.kind != tokenString {
			return &constExpr{value: strValue(first)}
		}
		var all strings.Builder
		all.WriteString(first)
		for p.cur.kind == tokenString {
			all.WriteString(p.advance().text)
		}
		return &constExpr{value: strValue(all.String())}
	case tok.kind == tokenNumber:
		p.advance()
		return &constExpr{value: tok.value}
	case p.skipOp("("):
		if !p.enter() {
			return &constExpr{}
		}
		defer p.leave()
		e := p.tuple(true, true)
		p.expectOp(")")
		return e
	case p.skipOp("["):
		return &listExpr{items: p.elements("]")}
	case p.skipOp("{"):
		return p.dict()
	}
	p.fail(tok.line, "unexpected %s", tok.describe())
	return &constExpr{}
}

// elements reads expressions between commas up to the bracket end.
func (p *parser) elements(end string) []expr {
	var items []expr
	for !p.isOp(end) && p.err == nil {
		if len(items) > 0 {
			p.expectOp(",")
			if p.isOp(end) {
				break
			}
		}
		items = append(items, p.expression(true))
	}
	p.expectOp(end)
	return items
}

func (p *parser) dict() expr {
	d := &dictExpr{}
	for !p.isOp("}") && p.err == nil {
		if len(d.keys) > 0 {
			p.expectOp(",")
			if p.isOp("}") {
				break
			}
		}
		d.keys = append(d.keys, p.expression(true))
		p.expectOp(":")
		d.vals = append(d.vals, p.expression(true))
	}
	p.expectOp("}")
	return d
}

func (p *parser) postfix(e expr) expr {
	for p.err == nil {
		switch {
		case p.isOp("."), p.isOp("["):
			e = p.subscript(e)
		case p.isOp("("):
			e = &callExpr{callee: e, args: p.callArguments()}
		default:
			return e
		}
	}
	return e
}

func (p *parser) filterChain(e expr) expr {
	for p.err == nil {
		switch {
		case p.isOp("|"):
			e = p.filters(e, false)
		case p.isName("is"):
			e = p.test(e)
		case p.isOp("("):
			e = &callExpr{callee: e, args: p.callArguments()}
		default:
			return e
		}
	}
	return e
}

func (p *parser) subscript(object expr) expr {
	if p.skipOp(".") {
		tok := p.advance()
		switch tok.kind {
		case tokenName:
			return &attrExpr{object: object, name: tok.text}
		case tokenNumber:
			if _, ok := tok.value.(intValue); ok {
				return &indexExpr{object: object, index: &constExpr{value: tok.value}}
			}
		}
		p.fail(tok.line, "expected a name or a number behind '.', got %s", tok.describe())
		return object
	}
	p.advance()
	var items []expr
	for !p.isOp("]") && p.err == nil {
		if len(items) > 0 {
			p.expectOp(",")
		}
		items = append(items, p.subscripted())
	}
	p.expectOp("]")
	if len(items) == 1 {
		return &indexExpr{object: object, index: items[0]}
	}
	for _, item := range items {
		if _, ok := item.(*sliceExpr); ok {
			p.fail(p.cur.line, "a slice cannot stand in a tuple of indices")
		}
	}
	return &indexExpr{object: object, index: &tupleExpr{items: items}}
}

// subscripted reads an index or a slice.
func (p *parser) subscripted() expr {
	s := &sliceExpr{}
	if !p.isOp(":") {
		e := p.expression(true)
		if !p.isOp(":") {
			return e
		}
		s.start = e
	}
	p.expectOp(":")
	part := func() expr {
		if p.isOp(":") || p.isOp("]") || p.isOp(",") {
			return nil
		}
		return p.expression(true)
	}
	s.stop = part()
	if p.skipOp(":") {
		s.step = part()
	}
	return s
}

func (p *parser) callArguments() arguments {
	var a arguments
	line := p.cur.line
	p.expectOp("(")
	ensure := func(ok bool) {
		if !ok {
			p.fail(line, "arguments of the call are out of order")
		}
	}
	for first := true; !p.isOp(")") && p.err == nil; first = false {
		if len(a.positional)+len(a.names) >= maxArguments {
			p.failWith(line, limitf("more than %d arguments", maxArguments))
		}
		if !first {
			p.expectOp(",")
			if p.isOp(")") {
				break
			}
		}
		switch {
		case p.skipOp("*"):
			ensure(a.star == nil && a.starStar == nil)
			a.star = p.expression(true)
		case p.skipOp("**"):
			ensure(a.starStar == nil)
			a.starStar = p.expression(true)
		case p.cur.kind == tokenName && p.look().kind == tokenOperator && p.peek.text == "=":
			ensure(a.starStar == nil)
			name := p.advance().text
			p.advance()
			for _, other := range a.names {
				if other == name {
					p.fail(line, "argument %s is given twice", quote(name))
				}
			}
			a.names = append(a.names, name)
			a.named = append(a.named, p.expression(true))
		default:
			ensure(a.star == nil && a.starStar == nil && a.names == nil)
			a.positional = append(a.positional, p.expression(true))
		}
	}
	p.expectOp(")")
	return a
}

// filters reads `|name(...)` chains on e. In a filter block (bare) the first name
// has no bar, and e is nil for the block's text. It returns nil if e is nil and
// there is no filter.
func (p *parser) filters(e expr, bare bool) *filterExpr {
	var last *filterExpr
	for (bare || p.isOp("|")) && p.err == nil {
		if !bare {
			p.advance()
		}
		bare = false
		f := &filterExpr{value: e, line: p.cur.line, name: p.dotted()}
		if p.isOp("(") {
			f.args = p.callArguments()
		}
		e, last = f, f
	}
	return last
}

func (p *parser) dotted() string {
	name := p.expectName().text
	for p.skipOp(".") {
		name += "." + p.expectName().text
	}
	return name
}

func (p *parser) test(e expr) expr {
	line := p.advance().line
	negated := p.skipName("not")
	t := &testExpr{value: e, line: line, name: p.dotted()}
	switch {
	case p.isOp("("):
		t.args = p.callArguments()
	case p.isName("else"), p.isName("or"), p.isName("and"):
	case p.isName("is"):
		p.fail(p.cur.line, "tests cannot be chained with 'is'")
	case p.cur.kind == tokenName, p.cur.kind == tokenString, p.cur.kind == tokenNumber, p.isOp("["), p.isOp("{"):
		if !p.enter() {
			return t
		}
		t.args.positional = []expr{p.postfix(p.primary())}
		p.leave()
	}
	if negated {
		return &notExpr{operand: t}
	}
	return t
}
