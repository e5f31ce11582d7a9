package jinja

import (
	"errors"
	"fmt"
	"strings"
)

// testFunc is what stands behind `is`.
type testFunc func(r *run, v Value, args []Value, kwargs []named) (bool, error)

// plainTest makes a test without arguments.
func plainTest(name string, f func(r *run, v Value) (bool, error)) testFunc {
	return func(r *run, v Value, args []Value, kwargs []named) (bool, error) {
		if len(args)+len(kwargs) > 0 {
			return false, fmt.Errorf("test %s takes no arguments", quote(name))
		}
		return f(r, v)
	}
}

// pairTest makes a test against another value.
func pairTest(name, param string, f func(r *run, v, other Value) (bool, error)) testFunc {
	return func(r *run, v Value, args []Value, kwargs []named) (bool, error) {
		a, err := bind("test "+quote(name), []string{param}, 1, args, kwargs)
		if err != nil {
			return false, err
		}
		return f(r, v, a[0])
	}
}

func comparisonTest(name, op string) testFunc {
	return pairTest(name, "", func(r *run, v, other Value) (bool, error) { return r.compare(op, v, other) })
}

// testNamed returns a test of jinja2's, or nil.
func testNamed(name string) testFunc {
	plain := func(f func(r *run, v Value) (bool, error)) testFunc { return plainTest(name, f) }
	is := func(f func(v Value) bool) testFunc {
		return plainTest(name, func(_ *run, v Value) (bool, error) { return f(v), nil })
	}
	switch name {
	case "defined":
		return is(func(v Value) bool { return !isUndefined(v) })
	case "undefined":
		return is(isUndefined)
	case "none":
		return is(func(v Value) bool { return v == nil })
	case "boolean":
		return is(func(v Value) bool { _, ok := v.(boolValue); return ok })
	case "true":
		return is(func(v Value) bool { return v == boolValue(true) })
	case "false":
		return is(func(v Value) bool { return v == boolValue(false) })
	case "integer":
		return is(func(v Value) bool { _, ok := v.(boolValue); _, isInt := toBigFast(v); return isInt && !ok })
	case "float":
		return is(func(v Value) bool { _, ok := v.(floatValue); return ok })
	case "number":
		return is(isNumber)
	case "string":
		return is(func(v Value) bool { _, ok := Text(v); return ok })
	case "mapping":
		return is(func(v Value) bool { _, ok := v.(*Map); return ok })
	case "sequence":
		return is(isSequence)
	case "iterable":
		return is(iterable)
	case "callable":
		return is(isCallable)
	case "escaped":
		return is(isMarkup)
	case "lower":
		return plain(func(r *run, v Value) (bool, error) {
			s, err := r.str(v)
			return isLower(s), err
		})
	case "upper":
		return plain(func(r *run, v Value) (bool, error) {
			s, err := r.str(v)
			return isUpper(s), err
		})
	case "odd", "even":
		return plain(func(r *run, v Value) (bool, error) {
			m, err := r.binary("%", v, intValue(2))
			if err != nil {
				return false, err
			}
			want := intValue(0)
			if name == "odd" {
				want = 1
			}
			return r.equal(m, want)
		})
	case "divisibleby":
		return pairTest(name, "num", func(r *run, v, num Value) (bool, error) {
			m, err := r.binary("%", v, num)
			if err != nil {
				return false, err
			}
			return r.equal(m, intValue(0))
		})
	case "filter":
		return plain(func(_ *run, v Value) (bool, error) {
			s, ok := Text(v)
			return ok && filterNamed(s) != nil, nil
		})
	case "test":
		return plain(func(_ *run, v Value) (bool, error) {
			s, ok := Text(v)
			return ok && testNamed(s) != nil, nil
		})
	case "sameas":
		return pairTest(name, "other", func(r *run, v, other Value) (bool, error) { return same(v, other), nil })
	case "in":
		return pairTest(name, "seq", func(r *run, v, seq Value) (bool, error) { return r.contains(seq, v) })
	case "==", "eq", "equalto":
		return comparisonTest(name, "==")
	case "!=", "ne":
		return comparisonTest(name, "!=")
	case ">", "gt", "greaterthan":
		return comparisonTest(name, ">")
	case ">=", "ge":
		return comparisonTest(name, ">=")
	case "<", "lt", "lessthan":
		return comparisonTest(name, "<")
	case "<=", "le":
		return comparisonTest(name, "<=")
	}
	return nil
}

func isUndefined(v Value) bool {
	_, ok := v.(*undefined)
	return ok
}

// isSequence follows jinja2: what has a length and can be indexed, a dict too.
func isSequence(v Value) bool {
	switch v.(type) {
	case *viewValue, *loopContext:
		return false
	}
	_, ok := lengthOf(v)
	return ok
}

func isCallable(v Value) bool {
	switch v.(type) {
	case *builtin, *macro, *loopContext, *joiner, *undefined:
		return true
	}
	return false
}

// same is Python's `is`, as far as it can be told: equal constants, strings and
// small numbers of one type are one object, containers only with themselves.
func same(a, b Value) bool {
	if x, ok := a.(bigValue); ok {
		y, ok := b.(bigValue)
		return ok && x.Int == y.Int
	}
	return a == b
}

// selectBy returns the test that the arguments of |select and its kin name: by
// default the truth of the value.
func (r *run) selectBy(args []Value, kwargs []named) (func(Value) (bool, error), error) {
	if len(args) == 0 {
		if len(kwargs) > 0 {
			return nil, errors.New("the test to select by is missing")
		}
		return func(v Value) (bool, error) { return r.truth(v), nil }, nil
	}
	name, err := needText("select", args[0])
	if err != nil {
		return nil, err
	}
	test := testNamed(name)
	if test == nil {
		return nil, fmt.Errorf("no test named %s", quote(name))
	}
	rest := args[1:]
	return func(v Value) (bool, error) { return test(r, v, rest, kwargs) }, nil
}

// path looks up the dotted attribute of |map(attribute=...) and its kin; parts
// that are digits are indices. A part that is not found becomes otherwise, if
// that is given.
func (r *run) path(attribute Value, otherwise Value) (func(Value) (Value, error), error) {
	var parts []Value
	switch a := attribute.(type) {
	case nil:
	case strValue, markupValue:
		s, _ := Text(a)
		if err := r.read(len(s) << 3); err != nil {
			return nil, err
		}
		for _, part := range strings.Split(s, ".") {
			if strings.Trim(part, "0123456789") == "" && part != "" {
				i, err := parseInt(part, 10)
				if err != nil {
					return nil, err
				}
				parts = append(parts, i)
				continue
			}
			parts = append(parts, strValue(part))
		}
	default:
		parts = []Value{a}
	}
	return func(v Value) (Value, error) {
		for _, part := range parts {
			if err := r.step(1); err != nil {
				return nil, err
			}
			var err error
			if v, err = r.getitem(v, part); err != nil {
				return nil, err
			}
			if isUndefined(v) && otherwise != nil {
				v = otherwise
			}
		}
		return v, nil
	}, nil
}
