package jinja

import "fmt"

// resolver walks the tree. Its first error sticks and ends the walk.
type resolver struct {
	err    error
	depth  int
	work   int                   // names looked at, see maxResolve
	loops  map[loopSlot]*forStmt // by the slot of their loop variable
	macros map[loopSlot]*special // the special parameters of macros, by slot
}

type loopSlot struct {
	function *function
	slot     int
}

// frame is what jinja2's compiler knows of the place that is being compiled.
type frame struct {
	symbols  *symbols
	toplevel bool // assignments are visible to blocks
	soft     bool // in an if: unknown filters fail only when they run
	loop     bool // break and continue have a loop
}

func (f frame) inner() frame {
	return frame{symbols: newSymbols(f.symbols.resolver, f.symbols, f.symbols.function), loop: f.loop}
}

func (f frame) newFunction() frame {
	return frame{symbols: newSymbols(f.symbols.resolver, f.symbols, &function{parent: f.symbols.function})}
}

func (f frame) softened() frame {
	f.soft = true
	return f
}

func resolve(t *Template) error {
	v := &resolver{loops: map[loopSlot]*forStmt{}, macros: map[loopSlot]*special{}}
	t.function = &function{}
	f := frame{symbols: newSymbols(v, nil, t.function), toplevel: true}
	v.scanAll(f.symbols, t.body)
	v.stmts(f, t.body)
	t.enter = f.symbols.program()
	return v.err
}

func (v *resolver) fail(line int, format string, args ...any) {
	if v.err == nil {
		v.err = fmt.Errorf("line %d: %w", line, fmt.Errorf(format, args...))
	}
}

// spend counts names that were looked at. Past the cap the error ends the walk:
// what is left of it finds v.err set at its next statement or expression.
func (v *resolver) spend(n int) {
	v.work += n
	if v.work > maxResolve && v.err == nil {
		v.err = limitf("scopes and names that take more than %d lookups to resolve", maxResolve)
	}
}

// deeper counts a level of the tree and reports whether to go on.
func (v *resolver) deeper() bool {
	v.depth++
	if v.depth > maxTree && v.err == nil {
		v.err = limitf("an expression of more than %d operations in a row", maxTree)
	}
	return v.err == nil
}

// scan collects the names of an expression into s.
func (v *resolver) scan(s *symbols, e expr) {
	if e == nil {
		return
	}
	if n, ok := e.(*nameExpr); ok {
		s.load(n.name)
		return
	}
	if v.deeper() {
		e.each(func(child expr) { v.scan(s, child) })
	}
	v.depth--
}

func (v *resolver) scanTarget(s *symbols, t *target, parameter bool) {
	switch {
	case t.tuple:
		for _, item := range t.items {
			v.scanTarget(s, item, parameter)
		}
	case t.attr != "":
		s.load(t.name)
	case parameter:
		s.parameter(t.name)
	default:
		s.store(t.name)
	}
}

func (v *resolver) scanAll(s *symbols, body []stmt) {
	for _, st := range body {
		if v.err != nil {
			return
		}
		v.scanStmt(s, st)
	}
}

// scanStmt collects the names that a statement gives to the scope it stands in.
// It does not go into statements that are scopes themselves.
func (v *resolver) scanStmt(s *symbols, st stmt) {
	switch st := st.(type) {
	case *outputStmt:
		for _, e := range st.parts {
			v.scan(s, e)
		}
	case *ifStmt:
		v.scanIf(s, st)
	case *forStmt:
		v.scan(s, st.iter)
	case *macroStmt:
		s.store(st.name)
	case *callStmt:
		v.scan(s, st.call)
	case *filterStmt:
		v.scan(s, st.filter)
	case *withStmt:
		for _, e := range st.values {
			v.scan(s, e)
		}
	case *setStmt:
		v.scan(s, st.value)
		v.scanTarget(s, st.target, false)
	case *setBlockStmt:
		v.scanTarget(s, st.target, false)
	}
}

// scanIf handles the branches of an if. Like jinja2, it takes all elif parts as
// one branch in which each is an if of its own, so a value stored under one elif
// is known to the scan of the next.
func (v *resolver) scanIf(s *symbols, st *ifStmt) {
	branch := func(visit func(b *symbols)) *symbols {
		b := s.copy()
		visit(b)
		return b
	}
	v.scan(s, st.tests[0])
	branches := []*symbols{branch(func(b *symbols) { v.scanAll(b, st.bodies[0]) })}
	branches = append(branches, branch(func(b *symbols) {
		for i := 1; i < len(st.tests) && v.err == nil; i++ {
			v.scan(b, st.tests[i])
			only := b.copy()
			v.scanAll(only, st.bodies[i])
			b.merge([]*symbols{only})
		}
	}))
	branches = append(branches, branch(func(b *symbols) { v.scanAll(b, st.els) }))
	s.merge(branches)
}

