package jinja

import (
	"errors"
	"fmt"
)

func (r *run) execAll(body []stmt) (signal, error) {
	for _, st := range body {
		if err := r.step(1); err != nil {
			return proceed, err
		}
		if sig, err := st.exec(r); err != nil || sig != proceed {
			return sig, err
		}
	}
	return proceed, nil
}

func (st *outputStmt) exec(r *run) (signal, error) {
	if err := r.step(len(st.parts)); err != nil {
		return proceed, err
	}
	for i, part := range st.parts {
		if d, ok := part.(*dataExpr); ok {
			if err := r.print(d.text); err != nil {
				return proceed, err
			}
			continue
		}
		r.line = st.lines[i]
		v, err := part.eval(r)
		if err != nil {
			return proceed, err
		}
		if s, ok := Text(v); ok {
			err = r.print(s)
		} else {
			s, err = r.str(v)
			if err == nil {
				err = r.print(s)
			}
		}
		if err != nil {
			return proceed, err
		}
	}
	return proceed, nil
}

func (st *ifStmt) exec(r *run) (signal, error) {
	for i, test := range st.tests {
		r.line = st.lines[i]
		v, err := test.eval(r)
		if err != nil {
			return proceed, err
		}
		if r.truth(v) {
			return r.execAll(st.bodies[i])
		}
	}
	return r.execAll(st.els)
}

func (st *setStmt) exec(r *run) (signal, error) {
	r.line = st.target.line
	if err := r.checkNamespaces(st.target); err != nil {
		return proceed, err
	}
	v, err := st.value.eval(r)
	if err != nil {
		return proceed, err
	}
	return proceed, r.assign(st.target, v)
}

// checkNamespaces refuses to set an attribute of anything else, before the value
// is computed, as jinja2 does.
func (r *run) checkNamespaces(t *target) error {
	for _, item := range t.items {
		if err := r.checkNamespaces(item); err != nil {
			return err
		}
	}
	if t.attr == "" {
		return nil
	}
	if _, ok := (*r.slot(t.ref)).(*namespace); !ok {
		return fmt.Errorf("cannot assign attribute %s on non-namespace object", quote(t.attr))
	}
	return nil
}

func (r *run) assign(t *target, v Value) error {
	switch {
	case t.tuple:
		if err := r.step(len(t.items)); err != nil {
			return err
		}
		items, err := r.unpack(v, len(t.items))
		if err != nil {
			return err
		}
		for i, item := range t.items {
			if err := r.assign(item, items[i]); err != nil {
				return err
			}
		}
	case t.attr != "":
		ns, ok := (*r.slot(t.ref)).(*namespace)
		if !ok {
			return fmt.Errorf("cannot assign attribute %s on non-namespace object", quote(t.attr))
		}
		return ns.set(t.attr, v)
	default:
		*r.slot(t.ref) = v
		if t.export {
			r.exported.Set(t.name, v)
		}
	}
	return nil
}

// unpack returns exactly n elements of an iterable.
func (r *run) unpack(v Value, n int) ([]Value, error) {
	if items, ok := Elements(v); ok && len(items) == n {
		return items, nil
	}
	it, err := r.iterate(v)
	if err != nil {
		return nil, fmt.Errorf("cannot unpack: %w", err)
	}
	var items []Value
	for {
		e, ok, err := it()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if len(items) == n {
			return nil, fmt.Errorf("too many values to unpack (expected %d)", n)
		}
		items = append(items, e)
	}
	if len(items) < n {
		return nil, fmt.Errorf("not enough values to unpack (expected %d, got %d)", n, len(items))
	}
	return items, nil
}

func (st *setBlockStmt) exec(r *run) (signal, error) {
	r.line = st.line
	s, sig, err := r.capture(func() (signal, error) {
		r.load(st.enter)
		return r.execAll(st.body)
	})
	if err != nil || sig != proceed {
		return sig, err
	}
	var v Value = strValue(s)
	if st.filter != nil {
		r.line = st.line
		if v, err = st.filter.applyChain(r, v); err != nil {
			return proceed, err
		}
	}
	if err := r.checkNamespaces(st.target); err != nil {
		return proceed, err
	}
	return proceed, r.assign(st.target, v)
}

func (st *filterStmt) exec(r *run) (signal, error) {
	s, sig, err := r.capture(func() (signal, error) {
		r.load(st.enter)
		return r.execAll(st.body)
	})
	if err != nil || sig != proceed {
		return sig, err
	}
	r.line = st.line
	v, err := st.filter.applyChain(r, strValue(s))
	if err != nil {
		return proceed, err
	}
	return proceed, r.printText(v)
}

