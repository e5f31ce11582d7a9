package jinja

import (
	"errors"
	"fmt"
	"strconv"
	"unicode/utf8"
)

// parser makes the tree. Its first error sticks and turns the current token into
// the end of the template, which ends every loop.
type parser struct {
	lex       *lexer
	cur, peek token
	peeked    bool
	err       error
	depth     int
	blocks    map[string]bool
}

// Template is a parsed template. It is immutable: any number of goroutines may
// render it.
type Template struct {
	body     []stmt
	function *function
	enter    []load
	source   string
}

// Source returns the text that the template was parsed from.
func (t *Template) Source() string { return t.source }

// Parse reads a template. Its error names the line; it wraps ErrLimit if the
// template is too long or nests too deep.
func Parse(source string) (*Template, error) {
	if len(source) > maxSource {
		return nil, fmt.Errorf("parse template: %w", limitf("%d bytes, more than %d", len(source), maxSource))
	}
	if !utf8.ValidString(source) {
		return nil, errors.New("parse template: text is not UTF-8")
	}
	p := &parser{lex: newLexer(source), blocks: map[string]bool{}}
	p.advance()
	body := p.statements("", nil)
	if p.err != nil {
		return nil, fmt.Errorf("parse template: %w", p.err)
	}
	t := &Template{body: body, source: source}
	if err := resolve(t); err != nil {
		return nil, fmt.Errorf("parse template: %w", err)
	}
	return t, nil
}

func (p *parser) fail(line int, format string, args ...any) {
	p.failWith(line, fmt.Errorf(format, args...))
}

func (p *parser) failWith(line int, err error) {
	if p.err == nil {
		p.err = fmt.Errorf("line %d: %w", line, err)
	}
	p.cur = token{kind: tokenEOF, line: line}
	p.peeked = false
}

func (p *parser) advance() token {
	was := p.cur
	if p.err != nil {
		return was
	}
	if p.peeked {
		p.cur, p.peeked = p.peek, false
		return was
	}
	tok, err := p.lex.next()
	if err != nil {
		p.err = err
		tok = token{kind: tokenEOF, line: p.cur.line}
	}
	p.cur = tok
	return was
}

func (p *parser) look() token {
	if !p.peeked && p.err == nil {
		tok, err := p.lex.next()
		if err != nil {
			p.err = err
			p.cur = token{kind: tokenEOF, line: p.cur.line}
			return p.cur
		}
		p.peek, p.peeked = tok, true
	}
	return p.peek
}

func (p *parser) isOp(op string) bool { return p.cur.kind == tokenOperator && p.cur.text == op }

func (p *parser) isName(name string) bool { return p.cur.kind == tokenName && p.cur.text == name }

func (p *parser) skipOp(op string) bool {
	if p.isOp(op) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) skipName(name string) bool {
	if p.isName(name) {
		p.advance()
		return true
	}
	return false
}

func (p *parser) expectOp(op string) {
	if !p.skipOp(op) {
		p.fail(p.cur.line, "expected '%s', got %s", op, p.cur.describe())
	}
}

func (p *parser) expectName() token {
	if p.cur.kind != tokenName {
		p.fail(p.cur.line, "expected a name, got %s", p.cur.describe())
		return token{}
	}
	return p.advance()
}

func (p *parser) expect(kind tokenKind) {
	if p.cur.kind != kind {
		p.fail(p.cur.line, "expected %s, got %s", token{kind: kind}.describe(), p.cur.describe())
		return
	}
	p.advance()
}

// enter counts a level of nesting; leave takes it back.
func (p *parser) enter() bool {
	p.depth++
	if p.depth > maxNesting {
		p.failWith(p.cur.line, limitf("nested more than %d deep", maxNesting))
		return false
	}
	return true
}

func (p *parser) leave() { p.depth-- }

