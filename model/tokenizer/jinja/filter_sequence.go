package jinja

import (
	"errors"
	"fmt"
	"slices"
)

// lazy makes a generator over source whose iterator is made when it is first
// asked. How deep generators stand on one another is bounded, for each is a call
// inside of the next.
func lazy(name string, source Value, make func() (iterator, error)) (Value, error) {
	depth := 1
	if g, ok := source.(*generator); ok {
		depth += g.depth
	}
	if depth > maxCalls {
		return nil, limitf("filters nested more than %d deep", maxCalls)
	}
	var it iterator
	return &generator{name: name, depth: depth, next: func() (Value, bool, error) {
		if it == nil {
			var err error
			if it, err = make(); err != nil {
				return nil, false, err
			}
		}
		return it()
	}}, nil
}

func filterMap(r *run, v Value, args []Value, kwargs []named) (Value, error) {
	return lazy("sync_do_map", v, func() (iterator, error) {
		if !r.truth(v) {
			return iterateSlice(nil), nil
		}
		apply, err := r.mapper(args, kwargs)
		if err != nil {
			return nil, err
		}
		it, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		return func() (Value, bool, error) {
			e, ok, err := it()
			if err != nil || !ok {
				return nil, false, err
			}
			if err := r.step(1); err != nil {
				return nil, false, err
			}
			e, err = apply(e)
			return e, err == nil, err
		}, nil
	})
}

// mapper returns what |map applies: an attribute lookup or another filter.
func (r *run) mapper(args []Value, kwargs []named) (func(Value) (Value, error), error) {
	if len(args) == 0 {
		a, err := bind("filter 'map'", []string{"attribute", "default"}, 1, nil, kwargs)
		if err != nil {
			return nil, err
		}
		return r.path(a[0], orNone(a[1]))
	}
	name, err := needText("map", args[0])
	if err != nil {
		return nil, err
	}
	if why, ok := refusedFilter(name); ok {
		return nil, fmt.Errorf("filter %s is not supported: %s", quote(name), why)
	}
	f := filterNamed(name)
	if f == nil {
		return nil, fmt.Errorf("no filter named %s", quote(name))
	}
	rest := args[1:]
	// A filter that maps filters could nest without end.
	return func(v Value) (Value, error) {
		if r.calls >= maxCalls {
			return nil, limitf("filters nested more than %d deep", maxCalls)
		}
		r.calls++
		defer func() { r.calls-- }()
		return f(r, v, rest, kwargs)
	}, nil
}

// selectFrom is select, reject, selectattr and rejectattr; attribute holds the
// attribute to test, or is empty.
func (r *run) selectFrom(name string, v Value, attribute, args []Value, kwargs []named) (Value, error) {
	keep := name == "select" || name == "selectattr"
	return lazy("sync_do_"+name, v, func() (iterator, error) {
		if !r.truth(v) {
			return iterateSlice(nil), nil
		}
		test, err := r.selectBy(args, kwargs)
		if err != nil {
			return nil, err
		}
		get := func(v Value) (Value, error) { return v, nil }
		if len(attribute) > 0 {
			if get, err = r.path(attribute[0], nil); err != nil {
				return nil, err
			}
		}
		it, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		return func() (Value, bool, error) {
			for {
				e, ok, err := it()
				if err != nil || !ok {
					return nil, false, err
				}
				if err := r.step(1); err != nil {
					return nil, false, err
				}
				x, err := get(e)
				if err != nil {
					return nil, false, err
				}
				pass, err := test(x)
				if err != nil {
					return nil, false, err
				}
				if pass == keep {
					return e, true, nil
				}
			}
		}, nil
	})
}

func filterItems(r *run, v Value, _ []Value) (Value, error) {
	return lazy("do_items", v, func() (iterator, error) {
		switch v := v.(type) {
		case *undefined:
			return iterateSlice(nil), nil
		case *Map:
			return r.iterate(&viewValue{m: v, kind: "items"})
		}
		return nil, errors.New("can only get item pairs from a mapping")
	})
}

func filterFirst(r *run, v Value, _ []Value) (Value, error) {
	it, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	e, ok, err := it()
	if err == nil && !ok {
		return &undefined{message: "no first item, sequence was empty"}, nil
	}
	return e, err
}

func filterLast(r *run, v Value, _ []Value) (Value, error) {
	// reversed(Undefined) goes by len and finds nothing.
	if !isUndefined(v) {
		rev, err := r.reversed(v)
		if err != nil {
			return nil, err
		}
		e, ok, err := rev.(*generator).next()
		if err != nil || ok {
			return e, err
		}
	}
	return &undefined{message: "no last item, sequence was empty"}, nil
}

