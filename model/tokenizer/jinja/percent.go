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

// percent is the % operator on text.
func (r *run) percent(format string, arg Value, markup bool) (Value, error) {
	if err := r.read(4 * len(format)); err != nil {
		return nil, err
	}
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
		if err := r.step(i.BitLen() >> 3); err != nil {
			return err
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