// statements reads until a tag named in ends, which it leaves current behind its
// '{%'. Without ends it reads to the end of the template. tag is the block that
// is being read.
func (p *parser) statements(tag string, ends []string) []stmt {
	var body []stmt
	var out *outputStmt
	flush := func() {
		if out != nil {
			body = append(body, out)
			out = nil
		}
	}
	add := func(line int, e expr) {
		if out == nil {
			out = &outputStmt{}
		}
		out.lines = append(out.lines, line)
		out.parts = append(out.parts, e)
	}
	opened := p.cur.line
	for {
		switch line := p.cur.line; p.cur.kind {
		case tokenData:
			add(line, &dataExpr{text: p.advance().text})
		case tokenVariableBegin:
			p.advance()
			add(line, p.tuple(true, false))
			p.expect(tokenVariableEnd)
		case tokenBlockBegin:
			flush()
			p.advance()
			for _, end := range ends {
				if p.isName(end) {
					return body
				}
			}
			if s := p.statement(tag); s != nil {
				body = append(body, s)
			}
			p.expect(tokenBlockEnd)
		default:
			flush()
			if p.err == nil && ends != nil {
				p.fail(p.cur.line, "close the %s block of line %d", quote(tag), opened)
			}
			return body
		}
	}
}

// block reads the rest of an opening tag and a body up to one of ends.
func (p *parser) block(tag string, ends ...string) []stmt {
	p.skipOp(":")
	p.expect(tokenBlockEnd)
	if !p.enter() {
		return nil
	}
	defer p.leave()
	return p.statements(tag, ends)
}

// closed reads a block that ends with 'end' + tag and that end's name.
func (p *parser) closed(tag string) []stmt {
	body := p.block(tag, "end"+tag)
	p.advance()
	return body
}

func (p *parser) statement(inside string) stmt {
	if p.cur.kind != tokenName {
		p.fail(p.cur.line, "expected the name of a tag, got %s", p.cur.describe())
		return nil
	}
	tok := p.advance()
	switch tok.text {
	case "for":
		return p.parseFor(tok.line)
	case "if":
		return p.parseIf(tok.line)
	case "set":
		return p.parseSet(tok.line)
	case "macro":
		m := &macroStmt{line: tok.line, name: p.expectName().text}
		p.signature(m)
		m.body = p.closed("macro")
		return m
	case "call":
		return p.parseCall(tok.line)
	case "filter":
		f := &filterStmt{line: tok.line}
		f.filter = p.filters(nil, true)
		f.body = p.closed("filter")
		return f
	case "with":
		return p.parseWith(tok.line)
	case "generation":
		return &generationStmt{line: tok.line, block: &macroStmt{line: tok.line, body: p.closed("generation")}}
	case "block":
		return p.parseBlock(tok.line)
	case "print":
		o := &outputStmt{}
		for p.cur.kind != tokenBlockEnd && p.err == nil {
			if len(o.parts) > 0 {
				p.expectOp(",")
			}
			o.lines = append(o.lines, p.cur.line)
			o.parts = append(o.parts, p.expression(true))
		}
		return o
	case "break":
		return &loopControlStmt{line: tok.line, signal: breakLoop}
	case "continue":
		return &loopControlStmt{line: tok.line, signal: continueLoop}
	case "include", "import", "from", "extends":
		p.fail(tok.line, "tag %s is refused: a chat template cannot load other templates", quote(tok.text))
	case "autoescape", "do", "trans", "debug":
		p.fail(tok.line, "tag %s is not supported", quote(tok.text))
	default:
		if inside != "" {
			p.fail(tok.line, "unknown tag %s inside a %s block", quote(clip(tok.text)), quote(inside))
		} else {
			p.fail(tok.line, "unknown tag %s", quote(clip(tok.text)))
		}
	}
	return nil
}

func (p *parser) parseFor(line int) stmt {
	f := &forStmt{line: line}
	f.target = p.targetTuple(false)
	if !p.skipName("in") {
		p.fail(p.cur.line, "expected 'in', got %s", p.cur.describe())
	}
	f.iter = p.tuple(false, false)
	if p.skipName("if") {
		f.test = p.expression(true)
	}
	f.recursive = p.skipName("recursive")
	f.body = p.block("for", "endfor", "else")
	if p.advance().text == "else" {
		f.hasElse = true
		f.els = p.closed("for")
	}
	return f
}

func (p *parser) parseIf(line int) stmt {
	s := &ifStmt{}
	for {
		s.lines = append(s.lines, line)
		s.tests = append(s.tests, p.tuple(false, false))
		s.bodies = append(s.bodies, p.block("if", "elif", "else", "endif"))
		tok := p.advance()
		line = tok.line
		switch tok.text {
		case "elif":
		case "else":
			s.els = p.closed("if")
			return s
		default:
			return s
		}
	}
}

func (p *parser) parseSet(line int) stmt {
	t := p.targetTuple(true)
	if p.skipOp("=") {
		return &setStmt{line: line, target: t, value: p.tuple(true, false)}
	}
	s := &setBlockStmt{line: line, target: t}
	s.filter = p.filters(nil, false)
	s.body = p.closed("set")
	return s
}

