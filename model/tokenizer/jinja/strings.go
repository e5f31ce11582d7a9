package jinja

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"unicode"
	"unicode/utf8"
)

// strMethod is a method of Python's str. Its parameters are as bind takes them;
// run gets missing for those not given. What it returns as a string becomes
// Markup if the method was called on Markup.
type strMethod struct {
	params   []string
	required int
	run      func(r *run, s string, a []Value) (Value, error)
	// escapes are the parameters that Markup escapes before it uses them.
	escapes []int
	// raw takes the arguments unbound.
	raw func(r *run, s string, markup bool, args []Value, kwargs []named) (Value, error)
}

func (m strMethod) bound(obj Value, name string) Value {
	s, _ := Text(obj)
	markup := isMarkup(obj)
	return &builtin{name: name, call: func(r *run, args []Value, kwargs []named) (Value, error) {
		if err := r.read(len(s)); err != nil {
			return nil, err
		}
		if m.raw != nil {
			return m.raw(r, s, markup, args, kwargs)
		}
		a, err := bind("str."+name, m.params, m.required, args, kwargs)
		if err != nil {
			return nil, err
		}
		if markup {
			for _, i := range m.escapes {
				if t, ok := a[i].(strValue); ok {
					a[i] = strValue(escapeHTML(string(t)))
				}
			}
		}
		v, err := m.run(r, s, a)
		if err != nil || !markup {
			return v, err
		}
		return asMarkup(v), nil
	}}
}

func asMarkup(v Value) Value {
	switch v := v.(type) {
	case strValue:
		return markupValue(v)
	case *listValue:
		c := &listValue{items: make([]Value, len(v.items))}
		for i, e := range v.items {
			c.items[i] = asMarkup(e)
		}
		return c
	case *tupleValue:
		c := &tupleValue{items: make([]Value, len(v.items))}
		for i, e := range v.items {
			c.items[i] = asMarkup(e)
		}
		return c
	}
	return v
}

var (
	noParams   = []string{}
	oneParam   = []string{""}
	twoParams  = []string{"", ""}
	findParams = []string{"", "", ""}
)

// mapping makes a method of a function from text to text.
func mapping(f func(string) string) strMethod {
	return strMethod{params: noParams, run: func(r *run, s string, _ []Value) (Value, error) {
		if err := r.alloc(int64(len(s))); err != nil {
			return nil, err
		}
		return strValue(f(s)), r.read(2 * len(s))
	}}
}

// predicate makes a method that asks something of every code point; an empty
// string answers empty.
func predicate(empty bool, f func(rune) bool) strMethod {
	return strMethod{params: noParams, run: func(_ *run, s string, _ []Value) (Value, error) {
		for _, c := range s {
			if !f(c) {
				return boolValue(false), nil
			}
		}
		return boolValue(s != "" || empty), nil
	}}
}

