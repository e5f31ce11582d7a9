package jinja

import (
	"errors"
	"fmt"
)

func (e *constExpr) eval(*run) (Value, error) { return e.value, nil }

func (e *dataExpr) eval(*run) (Value, error) { return strValue(e.text), nil }

func (e *nameExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	v := *r.slot(e.ref)
	if v == missing {
		return undefinedName(e.name), nil
	}
	return v, nil
}

func (r *run) evalAll(es []expr) ([]Value, error) {
	if err := r.elements(len(es)); err != nil {
		return nil, err
	}
	vs := make([]Value, len(es))
	for i, e := range es {
		v, err := e.eval(r)
		if err != nil {
			return nil, err
		}
		vs[i] = v
	}
	return vs, nil
}

func (e *listExpr) eval(r *run) (Value, error) {
	vs, err := r.evalAll(e.items)
	if err != nil {
		return nil, err
	}
	return &listValue{items: vs}, nil
}

func (e *tupleExpr) eval(r *run) (Value, error) {
	vs, err := r.evalAll(e.items)
	if err != nil {
		return nil, err
	}
	return &tupleValue{items: vs}, nil
}

func (e *dictExpr) eval(r *run) (Value, error) {
	m := NewMap()
	for i, ke := range e.keys {
		k, err := ke.eval(r)
		if err != nil {
			return nil, err
		}
		v, err := e.vals[i].eval(r)
		if err != nil {
			return nil, err
		}
		if err := r.put(m, k, v); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// key accounts for looking up a key, which takes time by its length.
func (r *run) key(v Value, depth int) error {
	if s, ok := Text(v); ok {
		return r.step(len(s) >> 8)
	}
	switch v := v.(type) {
	case bigValue:
		return r.step(v.BitLen() >> 3)
	case *tupleValue:
		if depth > maxDepth {
			return limitf("values nested more than %d deep", maxDepth)
		}
		for _, e := range v.items {
			if err := r.step(4); err != nil {
				return err
			}
			if err := r.key(e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// put adds an entry to a dict that is being made.
func (r *run) put(m *Map, k, v Value) error {
	if err := r.step(1); err != nil {
		return err
	}
	if err := r.alloc(64); err != nil {
		return err
	}
	if err := r.key(k, 0); err != nil {
		return err
	}
	if !m.put(k, v) {
		return fmt.Errorf("unhashable type: %s", quote(typeName(k)))
	}
	return nil
}

func (e *attrExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	obj, err := e.object.eval(r)
	if err != nil {
		return nil, err
	}
	return r.getattr(obj, e.name)
}

func (e *indexExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	obj, err := e.object.eval(r)
	if err != nil {
		return nil, err
	}
	if s, ok := e.index.(*sliceExpr); ok {
		return s.slice(r, obj)
	}
	index, err := e.index.eval(r)
	if err != nil {
		return nil, err
	}
	return r.getitem(obj, index)
}

func (e *sliceExpr) eval(*run) (Value, error) {
	return nil, errors.New("a slice stands only in brackets behind a value")
}

func (e *sliceExpr) slice(r *run, obj Value) (Value, error) {
	var parts [3]Value
	for i, pe := range []expr{e.start, e.stop, e.step} {
		if pe == nil {
			continue
		}
		v, err := pe.eval(r)
		if err != nil {
			return nil, err
		}
		parts[i] = v
	}
	return r.slice(obj, parts[0], parts[1], parts[2])
}

// arguments evaluates the callee and the arguments of a call.
func (e *callExpr) arguments(r *run) (callee Value, args []Value, kwargs []named, err error) {
	if err := r.step(1); err != nil {
		return nil, nil, nil, err
	}
	if callee, err = e.callee.eval(r); err != nil {
		return nil, nil, nil, err
	}
	args, kwargs, err = e.args.eval(r)
	return callee, args, kwargs, err
}

func (e *callExpr) eval(r *run) (Value, error) {
	callee, args, kwargs, err := e.arguments(r)
	if err != nil {
		return nil, err
	}
	return r.call(callee, args, kwargs)
}

func (a *arguments) eval(r *run) ([]Value, []named, error) {
	var args []Value
	var err error
	if len(a.positional) > 0 {
		if args, err = r.evalAll(a.positional); err != nil {
			return nil, nil, err
		}
	}
	if err := r.elements(2 * len(a.names)); err != nil {
		return nil, nil, err
	}
	var kwargs []named
	for i, name := range a.names {
		v, err := a.named[i].eval(r)
		if err != nil {
			return nil, nil, err
		}
		kwargs = append(kwargs, named{name, v})
	}
	if a.star != nil {
		v, err := a.star.eval(r)
		if err != nil {
			return nil, nil, err
		}
		more, err := r.list(v)
		if err != nil {
			return nil, nil, fmt.Errorf("argument after * must be an iterable: %w", err)
		}
		args = append(args, more...)
	}
	if a.starStar != nil {
		v, err := a.starStar.eval(r)
		if err != nil {
			return nil, nil, err
		}
		m, ok := v.(*Map)
		if !ok {
			return nil, nil, fmt.Errorf("argument after ** must be a mapping, not %s", typeName(v))
		}
		if err := r.elements(len(m.keys)); err != nil {
			return nil, nil, err
		}
		taken := make(map[string]bool, len(kwargs))
		for _, k := range kwargs {
			taken[k.name] = true
		}
		for i, key := range m.keys {
			name, ok := Text(key)
			if !ok {
				return nil, nil, errors.New("keywords must be strings")
			}
			if taken[name] {
				return nil, nil, fmt.Errorf("argument %s is given twice", quote(name))
			}
			kwargs = append(kwargs, named{name, m.vals[i]})
		}
	}
	return args, kwargs, nil
}

// builtin is a function of the engine, or a method with its value.
type builtin struct {
	name string
	call func(r *run, args []Value, kwargs []named) (Value, error)
	// attribute looks up an attribute of the function; nil if it has none.
	attribute func(name string) Value
}

func (*builtin) typeName() string { return "builtin_function_or_method" }

func (r *run) call(callee Value, args []Value, kwargs []named) (Value, error) {
	switch f := callee.(type) {
	case *builtin:
		return f.call(r, args, kwargs)
	case *macro:
		return r.callMacro(f, args, kwargs)
	case *loopContext:
		if f.statement == nil {
			return nil, errors.New("the loop must have the 'recursive' marker to be called recursively")
		}
		a, err := bind("loop", []string{"iterable"}, 1, args, kwargs)
		if err != nil {
			return nil, err
		}
		s, err := f.statement.recurse(r, a[0], f.within, f.depth+1)
		if err != nil {
			return nil, err
		}
		return strValue(s), nil
	case *joiner:
		if len(args)+len(kwargs) > 0 {
			return nil, errors.New("a joiner takes no arguments")
		}
		return f.next(), nil
	case *undefined:
		return nil, errors.New(f.message)
	}
	return nil, fmt.Errorf("%s object is not callable", quote(typeName(callee)))
}

// bind puts the arguments of a call into the order of params, with missing for
// those that are not given. A param called "" takes no keyword; the first
// required ones must be given.
func bind(function string, params []string, required int, args []Value, kwargs []named) ([]Value, error) {
	if len(args) > len(params) {
		return nil, fmt.Errorf("%s takes at most %d arguments (%d given)", function, len(params), len(args))
	}
	bound := make([]Value, len(params))
	n := copy(bound, args)
	for i := n; i < len(bound); i++ {
		bound[i] = missing
	}
next:
	for _, k := range kwargs {
		for i, p := range params {
			if p == k.name && p != "" {
				if bound[i] != missing {
					return nil, fmt.Errorf("%s got multiple values for argument %s", function, quote(k.name))
				}
				bound[i] = k.value
				continue next
			}
		}
		return nil, fmt.Errorf("%s got an unexpected keyword argument %s", function, quote(k.name))
	}
	for i := range required {
		if bound[i] == missing {
			what := ""
			if params[i] != "" {
				what = ": " + quote(params[i])
			}
			return nil, fmt.Errorf("%s misses a required argument%s", function, what)
		}
	}
	return bound, nil
}

func (e *filterExpr) eval(r *run) (Value, error) {
	v, err := e.value.eval(r)
	if err != nil {
		return nil, err
	}
	return e.apply(r, v)
}

// applyChain filters the text of a set or filter block, which the innermost
// filter of the chain takes for lack of a value of its own.
func (e *filterExpr) applyChain(r *run, v Value) (Value, error) {
	if inner, ok := e.value.(*filterExpr); ok {
		var err error
		if v, err = inner.applyChain(r, v); err != nil {
			return nil, err
		}
	}
	return e.apply(r, v)
}

func (e *filterExpr) apply(r *run, v Value) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if e.filter == nil {
		return nil, fmt.Errorf("no filter named %s", quote(e.name))
	}
	args, kwargs, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	return e.filter(r, v, args, kwargs)
}

func (e *testExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	if e.test == nil {
		return nil, fmt.Errorf("no test named %s", quote(e.name))
	}
	v, err := e.value.eval(r)
	if err != nil {
		return nil, err
	}
	args, kwargs, err := e.args.eval(r)
	if err != nil {
		return nil, err
	}
	ok, err := e.test(r, v, args, kwargs)
	return boolValue(ok), err
}

func (e *notExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	v, err := e.operand.eval(r)
	if err != nil {
		return nil, err
	}
	return boolValue(!r.truth(v)), nil
}

func (e *unaryExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	v, err := e.operand.eval(r)
	if err != nil {
		return nil, err
	}
	return r.unary(e.op, v)
}

func (e *binaryExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	left, err := e.left.eval(r)
	if err != nil {
		return nil, err
	}
	right, err := e.right.eval(r)
	if err != nil {
		return nil, err
	}
	return r.binary(e.op, left, right)
}

func (e *logicExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	v, err := e.left.eval(r)
	if err != nil || r.truth(v) == e.or {
		return v, err
	}
	return e.right.eval(r)
}

func (e *concatExpr) eval(r *run) (Value, error) {
	if err := r.step(len(e.parts)); err != nil {
		return nil, err
	}
	v, err := e.parts[0].eval(r)
	if err != nil {
		return nil, err
	}
	// Text that is added to grows in place, if it can.
	first, err := r.str(v)
	if err != nil {
		return nil, err
	}
	t := text{m: &r.meter}
	for _, part := range e.parts[1:] {
		v, err := part.eval(r)
		if err != nil {
			return nil, err
		}
		r.writeStr(&t, v, 0)
	}
	rest, err := t.result()
	if err != nil {
		return nil, err
	}
	sum, err := r.concat(first, rest)
	return strValue(sum), err
}

func (e *compareExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	left, err := e.first.eval(r)
	if err != nil {
		return nil, err
	}
	for _, c := range e.rest {
		right, err := c.operand.eval(r)
		if err != nil {
			return nil, err
		}
		ok, err := r.compare(c.op, left, right)
		if err != nil || !ok {
			return boolValue(false), err
		}
		left = right
	}
	return boolValue(true), nil
}

func (e *condExpr) eval(r *run) (Value, error) {
	if err := r.step(1); err != nil {
		return nil, err
	}
	v, err := e.test.eval(r)
	if err != nil {
		return nil, err
	}
	switch {
	case r.truth(v):
		return e.then.eval(r)
	case e.els != nil:
		return e.els.eval(r)
	}
	return &undefined{message: fmt.Sprintf("the inline if-expression on line %d evaluated to false and no else section was defined", e.line)}, nil
}