func (v *resolver) refOf(f frame, name string) ref {
	owner := f.symbols.find(name)
	if owner == nil {
		// A filter argument of a set block is scanned nowhere else.
		f.symbols.load(name)
		owner = f.symbols
	}
	at := loopSlot{owner.function, owner.slots[name]}
	if loop := v.loops[at]; loop != nil && name == "loop" {
		loop.usesLoop = true
	}
	if sp := v.macros[at]; sp != nil {
		sp.used = true
	}
	return f.symbols.refTo(owner, name)
}

func (v *resolver) expr(f frame, e expr) {
	if e == nil {
		return
	}
	if !v.deeper() {
		v.depth--
		return
	}
	switch e := e.(type) {
	case *nameExpr:
		e.ref = v.refOf(f, e.name)
	case *condExpr:
		f = f.softened()
	case *filterExpr:
		if why, ok := refusedFilter(e.name); ok {
			v.fail(e.line, "filter %s is not supported: %s", quote(e.name), why)
		}
		e.filter = filterNamed(e.name)
		if e.filter == nil && !f.soft {
			v.fail(e.line, "no filter named %s", quote(e.name))
		}
	case *testExpr:
		e.test = testNamed(e.name)
		if e.test == nil && !f.soft {
			v.fail(e.line, "no test named %s", quote(e.name))
		}
	}
	e.each(func(child expr) { v.expr(f, child) })
	v.depth--
}

func (v *resolver) target(f frame, t *target) {
	if t.tuple {
		for _, item := range t.items {
			v.target(f, item)
		}
		return
	}
	t.ref = v.refOf(f, t.name)
	t.export = f.toplevel && t.attr == ""
}

func (v *resolver) stmts(f frame, body []stmt) {
	for _, st := range body {
		if v.err != nil {
			return
		}
		v.stmt(f, st)
	}
}

func (v *resolver) stmt(f frame, st stmt) {
	switch st := st.(type) {
	case *outputStmt:
		for _, e := range st.parts {
			v.expr(f, e)
		}
	case *ifStmt:
		f = f.softened()
		for i, test := range st.tests {
			v.expr(f, test)
			v.stmts(f, st.bodies[i])
		}
		v.stmts(f, st.els)
	case *forStmt:
		v.forLoop(f, st)
	case *macroStmt:
		v.macro(f, st)
		st.ref = v.refOf(f, st.name)
		st.export = f.toplevel
	case *callStmt:
		v.macro(f, st.block)
		v.expr(f, st.call)
	case *generationStmt:
		v.macro(f, st.block)
	case *filterStmt:
		in := f.inner()
		v.scan(in.symbols, st.filter)
		v.scanAll(in.symbols, st.body)
		v.stmts(in, st.body)
		v.expr(in, st.filter)
		st.enter = in.symbols.program()
	case *withStmt:
		in := f.inner()
		for _, t := range st.targets {
			v.scanTarget(in.symbols, t, true)
		}
		v.scanAll(in.symbols, st.body)
		for i, t := range st.targets {
			v.target(in, t)
			v.expr(f, st.values[i])
		}
		v.stmts(in, st.body)
		st.enter = in.symbols.program()
	case *setStmt:
		v.expr(f, st.value)
		v.target(f, st.target)
	case *setBlockStmt:
		in := f.inner()
		if st.filter != nil {
			v.scan(in.symbols, st.filter)
		}
		v.scanAll(in.symbols, st.body)
		v.stmts(in, st.body)
		if st.filter != nil {
			v.expr(in, st.filter)
		}
		v.target(f, st.target)
		st.enter = in.symbols.program()
	case *blockStmt:
		v.block(f, st)
	case *loopControlStmt:
		if !f.loop {
			what := "break"
			if st.signal == continueLoop {
				what = "continue"
			}
			v.fail(st.line, "%s outside of a loop", what)
		}
	}
}

