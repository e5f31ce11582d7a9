package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
)

func isMarkup(v Value) bool {
	_, ok := v.(markupValue)
	return ok
}

// strLike returns s as a string, or as Markup where it came from one.
func strLike(s string, markup bool) Value {
	if markup {
		return markupValue(s)
	}
	return strValue(s)
}

func (r *run) unary(op byte, v Value) (Value, error) {
	switch x := v.(type) {
	case *undefined:
		return nil, errors.New(x.message)
	case floatValue:
		if op == '-' {
			return -x, nil
		}
		return x, nil
	}
	i, ok := toBig(v)
	if !ok {
		return nil, fmt.Errorf("bad operand type for unary %c: %s", op, quote(typeName(v)))
	}
	if op == '-' {
		return normInt(new(big.Int).Neg(i))
	}
	return normInt(i)
}

// operandError is Python's complaint about types that do not go together.
func operandError(op string, left, right Value) error {
	for _, v := range []Value{left, right} {
		if u, ok := v.(*undefined); ok {
			return errors.New(u.message)
		}
	}
	if op == "+" {
		if _, ok := Text(left); ok {
			return fmt.Errorf("can only concatenate str (not %s) to str", quote(typeName(right)))
		}
	}
	return fmt.Errorf("unsupported operand types for %s: %s and %s", op, quote(typeName(left)), quote(typeName(right)))
}

func (r *run) binary(op string, left, right Value) (Value, error) {
	switch op {
	case "+":
		if v, ok, err := r.concatenate(left, right); ok || err != nil {
			return v, err
		}
	case "*":
		if v, ok, err := r.repeat(left, right); ok || err != nil {
			return v, err
		}
		if v, ok, err := r.repeat(right, left); ok || err != nil {
			return v, err
		}
	case "%":
		if s, ok := Text(left); ok {
			return r.percent(s, right, isMarkup(left))
		}
	}
	a, aInt := toBigFast(left)
	b, bInt := toBigFast(right)
	if aInt && bInt {
		if v, ok := smallInt(op, left, right); ok {
			return v, nil
		}
		if a == nil {
			a, _ = toBig(left)
		}
		if b == nil {
			b, _ = toBig(right)
		}
		return r.integers(op, a, b)
	}
	x, xOK, err := toFloat(left)
	if err != nil {
		return nil, err
	}
	y, yOK, err := toFloat(right)
	if err != nil {
		return nil, err
	}
	if !xOK || !yOK {
		return nil, operandError(op, left, right)
	}
	return floats(op, x, y)
}

// toBigFast says whether v is an integer and returns it only if it is big.
func toBigFast(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case intValue, boolValue:
		return nil, true
	case bigValue:
		return v.Int, true
	}
	return nil, false
}

// smallInt does the sums of small integers that cannot overflow.
func smallInt(op string, left, right Value) (Value, bool) {
	_, leftBig := left.(bigValue)
	_, rightBig := right.(bigValue)
	if leftBig || rightBig {
		return nil, false
	}
	a, _ := toInt(left)
	b, _ := toInt(right)
	const small = 1 << 31
	if a < -small || a > small || b < -small || b > small {
		return nil, false
	}
	switch op {
	case "+":
		return intValue(a + b), true
	case "-":
		return intValue(a - b), true
	case "*":
		return intValue(a * b), true
	}
	return nil, false
}

func (r *run) integers(op string, a, b *big.Int) (Value, error) {
	if err := r.step((a.BitLen() + b.BitLen()) >> 6); err != nil {
		return nil, err
	}
	z := new(big.Int)
	switch op {
	case "+":
		return normInt(z.Add(a, b))
	case "-":
		return normInt(z.Sub(a, b))
	case "*":
		return normInt(z.Mul(a, b))
	case "/":
		if b.Sign() == 0 {
			return nil, errors.New("division by zero")
		}
		// The exact quotient takes the greatest common divisor.
		if err := r.step(a.BitLen() + b.BitLen()); err != nil {
			return nil, err
		}
		f, _ := new(big.Rat).SetFrac(a, b).Float64()
		if math.IsInf(f, 0) {
			return nil, errors.New("integer division result too large for a float")
		}
		return floatValue(f), nil
	case "//", "%":
		if b.Sign() == 0 {
			return nil, errors.New("integer division or modulo by zero")
		}
		m := new(big.Int)
		z.QuoRem(a, b, m)
		if m.Sign() != 0 && m.Sign() != b.Sign() {
			z.Sub(z, big.NewInt(1))
			m.Add(m, b)
		}
		if op == "%" {
			return normInt(m)
		}
		return normInt(z)
	case "**":
		if err := r.step(a.BitLen()); err != nil {
			return nil, err
		}
		v, err := integerPower(a, b)
		if big, ok := v.(bigValue); ok && err == nil {
			err = r.step(big.BitLen() >> 4)
		}
		return v, err
	}
	panic("BUG: unknown operator " + op)
}

