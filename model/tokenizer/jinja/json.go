package jinja

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds how deep the lists and objects of a parsed text nest. It is
// less than maxDepth: templates wrap what they are given.
const maxJSONDepth = 128

// maxJSON bounds the length of a parsed text in bytes.
const maxJSON = 256 << 20

// ParseJSON reads one JSON text. Objects become Maps in the order of the text,
// where the last of equal keys counts as it does in Python; a number without
// fraction and exponent becomes an int of any length, others a float. Bytes that
// are not UTF-8 and numbers that are not JSON (NaN) are errors; half of a
// surrogate pair becomes U+FFFD.
func ParseJSON(b []byte) (Value, error) {
	if len(b) > maxJSON {
		return nil, fmt.Errorf("parse JSON: %w", limitf("%d bytes, more than %d", len(b), maxJSON))
	}
	if !utf8.Valid(b) {
		return nil, errors.New("parse JSON: text is not UTF-8")
	}
	p := &jsonParser{s: string(b)}
	v, err := p.value(0)
	if err == nil {
		if p.space(); p.i < len(p.s) {
			err = p.unexpected()
		}
	}
	if err != nil {
		return nil, fmt.Errorf("parse JSON: %w", err)
	}
	return v, nil
}

type jsonParser struct {
	s string
	i int
}

func (p *jsonParser) space() {
	for p.i < len(p.s) && strings.IndexByte(" \t\r\n", p.s[p.i]) >= 0 {
		p.i++
	}
}

func (p *jsonParser) unexpected() error {
	if p.i >= len(p.s) {
		return errors.New("text ends early")
	}
	c, _ := utf8.DecodeRuneInString(p.s[p.i:])
	return fmt.Errorf("unexpected %q at byte %d", c, p.i)
}

func (p *jsonParser) value(depth int) (Value, error) {
	p.space()
	if p.i >= len(p.s) {
		return nil, p.unexpected()
	}
	if depth > maxJSONDepth {
		return nil, limitf("nested more than %d deep", maxJSONDepth)
	}
	switch c := p.s[p.i]; {
	case c == '{':
		return p.object(depth)
	case c == '[':
		return p.array(depth)
	case c == '"':
		s, err := p.str()
		return strValue(s), err
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	}
	for word, v := range map[string]Value{"true": boolValue(true), "false": boolValue(false), "null": nil} {
		if strings.HasPrefix(p.s[p.i:], word) {
			p.i += len(word)
			return v, nil
		}
	}
	return nil, p.unexpected()
}

// next skips blanks and takes the byte c if it is next.
func (p *jsonParser) next(c byte) bool {
	p.space()
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

func (p *jsonParser) object(depth int) (Value, error) {
	m := NewMap()
	p.i++
	if p.next('}') {
		return m, nil
	}
	for {
		p.space()
		if p.i >= len(p.s) || p.s[p.i] != '"' {
			return nil, p.unexpected()
		}
		key, err := p.str()
		if err != nil {
			return nil, err
		}
		if !p.next(':') {
			return nil, p.unexpected()
		}
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		m.Set(key, v)
		switch {
		case p.next(','):
		case p.next('}'):
			return m, nil
		default:
			return nil, p.unexpected()
		}
	}
}

func (p *jsonParser) array(depth int) (Value, error) {
	l := &listValue{}
	p.i++
	if p.next(']') {
		return l, nil
	}
	for {
		v, err := p.value(depth + 1)
		if err != nil {
			return nil, err
		}
		l.items = append(l.items, v)
		switch {
		case p.next(','):
		case p.next(']'):
			return l, nil
		default:
			return nil, p.unexpected()
		}
	}
}

func (p *jsonParser) number() (Value, error) {
	start := p.i
	run := func() bool {
		from := p.i
		for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
			p.i++
		}
		return p.i > from
	}
	at := func(chars string) bool {
		if p.i < len(p.s) && strings.IndexByte(chars, p.s[p.i]) >= 0 {
			p.i++
			return true
		}
		return false
	}
	at("-")
	if !at("0") && !run() {
		return nil, p.unexpected()
	}
	whole := true
	if at(".") {
		whole = false
		if !run() {
			return nil, p.unexpected()
		}
	}
	if at("eE") {
		whole = false
		at("+-")
		if !run() {
			return nil, p.unexpected()
		}
	}
	lit := p.s[start:p.i]
	if whole {
		return parseInt(lit, 10)
	}
	f, ok := parseFloat(lit)
	if !ok {
		return nil, fmt.Errorf("malformed number at byte %d", start)
	}
	return floatValue(f), nil
}

// str reads a string, the quote of which is next.
func (p *jsonParser) str() (string, error) {
	start := p.i
	p.i++
	rest := p.s[p.i:]
	for i := range len(rest) {
		switch c := rest[i]; {
		case c == '"':
			p.i += i + 1
			return rest[:i], nil
		case c < 0x20:
			p.i += i
			return "", p.unexpected()
		case c == '\\':
			return p.escaped(start)
		}
	}
	p.i = len(p.s)
	return "", p.unexpected()
}

func (p *jsonParser) escaped(start int) (string, error) {
	var b strings.Builder
	p.i = start + 1
	for p.i < len(p.s) {
		c := p.s[p.i]
		switch {
		case c == '"':
			p.i++
			return b.String(), nil
		case c < 0x20:
			return "", p.unexpected()
		case c != '\\':
			b.WriteByte(c)
			p.i++
			continue
		}
		p.i++
		if p.i >= len(p.s) {
			break
		}
		esc := p.s[p.i]
		if j := strings.IndexByte(`"\/bfnrt`, esc); j >= 0 {
			b.WriteByte("\"\\/\b\f\n\r\t"[j])
			p.i++
			continue
		}
		c1, ok := hexRune(p.s[p.i:], 5)
		if esc != 'u' || !ok {
			return "", p.unexpected()
		}
		p.i += 5
		if utf16.IsSurrogate(c1) && strings.HasPrefix(p.s[p.i:], `\u`) {
			if c2, ok := hexRune(p.s[p.i+1:], 5); ok {
				if pair := utf16.DecodeRune(c1, c2); pair != utf8.RuneError {
					c1 = pair
					p.i += 6
				}
			}
		}
		b.WriteRune(c1)
	}
	return "", p.unexpected()
}

