package checkpoint

import (
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds the nesting of values that are skipped. Values that are read
// have a fixed shape and need no bound.
const maxDepth = 64

// scanner reads JSON in one pass over bytes that the caller has found to be
// UTF-8. It exists because encoding/json keeps the last of two equal keys,
// replaces lone surrogates and takes 1e3 for a count: three ways in which two
// readers could see different tensors in one file. It allocates nothing but the
// strings that have escapes.
type scanner struct {
	src []byte
	pos int
}

// fail returns an error about the byte at the present position.
func (s *scanner) fail(want string) error {
	if s.pos >= len(s.src) {
		return fmt.Errorf("at byte %d: want %s, have the end", s.pos, want)
	}
	r, _ := utf8.DecodeRune(s.src[s.pos:])
	return fmt.Errorf("at byte %d: want %s, have %q", s.pos, want, r)
}

// peek returns the next byte that is not white space, or 0 at the end.
func (s *scanner) peek() byte {
	for s.pos < len(s.src) {
		switch c := s.src[s.pos]; c {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return c
		}
	}
	return 0
}

// object reads an object and calls each after every key and colon; each must
// consume the value. A key is valid only during the call. Repeated keys are for
// the caller to notice.
func (s *scanner) object(each func(key []byte) error) error {
	if s.peek() != '{' {
		return s.fail("an object")
	}
	s.pos++
	if s.peek() == '}' {
		s.pos++
		return nil
	}
	for {
		if s.peek() != '"' {
			return s.fail("a key in double quotes")
		}
		key, err := s.text()
		if err != nil {
			return err
		}
		if s.peek() != ':' {
			return s.fail("a colon")
		}
		s.pos++
		if err := each(key); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case '}':
			s.pos++
			return nil
		default:
			return s.fail("a comma or a closing brace")
		}
	}
}

// array reads an array and calls each before every element; each must consume
// it.
func (s *scanner) array(each func() error) error {
	if s.peek() != '[' {
		return s.fail("an array")
	}
	s.pos++
	if s.peek() == ']' {
		s.pos++
		return nil
	}
	for {
		if err := each(); err != nil {
			return err
		}
		switch s.peek() {
		case ',':
			s.pos++
		case ']':
			s.pos++
			return nil
		default:
			return s.fail("a comma or a closing bracket")
		}
	}
}

// text reads a string. The result is a piece of the source where the string has
// no escapes.
func (s *scanner) text() ([]byte, error) {
	if s.peek() != '"' {
		return nil, s.fail("a string")
	}
	s.pos++
	start := s.pos
	for ; s.pos < len(s.src); s.pos++ {
		switch c := s.src[s.pos]; {
		case c == '"':
			s.pos++
			return s.src[start : s.pos-1], nil
		case c == '\\':
			return s.escaped(append([]byte(nil), s.src[start:s.pos]...))
		case c < ' ':
			return nil, s.fail("a string without control characters")
		}
	}
	return nil, s.fail("a closing quote")
}

// escaped reads the rest of a string from its first escape on.
func (s *scanner) escaped(b []byte) ([]byte, error) {
	for s.pos < len(s.src) {
		c := s.src[s.pos]
		switch {
		case c == '"':
			s.pos++
			return b, nil
		case c < ' ':
			return nil, s.fail("a string without control characters")
		case c != '\\':
			b = append(b, c)
			s.pos++
			continue
		}
		s.pos++
		if s.pos == len(s.src) {
			break
		}
		c = s.src[s.pos]
		switch c {
		case '"', '\\', '/':
		case 'b':
			c = '\b'
		case 'f':
			c = '\f'
		case 'n':
			c = '\n'
		case 'r':
			c = '\r'
		case 't':
			c = '\t'
		case 'u':
			r, err := s.codePoint()
			if err != nil {
				return nil, err
			}
			b = utf8.AppendRune(b, r)
			continue
		default:
			return nil, s.fail("an escape of JSON")
		}
		b = append(b, c)
		s.pos++
	}
	return nil, s.fail("a closing quote")
}

