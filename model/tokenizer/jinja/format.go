package jinja

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxPrecision bounds the digits asked of a float; a float64 has no more.
const maxPrecision = 1100

// spec is how a value is to be written: what stands behind % or a colon.
type spec struct {
	fill      string
	align     byte // '<', '>', '^', '=' or 0
	sign      byte // '+', ' ' or 0 for '-'
	alternate bool
	zero      bool
	width     int
	grouping  byte // ',', '_' or 0
	precision int  // -1 if not given
	kind      byte // the conversion, 0 if not given
}

// pad writes a number's sign or prefix and its body, or a text, into the width.
func (sp *spec) pad(t *text, prefix, body string, byDefault byte) {
	align := sp.align
	fill := sp.fill
	if fill == "" {
		fill = " "
	}
	if align == 0 {
		align = byDefault
	}
	n := sp.width - utf8.RuneCountInString(prefix) - utf8.RuneCountInString(body)
	left, right := 0, 0
	switch align {
	case '<':
		right = n
	case '>':
		left = n
	case '^':
		left = n / 2
		right = n - left
	case '=':
		t.write(prefix)
		t.fill(fill, n)
		t.write(body)
		return
	}
	t.fill(fill, left)
	t.write(prefix)
	t.write(body)
	t.fill(fill, right)
}

// formatMethod is str.format and str.format_map.
func (r *run) formatMethod(name, format string, markup bool, args []Value, kwargs []named) (Value, error) {
	f := &formatter{r: r, args: args, markup: markup}
	if name == "format_map" {
		a, err := bind(name, oneParam, 1, args, kwargs)
		if err != nil {
			return nil, err
		}
		m, ok := a[0].(*Map)
		if !ok {
			return nil, fmt.Errorf("format_map needs a dict, not %s", typeName(a[0]))
		}
		f.args, f.byName = nil, m
	} else {
		f.byName = NewMap()
		for _, k := range kwargs {
			f.byName.Set(k.name, k.value)
		}
	}
	s, err := f.format(format, 2)
	return strLike(s, markup), err
}

type formatter struct {
	r      *run
	args   []Value
	byName *Map
	markup bool
	auto   int // the next automatic field, -1 once fields are numbered by hand
}

// format expands the fields of a format; the spec of a field may have fields of
// its own, to the given depth.
func (f *formatter) format(format string, depth int) (string, error) {
	if depth < 0 {
		return "", errors.New("max string recursion exceeded")
	}
	t := text{m: &f.r.meter}
	for format != "" && t.err == nil {
		at := strings.IndexAny(format, "{}")
		if at < 0 {
			break
		}
		t.write(format[:at])
		c := format[at]
		format = format[at+1:]
		if strings.HasPrefix(format, string(c)) {
			t.write(string(c))
			format = format[1:]
			continue
		}
		if c == '}' {
			return "", errors.New("single '}' encountered in format string")
		}
		end, err := fieldEnd(format)
		if err != nil {
			return "", err
		}
		if err := f.field(&t, format[:end], depth); err != nil {
			return "", err
		}
		format = format[end+1:]
	}
	t.write(format)
	return t.result()
}

func fieldEnd(s string) (int, error) {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '{':
			depth++
		case '}':
			if depth == 0 {
				return i, nil
			}
			depth--
		}
	}
	return 0, errors.New("expected '}' before end of string")
}

// field writes one field: name!conversion:spec.
func (f *formatter) field(t *text, field string, depth int) error {
	at := strings.IndexAny(field, "!:")
	if open := strings.IndexByte(field, '['); open >= 0 && open < at {
		// A bracketed key may hold the separators.
		if end := strings.IndexByte(field[open:], ']'); end >= 0 {
			if at = strings.IndexAny(field[open+end:], "!:"); at >= 0 {
				at += open + end
			}
		}
	}
	name, rest := field, ""
	if at >= 0 {
		name, rest = field[:at], field[at:]
	}
	v, err := f.value(name)
	if err != nil {
		return err
	}
	if strings.HasPrefix(rest, "!") {
		if len(rest) < 2 || len(rest) > 2 && rest[2] != ':' {
			return errors.New("expected ':' after conversion specifier")
		}
		var s string
		switch rest[1] {
		case 's':
			s, err = f.r.str(v)
		case 'r':
			s, err = f.r.repr(v)
		case 'a':
			s, err = f.r.repr(v)
			s = asciiRepr(s)
		default:
			return fmt.Errorf("unknown conversion specifier %q", rest[1])
		}
		if err != nil {
			return err
		}
		v, rest = strValue(s), rest[2:]
	}
	sp := strings.TrimPrefix(rest, ":")
	if strings.ContainsAny(sp, "{}") {
		if sp, err = f.format(sp, depth-1); err != nil {
			return err
		}
	}
	if f.markup {
		if isMarkup(v) {
			f.r.writeStr(t, v, 0)
			return t.err
		}
		in := text{m: &f.r.meter}
		if err := f.r.formatValue(&in, v, sp); err != nil {
			return err
		}
		t.write(escapeHTML(in.b.String()))
		return t.err
	}
	return f.r.formatValue(t, v, sp)
}

