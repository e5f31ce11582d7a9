package jinja

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// iterator returns the next element and true, or false at the end.
type iterator func() (Value, bool, error)

// generator is a lazy sequence, such as |map and |select return. Like Python's
// it has no length, is always true, and can be gone through once.
type generator struct {
	name  string
	next  iterator
	depth int // of generators that this one draws from, itself included
}

func (*generator) typeName() string { return "generator" }

// viewValue is what a dict's keys, values and items return.
type viewValue struct {
	m    *Map
	kind string // keys, values, items
}

func (v *viewValue) typeName() string { return "dict_" + v.kind }

func (v *viewValue) at(i int) Value {
	switch v.kind {
	case "keys":
		return v.m.keys[i]
	case "values":
		return v.m.vals[i]
	}
	return &tupleValue{items: []Value{v.m.keys[i], v.m.vals[i]}}
}

func (g *rangeValue) length() int {
	switch {
	case g.step > 0 && g.start < g.stop:
		return int((g.stop-g.start-1)/g.step + 1)
	case g.step < 0 && g.start > g.stop:
		return int((g.start-g.stop-1)/-g.step + 1)
	}
	return 0
}

// lengthOf returns what Python's len() would, if v has a length.
func lengthOf(v Value) (int, bool) {
	switch v := v.(type) {
	case strValue:
		return utf8.RuneCountInString(string(v)), true
	case markupValue:
		return utf8.RuneCountInString(string(v)), true
	case *listValue:
		return len(v.items), true
	case *tupleValue:
		return len(v.items), true
	case *Map:
		return len(v.keys), true
	case *viewValue:
		return len(v.m.keys), true
	case *rangeValue:
		return v.length(), true
	case *undefined:
		return 0, true
	}
	return 0, false
}

func (r *run) length(v Value) (int, error) {
	if l, ok := v.(*loopContext); ok {
		return l.total(r)
	}
	if s, ok := Text(v); ok {
		if err := r.read(len(s)); err != nil {
			return 0, err
		}
	}
	n, ok := lengthOf(v)
	if !ok {
		return 0, fmt.Errorf("object of type %s has no len()", quote(typeName(v)))
	}
	return n, nil
}

// truth is Python's bool().
func (r *run) truth(v Value) bool {
	switch v := v.(type) {
	case nil:
		return false
	case boolValue:
		return bool(v)
	case strValue:
		return v != ""
	case markupValue:
		return v != ""
	case intValue:
		return v != 0
	case floatValue:
		return v != 0
	case *loopContext:
		n, err := v.total(r)
		return n != 0 || err != nil
	}
	n, ok := lengthOf(v)
	return !ok || n > 0
}

func iterateSlice(items []Value) iterator {
	i := 0
	return func() (Value, bool, error) {
		if i >= len(items) {
			return nil, false, nil
		}
		i++
		return items[i-1], true, nil
	}
}

func iterateIndex(n int, at func(int) Value) iterator {
	i := 0
	return func() (Value, bool, error) {
		if i >= n {
			return nil, false, nil
		}
		i++
		return at(i - 1), true, nil
	}
}

// iterate is Python's iter().
func (r *run) iterate(v Value) (iterator, error) {
	switch v := v.(type) {
	case *listValue:
		return iterateSlice(v.items), nil
	case *tupleValue:
		return iterateSlice(v.items), nil
	case *Map:
		return iterateSlice(v.keys), nil
	case *viewValue:
		return iterateIndex(len(v.m.keys), v.at), nil
	case *rangeValue:
		return iterateIndex(v.length(), func(i int) Value { return intValue(v.start + int64(i)*v.step) }), nil
	case *generator:
		return v.next, nil
	case *undefined:
		return iterateSlice(nil), nil
	case *loopContext:
		return func() (Value, bool, error) {
			e, ok, err := v.next()
			return &tupleValue{items: []Value{e, v}}, ok, err
		}, nil
	}
	s, ok := Text(v)
	if !ok {
		return nil, fmt.Errorf("%s object is not iterable", quote(typeName(v)))
	}
	return func() (Value, bool, error) {
		if s == "" {
			return nil, false, nil
		}
		_, n := utf8.DecodeRuneInString(s)
		e := strValue(s[:n])
		s = s[n:]
		return e, true, nil
	}, nil
}

func iterable(v Value) bool {
	switch v.(type) {
	case *generator, *loopContext:
		return true
	}
	_, ok := lengthOf(v)
	return ok
}

// drain reads an iterator to its end.
func (r *run) drain(it iterator) ([]Value, error) {
	var items []Value
	for {
		v, ok, err := it()
		if err != nil || !ok {
			return items, err
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		if err := r.alloc(32); err != nil {
			return nil, err
		}
		items = append(items, v)
	}
}

// list returns the elements of any iterable, not to be changed.
func (r *run) list(v Value) ([]Value, error) {
	if items, ok := Elements(v); ok {
		return items, r.step(1 + len(items)>>3)
	}
	it, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	return r.drain(it)
}

// reversed is Python's reversed(), which needs a sequence or a dict.
func (r *run) reversed(v Value) (Value, error) {
	var n int
	var at func(int) Value
	switch v := v.(type) {
	case *listValue:
		n, at = len(v.items), func(i int) Value { return v.items[i] }
	case *tupleValue:
		n, at = len(v.items), func(i int) Value { return v.items[i] }
	case *Map:
		n, at = len(v.keys), func(i int) Value { return v.keys[i] }
	case *viewValue:
		n, at = len(v.m.keys), v.at
	case *rangeValue:
		n, at = v.length(), func(i int) Value { return intValue(v.start + int64(i)*v.step) }
	case *undefined:
		return nil, errors.New(v.message)
	default:
		s, ok := Text(v)
		if !ok {
			return nil, fmt.Errorf("%s object is not reversible", quote(typeName(v)))
		}
		if err := r.elements(len(s)); err != nil {
			return nil, err
		}
		runes := []rune(s)
		n, at = len(runes), func(i int) Value { return strLike(string(runes[i]), isMarkup(v)) }
	}
	return &generator{name: "reversed", next: iterateIndex(n, func(i int) Value { return at(n - 1 - i) })}, nil
}
