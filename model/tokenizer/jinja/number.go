package jinja

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
)

// normInt returns i as an int value, in the small form where it fits.
func normInt(i *big.Int) (Value, error) {
	if i.IsInt64() {
		return intValue(i.Int64()), nil
	}
	if i.BitLen() > maxIntBits {
		return nil, limitf("an integer of more than %d bits", maxIntBits)
	}
	return bigValue{i}, nil
}

// toBig returns an int or bool as a big integer.
func toBig(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case boolValue:
		if v {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case intValue:
		return big.NewInt(int64(v)), true
	case bigValue:
		return v.Int, true
	}
	return nil, false
}

// toInt returns an int or bool as an int64; a larger one is held at the ends of
// the range, which is as good for every length and index.
func toInt(v Value) (int64, bool) {
	switch v := v.(type) {
	case boolValue:
		if v {
			return 1, true
		}
		return 0, true
	case intValue:
		return int64(v), true
	case bigValue:
		if v.Sign() < 0 {
			return math.MinInt64, true
		}
		return math.MaxInt64, true
	}
	return 0, false
}

// toFloat returns a number as a float64; it fails for an int beyond its range.
func toFloat(v Value) (f float64, ok bool, err error) {
	switch v := v.(type) {
	case floatValue:
		return float64(v), true, nil
	case boolValue, intValue:
		i, _ := toInt(v)
		return float64(i), true, nil
	case bigValue:
		f, _ := new(big.Float).SetInt(v.Int).Float64()
		if math.IsInf(f, 0) {
			return 0, true, errors.New("int too large to convert to float")
		}
		return f, true, nil
	}
	return 0, false, nil
}

// floatToInt is Python's int(float).
func floatToInt(f float64) (Value, error) {
	if math.IsNaN(f) {
		return nil, errors.New("cannot convert float NaN to integer")
	}
	if math.IsInf(f, 0) {
		return nil, errors.New("cannot convert float infinity to integer")
	}
	if f > -1<<62 && f < 1<<62 {
		return intValue(int64(f)), nil
	}
	i, _ := new(big.Float).SetFloat64(f).Int(nil)
	return normInt(i)
}

// formatFloat is Python's repr of a float.
func formatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if strings.IndexByte(s, '.') < 0 {
		s += ".0"
	}
	return s
}

// formatInt is Python's repr of an int.
func formatInt(i *big.Int) (string, error) {
	s := i.String()
	if len(s) > maxIntDigits+1 || len(s) > maxIntDigits && s[0] != '-' {
		return "", fmt.Errorf("exceeds the limit (%d digits) for integer string conversion", maxIntDigits)
	}
	return s, nil
}

// digits returns the length of decimal digits with single underscores between.
func digits(s string) int {
	n := 0
	for n < len(s) {
		switch c := s[n]; {
		case c >= '0' && c <= '9':
			n++
		case c == '_' && n > 0 && s[n-1] != '_' && n+1 < len(s) && s[n+1] >= '0' && s[n+1] <= '9':
			n++
		default:
			return n
		}
	}
	return n
}

// scanNumber reads the number literal that s begins with. Behind a dot, as in
// x.0.1, only an integer can follow.
func scanNumber(s string, afterDot bool) (n int, v Value, err error) {
	n = digits(s)
	if !afterDot {
		end := n
		if end < len(s) && s[end] == '.' {
			if f := digits(s[end+1:]); f > 0 {
				end += 1 + f
			}
		}
		if end < len(s) && s[end]|0x20 == 'e' {
			e := end + 1
			if e < len(s) && (s[e] == '+' || s[e] == '-') {
				e++
			}
			if f := digits(s[e:]); f > 0 {
				end = e + f
			}
		}
		if end > n {
			f, ok := parseFloat(s[:end])
			if !ok {
				return 0, nil, fmt.Errorf("malformed number %s", clip(s[:end]))
			}
			return end, floatValue(f), nil
		}
	}
	base := 10
	if s[0] == '0' {
		if len(s) > 2 {
			base = map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|0x20]
		}
		if base < 2 || base == 10 {
			base = 10
			n = 1
			for n < len(s) && (s[n] == '0' || s[n] == '_' && n+1 < len(s) && s[n+1] == '0') {
				n++
			}
		} else {
			n = 2
			for n < len(s) && (digitOf(s[n]) < base || s[n] == '_' && n+1 < len(s) && digitOf(s[n+1]) < base) {
				n++
			}
			if n == 2 {
				base, n = 10, 1
			}
		}
	}
	lit := s[:n]
	if base != 10 {
		lit = s[2:n]
	}
	v, err = parseInt(strings.ReplaceAll(lit, "_", ""), base)
	return n, v, err
}

func digitOf(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c|0x20 >= 'a' && c|0x20 <= 'z':
		return int(c|0x20-'a') + 10
	}
	return 99
}

// parseInt reads digits of a base, with a sign and nothing else.
func parseInt(s string, base int) (Value, error) {
	if i, err := strconv.ParseInt(s, base, 64); err == nil {
		return intValue(i), nil
	}
	if len(s) > maxIntBits || base&(base-1) != 0 && len(s) > maxIntDigits {
		return nil, fmt.Errorf("exceeds the limit (%d digits) for integer string conversion", maxIntDigits)
	}
	i, ok := new(big.Int).SetString(s, base)
	if !ok {
		return nil, fmt.Errorf("malformed number %s", clip(s))
	}
	return normInt(i)
}

// pyInt is Python's int(text, base): blanks around, a sign, a prefix that agrees
// with the base, single underscores.
func pyInt(s string, base int) (Value, bool) {
	s = strings.TrimFunc(s, isSpace)
	sign := ""
	if s != "" && (s[0] == '+' || s[0] == '-') {
		sign = strings.TrimPrefix(s[:1], "+")
		s = s[1:]
	}
	prefixed := false
	if len(s) > 2 && s[0] == '0' {
		if b := map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|0x20]; b != 0 && (base == 0 || base == b) {
			base, s, prefixed = b, s[2:], true
		}
	}
	if base == 0 {
		base = 10
		if len(s) > 1 && s[0] == '0' && strings.Trim(s, "0_") != "" {
			return nil, false
		}
	}
	if base < 2 || base > 36 || s == "" {
		return nil, false
	}
	if strings.HasSuffix(s, "_") || strings.Contains(s, "__") || s[0] == '_' && !prefixed {
		return nil, false
	}
	s = strings.ReplaceAll(s, "_", "")
	for i := range len(s) {
		if digitOf(s[i]) >= base {
			return nil, false
		}
	}
	v, err := parseInt(sign+s, base)
	return v, err == nil
}

// parseFloat is Python's float(text).
func parseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, isSpace)
	if s == "" || strings.ContainsAny(s, "xXpP") {
		return 0, false
	}
	if strings.IndexByte(s, '_') >= 0 {
		for i := range len(s) {
			if s[i] == '_' && (i == 0 || i+1 == len(s) || digitOf(s[i-1]) > 9 || digitOf(s[i+1]) > 9) {
				return 0, false
			}
		}
		s = strings.ReplaceAll(s, "_", "")
	}
	if strings.EqualFold(strings.TrimLeft(s, "+-"), "nan") {
		return math.NaN(), len(s) <= len("-nan")
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil && !errors.Is(err, strconv.ErrRange) {
		return 0, false
	}
	return f, true
}
