package jinja

import (
	"fmt"
	"time"
)

// run is one render: what it may still use, where it stands and where its output
// goes.
type run struct {
	meter
	vars *Map // given by the caller
	// exported are the variables set at the top level, for blocks to see.
	exported *Map
	act      *activation
	out      *output
	line     int
	calls    int // nested calls of macros, callers and recursive loops
	now      func() time.Time
	tails    tails
	// printing are the lists and dicts whose repr is being written, and namespaces
	// how many namespaces stand among them.
	printing   []Value
	namespaces int
}

// activation is a function's call: its slots, and the activation it stands in.
type activation struct {
	slots  []Value
	parent *activation
}

// output collects what statements print.
type output struct {
	b     []byte
	limit int64
}

func (r *run) print(s string) error {
	if int64(len(r.out.b)+len(s)) > r.out.limit {
		return limitf("more than %d bytes of output", r.out.limit)
	}
	r.out.b = append(r.out.b, s...)
	return nil
}

// Render runs the template over vars, which it does not change, and returns what
// it prints. A refusal by the template itself is a *RaisedError; an error that
// wraps ErrLimit says that a cap was reached.
func (t *Template) Render(vars *Map, o Options) (string, error) {
	if vars == nil {
		vars = NewMap()
	}
	r := &run{vars: vars, exported: NewMap(), line: 1, now: o.Now}
	if r.now == nil {
		r.now = time.Now
	}
	r.maxSteps = orDefault(o.MaxSteps, defaultMaxSteps)
	r.maxBytes = orDefault(o.MaxBytes, defaultMaxBytes)
	r.out = &output{limit: orDefault(o.MaxOutput, defaultMaxOutput)}
	if err := r.activate(t.function, nil); err != nil {
		return "", fmt.Errorf("render template: %w", err)
	}
	r.load(t.enter)
	if _, err := r.execAll(t.body); err != nil {
		return "", fmt.Errorf("render template: line %d: %w", r.line, err)
	}
	return string(r.out.b), nil
}

func orDefault(v, otherwise int64) int64 {
	if v == 0 {
		return otherwise
	}
	return v
}

// activate makes and enters an activation of f inside parent.
func (r *run) activate(f *function, parent *activation) error {
	if err := r.elements(f.slots); err != nil {
		return err
	}
	slots := make([]Value, f.slots)
	for i := range slots {
		slots[i] = missing
	}
	r.act = &activation{slots: slots, parent: parent}
	return nil
}

func (r *run) slot(at ref) *Value {
	a := r.act
	for range at.hops {
		a = a.parent
	}
	return &a.slots[at.slot]
}

// load enters a scope.
func (r *run) load(loads []load) {
	// Counted here and held to the limit by whatever runs next.
	r.steps += 2 * int64(len(loads))
	for _, l := range loads {
		v := missing
		switch l.kind {
		case loadResolve:
			v = r.lookup(l.name)
		case loadAlias:
			v = *r.slot(l.from)
		}
		r.act.slots[l.slot] = v
	}
}

// lookup finds a name outside of all scopes, or returns missing.
func (r *run) lookup(name string) Value {
	if v, ok := r.exported.Get(name); ok {
		return v
	}
	if v, ok := r.vars.Get(name); ok {
		return v
	}
	if g, ok := globalNamed(name); ok {
		return g
	}
	return missing
}

// capture runs f with output of its own and returns what it prints.
func (r *run) capture(f func() (signal, error)) (string, signal, error) {
	outer := r.out
	r.out = &output{limit: (r.maxBytes - r.bytes) / 2}
	sig, err := f()
	inner := r.out
	r.out = outer
	if err != nil {
		return "", sig, err
	}
	// Twice: as it was collected, and as the string it becomes.
	if err := r.alloc(2 * int64(len(inner.b))); err != nil {
		return "", sig, err
	}
	return string(inner.b), sig, nil
}

// macro is a macro, or the caller of a call block, with the activation it sees.
type macro struct {
	def *macroStmt
	act *activation
}

func (*macro) typeName() string { return "Macro" }

// named is an argument passed by name.
type named struct {
	name  string
	value Value
}

// callMacro binds arguments as jinja2's Macro does and runs the body.
func (r *run) callMacro(m *macro, args []Value, kwargs []named) (Value, error) {
	d := m.def
	if r.calls >= maxCalls {
		return nil, limitf("macros call one another more than %d deep", maxCalls)
	}
	name := d.name
	if name == "" {
		name = "caller"
	}
	// Arguments by name are found by looking through them for each parameter.
	if err := r.step(len(d.slots) + len(d.slots)*len(kwargs)>>3 + len(kwargs)); err != nil {
		return nil, err
	}
	outer := r.act
	if err := r.activate(d.function, m.act); err != nil {
		return nil, err
	}
	act := r.act
	r.act = outer
	used := make([]bool, len(kwargs))
	take := func(name string) Value {
		for i, k := range kwargs {
			if k.name == name && !used[i] {
				used[i] = true
				return k.value
			}
		}
		return missing
	}
	foundCaller := false
	for i, slot := range d.slots {
		if i < len(args) {
			act.slots[slot] = args[i]
			continue
		}
		act.slots[slot] = take(d.params[i])
		foundCaller = foundCaller || d.params[i] == "caller"
	}
	if len(args) >= len(d.params) {
		foundCaller = d.explicitCaller
	}
	if d.caller.used && !foundCaller {
		v := take("caller")
		if v == missing || v == nil {
			v = &undefined{message: "no caller defined"}
		}
		act.slots[d.caller.slot] = v
	}
	rest := NewMap()
	for i, k := range kwargs {
		if used[i] {
			continue
		}
		if !d.kwargs.used {
			return nil, fmt.Errorf("macro %s takes no keyword argument %s", quote(name), quote(k.name))
		}
		rest.Set(k.name, k.value)
	}
	if d.kwargs.used {
		act.slots[d.kwargs.slot] = rest
	}
	var extra []Value
	if len(args) > len(d.params) {
		if !d.varargs.used {
			return nil, fmt.Errorf("macro %s takes not more than %d arguments", quote(name), len(d.params))
		}
		extra = args[len(d.params):]
	}
	if d.varargs.used {
		act.slots[d.varargs.slot] = &tupleValue{items: extra}
	}
	r.act = act
	r.calls++
	s, _, err := r.capture(func() (signal, error) {
		r.load(d.enter)
		for i, slot := range d.slots {
			if act.slots[slot] != missing {
				continue
			}
			act.slots[slot] = &undefined{message: "parameter " + quote(d.params[i]) + " was not provided"}
			if at := i - (len(d.params) - len(d.defaults)); at >= 0 {
				act.slots[slot] = missing
				v, err := d.defaults[at].eval(r)
				if err != nil {
					return proceed, err
				}
				act.slots[slot] = v
			}
		}
		return r.execAll(d.body)
	})
	r.calls--
	r.act = outer
	if err != nil {
		return nil, err
	}
	return strValue(s), nil
}