func strMethodNamed(name string) (strMethod, bool) {
	m := strMethod{}
	switch name {
	case "upper":
		m = mapping(upper)
	case "lower":
		m = mapping(lower)
	case "title":
		m = mapping(title)
	case "capitalize":
		m = mapping(capitalize)
	case "swapcase":
		m = mapping(swapCase)
	case "casefold":
		m = mapping(casefold)
	case "strip", "lstrip", "rstrip":
		m = strMethod{params: oneParam, run: func(r *run, s string, a []Value) (Value, error) {
			return r.strip(name, s, a[0])
		}}
	case "startswith", "endswith":
		m = strMethod{params: findParams, required: 1, run: func(r *run, s string, a []Value) (Value, error) {
			return r.affix(name, s, a)
		}}
	case "find", "index", "rfind", "rindex", "count":
		m = strMethod{params: findParams, required: 1, run: func(r *run, s string, a []Value) (Value, error) {
			return findText(name, s, a)
		}}
	case "replace":
		m = strMethod{params: findParams, required: 2, escapes: []int{1}, run: func(r *run, s string, a []Value) (Value, error) {
			old, err := needText("replace", a[0])
			if err != nil {
				return nil, err
			}
			repl, err := needText("replace", a[1])
			if err != nil {
				return nil, err
			}
			count, err := intOr("replace", a[2], -1)
			if err != nil {
				return nil, err
			}
			return r.replaceText(s, old, repl, count)
		}}
	case "split", "rsplit":
		m = strMethod{params: []string{"sep", "maxsplit"}, run: func(r *run, s string, a []Value) (Value, error) {
			most, err := intOr(name, a[1], -1)
			if err != nil {
				return nil, err
			}
			if orNone(a[0]) == nil {
				return r.splitSpace(s, most, name == "rsplit")
			}
			sep, err := needText(name, a[0])
			if err != nil {
				return nil, err
			}
			return r.splitText(s, sep, most, name == "rsplit")
		}}
	case "partition", "rpartition":
		m = strMethod{params: oneParam, required: 1, run: func(_ *run, s string, a []Value) (Value, error) {
			sep, err := needText(name, a[0])
			if err != nil {
				return nil, err
			}
			return partition(s, sep, name == "rpartition")
		}}
	case "splitlines":
		m = strMethod{params: []string{"keepends"}, run: func(r *run, s string, a []Value) (Value, error) {
			return r.splitLines(s, a[0] != missing && r.truth(a[0]))
		}}
	case "join":
		m = strMethod{raw: joinMethod}
	case "format", "format_map":
		m = strMethod{raw: func(r *run, s string, markup bool, args []Value, kwargs []named) (Value, error) {
			return r.formatMethod(name, s, markup, args, kwargs)
		}}
	case "removeprefix", "removesuffix":
		m = strMethod{params: oneParam, required: 1, run: func(_ *run, s string, a []Value) (Value, error) {
			part, err := needText(name, a[0])
			if err != nil {
				return nil, err
			}
			if name == "removeprefix" {
				return strValue(strings.TrimPrefix(s, part)), nil
			}
			return strValue(strings.TrimSuffix(s, part)), nil
		}}
	case "center", "ljust", "rjust":
		m = strMethod{params: twoParams, required: 1, escapes: []int{1}, run: func(r *run, s string, a []Value) (Value, error) {
			return r.justify(name, s, a[0], a[1])
		}}
	case "zfill":
		m = strMethod{params: oneParam, required: 1, run: func(r *run, s string, a []Value) (Value, error) {
			width, err := needInt("zfill", a[0])
			if err != nil {
				return nil, err
			}
			sign := ""
			if s != "" && (s[0] == '-' || s[0] == '+') {
				sign, s = s[:1], s[1:]
			}
			t := text{m: &r.meter}
			t.write(sign)
			t.fill("0", int(min(width, math.MaxInt32))-len(sign)-utf8.RuneCountInString(s))
			t.write(s)
			v, err := t.result()
			return strValue(v), err
		}}
	case "expandtabs":
		m = strMethod{params: []string{"tabsize"}, run: func(r *run, s string, a []Value) (Value, error) {
			size, err := intOr("expandtabs", a[0], 8)
			if err != nil {
				return nil, err
			}
			return r.expandTabs(s, int(min(size, math.MaxInt32)))
		}}
	case "isascii":
		m = predicate(true, func(c rune) bool { return c < 0x80 })
	case "isprintable":
		m = predicate(true, unicode.IsPrint)
	case "isalpha":
		m = predicate(false, unicode.IsLetter)
	case "isdecimal":
		m = predicate(false, func(c rune) bool { return unicode.Is(unicode.Nd, c) })
	case "isdigit":
		m = predicate(false, isDigit)
	case "isnumeric":
		m = predicate(false, isNumeric)
	case "isalnum":
		m = predicate(false, func(c rune) bool { return unicode.IsLetter(c) || isNumeric(c) })
	case "isspace":
		m = predicate(false, isSpace)
	case "isidentifier":
		m = strMethod{params: noParams, run: func(_ *run, s string, _ []Value) (Value, error) {
			return boolValue(s != "" && scanName(s) == len(s)), nil
		}}
	case "islower":
		m = caseTest(isLower)
	case "isupper":
		m = caseTest(isUpper)
	case "istitle":
		m = caseTest(isTitle)
	default:
		return m, false
	}
	return m, true
}

func caseTest(f func(string) bool) strMethod {
	return strMethod{params: noParams, run: func(_ *run, s string, _ []Value) (Value, error) {
		return boolValue(f(s)), nil
	}}
}

func isLower(s string) bool {
	found := false
	for _, c := range s {
		if unicode.IsUpper(c) || unicode.IsTitle(c) {
			return false
		}
		found = found || cased(c)
	}
	return found
}

func isUpper(s string) bool {
	found := false
	for _, c := range s {
		if unicode.IsUpper(c) {
			found = true
		} else if cased(c) {
			return false
		}
	}
	return found
}

func isTitle(s string) bool {
	found, inWord := false, false
	for _, c := range s {
		switch {
		case unicode.IsUpper(c) || unicode.IsTitle(c):
			if inWord {
				return false
			}
			found, inWord = true, true
		case cased(c):
			if !inWord {
				return false
			}
		default:
			inWord = false
		}
	}
	return found
}

// isDigit is Python's: decimal digits and the digits set above and below.
func isDigit(c rune) bool {
	return unicode.Is(unicode.Nd, c) || c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 ||
		c >= 0x2074 && c <= 0x2079 || c >= 0x2080 && c <= 0x2089 || c >= 0x2460 && c <= 0x2468
}

func isNumeric(c rune) bool {
	return unicode.In(c, unicode.Nd, unicode.Nl, unicode.No) || c < 0x10000 && c >= 0x3400 && strings.ContainsRune("\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341\u767e\u5343\u842c\u4e07\u4ebf\u5146\u58f9\u8d30\u53c1\u8086\u4f0d\u9646\u67d2\u634c\u7396\u62fe\u4f70\u4edf", c)
}

func needText(function string, v Value) (string, error) {
	if s, ok := Text(v); ok {
		return s, nil
	}
	if u, ok := v.(*undefined); ok {
		return "", errors.New(u.message)
	}
	return "", fmt.Errorf("%s needs a str, not %s", function, typeName(v))
}

func needInt(function string, v Value) (int64, error) {
	if i, ok := toInt(v); ok {
		return i, nil
	}
	if u, ok := v.(*undefined); ok {
		return 0, errors.New(u.message)
	}
	return 0, fmt.Errorf("%s needs an int, not %s", function, typeName(v))
}

func intOr(function string, v Value, otherwise int64) (int64, error) {
	if v == missing {
		return otherwise, nil
	}
	return needInt(function, v)
}
