package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

func filterAbs(r *run, v Value, _ []Value) (Value, error) {
	if f, ok := v.(floatValue); ok {
		return floatValue(math.Abs(float64(f))), nil
	}
	i, ok := toBig(v)
	if !ok {
		if u, ok := v.(*undefined); ok {
			return nil, errors.New(u.message)
		}
		return nil, fmt.Errorf("bad operand type for abs(): %s", quote(typeName(v)))
	}
	if i.Sign() < 0 {
		return r.unary('-', v)
	}
	return normInt(i)
}

func filterInt(r *run, v Value, a []Value) (Value, error) {
	var otherwise Value = intValue(0)
	if a[0] != missing {
		otherwise = a[0]
	}
	base, err := intOr("int", a[1], 10)
	if err != nil {
		return nil, err
	}
	switch x := v.(type) {
	case strValue, markupValue:
		s, _ := Text(v)
		if err := r.read(len(s)); err != nil {
			return nil, err
		}
		if i, ok := pyInt(s, int(min(max(base, -1), 99))); ok {
			return i, nil
		}
		f, ok := parseFloat(s)
		if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
			return otherwise, nil
		}
		return floatToInt(f)
	case floatValue:
		if math.IsNaN(float64(x)) {
			return otherwise, nil
		}
		return floatToInt(float64(x))
	case *undefined:
		return nil, errors.New(x.message)
	}
	if i, ok := toBig(v); ok {
		return normInt(i)
	}
	return otherwise, nil
}

func filterFloat(_ *run, v Value, a []Value) (Value, error) {
	if u, ok := v.(*undefined); ok {
		return nil, errors.New(u.message)
	}
	if s, ok := Text(v); ok {
		if f, ok := parseFloat(s); ok {
			return floatValue(f), nil
		}
	}
	f, ok, err := toFloat(v)
	switch {
	case err != nil:
		return nil, err
	case ok:
		return floatValue(f), nil
	case a[0] != missing:
		return a[0], nil
	}
	return floatValue(0), nil
}

func filterRound(r *run, v Value, a []Value) (Value, error) {
	precision, err := intOr("round", a[0], 0)
	if err != nil {
		return nil, err
	}
	method := "common"
	if a[1] != missing {
		method, _ = Text(a[1])
	}
	if !isNumber(v) {
		if u, ok := v.(*undefined); ok {
			return nil, errors.New(u.message)
		}
		return nil, fmt.Errorf("round needs a number, not %s", typeName(v))
	}
	switch method {
	case "common":
		if f, ok := v.(floatValue); ok {
			return roundFloat(float64(f), precision)
		}
		return roundInt(v, precision)
	case "ceil", "floor":
		return r.roundToward(v, precision, method == "ceil")
	}
	return nil, errors.New("round method must be common, ceil or floor")
}

// roundFloat is Python's round(f, n): correct for the decimal value of f, halves
// to even.
func roundFloat(f float64, n int64) (Value, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) || n > 323 {
		return floatValue(f), nil
	}
	if n < -308 {
		return floatValue(math.Copysign(0, f)), nil
	}
	if n >= 0 {
		g, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', int(n), 64), 64)
		return floatValue(g), nil
	}
	exact, _ := new(big.Rat).SetString(strconv.FormatFloat(f, 'f', 60, 64))
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
	q := roundHalfEven(exact.Num(), new(big.Int).Mul(exact.Denom(), unit))
	g, _ := new(big.Float).SetInt(q.Mul(q, unit)).Float64()
	if math.IsInf(g, 0) {
		return nil, errors.New("rounded value too large to represent")
	}
	return floatValue(math.Copysign(g, f)), nil
}

// roundHalfEven divides a by the positive b and rounds.
func roundHalfEven(a, b *big.Int) *big.Int {
	q, m := new(big.Int).DivMod(a, b, new(big.Int))
	switch c := m.Lsh(m, 1).Cmp(b); {
	case c > 0, c == 0 && q.Bit(0) == 1:
		q.Add(q, big.NewInt(1))
	}
	return q
}

func roundInt(v Value, n int64) (Value, error) {
	i, _ := toBig(v)
	if n >= 0 {
		return normInt(i)
	}
	if n < -maxIntDigits*5 {
		return intValue(0), nil
	}
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(-n), nil)
	q := roundHalfEven(i, unit)
	return normInt(q.Mul(q, unit))
}

// roundToward is jinja2's ceil and floor: of the value times a power of ten,
// which is then divided out again.
func (r *run) roundToward(v Value, n int64, up bool) (Value, error) {
	unit, err := r.binary("**", intValue(10), intValue(n))
	if err != nil {
		return nil, err
	}
	scaled, err := r.binary("*", v, unit)
	if err != nil {
		return nil, err
	}
	if f, ok := scaled.(floatValue); ok {
		whole := math.Floor(float64(f))
		if up {
			whole = math.Ceil(float64(f))
		}
		if scaled, err = floatToInt(whole); err != nil {
			return nil, err
		}
	}
	return r.binary("/", scaled, unit)
}

func filterFileSize(r *run, v Value, a []Value) (Value, error) {
	f, ok, err := toFloat(v)
	if err != nil {
		return nil, err
	}
	if s, isText := Text(v); isText {
		f, ok = parseFloat(s)
	}
	if !ok {
		return nil, fmt.Errorf("filesizeformat needs a number, not %s", typeName(v))
	}
	base, suffix := 1000.0, "B"
	prefixes := "kMGTPEZY"
	if a[0] != missing && r.truth(a[0]) {
		base, suffix, prefixes = 1024, "iB", "KMGTPEZY"
	}
	switch {
	case f == 1:
		return strValue("1 Byte"), nil
	case math.IsNaN(f):
		return nil, errors.New("cannot convert float NaN to integer")
	case f < base:
		i, err := floatToInt(f)
		if err != nil {
			return nil, err
		}
		s, err := r.str(i)
		return strValue(s + " Bytes"), err
	}
	unit := base
	for i := range len(prefixes) {
		unit *= base
		if f < unit || i == len(prefixes)-1 {
			return strValue(strconv.FormatFloat(base*f/unit, 'f', 1, 64) + " " + prefixes[i:i+1] + suffix), nil
		}
	}
	panic("BUG: no prefix for " + strings.TrimSpace(formatFloat(f)))
}