// jsonStyle is how json.dumps writes.
type jsonStyle struct {
	item, key string // separators
	indent    string
	lines     bool // an indent was given: each element stands on its line
	ascii     bool
	sort      bool
}

// JSON returns v as Python's json.dumps(v, ensure_ascii=False) writes it.
func JSON(v Value) (string, error) {
	r := &run{meter: meter{maxSteps: defaultMaxSteps, maxBytes: defaultMaxBytes}}
	return r.dumps(v, jsonStyle{item: ", ", key: ": "})
}

func (r *run) dumps(v Value, style jsonStyle) (string, error) {
	t := text{m: &r.meter}
	r.writeJSON(&t, v, &style, 0)
	return t.result()
}

func (r *run) writeJSON(t *text, v Value, style *jsonStyle, depth int) {
	if !r.enter(t, depth) {
		return
	}
	newline := func(depth int) {
		if style.lines {
			t.write("\n")
			t.fill(style.indent, depth)
		}
	}
	items, isSeq := Elements(v)
	m, isMap := v.(*Map)
	s, isText := Text(v)
	switch {
	case isText:
		writeJSONString(t, s, style.ascii)
	case isSeq && len(items) == 0:
		t.write("[]")
	case isMap && len(m.keys) == 0:
		t.write("{}")
	case isSeq:
		t.write("[")
		for i, e := range items {
			if i > 0 {
				t.write(style.item)
			}
			newline(depth + 1)
			if r.writeJSON(t, e, style, depth+1); t.err != nil {
				return
			}
		}
		newline(depth)
		t.write("]")
	case isMap:
		order, err := r.jsonOrder(m, style.sort)
		if err != nil {
			t.fail(err)
			return
		}
		t.write("{")
		for n, i := range order {
			if n > 0 {
				t.write(style.item)
			}
			newline(depth + 1)
			key, err := jsonScalar(m.keys[i])
			if k, ok := Text(m.keys[i]); ok {
				key, err = k, nil
			}
			if err != nil {
				t.fail(fmt.Errorf("keys must be str, int, float, bool or None, not %s", typeName(m.keys[i])))
				return
			}
			writeJSONString(t, key, style.ascii)
			t.write(style.key)
			if r.writeJSON(t, m.vals[i], style, depth+1); t.err != nil {
				return
			}
		}
		newline(depth)
		t.write("}")
	default:
		if err := r.key(v, 0); err != nil {
			t.fail(err)
			return
		}
		s, err := jsonScalar(v)
		if err != nil {
			t.fail(err)
			return
		}
		t.write(s)
	}
}

func (r *run) jsonOrder(m *Map, sorted bool) ([]int, error) {
	if err := r.alloc(8 * int64(len(m.keys))); err != nil {
		return nil, err
	}
	order := make([]int, len(m.keys))
	for i := range order {
		order[i] = i
	}
	if !sorted {
		return order, nil
	}
	return order, r.sortBy(order, func(i int) Value { return m.keys[i] }, false)
}

// sortBy sorts stably by Python's order of key.
func (r *run) sortBy(order []int, key func(int) Value, reverse bool) error {
	var failed error
	slices.SortStableFunc(order, func(a, b int) int {
		if failed != nil {
			return 0
		}
		if reverse {
			a, b = b, a
		}
		x, y := key(a), key(b)
		below, err := r.less(x, y)
		if err == nil && below {
			return -1
		}
		above := false
		if err == nil {
			above, err = r.less(y, x)
		}
		if err != nil {
			failed = err
		}
		if above {
			return 1
		}
		return 0
	})
	return failed
}

func jsonScalar(v Value) (string, error) {
	switch v := v.(type) {
	case nil:
		return "null", nil
	case boolValue:
		return strconv.FormatBool(bool(v)), nil
	case intValue:
		return strconv.FormatInt(int64(v), 10), nil
	case bigValue:
		return formatInt(v.Int)
	case floatValue:
		switch s := formatFloat(float64(v)); s {
		case "nan":
			return "NaN", nil
		case "inf":
			return "Infinity", nil
		case "-inf":
			return "-Infinity", nil
		default:
			return s, nil
		}
	}
	return "", fmt.Errorf("object of type %s is not JSON serializable", typeName(v))
}

func writeJSONString(t *text, s string, ascii bool) {
	t.write(`"`)
	from := 0
	for i, c := range s {
		esc := ""
		switch {
		case c == '"':
			esc = `\"`
		case c == '\\':
			esc = `\\`
		case c == '\n':
			esc = `\n`
		case c == '\r':
			esc = `\r`
		case c == '\t':
			esc = `\t`
		case c == '\f':
			esc = `\f`
		case c == '\b':
			esc = `\b`
		case c < 0x20 || ascii && c > 0x7e && c <= 0xffff:
			esc = fmt.Sprintf(`\u%04x`, c)
		case ascii && c > 0xffff:
			hi, lo := utf16.EncodeRune(c)
			esc = fmt.Sprintf(`\u%04x\u%04x`, hi, lo)
		}
		if esc != "" {
			t.write(s[from:i])
			t.write(esc)
			from = i + utf8.RuneLen(c)
		}
	}
	t.write(s[from:])
	t.write(`"`)
}