// value looks up a field's name: first, then .attributes and [items].
func (f *formatter) value(name string) (Value, error) {
	end := strings.IndexAny(name, ".[")
	if end < 0 {
		end = len(name)
	}
	first, rest := name[:end], name[end:]
	var v Value
	if first == "" {
		if f.auto < 0 {
			return nil, errors.New("cannot switch from manual field specification to automatic field numbering")
		}
		first = strconv.Itoa(f.auto)
		f.auto++
	} else if digits(first) == len(first) {
		if f.auto > 0 {
			return nil, errors.New("cannot switch from automatic field numbering to manual field specification")
		}
		f.auto = -1
	}
	if i, err := strconv.Atoi(first); err == nil {
		if i < 0 || i >= len(f.args) {
			return nil, fmt.Errorf("replacement index %d out of range for positional args tuple", i)
		}
		v = f.args[i]
	} else {
		var ok bool
		if v, ok = f.byName.Get(first); !ok {
			return nil, fmt.Errorf("format field %s: not found", quote(first))
		}
	}
	for rest != "" {
		var err error
		switch rest[0] {
		case '.':
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			if end == 1 {
				return nil, errors.New("empty attribute in format string")
			}
			v, err = f.r.getattr(v, rest[1:end])
			rest = rest[end:]
		case '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, errors.New("missing ']' in format string")
			}
			if end == 1 {
				return nil, errors.New("empty attribute in format string")
			}
			var key Value = strValue(rest[1:end])
			if i, err := strconv.Atoi(rest[1:end]); err == nil && i >= 0 {
				key = intValue(i)
			}
			v, err = f.r.getitem(v, key)
			rest = rest[end+1:]
		default:
			return nil, errors.New("only '.' or '[' may follow ']' in format field specifier")
		}
		if err != nil {
			return nil, err
		}
	}
	return v, nil
}

// formatValue is Python's format(v, spec).
func (r *run) formatValue(t *text, v Value, s string) error {
	if s == "" {
		r.writeStr(t, v, 0)
		return t.err
	}
	sp, err := parseSpec(s)
	if err != nil {
		return err
	}
	if body, ok := Text(v); ok {
		switch {
		case sp.kind != 0 && sp.kind != 's':
			return fmt.Errorf("unknown format code '%c' for object of type 'str'", sp.kind)
		case sp.sign != 0 || sp.alternate || sp.grouping != 0 || sp.align == '=':
			return errors.New("format of a str takes no sign, '#', ',' or '='")
		}
		if sp.zero && sp.fill == "" {
			sp.fill = "0"
		}
		if sp.precision >= 0 {
			body = truncateRunes(body, sp.precision)
		}
		sp.pad(t, "", body, '<')
		return t.err
	}
	if !isNumber(v) {
		return fmt.Errorf("unsupported format string passed to %s", typeName(v))
	}
	return r.formatNumber(t, v, sp)
}

func parseSpec(s string) (*spec, error) {
	sp := &spec{precision: -1}
	bad := fmt.Errorf("invalid format specifier %s", quote(s))
	if _, n := utf8.DecodeRuneInString(s); len(s) > n && strings.IndexByte("<>=^", s[n]) >= 0 {
		sp.fill, sp.align, s = s[:n], s[n], s[n+1:]
	} else if strings.IndexByte("<>=^", s[0]) >= 0 {
		sp.align, s = s[0], s[1:]
	}
	if s != "" && strings.IndexByte("+- ", s[0]) >= 0 {
		sp.sign, s = s[0], s[1:]
	}
	if strings.HasPrefix(s, "#") {
		sp.alternate, s = true, s[1:]
	}
	if strings.HasPrefix(s, "0") {
		sp.zero, s = true, s[1:]
	}
	number := func() (int, bool) {
		n := 0
		for n < len(s) && s[n] >= '0' && s[n] <= '9' {
			n++
		}
		v, err := strconv.ParseInt(s[:n], 10, 32)
		s = s[n:]
		return int(v), n == 0 || err == nil
	}
	var ok bool
	if sp.width, ok = number(); !ok {
		return nil, errors.New("too many decimal digits in format string")
	}
	if s != "" && (s[0] == ',' || s[0] == '_') {
		sp.grouping, s = s[0], s[1:]
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		if s == "" || s[0] < '0' || s[0] > '9' {
			return nil, errors.New("format specifier missing precision")
		}
		if sp.precision, ok = number(); !ok {
			return nil, errors.New("too many decimal digits in format string")
		}
	}
	if len(s) > 1 {
		return nil, bad
	}
	if s != "" {
		sp.kind = s[0]
	}
	return sp, nil
}

