package jinja

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

// equal is Python's ==.
func (r *run) equal(a, b Value) (bool, error) { return r.equalAt(a, b, 0) }

func (r *run) equalAt(a, b Value, depth int) (bool, error) {
	if err := r.step(1); err != nil {
		return false, err
	}
	if depth > maxDepth {
		return false, limitf("values nested more than %d deep", maxDepth)
	}
	switch x := a.(type) {
	case nil:
		return b == nil, nil
	case strValue, markupValue:
		s, _ := Text(a)
		t, ok := Text(b)
		return ok && s == t, r.step(len(s) >> 8)
	case boolValue, intValue, bigValue, floatValue:
		c, comparable := compareNumbers(a, b)
		return comparable && c == 0, nil
	case *undefined:
		_, ok := b.(*undefined)
		return ok, nil
	case *listValue:
		y, ok := b.(*listValue)
		if !ok {
			return false, nil
		}
		return r.equalElements(x.items, y.items, depth)
	case *tupleValue:
		y, ok := b.(*tupleValue)
		if !ok {
			return false, nil
		}
		return r.equalElements(x.items, y.items, depth)
	case *rangeValue:
		y, ok := b.(*rangeValue)
		if !ok || x.length() != y.length() {
			return false, nil
		}
		n := x.length()
		return n == 0 || x.start == y.start && (n == 1 || x.step == y.step), nil
	case *Map:
		y, ok := b.(*Map)
		if !ok || len(x.keys) != len(y.keys) {
			return false, nil
		}
		for i, k := range x.keys {
			if err := r.key(k, 0); err != nil {
				return false, err
			}
			j, _ := y.lookup(k)
			if j < 0 {
				return false, nil
			}
			if same, err := r.equalAt(x.vals[i], y.vals[j], depth+1); err != nil || !same {
				return false, err
			}
		}
		return true, nil
	case *viewValue:
		y, ok := b.(*viewValue)
		if !ok || x.kind != y.kind || len(x.m.keys) != len(y.m.keys) || x.kind == "values" && x != y {
			return false, nil
		}
		for i, k := range x.m.keys {
			if err := r.key(k, 0); err != nil {
				return false, err
			}
			j, _ := y.m.lookup(k)
			if j < 0 {
				return false, nil
			}
			if x.kind == "items" {
				if same, err := r.equalAt(x.m.vals[i], y.m.vals[j], depth+1); err != nil || !same {
					return false, err
				}
			}
		}
		return true, nil
	}
	return a == b, nil
}

func (r *run) equalElements(x, y []Value, depth int) (bool, error) {
	if len(x) != len(y) {
		return false, nil
	}
	for i := range x {
		if same, err := r.equalAt(x[i], y[i], depth+1); err != nil || !same {
			return false, err
		}
	}
	return true, nil
}

// compareNumbers orders two numbers exactly; it fails for other types and NaN.
func compareNumbers(a, b Value) (int, bool) {
	x, xFloat := a.(floatValue)
	y, yFloat := b.(floatValue)
	if xFloat && yFloat {
		if math.IsNaN(float64(x)) || math.IsNaN(float64(y)) {
			return 0, false
		}
		return cmp.Compare(float64(x), float64(y)), true
	}
	if !xFloat && !yFloat {
		_, aBig := a.(bigValue)
		_, bBig := b.(bigValue)
		if !aBig && !bBig {
			i, ok := toInt(a)
			j, ok2 := toInt(b)
			return cmp.Compare(i, j), ok && ok2
		}
		i, ok := toBig(a)
		j, ok2 := toBig(b)
		if !ok || !ok2 {
			return 0, false
		}
		return i.Cmp(j), true
	}
	if yFloat {
		c, ok := compareNumbers(b, a)
		return -c, ok
	}
	j, ok := toBig(b)
	f := float64(x)
	switch {
	case !ok || math.IsNaN(f):
		return 0, false
	case math.IsInf(f, 1):
		return 1, true
	case math.IsInf(f, -1):
		return -1, true
	}
	return new(big.Float).SetFloat64(f).Cmp(new(big.Float).SetInt(j)), true
}

