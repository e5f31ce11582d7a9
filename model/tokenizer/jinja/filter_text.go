package jinja

import (
	"errors"
	"fmt"
	"html"
	"math"
	"strings"
	"unicode/utf8"
)

func filterAttr(r *run, v Value, a []Value) (Value, error) {
	name, err := needText("attr", a[0])
	if err != nil {
		return nil, err
	}
	if m, ok := v.(*Map); ok && strings.HasPrefix(name, "__") {
		return nil, errors.New(unsafeAttribute(m, name).message)
	}
	got, err := r.attribute(v, name)
	if err == nil && got == missing {
		return undefinedAttribute(v, strValue(name)), nil
	}
	return got, err
}

func filterReplace(r *run, v Value, a []Value) (Value, error) {
	var s [3]string
	for i, x := range []Value{v, a[0], a[1]} {
		var err error
		if s[i], err = r.str(x); err != nil {
			return nil, err
		}
	}
	count := int64(-1)
	if orNone(a[2]) != nil {
		var err error
		if count, err = needInt("replace", a[2]); err != nil {
			return nil, err
		}
	}
	return r.replaceText(s[0], s[1], s[2], count)
}

func filterJoin(r *run, v Value, a []Value) (Value, error) {
	sep := ""
	if a[0] != missing {
		var err error
		if sep, err = r.str(a[0]); err != nil {
			return nil, err
		}
	}
	get, err := r.path(orNone(a[1]), nil)
	if err != nil {
		return nil, err
	}
	it, err := r.iterate(v)
	if err != nil {
		return nil, err
	}
	t := text{m: &r.meter}
	for first := true; ; first = false {
		e, ok, err := it()
		if err != nil {
			return nil, err
		}
		if !ok {
			break
		}
		if err := r.step(1); err != nil {
			return nil, err
		}
		if e, err = get(e); err != nil {
			return nil, err
		}
		if !first {
			t.write(sep)
		}
		r.writeStr(&t, e, 0)
		if t.err != nil {
			break
		}
	}
	s, err := t.result()
	return strValue(s), err
}

func filterFormat(r *run, v Value, args []Value, kwargs []named) (Value, error) {
	if len(args) > 0 && len(kwargs) > 0 {
		return nil, errors.New("format cannot handle positional and keyword arguments at the same time")
	}
	s, err := r.soft(v)
	if err != nil {
		return nil, err
	}
	plain, _ := Text(s)
	if len(kwargs) > 0 {
		m := NewMap()
		for _, k := range kwargs {
			m.Set(k.name, k.value)
		}
		return r.percent(plain, m, isMarkup(s))
	}
	return r.percent(plain, &tupleValue{items: args}, isMarkup(s))
}

func filterIndent(r *run, v Value, a []Value) (Value, error) {
	indent := "    "
	if a[0] != missing {
		if s, ok := Text(a[0]); ok {
			indent = s
		} else {
			n, err := needInt("indent", a[0])
			if err != nil {
				return nil, err
			}
			t := text{m: &r.meter}
			t.fill(" ", int(min(n, math.MaxInt32)))
			if indent, err = t.result(); err != nil {
				return nil, err
			}
		}
	}
	s, ok := Text(v)
	if !ok {
		return nil, operandError("+", v, strValue(""))
	}
	markup := isMarkup(v)
	if markup {
		indent = escapeHTML(indent)
	}
	if err := r.read(len(s)); err != nil {
		return nil, err
	}
	lines, err := r.lines(s+"\n", false)
	if err != nil {
		return nil, err
	}
	first := a[1] != missing && r.truth(a[1])
	blank := a[2] != missing && r.truth(a[2])
	t := text{m: &r.meter}
	for i, line := range lines {
		switch {
		case i == 0 && first:
			t.write(indent)
		case i == 0:
		case line != "" || blank:
			t.write("\n" + indent)
		default:
			t.write("\n")
		}
		t.write(line)
	}
	out, err := t.result()
	return strLike(out, markup), err
}

func filterTitle(r *run, v Value, _ []Value) (Value, error) {
	s, err := r.soft(v)
	if err != nil {
		return nil, err
	}
	plain, _ := Text(s)
	if err := r.alloc(2 * int64(len(plain))); err != nil {
		return nil, err
	}
	var b strings.Builder
	breaks := func(c rune) bool { return strings.ContainsRune("-({[<", c) || isSpace(c) }
	for plain != "" {
		n := strings.IndexFunc(plain, breaks)
		if n < 0 {
			n = len(plain)
		}
		_, w := utf8.DecodeRuneInString(plain)
		if n > 0 {
			b.WriteString(upper(plain[:w]))
			b.WriteString(lower(plain[w:n]))
		}
		plain = plain[n:]
		n = strings.IndexFunc(plain, func(c rune) bool { return !breaks(c) })
		if n < 0 {
			n = len(plain)
		}
		b.WriteString(plain[:n])
		plain = plain[n:]
	}
	return strLike(b.String(), isMarkup(s)), r.read(b.Len())
}