func filterReverse(r *run, v Value, _ []Value) (Value, error) {
	if s, ok := Text(v); ok {
		n, err := r.length(v)
		if err != nil {
			return nil, err
		}
		return r.sliceText(s, n, n-1, n, -1, isMarkup(v))
	}
	if isUndefined(v) {
		return &generator{name: "reversed", next: iterateSlice(nil)}, nil
	}
	if rev, err := r.reversed(v); err == nil {
		return rev, nil
	}
	items, err := r.list(v)
	if err != nil {
		return nil, err
	}
	items = slices.Clone(items)
	slices.Reverse(items)
	return &listValue{items: items}, nil
}

// keyed computes the key of every element by which to sort: the attributes
// named, in lower case unless case counts.
func (r *run) keyed(v, attribute, caseSensitive, otherwise Value, several bool) (items, keys []Value, err error) {
	if items, err = r.list(v); err != nil {
		return nil, nil, err
	}
	fold := caseSensitive == missing || !r.truth(caseSensitive)
	attributes := []Value{orNone(attribute)}
	if s, ok := Text(attribute); ok && several {
		attributes = nil
		for {
			at := indexByte(s, ',')
			if at < 0 {
				break
			}
			attributes = append(attributes, strValue(s[:at]))
			s = s[at+1:]
		}
		attributes = append(attributes, strValue(s))
	}
	gets := make([]func(Value) (Value, error), len(attributes))
	for i, a := range attributes {
		if gets[i], err = r.path(a, otherwise); err != nil {
			return nil, nil, err
		}
	}
	if err := r.elements(len(items) * len(gets)); err != nil {
		return nil, nil, err
	}
	keys = make([]Value, len(items))
	for i, e := range items {
		parts := make([]Value, len(gets))
		for j, get := range gets {
			k, err := get(e)
			if err != nil {
				return nil, nil, err
			}
			if fold {
				if k, err = r.folded(k); err != nil {
					return nil, nil, err
				}
			}
			parts[j] = k
		}
		if several {
			// As in jinja2 one attribute is a list too: two that are Undefined are
			// equal there, and so not compared.
			keys[i] = &listValue{items: parts}
		} else {
			keys[i] = parts[0]
		}
	}
	return items, keys, nil
}

func indexByte(s string, c byte) int {
	for i := range len(s) {
		if s[i] == c {
			return i
		}
	}
	return -1
}

// folded is text in lower case, and any other value.
func (r *run) folded(v Value) (Value, error) {
	s, ok := Text(v)
	if !ok {
		return v, nil
	}
	if err := r.alloc(int64(len(s))); err != nil {
		return nil, err
	}
	return strValue(lower(s)), r.read(len(s))
}

func (r *run) sorted(items, keys []Value, reverse bool) ([]Value, error) {
	if err := r.elements(2 * len(items)); err != nil {
		return nil, err
	}
	order := make([]int, len(items))
	for i := range order {
		order[i] = i
	}
	if err := r.sortBy(order, func(i int) Value { return keys[i] }, reverse); err != nil {
		return nil, err
	}
	out := make([]Value, len(items))
	for i, j := range order {
		out[i] = items[j]
	}
	return out, nil
}

func filterSort(r *run, v Value, a []Value) (Value, error) {
	items, keys, err := r.keyed(v, a[2], a[1], nil, true)
	if err != nil {
		return nil, err
	}
	out, err := r.sorted(items, keys, a[0] != missing && r.truth(a[0]))
	return &listValue{items: out}, err
}

func filterDictSort(r *run, v Value, a []Value) (Value, error) {
	m, ok := v.(*Map)
	if !ok {
		return nil, fmt.Errorf("dictsort needs a mapping, not %s", typeName(v))
	}
	by := "key"
	if a[1] != missing {
		by, _ = Text(a[1])
	}
	var at Value
	switch by {
	case "key":
		at = intValue(0)
	case "value":
		at = intValue(1)
	default:
		return nil, errors.New("dictsort sorts by either 'key' or 'value'")
	}
	items, keys, err := r.keyed(&viewValue{m: m, kind: "items"}, at, a[0], nil, false)
	if err != nil {
		return nil, err
	}
	out, err := r.sorted(items, keys, a[2] != missing && r.truth(a[2]))
	return &listValue{items: out}, err
}

func filterUnique(r *run, v Value, a []Value) (Value, error) {
	return lazy("sync_do_unique", v, func() (iterator, error) {
		it, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		get, err := r.path(orNone(a[1]), nil)
		if err != nil {
			return nil, err
		}
		fold := a[0] == missing || !r.truth(a[0])
		seen := NewMap()
		return func() (Value, bool, error) {
			for {
				e, ok, err := it()
				if err != nil || !ok {
					return nil, false, err
				}
				k, err := get(e)
				if err != nil {
					return nil, false, err
				}
				if fold {
					if k, err = r.folded(k); err != nil {
						return nil, false, err
					}
				}
				before := seen.Len()
				if err := r.put(seen, k, nil); err != nil {
					return nil, false, err
				}
				if seen.Len() > before {
					return e, true, nil
				}
			}
		}, nil
	})
}