func (r *run) formatNumber(t *text, v Value, sp *spec) error {
	var sign, digits string
	_, isFloat := v.(floatValue)
	switch {
	case !isFloat && (sp.kind == 0 || strings.IndexByte("bdoxXnc", sp.kind) >= 0):
		if sp.precision >= 0 {
			return errors.New("precision not allowed in integer format specifier")
		}
		i, _ := toBig(v)
		if sp.kind == 'c' {
			n, _ := toInt(v)
			if n < 0 || n > utf8.MaxRune {
				return errors.New("%c arg not in range(0x110000)")
			}
			sp.pad(t, "", string(rune(n)), '<')
			return t.err
		}
		if err := r.step(i.BitLen() >> 3); err != nil {
			return err
		}
		var err error
		if sign, digits, err = intDigits(i, sp.kind, sp.sign); err != nil {
			return err
		}
		if sp.alternate {
			sign += intPrefix(sp.kind)
		}
	case sp.kind == 0 || strings.IndexByte("eEfFgGn%", sp.kind) >= 0:
		f, _, err := toFloat(v)
		if err != nil {
			return err
		}
		sign, digits = formatFloatAs(f, sp)
	default:
		return fmt.Errorf("unknown format code '%c' for object of type %s", sp.kind, quote(typeName(v)))
	}
	if sp.zero && sp.align == 0 {
		sp.align = '='
		if sp.fill == "" {
			sp.fill = "0"
		}
	}
	if sp.grouping != 0 {
		every := 3
		if strings.IndexByte("bxXo", sp.kind) >= 0 && sp.kind != 0 {
			if sp.grouping == ',' {
				return fmt.Errorf("cannot specify ',' with '%c'", sp.kind)
			}
			every = 4
		}
		width := 0
		if sp.fill == "0" && sp.align == '=' {
			width = sp.width - len(sign)
		}
		if err := r.alloc(2 * int64(max(width, len(digits)))); err != nil {
			return err
		}
		digits = group(digits, string(sp.grouping), every, width)
	}
	sp.pad(t, sign, digits, '>')
	return t.err
}

func formatFloatAs(f float64, sp *spec) (sign, digits string) {
	as := *sp
	switch {
	case sp.kind == 0 && sp.precision < 0:
		return signOf(math.Signbit(f) && !math.IsNaN(f), sp.sign), formatFloat(math.Abs(f))
	case sp.kind == 0:
		// Like 'g', with a digit behind the point, and an exponent one digit sooner.
		as.kind = 'g'
		sign, digits = floatDigits(f, &as)
		if e := strings.IndexByte(digits, 'e'); e < 0 && strings.IndexByte(digits, '.') < 0 && !math.IsNaN(f) && !math.IsInf(f, 0) {
			if len(digits) >= max(sp.precision, 1) {
				as.kind = 'e'
				as.precision = max(sp.precision, 1) - 1
				_, exp := floatDigits(f, &as)
				at := strings.IndexByte(exp, 'e')
				m := exp[:at]
				if strings.IndexByte(m, '.') >= 0 {
					m = strings.TrimRight(strings.TrimRight(m, "0"), ".")
				}
				return sign, m + exp[at:]
			}
			digits += ".0"
		}
		return sign, digits
	case sp.precision < 0:
		as.precision = 6
	}
	switch sp.kind {
	case 'n':
		as.kind = 'g'
	case '%':
		as.kind = 'f'
		sign, digits = floatDigits(f*100, &as)
		return sign, digits + "%"
	}
	return floatDigits(f, &as)
}

// group puts sep between groups of digits, after zeros in front fill the width.
func group(digits, sep string, every, width int) string {
	whole := len(digits)
	if at := strings.IndexAny(digits, ".e%"); at >= 0 && every == 3 {
		whole = at
	}
	head, tail := digits[:whole], digits[whole:]
	width -= len(tail)
	grouped := func(n int) int { return n + (n-1)/every }
	n := max(len(head), width*every/(every+1)-1)
	for grouped(n) < width {
		n++
	}
	head = strings.Repeat("0", n-len(head)) + head
	var b strings.Builder
	for i := range len(head) {
		if i > 0 && (len(head)-i)%every == 0 {
			b.WriteString(sep)
		}
		b.WriteByte(head[i])
	}
	b.WriteString(tail)
	return b.String()
}