func (v *resolver) forLoop(f frame, st *forStmt) {
	if names(st.target, "loop") || v.storesLoop(st.body) || v.storesLoop(st.els) {
		v.fail(st.line, "cannot assign to the loop variable 'loop' in a for loop")
		return
	}
	v.expr(f, st.iter)
	outer := f
	if st.recursive {
		outer = f.newFunction()
		st.function = outer.symbols.function
		// The scope between holds no names; it only carries the function.
	}
	body := outer.inner()
	body.loop = true
	slot := body.symbols.parameter("loop")
	st.loopRef = ref{slot: slot}
	v.loops[loopSlot{body.symbols.function, slot}] = st
	if st.test != nil {
		test := outer.inner()
		st.testTarget = st.target.copy()
		v.scanTarget(test.symbols, st.testTarget, true)
		v.scan(test.symbols, st.test)
		v.target(test, st.testTarget)
		v.expr(test, st.test)
		st.enterTest = test.symbols.program()
	}
	v.scanTarget(body.symbols, st.target, true)
	v.scanAll(body.symbols, st.body)
	v.target(body, st.target)
	v.stmts(body, st.body)
	st.enter = body.symbols.program()
	if st.hasElse {
		els := outer.inner()
		v.scanAll(els.symbols, st.els)
		v.stmts(els, st.els)
		st.enterElse = els.symbols.program()
	}
	if st.recursive {
		st.usesLoop = true
	}
}

func (t *target) copy() *target {
	c := *t
	c.items = nil
	for _, item := range t.items {
		c.items = append(c.items, item.copy())
	}
	return &c
}

// names reports whether a target assigns to the variable name.
func names(t *target, name string) bool {
	for _, item := range t.items {
		if names(item, name) {
			return true
		}
	}
	return !t.tuple && t.attr == "" && t.name == name
}

// storesLoop reports whether statements, inner ones included, assign to the
// variable loop, which jinja2 refuses inside a for.
func (v *resolver) storesLoop(body []stmt) bool {
	v.spend(len(body))
	for _, st := range body {
		found := v.err != nil
		switch st := st.(type) {
		case *setStmt:
			found = names(st.target, "loop")
		case *setBlockStmt:
			found = names(st.target, "loop") || v.storesLoop(st.body)
		case *ifStmt:
			found = v.storesLoop(st.els)
			for _, b := range st.bodies {
				found = found || v.storesLoop(b)
			}
		case *macroStmt:
			found = v.storesLoop(st.body)
		case *callStmt:
			found = v.storesLoop(st.block.body)
		case *generationStmt:
			found = v.storesLoop(st.block.body)
		case *filterStmt:
			found = v.storesLoop(st.body)
		case *withStmt:
			found = v.storesLoop(st.body)
		case *blockStmt:
			found = v.storesLoop(st.body)
		}
		if found {
			return true
		}
	}
	return false
}

func (v *resolver) macro(f frame, m *macroStmt) {
	in := f.newFunction()
	s := in.symbols
	m.function = s.function
	for _, name := range m.params {
		m.slots = append(m.slots, s.parameter(name))
	}
	for name, sp := range map[string]*special{"caller": &m.caller, "varargs": &m.varargs, "kwargs": &m.kwargs} {
		sp.slot = s.parameter(name)
		v.macros[loopSlot{s.function, sp.slot}] = sp
	}
	for _, e := range m.defaults {
		v.scan(s, e)
	}
	v.scanAll(s, m.body)
	for _, e := range m.defaults {
		v.expr(in, e)
	}
	v.stmts(in, m.body)
	m.enter = s.program()
	// A parameter that is declared is no special one any more, but caller, which
	// must not be required if the body calls it.
	for i, name := range m.params {
		switch name {
		case "caller":
			m.explicitCaller = m.caller.used
			if m.caller.used && i < len(m.params)-len(m.defaults) {
				v.fail(m.line, "parameter 'caller' of a macro needs a default")
			}
			m.caller.used = false
		case "varargs":
			m.varargs.used = false
		case "kwargs":
			m.kwargs.used = false
		}
	}
}

func (v *resolver) block(f frame, b *blockStmt) {
	in := frame{symbols: newSymbols(v, nil, &function{})}
	b.function = in.symbols.function
	v.scanAll(in.symbols, b.body)
	v.stmts(in, b.body)
	b.enter = in.symbols.program()
	if b.scoped {
		seen := map[string]bool{}
		for s := f.symbols; s != nil; s = s.parent {
			for _, name := range s.order {
				if s.stores[name] && !seen[name] {
					seen[name] = true
					b.visible = append(b.visible, visible{name: name, ref: f.symbols.refTo(f.symbols.find(name), name)})
				}
			}
		}
	}
}