// order is Python's < on values that have an order: negative if a < b. For
// sequences it goes by the first element that differs.
func (r *run) order(op string, a, b Value, depth int) (int, error) {
	if err := r.step(1); err != nil {
		return 0, err
	}
	if depth > maxDepth {
		return 0, limitf("values nested more than %d deep", maxDepth)
	}
	if s, ok := Text(a); ok {
		if t, ok := Text(b); ok {
			return strings.Compare(s, t), r.step(min(len(s), len(t)) >> 8)
		}
	}
	if c, ok := compareNumbers(a, b); ok {
		return c, nil
	}
	_, listA := a.(*listValue)
	_, listB := b.(*listValue)
	x, seqA := Elements(a)
	y, seqB := Elements(b)
	if seqA && seqB && listA == listB {
		for i := 0; i < len(x) && i < len(y); i++ {
			same, err := r.equalAt(x[i], y[i], depth+1)
			if err != nil {
				return 0, err
			}
			if !same {
				return r.order(op, x[i], y[i], depth+1)
			}
		}
		return cmp.Compare(len(x), len(y)), nil
	}
	for _, v := range []Value{a, b} {
		if u, ok := v.(*undefined); ok {
			return 0, errors.New(u.message)
		}
	}
	if isNumber(a) && isNumber(b) {
		return 0, errNaN
	}
	return 0, fmt.Errorf("%s not supported between instances of %s and %s", quote(op), quote(typeName(a)), quote(typeName(b)))
}

// errNaN says that two numbers have no order, which is false and no failure.
var errNaN = errors.New("NaN has no order")

func isNumber(v Value) bool {
	switch v.(type) {
	case boolValue, intValue, bigValue, floatValue:
		return true
	}
	return false
}

func (r *run) compare(op string, a, b Value) (bool, error) {
	switch op {
	case "==":
		return r.equal(a, b)
	case "!=":
		same, err := r.equal(a, b)
		return !same && err == nil, err
	case "in":
		return r.contains(b, a)
	case "not in":
		found, err := r.contains(b, a)
		return !found && err == nil, err
	}
	c, err := r.order(op, a, b, 0)
	if err != nil {
		if err == errNaN {
			err = nil
		}
		return false, err
	}
	switch op {
	case "<":
		return c < 0, nil
	case "<=":
		return c <= 0, nil
	case ">":
		return c > 0, nil
	}
	return c >= 0, nil
}

// less is the order of |sort.
func (r *run) less(a, b Value) (bool, error) { return r.compare("<", a, b) }

// contains is Python's v in seq.
func (r *run) contains(seq, v Value) (bool, error) {
	switch s := seq.(type) {
	case strValue, markupValue:
		hay, _ := Text(seq)
		needle, ok := Text(v)
		if !ok {
			if u, ok := v.(*undefined); ok {
				return false, fmt.Errorf("'in <string>' requires string as left operand, and %s", u.message)
			}
			return false, fmt.Errorf("'in <string>' requires string as left operand, not %s", typeName(v))
		}
		return strings.Contains(hay, needle), r.read(len(hay))
	case *Map:
		if err := r.key(v, 0); err != nil {
			return false, err
		}
		i, hashable := s.lookup(v)
		if !hashable {
			return false, fmt.Errorf("unhashable type: %s", quote(typeName(v)))
		}
		return i >= 0, nil
	case *viewValue:
		if s.kind == "keys" {
			return r.contains(s.m, v)
		}
	case *rangeValue:
		if f, ok := v.(floatValue); ok && float64(f) == math.Trunc(float64(f)) && math.Abs(float64(f)) < 1<<53 {
			v = intValue(f)
		}
		i, ok := toInt(v)
		n := int64(s.length())
		return ok && n > 0 && (i-s.start)%s.step == 0 && (i-s.start)/s.step >= 0 && (i-s.start)/s.step < n, nil
	}
	it, err := r.iterate(seq)
	if err != nil {
		return false, fmt.Errorf("argument of type %s is not iterable", quote(typeName(seq)))
	}
	for {
		e, ok, err := it()
		if err != nil || !ok {
			return false, err
		}
		same, err := r.equal(e, v)
		if err != nil || same {
			return same, err
		}
	}
}
