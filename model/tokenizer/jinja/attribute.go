package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode/utf8"
)

// getattr is obj.name: the attribute if there is one, else the item, else
// Undefined.
func (r *run) getattr(obj Value, name string) (Value, error) {
	v, err := r.attribute(obj, name)
	if err != nil || v != missing {
		return v, err
	}
	if m, ok := obj.(*Map); ok {
		if v, ok := m.Get(name); ok {
			return v, nil
		}
	}
	return undefinedAttribute(obj, strValue(name)), nil
}

// getitem is obj[key]: the item if there is one, else the attribute of that
// name, else Undefined.
func (r *run) getitem(obj, key Value) (Value, error) {
	if v, ok, err := r.item(obj, key); ok || err != nil {
		return v, err
	}
	if name, ok := Text(key); ok {
		if v, err := r.attribute(obj, name); err != nil || v != missing {
			return v, err
		}
	}
	return undefinedAttribute(obj, key), nil
}

// item returns what Python's obj[key] does, or false where that fails.
func (r *run) item(obj, key Value) (Value, bool, error) {
	switch o := obj.(type) {
	case *undefined:
		return nil, false, errors.New(o.message)
	case *Map:
		if err := r.key(key, 0); err != nil {
			return nil, false, err
		}
		if i, _ := o.lookup(key); i >= 0 {
			return o.vals[i], true, nil
		}
		return nil, false, nil
	}
	i, ok := toInt(key)
	if !ok {
		return nil, false, nil
	}
	if s, ok := Text(obj); ok {
		if err := r.read(len(s)); err != nil {
			return nil, false, err
		}
		from, ok := runeOffset(s, i)
		if !ok {
			return nil, false, nil
		}
		_, n := utf8.DecodeRuneInString(s[from:])
		return strLike(s[from:from+n], isMarkup(obj)), true, nil
	}
	n, sized := lengthOf(obj)
	if i < 0 {
		i += int64(n)
	}
	if !sized || i < 0 || i >= int64(n) {
		return nil, false, nil
	}
	switch o := obj.(type) {
	case *listValue:
		return o.items[i], true, nil
	case *tupleValue:
		return o.items[i], true, nil
	case *rangeValue:
		return intValue(o.start + i*o.step), true, nil
	}
	return nil, false, nil
}

// runeOffset returns the byte at which code point i of s begins; a negative i
// counts from the end.
func runeOffset(s string, i int64) (int, bool) {
	if i < 0 {
		at := len(s)
		for ; i < 0; i++ {
			if at == 0 {
				return 0, false
			}
			_, n := utf8.DecodeLastRuneInString(s[:at])
			at -= n
		}
		return at, true
	}
	for at := range s {
		if i == 0 {
			return at, true
		}
		i--
	}
	return 0, false
}

// attribute returns an attribute, or missing. What the sandbox withholds because
// it would change the value is Undefined with a reason; names with two leading
// underscores are refused at once, whatever they are.
func (r *run) attribute(obj Value, name string) (Value, error) {
	if u, ok := obj.(*undefined); ok {
		return nil, errors.New(u.message)
	}
	if strings.HasPrefix(name, "__") {
		if m, ok := obj.(*Map); ok {
			if v, ok := m.Get(name); ok {
				return v, nil
			}
		}
		return nil, errors.New(unsafeAttribute(obj, name).message)
	}
	switch o := obj.(type) {
	case strValue, markupValue:
		if m, ok := strMethodNamed(name); ok {
			return m.bound(obj, name), nil
		}
	case *Map:
		switch name {
		case "clear", "pop", "popitem", "setdefault", "update":
			return unsafeAttribute(obj, name), nil
		}
		if m, ok := mapMethod(o, name); ok {
			return m, nil
		}
	case *listValue:
		switch name {
		case "append", "clear", "pop", "reverse", "insert", "sort", "extend", "remove":
			return unsafeAttribute(obj, name), nil
		case "copy":
			return method0(name, func(*run) (Value, error) { return o, nil }), nil
		}
		return sequenceMethod(obj, o.items, name), nil
	case *tupleValue:
		if o.named {
			switch name {
			case "grouper":
				return o.items[0], nil
			case "list":
				return o.items[1], nil
			}
		}
		return sequenceMethod(obj, o.items, name), nil
	case *rangeValue:
		switch name {
		case "start":
			return intValue(o.start), nil
		case "stop":
			return intValue(o.stop), nil
		case "step":
			return intValue(o.step), nil
		case "count", "index":
			items, err := r.list(o)
			return sequenceMethod(obj, items, name), err
		}
	case *namespace:
		if v, ok := o.attrs.Get(name); ok {
			return v, nil
		}
	case *loopContext:
		return o.attribute(r, name)
	case *macro:
		return o.attribute(name), nil
	case *cycler:
		return o.attribute(name), nil
	case *joiner:
		switch name {
		case "sep":
			return o.sep, nil
		case "used":
			return boolValue(o.used), nil
		}
	case *builtin:
		if o.attribute != nil {
			return o.attribute(name), nil
		}
	case boolValue, intValue, bigValue, floatValue:
		return numberAttribute(obj, name), nil
	}
	return missing, nil
}

