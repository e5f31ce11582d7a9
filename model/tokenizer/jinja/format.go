package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
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

// percent is the % operator on text.
func (r *run) percent(format string, arg Value, markup bool) (Value, error) {
	t := text{m: &r.meter}
	args, isTuple := []Value{arg}, false
	if tuple, ok := arg.(*tupleValue); ok {
		args, isTuple = tuple.items, true
	}
	mapping := false
	switch arg.(type) {
	case *Map, *listValue, *rangeValue, *undefined:
		mapping = true
	}
	next := 0
	take := func() (Value, error) {
		if next >= len(args) {
			return nil, errors.New("not enough arguments for format string")
		}
		next++
		return args[next-1], nil
	}
	for t.err == nil {
		at := strings.IndexByte(format, '%')
		if at < 0 {
			break
		}
		t.write(format[:at])
		format = format[at+1:]
		if strings.HasPrefix(format, "(") {
			key, rest, err := percentKey(format)
			if err != nil {
				return nil, err
			}
			if !mapping {
				return nil, errors.New("format requires a mapping")
			}
			v, ok, err := r.item(arg, strValue(key))
			if err != nil || !ok {
				return nil, fmt.Errorf("format key %s: not found", quote(key))
			}
			// From here on the value under the key is the one argument there is.
			args, next, format = []Value{v}, 0, rest
		}
		sp, rest, err := percentSpec(format, take)
		if err != nil {
			return nil, err
		}
		format = rest
		if sp.kind == '%' {
			t.write("%")
			continue
		}
		v, err := take()
		if err != nil {
			return nil, err
		}
		if err := r.writePercent(&t, sp, v, markup); err != nil {
			return nil, err
		}
	}
	t.write(format)
	if next < len(args) && !mapping && (isTuple || next == 0) {
		return nil, errors.New("not all arguments converted during string formatting")
	}
	s, err := t.result()
	return strLike(s, markup), err
}

func percentKey(format string) (key, rest string, err error) {
	depth := 0
	for i := range len(format) {
		switch format[i] {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return format[1:i], format[i+1:], nil
			}
		}
	}
	return "", "", errors.New("incomplete format key")
}

// percentSpec reads the flags, width, precision and conversion behind a '%'.
func percentSpec(format string, take func() (Value, error)) (*spec, string, error) {
	sp := &spec{precision: -1}
	i := 0
	for ; i < len(format); i++ {
		switch format[i] {
		case '-':
			sp.align = '<'
			continue
		case '+':
			sp.sign = '+'
			continue
		case ' ':
			if sp.sign == 0 {
				sp.sign = ' '
			}
			continue
		case '#':
			sp.alternate = true
			continue
		case '0':
			sp.zero = true
			continue
		}
		break
	}
	number := func() (int, error) {
		if i < len(format) && format[i] == '*' {
			i++
			v, err := take()
			if err != nil {
				return 0, err
			}
			n, ok := toInt(v)
			if !ok {
				return 0, errors.New("* wants int")
			}
			return int(max(min(n, math.MaxInt32), -math.MaxInt32)), nil
		}
		n := 0
		for ; i < len(format) && format[i] >= '0' && format[i] <= '9'; i++ {
			if n = n*10 + int(format[i]-'0'); n > math.MaxInt32 {
				return 0, errors.New("width too big")
			}
		}
		return n, nil
	}
	var err error
	if sp.width, err = number(); err != nil {
		return nil, "", err
	}
	if sp.width < 0 {
		sp.align, sp.width = '<', -sp.width
	}
	if i < len(format) && format[i] == '.' {
		i++
		if sp.precision, err = number(); err != nil {
			return nil, "", err
		}
		sp.precision = max(sp.precision, 0)
	}
	for i < len(format) && (format[i] == 'h' || format[i] == 'l' || format[i] == 'L') {
		i++
	}
	if i >= len(format) {
		return nil, "", errors.New("incomplete format")
	}
	sp.kind = format[i]
	return sp, format[i+1:], nil
}