// codePoint reads what follows the backslash of a \u escape, and the second half
// of a surrogate pair. Half a pair alone is an error.
func (s *scanner) codePoint() (rune, error) {
	first, err := s.unit()
	if err != nil || !utf16.IsSurrogate(first) {
		return first, err
	}
	if s.pos < len(s.src) && s.src[s.pos] == '\\' {
		s.pos++
		second, err := s.unit()
		if err != nil {
			return 0, err
		}
		if r := utf16.DecodeRune(first, second); r != utf8.RuneError {
			return r, nil
		}
	}
	return 0, s.fail("both halves of a surrogate pair")
}

// unit reads a "u" and four hexadecimal digits.
func (s *scanner) unit() (rune, error) {
	if s.pos+5 > len(s.src) || s.src[s.pos] != 'u' {
		return 0, s.fail("u and four hexadecimal digits")
	}
	// The base is fixed and the digits are four, so a sign or an underscore
	// is the only other thing to keep out: ParseUint takes neither.
	v, err := strconv.ParseUint(string(s.src[s.pos+1:s.pos+5]), 16, 16)
	if err != nil {
		return 0, s.fail("u and four hexadecimal digits")
	}
	s.pos += 5
	return rune(v), nil
}

// natural reads a number of digits alone that fits 63 bits. Signs, fractions,
// exponents and leading zeros are errors.
func (s *scanner) natural() (int64, error) {
	c := s.peek()
	start := s.pos
	for s.pos < len(s.src) && '0' <= s.src[s.pos] && s.src[s.pos] <= '9' {
		s.pos++
	}
	digits := s.src[start:s.pos]
	if len(digits) == 0 || c == '0' && len(digits) > 1 {
		s.pos = start
		return 0, s.fail("a natural number")
	}
	if s.pos < len(s.src) {
		switch s.src[s.pos] {
		case '.', 'e', 'E':
			return 0, s.fail("a natural number without fraction or exponent")
		}
	}
	if len(digits) > 19 {
		return 0, fmt.Errorf("at byte %d: want a natural number below 2^63, have %d digits", start, len(digits))
	}
	v, err := strconv.ParseInt(string(digits), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("at byte %d: want a natural number below 2^63, have %s", start, digits)
	}
	return v, nil
}

// null reports whether the next value is null, and consumes it if so.
func (s *scanner) null() bool {
	if s.peek() == 'n' && s.word("null") {
		return true
	}
	return false
}

// word consumes w where it is next.
func (s *scanner) word(w string) bool {
	if len(s.src)-s.pos < len(w) || string(s.src[s.pos:s.pos+len(w)]) != w {
		return false
	}
	s.pos += len(w)
	return true
}

// skip reads a value of any kind and drops it.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("at byte %d: nested more than %d deep", s.pos, maxDepth)
	}
	switch c := s.peek(); {
	case c == '{':
		return s.object(func([]byte) error { return s.skip(depth + 1) })
	case c == '[':
		return s.array(func() error { return s.skip(depth + 1) })
	case c == '"':
		_, err := s.text()
		return err
	case c == '-' || '0' <= c && c <= '9':
		for s.pos < len(s.src) && numeric(s.src[s.pos]) {
			s.pos++
		}
		return nil
	case c == 't' && s.word("true"), c == 'f' && s.word("false"), c == 'n' && s.word("null"):
		return nil
	}
	return s.fail("a value")
}

// numeric reports whether c can stand in a JSON number. The value of a skipped
// number is of no interest, so its grammar is not checked further.
func numeric(c byte) bool {
	switch c {
	case '+', '-', '.', 'e', 'E':
		return true
	}
	return '0' <= c && c <= '9'
}

// quote returns s in quotes for an error, cut to a length that is fit to print.
func quote(s string) string {
	const most = 120
	if len(s) <= most {
		return strconv.Quote(s)
	}
	return fmt.Sprintf("%q... (%d bytes)", s[:most], len(s))
}