func (m *macro) attribute(name string) Value {
	d := m.def
	switch name {
	case "name":
		if d.name == "" {
			return nil
		}
		return strValue(d.name)
	case "arguments":
		t := &tupleValue{}
		for _, p := range d.params {
			t.items = append(t.items, strValue(p))
		}
		return t
	case "catch_kwargs":
		return boolValue(d.kwargs.used)
	case "catch_varargs":
		return boolValue(d.varargs.used)
	case "caller":
		return boolValue(d.caller.used || d.explicitCaller)
	}
	return missing
}

func method0(name string, f func(r *run) (Value, error)) *builtin {
	return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
		if len(args)+len(kwargs) > 0 {
			return nil, fmt.Errorf("%s takes no arguments", name)
		}
		return f(r)
	}}
}

func mapMethod(m *Map, name string) (Value, bool) {
	switch name {
	case "keys", "values", "items":
		return method0(name, func(*run) (Value, error) { return &viewValue{m: m, kind: name}, nil }), true
	case "copy":
		return method0(name, func(*run) (Value, error) { return m, nil }), true
	case "get":
		return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind("get", []string{"", ""}, 1, args, kwargs)
			if err != nil {
				return nil, err
			}
			if err := r.key(a[0], 0); err != nil {
				return nil, err
			}
			i, hashable := m.lookup(a[0])
			switch {
			case !hashable:
				return nil, fmt.Errorf("unhashable type: %s", quote(typeName(a[0])))
			case i >= 0:
				return m.vals[i], nil
			case a[1] == missing:
				return nil, nil
			}
			return a[1], nil
		}}, true
	case "fromkeys":
		return &builtin{name: name, call: fromKeys}, true
	}
	return nil, false
}

// fromKeys is dict.fromkeys.
func fromKeys(r *run, args []Value, kwargs []named) (Value, error) {
	a, err := bind("fromkeys", []string{"", ""}, 1, args, kwargs)
	if err != nil {
		return nil, err
	}
	if a[1] == missing {
		a[1] = nil
	}
	keys, err := r.list(a[0])
	if err != nil {
		return nil, err
	}
	m := NewMap()
	for _, k := range keys {
		if err := r.put(m, k, a[1]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func sequenceMethod(obj Value, items []Value, name string) Value {
	switch name {
	case "count":
		return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind(name, []string{""}, 1, args, kwargs)
			if err != nil {
				return nil, err
			}
			n := 0
			for _, e := range items {
				same, err := r.equal(e, a[0])
				if err != nil {
					return nil, err
				}
				if same {
					n++
				}
			}
			return intValue(n), nil
		}}
	case "index":
		return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
			a, err := bind(name, []string{"", "", ""}, 1, args, kwargs)
			if err != nil {
				return nil, err
			}
			start, stop, _, err := sliceBounds(len(items), orNone(a[1]), orNone(a[2]), nil)
			if err != nil {
				return nil, err
			}
			for i := start; i < stop; i++ {
				same, err := r.equal(items[i], a[0])
				if err != nil {
					return nil, err
				}
				if same {
					return intValue(i), nil
				}
			}
			return nil, fmt.Errorf("%s is not in %s", shortRepr(a[0]), typeName(obj))
		}}
	}
	return missing
}

func orNone(v Value) Value {
	if v == missing {
		return nil
	}
	return v
}

