package jinja

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// str is Python's str().
func (r *run) str(v Value) (string, error) {
	if s, ok := Text(v); ok {
		return s, nil
	}
	t := text{m: &r.meter}
	r.writeStr(&t, v, 0)
	return t.result()
}

// writeStr writes str(v), which is repr(v) but for strings and Undefined.
func (r *run) writeStr(t *text, v Value, depth int) {
	switch v := v.(type) {
	case strValue:
		t.write(string(v))
	case markupValue:
		t.write(string(v))
	case *undefined:
	default:
		r.writeRepr(t, v, depth)
	}
}

func (r *run) repr(v Value) (string, error) {
	t := text{m: &r.meter}
	r.writeRepr(&t, v, 0)
	return t.result()
}

// enter counts a value that is about to be written to t, so deep within another, and reports whether it may be.
func (r *run) enter(t *text, depth int) bool {
	if t.err != nil {
		return false
	}
	if err := r.step(1); err != nil {
		t.fail(err)
	} else if depth > maxDepth {
		t.fail(limitf("values nested more than %d deep", maxDepth))
	}
	return t.err == nil
}

// writeRepr writes repr(v). Objects without a literal form print as Python's do,
// without the address.
func (r *run) writeRepr(t *text, v Value, depth int) {
	if !r.enter(t, depth) {
		return
	}
	switch v := v.(type) {
	case nil:
		t.write("None")
	case boolValue:
		if v {
			t.write("True")
		} else {
			t.write("False")
		}
	case intValue:
		t.write(strconv.FormatInt(int64(v), 10))
	case bigValue:
		if err := r.step(v.BitLen() >> 3); err != nil {
			t.fail(err)
			return
		}
		s, err := formatInt(v.Int)
		if err != nil {
			t.fail(err)
			return
		}
		t.write(s)
	case floatValue:
		t.write(formatFloat(float64(v)))
	case strValue:
		// Escapes may make it several times as long before that can be counted.
		if err := r.alloc(int64(len(v))); err != nil {
			t.fail(err)
			return
		}
		t.write(reprString(string(v)))
	case markupValue:
		t.write("Markup(" + reprString(string(v)) + ")")
	case *undefined:
		t.write("Undefined")
	case *listValue:
		r.writeOnce(t, v, "[...]", func() { r.writeElements(t, "[", v.items, "]", depth) })
	case *tupleValue:
		end := ")"
		if len(v.items) == 1 {
			end = ",)"
		}
		r.writeOnce(t, v, "(...)", func() { r.writeElements(t, "(", v.items, end, depth) })
	case *Map:
		r.writeOnce(t, v, "{...}", func() { r.writeDict(t, v, depth) })
	case *viewValue:
		if err := r.alloc(48 * int64(len(v.m.keys))); err != nil {
			t.fail(err)
			return
		}
		items := make([]Value, len(v.m.keys))
		for i := range items {
			items[i] = v.at(i)
		}
		r.writeElements(t, v.typeName()+"([", items, "])", depth)
	case *rangeValue:
		t.write(fmt.Sprintf("range(%d, %d", v.start, v.stop))
		if v.step != 1 {
			t.write(fmt.Sprintf(", %d", v.step))
		}
		t.write(")")
	case *namespace:
		t.write("<Namespace ")
		r.namespaces++
		r.writeRepr(t, v.attrs, depth+1)
		r.namespaces--
		t.write(">")
	case *macro:
		if v.def.name == "" {
			t.write("<Macro None>")
		} else {
			t.write("<Macro " + reprString(v.def.name) + ">")
		}
	case *loopContext:
		n, err := v.total(r)
		if err != nil {
			t.fail(err)
			return
		}
		t.write(fmt.Sprintf("<LoopContext %d/%d>", v.index+1, n))
	case *generator:
		t.write("<generator object " + v.name + ">")
	case *builtin:
		t.write("<built-in function " + v.name + ">")
	default:
		t.write("<" + typeName(v) + " object>")
	}
}

// writeOnce writes a container, or only dots if that stands inside itself, which
// only a namespace on the way makes possible.
func (r *run) writeOnce(t *text, v Value, dots string, write func()) {
	if r.namespaces > 0 {
		if err := r.step(len(r.printing) >> 3); err != nil {
			t.fail(err)
			return
		}
		if slices.Contains(r.printing, v) {
			t.write(dots)
			return
		}
	}
	r.printing = append(r.printing, v)
	write()
	r.printing = r.printing[:len(r.printing)-1]
}

func (r *run) writeElements(t *text, open string, items []Value, end string, depth int) {
	t.write(open)
	for i, e := range items {
		if t.err != nil {
			return
		}
		if i > 0 {
			t.write(", ")
		}
		r.writeRepr(t, e, depth+1)
	}
	t.write(end)
}

func (r *run) writeDict(t *text, m *Map, depth int) {
	t.write("{")
	for i, k := range m.keys {
		if t.err != nil {
			return
		}
		if i > 0 {
			t.write(", ")
		}
		r.writeRepr(t, k, depth+1)
		t.write(": ")
		r.writeRepr(t, m.vals[i], depth+1)
	}
	t.write("}")
}

// reprString is Python's repr of a string: single quotes unless it holds only
// single ones, escapes for what is not printable.
func reprString(s string) string {
	mark := byte('\'')
	if strings.IndexByte(s, '\'') >= 0 && strings.IndexByte(s, '"') < 0 {
		mark = '"'
	}
	var b strings.Builder
	b.Grow(len(s) + 2)
	b.WriteByte(mark)
	for _, c := range s {
		switch {
		case c == rune(mark) || c == '\\':
			b.WriteByte('\\')
			b.WriteRune(c)
		case c == '\n':
			b.WriteString(`\n`)
		case c == '\r':
			b.WriteString(`\r`)
		case c == '\t':
			b.WriteString(`\t`)
		case unicode.IsPrint(c):
			b.WriteRune(c)
		default:
			writeEscape(&b, c)
		}
	}
	b.WriteByte(mark)
	return b.String()
}

func writeEscape(b *strings.Builder, c rune) {
	switch {
	case c <= 0xff:
		fmt.Fprintf(b, `\x%02x`, c)
	case c <= 0xffff:
		fmt.Fprintf(b, `\u%04x`, c)
	default:
		fmt.Fprintf(b, `\U%08x`, c)
	}
}

// asciiRepr is Python's ascii().
func asciiRepr(repr string) string {
	var b strings.Builder
	for _, c := range repr {
		if c < utf8.RuneSelf {
			b.WriteByte(byte(c))
		} else {
			writeEscape(&b, c)
		}
	}
	return b.String()
}

// truncateRunes returns the first n code points of s.
func truncateRunes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	if at, ok := runeOffset(s, int64(n)); ok {
		return s[:at]
	}
	return s
}

func escapeHTML(s string) string {
	return strings.NewReplacer("&", "&amp;", ">", "&gt;", "<", "&lt;", "'", "&#39;", `"`, "&#34;").Replace(s)
}