// printText prints what a filter, call or generation block came to. Unlike a
// printed expression it has to be text.
func (r *run) printText(v Value) error {
	s, ok := Text(v)
	if !ok {
		return fmt.Errorf("block comes to %s and not to text", typeName(v))
	}
	return r.print(s)
}

func (st *withStmt) exec(r *run) (signal, error) {
	r.line = st.line
	r.load(st.enter)
	for i, t := range st.targets {
		if err := r.step(1); err != nil {
			return proceed, err
		}
		v, err := st.values[i].eval(r)
		if err != nil {
			return proceed, err
		}
		if err := r.assign(t, v); err != nil {
			return proceed, err
		}
	}
	return r.execAll(st.body)
}

func (st *macroStmt) exec(r *run) (signal, error) {
	m := &macro{def: st, act: r.act}
	*r.slot(st.ref) = m
	if st.export {
		r.exported.Set(st.name, m)
	}
	return proceed, nil
}

func (st *callStmt) exec(r *run) (signal, error) {
	r.line = st.line
	callee, args, kwargs, err := st.call.arguments(r)
	if err != nil {
		return proceed, err
	}
	for _, k := range kwargs {
		if k.name == "caller" {
			return proceed, errors.New("argument 'caller' is given twice")
		}
	}
	kwargs = append(kwargs, named{name: "caller", value: &macro{def: st.block, act: r.act}})
	v, err := r.call(callee, args, kwargs)
	if err != nil {
		return proceed, err
	}
	return proceed, r.printText(v)
}

func (st *generationStmt) exec(r *run) (signal, error) {
	v, err := r.callMacro(&macro{def: st.block, act: r.act}, nil, nil)
	if err != nil {
		return proceed, err
	}
	return proceed, r.printText(v)
}

func (st *blockStmt) exec(r *run) (signal, error) {
	if r.calls >= maxCalls {
		return proceed, limitf("blocks nested more than %d deep", maxCalls)
	}
	outer, exported := r.act, r.exported
	if err := r.step(8); err != nil {
		return proceed, err
	}
	if st.scoped {
		if err := r.step(len(exported.keys) + len(st.visible)); err != nil {
			return proceed, err
		}
		r.exported = exported.clone()
		for _, n := range st.visible {
			if v := *r.slot(n.ref); v != missing {
				r.exported.Set(n.name, v)
			}
		}
	}
	defer func() { r.act, r.exported = outer, exported }()
	if err := r.activate(st.function, nil); err != nil {
		return proceed, err
	}
	r.calls++
	defer func() { r.calls-- }()
	r.load(st.enter)
	return r.execAll(st.body)
}

func (st *loopControlStmt) exec(*run) (signal, error) { return st.signal, nil }

func (st *forStmt) exec(r *run) (signal, error) {
	r.line = st.line
	v, err := st.iter.eval(r)
	if err != nil {
		return proceed, err
	}
	if !st.recursive {
		return st.loop(r, v, nil)
	}
	s, err := st.recurse(r, v, r.act, 0)
	if err != nil {
		return proceed, err
	}
	return proceed, r.print(s)
}

// recurse runs a recursive loop over v as a function of its own.
func (st *forStmt) recurse(r *run, v Value, within *activation, depth int) (string, error) {
	if r.calls >= maxCalls {
		return "", limitf("loops recurse more than %d deep", maxCalls)
	}
	outer := r.act
	if err := r.activate(st.function, within); err != nil {
		return "", err
	}
	r.calls++
	s, _, err := r.capture(func() (signal, error) {
		return st.loop(r, v, &loopContext{depth: depth, statement: st, within: within})
	})
	r.calls--
	r.act = outer
	return s, err
}

// loop runs the loop over v. lc is the loop variable of a recursive loop; others
// get theirs here if they mention it.
func (st *forStmt) loop(r *run, v Value, lc *loopContext) (signal, error) {
	it, err := r.iterate(v)
	if err != nil {
		return proceed, err
	}
	length := -1
	if st.test != nil {
		it = st.filtered(r, it)
	} else if n, ok := lengthOf(v); ok {
		length = n
	}
	if lc == nil && st.usesLoop {
		lc = &loopContext{}
	}
	next := it
	if lc != nil {
		lc.source, lc.length, lc.index = it, length, -1
		lc.after, lc.current, lc.before, lc.changed = missing, missing, missing, missing
		next = lc.next
	}
	untouched := true
	for {
		item, ok, err := next()
		if err != nil {
			return proceed, err
		}
		if !ok {
			break
		}
		if err := r.step(1); err != nil {
			return proceed, err
		}
		r.load(st.enter)
		if lc != nil {
			r.act.slots[st.loopRef.slot] = lc
		}
		if err := r.assign(st.target, item); err != nil {
			return proceed, err
		}
		sig, err := r.execAll(st.body)
		if err != nil {
			return proceed, err
		}
		if sig == breakLoop {
			break
		}
		if sig == proceed {
			// As in jinja2, only a body that ran to its end keeps else from running.
			untouched = false
		}
	}
	if st.hasElse && untouched {
		r.load(st.enterElse)
		return r.execAll(st.els)
	}
	return proceed, nil
}