func filterTruncate(r *run, v Value, a []Value) (Value, error) {
	length, err := intOr("truncate", a[0], 255)
	if err != nil {
		return nil, err
	}
	end := "..."
	if a[2] != missing {
		if end, err = needText("truncate", a[2]); err != nil {
			return nil, err
		}
	}
	leeway := int64(5)
	if orNone(a[3]) != nil {
		if leeway, err = needInt("truncate", a[3]); err != nil {
			return nil, err
		}
	}
	endLength, _ := lengthOf(strValue(end))
	if length < int64(endLength) || leeway < 0 {
		return nil, fmt.Errorf("truncate needs a length of at least %d and a leeway of at least 0", endLength)
	}
	n, err := r.length(v)
	if err != nil {
		return nil, err
	}
	if int64(n) <= length || int64(n)-length <= leeway {
		return v, nil
	}
	s, err := needText("truncate", v)
	if err != nil {
		return nil, err
	}
	cut := truncateRunes(s, int(length)-endLength)
	if a[1] == missing || !r.truth(a[1]) {
		if at := strings.LastIndexByte(cut, ' '); at >= 0 {
			cut = cut[:at]
		}
	}
	if err := r.alloc(int64(len(cut) + len(end))); err != nil {
		return nil, err
	}
	return strLike(cut+end, isMarkup(v)), nil
}

func filterStripTags(r *run, v Value, _ []Value) (Value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	if err := r.alloc(2 * int64(len(s))); err != nil {
		return nil, err
	}
	if err := r.read(4 * len(s)); err != nil {
		return nil, err
	}
	cut := func(s, open, end string) string {
		var b strings.Builder
		for {
			i := strings.Index(s, open)
			if i < 0 {
				break
			}
			j := strings.Index(s[i:], end)
			if j < 0 {
				break
			}
			b.WriteString(s[:i])
			s = s[i+j+len(end):]
		}
		b.WriteString(s)
		return b.String()
	}
	s = cut(cut(s, "<!--", "-->"), "<", ">")
	return strValue(html.UnescapeString(strings.Join(strings.FieldsFunc(s, isSpace), " "))), nil
}

func filterWordCount(r *run, v Value, _ []Value) (Value, error) {
	s, err := r.str(v)
	if err != nil {
		return nil, err
	}
	n := 0
	inWord := false
	for _, c := range s {
		w := isWord(c)
		if w && !inWord {
			n++
		}
		inWord = w
	}
	return intValue(n), r.read(len(s))
}

func filterURLEncode(r *run, v Value, _ []Value) (Value, error) {
	t := text{m: &r.meter}
	if s, ok := Text(v); ok || !iterable(v) {
		var err error
		if !ok {
			if s, err = r.str(v); err != nil {
				return nil, err
			}
		}
		urlQuote(&t, s, false)
		out, err := t.result()
		return strValue(out), err
	}
	if m, ok := v.(*Map); ok {
		v = &viewValue{m: m, kind: "items"}
	}
	items, err := r.list(v)
	if err != nil {
		return nil, err
	}
	for i, e := range items {
		pair, err := r.unpack(e, 2)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			t.write("&")
		}
		for j, part := range pair {
			s, err := r.str(part)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				t.write("=")
			}
			urlQuote(&t, s, true)
		}
	}
	out, err := t.result()
	return strValue(out), err
}

func urlQuote(t *text, s string, query bool) {
	for i := range len(s) {
		c := s[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("_.-~", c) >= 0, c == '/' && !query:
			t.write(s[i : i+1])
		case c == ' ' && query:
			t.write("+")
		default:
			t.write(fmt.Sprintf("%%%02X", c))
		}
		if t.err != nil {
			return
		}
	}
}

func filterXMLAttr(r *run, v Value, a []Value) (Value, error) {
	m, ok := v.(*Map)
	if !ok {
		return nil, fmt.Errorf("xmlattr needs a mapping, not %s", typeName(v))
	}
	t := text{m: &r.meter}
	space := a[0] == missing || r.truth(a[0])
	for i, k := range m.keys {
		if m.vals[i] == nil || isUndefined(m.vals[i]) {
			continue
		}
		key, err := needText("xmlattr", k)
		if err != nil {
			return nil, err
		}
		if strings.ContainsAny(key, " \t\n\r\f\v/>=") {
			return nil, fmt.Errorf("invalid character in attribute name: %s", quote(key))
		}
		if space {
			t.write(" ")
		}
		space = true
		r.writeEscaped(&t, k)
		t.write(`="`)
		r.writeEscaped(&t, m.vals[i])
		t.write(`"`)
	}
	s, err := t.result()
	return strValue(s), err
}

func filterToJSON(r *run, v Value, a []Value) (Value, error) {
	style := jsonStyle{item: ", ", key: ": "}
	style.ascii = a[0] != missing && r.truth(a[0])
	style.sort = a[3] != missing && r.truth(a[3])
	if indent := orNone(a[1]); indent != nil {
		style.lines = true
		style.item = ","
		if s, ok := Text(indent); ok {
			style.indent = s
		} else {
			n, err := needInt("tojson", indent)
			if err != nil {
				return nil, err
			}
			t := text{m: &r.meter}
			t.fill(" ", int(min(n, math.MaxInt32)))
			if style.indent, err = t.result(); err != nil {
				return nil, err
			}
		}
	}
	if seps := orNone(a[2]); seps != nil {
		pair, err := r.unpack(seps, 2)
		if err != nil {
			return nil, err
		}
		if style.item, err = needText("tojson", pair[0]); err != nil {
			return nil, err
		}
		if style.key, err = needText("tojson", pair[1]); err != nil {
			return nil, err
		}
	}
	s, err := r.dumps(v, style)
	return strValue(s), err
}