func (p *parser) parseCall(line int) stmt {
	s := &callStmt{line: line, block: &macroStmt{line: line}}
	if p.isOp("(") {
		p.signature(s.block)
	}
	call, ok := p.expression(true).(*callExpr)
	if !ok {
		p.fail(line, "expected a call in the call block")
		return s
	}
	s.call = call
	s.block.body = p.closed("call")
	return s
}

func (p *parser) parseWith(line int) stmt {
	w := &withStmt{line: line}
	for p.cur.kind != tokenBlockEnd && p.err == nil {
		if len(w.targets) > 0 {
			p.expectOp(",")
		}
		w.targets = append(w.targets, p.targetTuple(false))
		p.expectOp("=")
		w.values = append(w.values, p.expression(true))
	}
	w.body = p.closed("with")
	return w
}

func (p *parser) parseBlock(line int) stmt {
	b := &blockStmt{line: line, name: p.expectName().text}
	if p.blocks[b.name] {
		p.fail(line, "block %s is defined twice", quote(clip(b.name)))
	}
	p.blocks[b.name] = true
	b.scoped = p.skipName("scoped")
	if p.isName("required") {
		p.fail(line, "block %s is required, and a chat template has no parent to give it", quote(clip(b.name)))
	}
	b.body = p.closed("block")
	p.skipName(b.name)
	return b
}

// signature reads the parameters of a macro or a call block.
func (p *parser) signature(m *macroStmt) {
	p.expectOp("(")
	for !p.isOp(")") && p.err == nil {
		if len(m.params) > 0 {
			p.expectOp(",")
		}
		name := p.expectName()
		if len(m.params) >= maxArguments {
			p.failWith(name.line, limitf("more than %d parameters", maxArguments))
		}
		for _, other := range m.params {
			if other == name.text {
				p.fail(name.line, "parameter %s is given twice", quote(clip(name.text)))
			}
		}
		if p.skipOp("=") {
			m.defaults = append(m.defaults, p.expression(true))
		} else if len(m.defaults) > 0 {
			p.fail(name.line, "parameter %s without a default follows one with a default", quote(clip(name.text)))
		}
		m.params = append(m.params, name.text)
	}
	p.expectOp(")")
}

// targetTuple reads what an assignment assigns to.
func (p *parser) targetTuple(namespaces bool) *target {
	t := &target{line: p.cur.line}
	for p.err == nil {
		if len(t.items) > 0 {
			p.expectOp(",")
		}
		if p.tupleEnd() {
			break
		}
		t.items = append(t.items, p.oneTarget(namespaces))
		if !p.isOp(",") {
			break
		}
		t.tuple = true
	}
	if t.tuple {
		return t
	}
	if len(t.items) == 0 {
		p.fail(t.line, "expected a name to assign to, got %s", p.cur.describe())
		return t
	}
	return t.items[0]
}

func (p *parser) oneTarget(namespaces bool) *target {
	line := p.cur.line
	switch {
	case p.isOp("("):
		if !p.enter() {
			return &target{}
		}
		defer p.leave()
		p.advance()
		t := p.targetTuple(namespaces)
		p.expectOp(")")
		return t
	case p.cur.kind == tokenName:
		name := p.advance().text
		switch name {
		case "true", "false", "none", "True", "False", "None":
			p.fail(line, "cannot assign to %s", name)
		}
		t := &target{name: name, line: line}
		if namespaces && p.skipOp(".") {
			t.attr = p.expectName().text
		}
		return t
	}
	p.fail(line, "cannot assign to %s", p.cur.describe())
	return &target{}
}

// clip shortens a piece of the template for an error.
func clip(s string) string {
	const most = 60
	if len(s) <= most {
		return s
	}
	return truncateRunes(s, most) + "..."
}

// quote is a string in an error: quoted as Python does, and short.
func quote(s string) string { return reprString(clip(s)) }

// shortRepr shows a value in an error.
func shortRepr(v Value) string {
	switch v := v.(type) {
	case nil:
		return "None"
	case strValue:
		return quote(string(v))
	case intValue:
		return strconv.FormatInt(int64(v), 10)
	case floatValue:
		return formatFloat(float64(v))
	case boolValue:
		if v {
			return "True"
		}
		return "False"
	}
	return "a " + typeName(v)
}