func numberAttribute(v Value, name string) Value {
	f, isFloat := v.(floatValue)
	switch name {
	case "real":
		if b, ok := v.(boolValue); ok {
			i, _ := toInt(b)
			return intValue(i)
		}
		return v
	case "imag":
		if isFloat {
			return floatValue(0)
		}
		return intValue(0)
	case "conjugate":
		return method0(name, func(*run) (Value, error) { return v, nil })
	case "is_integer":
		if isFloat {
			return method0(name, func(*run) (Value, error) {
				return boolValue(float64(f) == math.Trunc(float64(f)) && !math.IsInf(float64(f), 0)), nil
			})
		}
	case "numerator", "denominator", "bit_length":
		i, ok := toBig(v)
		switch {
		case !ok:
		case name == "numerator":
			n, _ := normInt(i)
			return n
		case name == "denominator":
			return intValue(1)
		default:
			return method0(name, func(*run) (Value, error) { return intValue(i.BitLen()), nil })
		}
	}
	return missing
}

// sliceBounds computes start, stop and step as Python does; stop is -1 for a
// slice that runs down to the first element.
func sliceBounds(n int, start, stop, step Value) (int, int, int, error) {
	const most = math.MaxInt32
	part := func(v Value, otherwise int) (int, error) {
		if v == nil {
			return otherwise, nil
		}
		i, ok := toInt(v)
		if !ok {
			if u, ok := v.(*undefined); ok {
				return 0, errors.New(u.message)
			}
			return 0, fmt.Errorf("slice indices must be integers or None, not %s", typeName(v))
		}
		return int(max(min(i, most), -most)), nil
	}
	by, err := part(step, 1)
	if err != nil {
		return 0, 0, 0, err
	}
	if by == 0 {
		return 0, 0, 0, errors.New("slice step cannot be zero")
	}
	low, high := 0, n
	from, to := 0, n
	if by < 0 {
		low, high = -1, n-1
		from, to = n-1, -1
	}
	clamp := func(v Value, otherwise int) (int, error) {
		i, err := part(v, otherwise)
		if v == nil || err != nil {
			return i, err
		}
		if i < 0 {
			i += n
		}
		return max(min(i, high), low), nil
	}
	if from, err = clamp(start, from); err != nil {
		return 0, 0, 0, err
	}
	to, err = clamp(stop, to)
	return from, to, by, err
}

// slice is obj[start:stop:step].
func (r *run) slice(obj, start, stop, step Value) (Value, error) {
	if u, ok := obj.(*undefined); ok {
		return nil, errors.New(u.message)
	}
	s, isText := Text(obj)
	items, isSeq := Elements(obj)
	rng, isRange := obj.(*rangeValue)
	if !isText && !isSeq && !isRange {
		return nil, fmt.Errorf("%s object cannot be sliced", quote(typeName(obj)))
	}
	n, err := r.length(obj)
	if err != nil {
		return nil, err
	}
	from, to, by, err := sliceBounds(n, start, stop, step)
	if err != nil {
		return nil, err
	}
	count := 0
	switch {
	case by > 0 && from < to:
		count = (to-from-1)/by + 1
	case by < 0 && from > to:
		count = (from-to-1)/-by + 1
	}
	switch {
	case isRange:
		end := rng.start + int64(to)*rng.step
		return &rangeValue{start: rng.start + int64(from)*rng.step, stop: end, step: rng.step * int64(by)}, nil
	case isText:
		return r.sliceText(s, n, from, count, by, isMarkup(obj))
	case by == 1:
		items = items[from : from+count : from+count]
	default:
		if err := r.elements(count); err != nil {
			return nil, err
		}
		picked := make([]Value, count)
		for i := range picked {
			picked[i] = items[from+i*by]
		}
		items = picked
	}
	if _, ok := obj.(*listValue); ok {
		return &listValue{items: items}, nil
	}
	return &tupleValue{items: items}, nil
}

func (r *run) sliceText(s string, n, from, count, by int, markup bool) (Value, error) {
	if count == 0 {
		return strLike("", markup), nil
	}
	ascii := n == len(s)
	if by == 1 {
		end := from + count
		if !ascii {
			a, _ := runeOffset(s, int64(from))
			b := len(s)
			if end < n {
				b, _ = runeOffset(s, int64(end))
			}
			return strLike(s[a:b], markup), nil
		}
		return strLike(s[from:end], markup), nil
	}
	if err := r.alloc(int64(n)*4 + int64(len(s))); err != nil {
		return nil, err
	}
	if err := r.read(len(s)); err != nil {
		return nil, err
	}
	runes := []rune(s)
	var b strings.Builder
	for i := range count {
		b.WriteRune(runes[from+i*by])
	}
	return strLike(b.String(), markup), nil
}
