package jinja

import (
	"fmt"
	"iter"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// Value is a Python value as templates see it. A nil Value is None; the others
// come from the constructors of this package and ParseJSON, and are *Map for a
// dict. Templates never change a Value that they were given, so one may be shared
// between renders.
type Value interface {
	// typeName is the name Python's type() would show.
	typeName() string
}

type (
	boolValue   bool
	intValue    int64
	bigValue    struct{ *big.Int } // outside the range of int64; see normInt
	floatValue  float64
	strValue    string
	markupValue string // a markupsafe.Markup: what |safe and |escape return
	listValue   struct{ items []Value }
	tupleValue  struct {
		items []Value
		named bool // the (grouper, list) pairs of |groupby
	}
	rangeValue struct{ start, stop, step int64 }
	// missingValue marks a slot without a value and an argument that was not
	// passed; it never reaches a template.
	missingValue struct{}
)

var missing Value = missingValue{}

func (boolValue) typeName() string    { return "bool" }
func (intValue) typeName() string     { return "int" }
func (bigValue) typeName() string     { return "int" }
func (floatValue) typeName() string   { return "float" }
func (strValue) typeName() string     { return "str" }
func (markupValue) typeName() string  { return "Markup" }
func (*listValue) typeName() string   { return "list" }
func (*tupleValue) typeName() string  { return "tuple" }
func (*rangeValue) typeName() string  { return "range" }
func (*Map) typeName() string         { return "dict" }
func (missingValue) typeName() string { return "missing" }

func typeName(v Value) string {
	if v == nil {
		return "NoneType"
	}
	return v.typeName()
}

// Bool returns b as a value.
func Bool(b bool) Value { return boolValue(b) }

// Int returns i as a value.
func Int(i int64) Value { return intValue(i) }

// Float returns f as a value.
func Float(f float64) Value { return floatValue(f) }

// String returns s as a value; what is not UTF-8 in it becomes U+FFFD.
func String(s string) Value { return strValue(strings.ToValidUTF8(s, "\uFFFD")) }

// List returns a list of the given elements, which it keeps.
func List(elements ...Value) Value { return &listValue{items: elements} }

// Tuple returns a tuple of the given elements, which it keeps.
func Tuple(elements ...Value) Value { return &tupleValue{items: elements} }

// Text returns the text of a string value, and whether v is one.
func Text(v Value) (string, bool) {
	switch v := v.(type) {
	case strValue:
		return string(v), true
	case markupValue:
		return string(v), true
	}
	return "", false
}

// Elements returns the elements of a list or tuple, not to be changed, and
// whether v is one.
func Elements(v Value) ([]Value, bool) {
	switch v := v.(type) {
	case *listValue:
		return v.items, true
	case *tupleValue:
		return v.items, true
	}
	return nil, false
}

// Map is a dict: it keeps the order in which keys were first set. The zero Map
// is empty and ready to use. It must not be changed once a render can see it.
type Map struct {
	keys, vals []Value
	// strs and others find the position of a key; they exist from indexFrom keys
	// on. A key that is not a string is filed under hashKey.
	strs, others map[string]int
}

// indexFrom is the length from which a Map is indexed; a message has fewer keys,
// and scanning them is faster than hashing.
const indexFrom = 9

// NewMap returns an empty Map.
func NewMap() *Map { return &Map{} }

// Len returns the number of keys.
func (m *Map) Len() int { return len(m.keys) }

// Get returns the value under a string key, and whether there is one.
func (m *Map) Get(key string) (Value, bool) {
	if i := m.find(key); i >= 0 {
		return m.vals[i], true
	}
	return nil, false
}

// Set puts v under a string key: in its old place if the key exists, else last.
func (m *Map) Set(key string, v Value) {
	if i := m.find(key); i >= 0 {
		m.vals[i] = v
		return
	}
	m.push(strValue(key), v)
}

// All yields the entries with string keys, in order.
func (m *Map) All() iter.Seq2[string, Value] {
	return func(yield func(string, Value) bool) {
		for i, k := range m.keys {
			if s, ok := Text(k); ok && !yield(s, m.vals[i]) {
				return
			}
		}
	}
}

func (m *Map) find(key string) int {
	if m.strs != nil {
		if i, ok := m.strs[key]; ok {
			return i
		}
		return -1
	}
	for i, k := range m.keys {
		if s, ok := k.(strValue); ok && string(s) == key {
			return i
		}
		if s, ok := k.(markupValue); ok && string(s) == key {
			return i
		}
	}
	return -1
}

// lookup finds a key of any kind; hashable is false for a list, a dict and the
// like, which Python refuses as keys.
func (m *Map) lookup(key Value) (i int, hashable bool) {
	if s, ok := Text(key); ok {
		return m.find(s), true
	}
	h, ok := hashKey(key)
	if !ok {
		return -1, false
	}
	if m.others != nil {
		if i, ok := m.others[h]; ok {
			return i, true
		}
		return -1, true
	}
	for i, k := range m.keys {
		if _, isStr := Text(k); isStr {
			continue
		}
		if kh, _ := hashKey(k); kh == h {
			return i, true
		}
	}
	return -1, true
}

// put is Set for keys of any kind; it reports whether the key is hashable.
func (m *Map) put(key, v Value) bool {
	i, ok := m.lookup(key)
	if !ok {
		return false
	}
	if i >= 0 {
		m.vals[i] = v
	} else {
		m.push(key, v)
	}
	return true
}

func (m *Map) push(key, v Value) {
	m.keys = append(m.keys, key)
	m.vals = append(m.vals, v)
	switch n := len(m.keys); {
	case n == indexFrom:
		m.strs, m.others = make(map[string]int, 2*n), map[string]int{}
		for i, k := range m.keys {
			m.file(k, i)
		}
	case n > indexFrom:
		m.file(key, n-1)
	}
}

func (m *Map) file(key Value, i int) {
	if s, ok := Text(key); ok {
		m.strs[s] = i
		return
	}
	h, _ := hashKey(key)
	m.others[h] = i
}

func (m *Map) clone() *Map {
	c := &Map{keys: make([]Value, 0, len(m.keys)), vals: make([]Value, 0, len(m.vals))}
	for i, k := range m.keys {
		c.push(k, m.vals[i])
	}
	return c
}

// hashKey returns a string that is equal exactly for keys that Python holds
// equal (1, 1.0 and True are one key), and whether v can be a key at all.
func hashKey(v Value) (string, bool) {
	b, ok := appendKey(nil, v, 0)
	return string(b), ok
}

// appendKey appends the key of v, of which the end can be told from what follows.
func appendKey(b []byte, v Value, depth int) ([]byte, bool) {
	if s, ok := Text(v); ok {
		b = append(strconv.AppendInt(append(b, 's'), int64(len(s)), 10), ':')
		return append(b, s...), true
	}
	switch v := v.(type) {
	case nil:
		return append(b, 'n'), true
	case boolValue, intValue:
		i, _ := toInt(v)
		return append(strconv.AppendInt(append(b, 'i'), i, 10), ';'), true
	case bigValue:
		return append(v.Append(append(b, 'i'), 10), ';'), true
	case floatValue:
		f := float64(v)
		if f == math.Trunc(f) && !math.IsInf(f, 0) {
			i, _ := big.NewFloat(f).Int(nil)
			return append(i.Append(append(b, 'i'), 10), ';'), true
		}
		return append(strconv.AppendUint(append(b, 'f'), math.Float64bits(f), 16), ';'), true
	case *tupleValue:
		if depth > maxDepth {
			return nil, false
		}
		b = append(strconv.AppendInt(append(b, 't'), int64(len(v.items)), 10), ':')
		for _, e := range v.items {
			var ok bool
			// The bound keeps a tuple of shared tuples from growing without end.
			if b, ok = appendKey(b, e, depth+1); !ok || len(b) > maxKeyBytes {
				return nil, false
			}
		}
		return b, true
	case *undefined:
		return append(b, 'u'), true
	case *generator, *macro, *builtin, *namespace, *loopContext, *cycler, *joiner:
		// Objects without equality are keys by identity.
		return fmt.Appendf(b, "p%p;", v), true
	case *rangeValue:
		return fmt.Appendf(b, "r%d:%d:%d;", v.start, v.stop, v.step), true
	}
	return nil, false
}

// maxKeyBytes bounds the hash of a tuple used as a key.
const maxKeyBytes = 1 << 20

// undefined is jinja2's Undefined: it prints as nothing, is false and iterates
// as empty; whatever else is done with it fails with its message.
type undefined struct {
	message string
}

func (*undefined) typeName() string { return "Undefined" }

func undefinedName(name string) *undefined {
	return &undefined{message: quote(name) + " is undefined"}
}

// undefinedAttribute is the result of a lookup that found nothing in obj.
func undefinedAttribute(obj, name Value) *undefined {
	what := typeName(obj) + " object"
	if obj == nil {
		what = "None"
	}
	if s, ok := Text(name); ok {
		return &undefined{message: quote(what) + " has no attribute " + quote(s)}
	}
	return &undefined{message: what + " has no element " + shortRepr(name)}
}

// unsafeAttribute is what the sandbox returns for an attribute it withholds.
func unsafeAttribute(obj Value, name string) *undefined {
	return &undefined{message: "access to attribute " + quote(name) + " of " + quote(typeName(obj)) + " object is unsafe"}
}