func (r *run) writePercent(t *text, sp *spec, v Value, markup bool) error {
	switch sp.kind {
	case 's', 'r', 'a', 'c':
		s, err := r.percentText(sp, v)
		if err != nil {
			return err
		}
		if markup && !isMarkup(v) {
			s = escapeHTML(s)
		}
		if sp.precision >= 0 && sp.kind != 'c' {
			s = truncateRunes(s, sp.precision)
		}
		sp.pad(t, "", s, '>')
	case 'd', 'i', 'u', 'o', 'x', 'X':
		if f, ok := v.(floatValue); ok && strings.IndexByte("diu", sp.kind) >= 0 {
			i, err := floatToInt(float64(f))
			if err != nil {
				return err
			}
			v = i
		}
		i, ok := toBig(v)
		if !ok {
			return fmt.Errorf("%%%c format: a number is required, not %s", sp.kind, typeName(v))
		}
		sign, digits, err := intDigits(i, sp.kind, sp.sign)
		if err != nil {
			return err
		}
		if sp.precision > len(digits) {
			if err := r.alloc(int64(sp.precision)); err != nil {
				return err
			}
			digits = strings.Repeat("0", sp.precision-len(digits)) + digits
		}
		if sp.alternate {
			sign += intPrefix(sp.kind)
		}
		sp.padNumber(t, sign, digits)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		f, ok, err := toFloat(v)
		if err != nil {
			return err
		}
		if !ok {
			return fmt.Errorf("must be real number, not %s", typeName(v))
		}
		if sp.precision < 0 {
			sp.precision = 6
		}
		sign, digits := floatDigits(f, sp)
		sp.padNumber(t, sign, digits)
	default:
		return fmt.Errorf("unsupported format character %q", sp.kind)
	}
	return t.err
}

// padNumber pads as % does: zeros go between sign and digits.
func (sp *spec) padNumber(t *text, sign, digits string) {
	if sp.zero && sp.align == 0 {
		sp.fill, sp.align = "0", '='
	}
	sp.pad(t, sign, digits, '>')
}

func (r *run) percentText(sp *spec, v Value) (string, error) {
	switch sp.kind {
	case 's':
		return r.str(v)
	case 'r':
		return r.repr(v)
	case 'a':
		s, err := r.repr(v)
		return asciiRepr(s), err
	}
	if s, ok := Text(v); ok && utf8.RuneCountInString(s) == 1 {
		return s, nil
	}
	i, ok := toInt(v)
	if !ok {
		return "", errors.New("%c requires int or char")
	}
	if i < 0 || i > utf8.MaxRune {
		return "", errors.New("%c arg not in range(0x110000)")
	}
	return string(rune(i)), nil
}

func intPrefix(kind byte) string {
	switch kind {
	case 'o', 'x', 'X', 'b':
		return "0" + string(kind)
	}
	return ""
}

func signOf(negative bool, sign byte) string {
	switch {
	case negative:
		return "-"
	case sign == '+' || sign == ' ':
		return string(sign)
	}
	return ""
}

func intDigits(i *big.Int, kind, sign byte) (string, string, error) {
	base := map[byte]int{'o': 8, 'x': 16, 'X': 16, 'b': 2}[kind]
	if base == 0 {
		base = 10
		if _, err := formatInt(i); err != nil {
			return "", "", err
		}
	}
	digits := new(big.Int).Abs(i).Text(base)
	if kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	return signOf(i.Sign() < 0, sign), digits, nil
}

// floatDigits writes |f| with the kind and precision of sp.
func floatDigits(f float64, sp *spec) (sign, digits string) {
	negative := math.Signbit(f)
	a := math.Abs(f)
	precision := min(sp.precision, maxPrecision)
	kind := sp.kind | 0x20
	switch {
	case math.IsNaN(f):
		negative, digits = false, "nan"
	case math.IsInf(f, 0):
		digits = "inf"
	case kind == 'g':
		digits = generalDigits(a, max(precision, 1), sp.alternate)
	default:
		digits = strconv.FormatFloat(a, kind, precision, 64)
		if sp.alternate && precision == 0 {
			if at := strings.IndexByte(digits, 'e'); at >= 0 {
				digits = digits[:at] + "." + digits[at:]
			} else {
				digits += "."
			}
		}
	}
	if sp.kind < 'a' {
		digits = strings.ToUpper(digits)
	}
	return signOf(negative, sp.sign), digits
}

// generalDigits is C's %g; with keep, %#g, which keeps trailing zeros.
func generalDigits(a float64, precision int, keep bool) string {
	if !keep {
		return strconv.FormatFloat(a, 'g', precision, 64)
	}
	exp := strconv.FormatFloat(a, 'e', precision-1, 64)
	e, _ := strconv.Atoi(exp[strings.IndexByte(exp, 'e')+1:])
	if e < -4 || e >= precision {
		return exp
	}
	s := strconv.FormatFloat(a, 'f', precision-1-e, 64)
	if strings.IndexByte(s, '.') < 0 {
		s += "."
	}
	return s
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