// extreme is |max and |min: the first of the largest or smallest elements.
func (r *run) extreme(v Value, a []Value, largest bool) (Value, error) {
	items, keys, err := r.keyed(v, a[1], a[0], nil, false)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 {
		return &undefined{message: "no aggregated item, sequence was empty"}, nil
	}
	best := 0
	for i := 1; i < len(items); i++ {
		x, y := keys[i], keys[best]
		if largest {
			x, y = y, x
		}
		below, err := r.less(x, y)
		if err != nil {
			return nil, err
		}
		if below {
			best = i
		}
	}
	return items[best], nil
}

func filterGroupBy(r *run, v Value, a []Value) (Value, error) {
	items, keys, err := r.keyed(v, a[0], a[2], orNone(a[1]), false)
	if err != nil {
		return nil, err
	}
	pairs := make([]Value, len(items))
	for i := range items {
		pairs[i] = Tuple(items[i], keys[i])
	}
	if pairs, err = r.sorted(pairs, keys, false); err != nil {
		return nil, err
	}
	get, err := r.path(a[0], orNone(a[1]))
	if err != nil {
		return nil, err
	}
	fold := a[2] == missing || !r.truth(a[2])
	groups := &listValue{}
	var key Value
	var members *listValue
	for _, p := range pairs {
		item, k := p.(*tupleValue).items[0], p.(*tupleValue).items[1]
		joins := false
		if members != nil {
			if joins, err = r.equal(key, k); err != nil {
				return nil, err
			}
		}
		if !joins {
			members = &listValue{}
			key = k
			shown := k
			if fold {
				// The group shows the key of its first member, case and all.
				if shown, err = get(item); err != nil {
					return nil, err
				}
			}
			groups.items = append(groups.items, &tupleValue{items: []Value{shown, members}, named: true})
		}
		members.items = append(members.items, item)
	}
	return groups, nil
}

func filterSum(r *run, v Value, a []Value) (Value, error) {
	get, err := r.path(orNone(a[0]), nil)
	if err != nil {
		return nil, err
	}
	it, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	var total Value = intValue(0)
	if a[1] != missing {
		total = a[1]
	}
	if _, ok := Text(total); ok {
		return nil, errors.New("sum() can't sum strings [use |join instead]")
	}
	for {
		e, ok, err := it()
		if err != nil {
			return nil, err
		}
		if !ok {
			return total, nil
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		if e, err = get(e); err != nil {
			return nil, err
		}
		if total, err = r.binary("+", total, e); err != nil {
			return nil, err
		}
	}
}

func filterBatch(r *run, v Value, a []Value) (Value, error) {
	n, err := needInt("batch", a[0])
	if err != nil {
		return nil, err
	}
	fill := orNone(a[1])
	return lazy("sync_do_batch", v, func() (iterator, error) {
		it, err := r.iterate(v)
		if err != nil {
			return nil, err
		}
		done := false
		var held []Value // read and not yet in a batch
		return func() (Value, bool, error) {
			if done {
				return nil, false, nil
			}
			batch := held
			for {
				e, ok, err := it()
				if err != nil {
					return nil, false, err
				}
				if !ok {
					break
				}
				if err := r.elements(2); err != nil {
					return nil, false, err
				}
				if int64(len(batch)) == n {
					held = []Value{e}
					return &listValue{items: batch}, true, nil
				}
				batch = append(batch, e)
			}
			done = true
			if len(batch) == 0 {
				return nil, false, nil
			}
			if missing := n - int64(len(batch)); fill != nil && missing > 0 {
				if missing > maxRange {
					return nil, false, limitf("a batch of more than %d elements", maxRange)
				}
				if err := r.elements(int(missing)); err != nil {
					return nil, false, err
				}
				for range missing {
					batch = append(batch, fill)
				}
			}
			return &listValue{items: batch}, true, nil
		}, nil
	})
}

func filterSlice(r *run, v Value, a []Value) (Value, error) {
	n, err := needInt("slice", a[0])
	if err != nil {
		return nil, err
	}
	fill := orNone(a[1])
	return lazy("sync_do_slice", v, func() (iterator, error) {
		items, err := r.list(v)
		if err != nil {
			return nil, err
		}
		switch {
		case n == 0:
			return nil, errors.New("integer division or modulo by zero")
		case n < 0:
			return iterateSlice(nil), nil
		}
		each, extra := int64(len(items))/n, int64(len(items))%n
		var i, from int64
		return func() (Value, bool, error) {
			if i == n {
				return nil, false, nil
			}
			to := from + each
			if i < extra {
				to++
			}
			if err := r.elements(int(to - from + 64)); err != nil {
				return nil, false, err
			}
			part := slices.Clone(items[from:to])
			if fill != nil && i >= extra {
				part = append(part, fill)
			}
			from = to
			i++
			return &listValue{items: part}, true, nil
		}, nil
	})
}