// filtered is the sequence of the elements for which the loop's test holds. It
// is lazy: the body may change what the next test sees.
func (st *forStmt) filtered(r *run, it iterator) iterator {
	entered := false
	act := r.act
	return func() (Value, bool, error) {
		// The loop variable may be asked to look ahead from within a macro.
		outer := r.act
		r.act = act
		defer func() { r.act = outer }()
		if !entered {
			entered = true
			r.load(st.enterTest)
		}
		for {
			item, ok, err := it()
			if err != nil || !ok {
				return nil, false, err
			}
			if err := r.step(1); err != nil {
				return nil, false, err
			}
			if err := r.assign(st.testTarget, item); err != nil {
				return nil, false, err
			}
			v, err := st.test.eval(r)
			if err != nil {
				return nil, false, err
			}
			if r.truth(v) {
				return item, true, nil
			}
		}
	}
}

// loopContext is the variable loop.
type loopContext struct {
	source iterator
	// index counts from 0; -1 before the first element.
	index, length, depth   int
	after, current, before Value
	changed                Value // the arguments of the last loop.changed
	statement              *forStmt
	within                 *activation // of a recursive loop
}

func (*loopContext) typeName() string { return "LoopContext" }

func (l *loopContext) next() (Value, bool, error) {
	v := l.after
	l.after = missing
	if v == missing {
		var ok bool
		var err error
		if v, ok, err = l.source(); err != nil || !ok {
			return nil, false, err
		}
	}
	l.index++
	l.before, l.current = l.current, v
	return v, true, nil
}

// peek returns the next element, or missing at the end.
func (l *loopContext) peek() (Value, error) {
	if l.after != missing {
		return l.after, nil
	}
	v, ok, err := l.source()
	if err != nil || !ok {
		return missing, err
	}
	l.after = v
	return v, nil
}

// total is the number of elements; a sequence without a length is read to its end.
func (l *loopContext) total(r *run) (int, error) {
	if l.length >= 0 {
		return l.length, nil
	}
	rest, err := r.drain(l.source)
	if err != nil {
		return 0, err
	}
	l.source = iterateSlice(rest)
	l.length = len(rest) + l.index + 1
	if l.after != missing {
		l.length++
	}
	return l.length, nil
}

func (l *loopContext) attribute(r *run, name string) (Value, error) {
	switch name {
	case "index":
		return intValue(l.index + 1), nil
	case "index0":
		return intValue(l.index), nil
	case "first":
		return boolValue(l.index == 0), nil
	case "last":
		v, err := l.peek()
		return boolValue(v == missing), err
	case "length", "revindex", "revindex0":
		n, err := l.total(r)
		switch name {
		case "revindex":
			n -= l.index
		case "revindex0":
			n -= l.index + 1
		}
		return intValue(n), err
	case "depth":
		return intValue(l.depth + 1), nil
	case "depth0":
		return intValue(l.depth), nil
	case "previtem":
		if l.index == 0 {
			return &undefined{message: "there is no previous item"}, nil
		}
		return l.before, nil
	case "nextitem":
		v, err := l.peek()
		if err == nil && v == missing {
			return &undefined{message: "there is no next item"}, nil
		}
		return v, err
	case "cycle":
		return &builtin{name: "cycle", call: func(_ *run, args []Value, kwargs []named) (Value, error) {
			if len(args) == 0 || len(kwargs) > 0 {
				return nil, errors.New("loop.cycle needs items to cycle through")
			}
			return args[l.index%len(args)], nil
		}}, nil
	case "changed":
		return &builtin{name: "changed", call: func(r *run, args []Value, kwargs []named) (Value, error) {
			if len(kwargs) > 0 {
				return nil, errors.New("loop.changed takes no keyword arguments")
			}
			now := &tupleValue{items: args}
			if l.changed != missing {
				same, err := r.equal(l.changed, now)
				if err != nil || same {
					return boolValue(false), err
				}
			}
			l.changed = now
			return boolValue(true), nil
		}}, nil
	}
	return missing, nil
}