func integerPower(a, b *big.Int) (Value, error) {
	if b.Sign() < 0 {
		x, _ := new(big.Float).SetInt(a).Float64()
		y, _ := new(big.Float).SetInt(b).Float64()
		return floats("**", x, y)
	}
	if a.BitLen() > 1 && (!b.IsInt64() || times(int64(a.BitLen()-1), b.Int64()) > maxIntBits) {
		return nil, limitf("an integer of more than %d bits", maxIntBits)
	}
	if a.BitLen() <= 1 {
		// 0, 1 and -1 stay small under any exponent.
		switch {
		case b.Sign() == 0 || a.Sign() > 0:
			return intValue(1), nil
		case a.Sign() == 0:
			return intValue(0), nil
		}
		return intValue(1 - 2*int64(b.Bit(0))), nil
	}
	return normInt(new(big.Int).Exp(a, b, nil))
}

func floats(op string, x, y float64) (Value, error) {
	switch op {
	case "+":
		return floatValue(x + y), nil
	case "-":
		return floatValue(x - y), nil
	case "*":
		return floatValue(x * y), nil
	case "/":
		if y == 0 {
			return nil, errors.New("float division by zero")
		}
		return floatValue(x / y), nil
	case "//", "%":
		if y == 0 {
			return nil, errors.New("float floor division or modulo by zero")
		}
		mod := math.Mod(x, y)
		div := (x - mod) / y
		if mod != 0 {
			if (y < 0) != (mod < 0) {
				mod += y
				div--
			}
		} else {
			mod = math.Copysign(0, y)
		}
		if op == "%" {
			return floatValue(mod), nil
		}
		if div == 0 {
			return floatValue(math.Copysign(0, x/y)), nil
		}
		floor := math.Floor(div)
		if div-floor > 0.5 {
			floor++
		}
		return floatValue(floor), nil
	case "**":
		if x == 0 && y < 0 {
			return nil, errors.New("0.0 cannot be raised to a negative power")
		}
		if x < 0 && y != math.Trunc(y) && !math.IsInf(y, 0) {
			return nil, errors.New("complex numbers are not supported")
		}
		z := math.Pow(x, y)
		if math.IsInf(z, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
			return nil, errors.New("numerical result out of range")
		}
		return floatValue(z), nil
	}
	panic("BUG: unknown operator " + op)
}

// concatenate is + on strings, lists and tuples; ok says whether it applies.
func (r *run) concatenate(left, right Value) (v Value, ok bool, err error) {
	switch a := left.(type) {
	case strValue, markupValue:
		x, _ := Text(left)
		y, isText := Text(right)
		if !isText {
			return nil, false, nil
		}
		// Markup escapes what joins it.
		markup := isMarkup(left) || isMarkup(right)
		if markup && !isMarkup(left) {
			x = escapeHTML(x)
		}
		if markup && !isMarkup(right) {
			y = escapeHTML(y)
		}
		sum, err := r.concat(x, y)
		return strLike(sum, markup), true, err
	case *listValue:
		if b, isList := right.(*listValue); isList {
			items, err := r.joinElements(a.items, b.items)
			return &listValue{items: items}, true, err
		}
	case *tupleValue:
		if b, isTuple := right.(*tupleValue); isTuple {
			items, err := r.joinElements(a.items, b.items)
			return &tupleValue{items: items}, true, err
		}
	}
	return nil, false, nil
}

func (r *run) joinElements(a, b []Value) ([]Value, error) {
	if err := r.elements(len(a) + len(b)); err != nil {
		return nil, err
	}
	return append(append(make([]Value, 0, len(a)+len(b)), a...), b...), nil
}

// repeat is * of a sequence and an integer; ok says whether it applies.
func (r *run) repeat(seq, count Value) (v Value, ok bool, err error) {
	n, isInt := toInt(count)
	if !isInt {
		return nil, false, nil
	}
	_, isText := Text(seq)
	_, isSeq := Elements(seq)
	if _, tooBig := count.(bigValue); tooBig && (isText || isSeq) {
		return nil, false, errors.New("cannot fit 'int' into an index-sized integer")
	}
	n = max(n, 0)
	if s, isText := Text(seq); isText {
		if err := r.alloc(times(int64(len(s)), n)); err != nil {
			return nil, false, err
		}
		if s == "" {
			n = 0
		}
		return strLike(strings.Repeat(s, int(n)), isMarkup(seq)), true, nil
	}
	items, isSeq := Elements(seq)
	if !isSeq {
		return nil, false, nil
	}
	total := times(int64(len(items)), n)
	if total > r.maxBytes/16 {
		return nil, false, limitf("values of more than %d bytes in all", r.maxBytes)
	}
	if err := r.elements(int(total)); err != nil {
		return nil, false, err
	}
	all := make([]Value, 0, total)
	for len(all) < int(total) {
		all = append(all, items...)
	}
	if _, isList := seq.(*listValue); isList {
		return &listValue{items: all}, true, nil
	}
	return &tupleValue{items: all}, true, nil
}
