package openai

import (
	"bytes"
	"encoding/json"
	"fmt"
	"iter"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxJSONDepth is how deep arrays and objects of a body may nest; the deepest legal request needs about ten levels.
const maxJSONDepth = 64

// checkJSON reports whether text is exactly one JSON value by RFC 8259, in UTF-8, nested no deeper than maxJSONDepth
// and without an object that has a key twice. encoding/json takes the last of two equal keys, which lets two readers of
// one body see different requests. Everything below relies on this check and walks the text without looking for errors.
func checkJSON(text []byte) error {
	c := checker{text: text}
	c.space()
	if c.at == len(text) {
		return badBody("the body is empty: send a JSON object")
	}
	if err := c.value(0); err != nil {
		return err
	}
	c.space()
	if c.at != len(text) {
		return badBody("the body goes on after its JSON value, at byte %d", c.at)
	}
	return nil
}

func badBody(format string, args ...any) error {
	return &requestError{status: 400, kind: kindInvalid, code: "invalid_json", message: fmt.Sprintf(format, args...)}
}

type checker struct {
	text []byte
	at   int
}

func (c *checker) space() {
	for c.at < len(c.text) {
		switch c.text[c.at] {
		case ' ', '\t', '\n', '\r':
			c.at++
		default:
			return
		}
	}
}

func (c *checker) wrong() error {
	if c.at >= len(c.text) {
		return badBody("the body is not JSON: it ends at byte %d in the middle of a value", c.at)
	}
	r, n := utf8.DecodeRune(c.text[c.at:])
	if r == utf8.RuneError && n == 1 {
		return badBody("the body is not UTF-8: byte 0x%02x at byte %d", c.text[c.at], c.at)
	}
	return badBody("the body is not JSON: unexpected %q at byte %d", r, c.at)
}

func (c *checker) value(depth int) error {
	if depth > maxJSONDepth {
		return badBody("the body nests deeper than %d levels at byte %d", maxJSONDepth, c.at)
	}
	if c.at >= len(c.text) {
		return c.wrong()
	}
	switch b := c.text[c.at]; {
	case b == '{':
		return c.object(depth)
	case b == '[':
		return c.array(depth)
	case b == '"':
		return c.str()
	case b == '-' || '0' <= b && b <= '9':
		return c.number()
	}
	for _, w := range [...]string{"true", "false", "null"} {
		if bytes.HasPrefix(c.text[c.at:], []byte(w)) {
			c.at += len(w)
			return nil
		}
	}
	return c.wrong()
}

func (c *checker) array(depth int) error {
	c.at++
	c.space()
	if c.at < len(c.text) && c.text[c.at] == ']' {
		c.at++
		return nil
	}
	for {
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if done, err := c.next(']'); done || err != nil {
			return err
		}
	}
}

// next passes the comma or the closing bracket after an element.
func (c *checker) next(closing byte) (done bool, err error) {
	c.space()
	if c.at >= len(c.text) || c.text[c.at] != ',' && c.text[c.at] != closing {
		return false, c.wrong()
	}
	c.at++
	if c.text[c.at-1] == closing {
		return true, nil
	}
	c.space()
	return false, nil
}

// fewKeys is the number of keys up to which an object's keys are compared one by one; more are kept in a map.
const fewKeys = 16

func (c *checker) object(depth int) error {
	c.at++
	c.space()
	if c.at < len(c.text) && c.text[c.at] == '}' {
		c.at++
		return nil
	}
	var few [fewKeys][]byte
	var many map[string]bool
	for n := 0; ; n++ {
		if c.at >= len(c.text) || c.text[c.at] != '"' {
			return c.wrong()
		}
		from := c.at
		if err := c.str(); err != nil {
			return err
		}
		key := c.text[from+1 : c.at-1]
		if bytes.IndexByte(key, '\\') >= 0 {
			key = []byte(unquote(c.text[from:c.at]))
		}
		twice := false
		if n < fewKeys {
			for _, k := range few[:n] {
				twice = twice || bytes.Equal(k, key)
			}
			few[n] = key
		} else {
			if many == nil {
				many = make(map[string]bool, 4*fewKeys)
				for _, k := range few {
					many[string(k)] = true
				}
			}
			twice = many[string(key)]
			many[string(key)] = true
		}
		if twice {
			return badBody("the body has the key %s twice in one object", clip(strconv.Quote(string(key))))
		}
		c.space()
		if c.at >= len(c.text) || c.text[c.at] != ':' {
			return c.wrong()
		}
		c.at++
		c.space()
		if err := c.value(depth + 1); err != nil {
			return err
		}
		if done, err := c.next('}'); done || err != nil {
			return err
		}
	}
}

func (c *checker) str() error {
	c.at++
	for c.at < len(c.text) {
		switch b := c.text[c.at]; {
		case b == '"':
			c.at++
			return nil
		case b == '\\':
			c.at++
			if c.at >= len(c.text) {
				return c.wrong()
			}
			switch c.text[c.at] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				c.at++
			case 'u':
				c.at++
				for range 4 {
					if c.at >= len(c.text) || !isHex(c.text[c.at]) {
						return c.wrong()
					}
					c.at++
				}
			default:
				return c.wrong()
			}
		case b < 0x20:
			return badBody("the body is not JSON: unescaped control character 0x%02x in a string at byte %d", b, c.at)
		case b < utf8.RuneSelf:
			c.at++
		default:
			r, n := utf8.DecodeRune(c.text[c.at:])
			if r == utf8.RuneError && n == 1 {
				return c.wrong()
			}
			c.at += n
		}
	}
	return c.wrong()
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

func (c *checker) number() error {
	if c.text[c.at] == '-' {
		c.at++
	}
	if c.at < len(c.text) && c.text[c.at] == '0' {
		c.at++
	} else if !c.digits() {
		return c.wrong()
	}
	if c.at < len(c.text) && c.text[c.at] == '.' {
		c.at++
		if !c.digits() {
			return c.wrong()
		}
	}
	if c.at < len(c.text) && c.text[c.at]|0x20 == 'e' {
		c.at++
		if c.at < len(c.text) && (c.text[c.at] == '+' || c.text[c.at] == '-') {
			c.at++
		}
		if !c.digits() {
			return c.wrong()
		}
	}
	return nil
}

func (c *checker) digits() bool {
	from := c.at
	for c.at < len(c.text) && '0' <= c.text[c.at] && c.text[c.at] <= '9' {
		c.at++
	}
	return c.at > from
}

// A value is a JSON value inside a checked body, with the path under which errors name it. It is a view: the tree is
// never built, so that a body of a million numbers costs its own bytes and no more.
type value struct {
	path string
	text []byte
}

// kind is the first byte of the value: { [ " t f n, or 0 for a number.
func (v value) kind() byte {
	switch b := v.text[0]; b {
	case '{', '[', '"', 't', 'f', 'n':
		return b
	}
	return 0
}

func (v value) isNull() bool { return v.text[0] == 'n' }

// wrong is the error of a value that is not what the field takes; want continues "must be".
func (v value) wrong(want string) error {
	return &requestError{
		status: 400, kind: kindInvalid, param: v.path, code: "invalid_value",
		message: v.path + " must be " + want + ", got " + clip(string(v.text)),
	}
}

// number returns a finite float64 in [low, high]; a bound that is excluded is said in want and checked by the caller.
func (v value) number(low, high float64) (float64, error) {
	want := fmt.Sprintf("a number between %v and %v", low, high)
	if v.kind() != 0 {
		return 0, v.wrong(want)
	}
	f, err := strconv.ParseFloat(string(v.text), 64)
	if err != nil || math.IsInf(f, 0) || f < low || f > high {
		return 0, v.wrong(want)
	}
	return f + 0, nil // -0 + 0 is +0
}

// integer returns a whole number in [low, high]; 1.0 and 1e3 are not written as whole numbers and are refused.
func (v value) integer(low, high int64) (int64, error) {
	want := fmt.Sprintf("a whole number between %d and %d", low, high)
	if high == math.MaxInt64 {
		want = fmt.Sprintf("a whole number of at least %d", low)
	}
	if low == math.MinInt64 {
		want = "a whole number of 64 bits"
	}
	if v.kind() != 0 {
		return 0, v.wrong(want)
	}
	i, err := strconv.ParseInt(string(v.text), 10, 64)
	if err != nil || i < low || i > high {
		return 0, v.wrong(want)
	}
	return i, nil
}

func (v value) boolean() (bool, error) {
	switch v.kind() {
	case 't':
		return true, nil
	case 'f':
		return false, nil
	}
	return false, v.wrong("true or false")
}

// str returns a string; a lone surrogate escape becomes U+FFFD, as with encoding/json.
func (v value) str() (string, error) {
	if v.kind() != '"' {
		return "", v.wrong("a string")
	}
	return unquote(v.text), nil
}

func unquote(quoted []byte) string {
	inner := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(inner, '\\') < 0 {
		return string(inner)
	}
	var s string
	if err := json.Unmarshal(quoted, &s); err != nil {
		panic("BUG: a checked JSON string does not parse: " + err.Error())
	}
	return s
}

// elements yields the elements of an array with their index. Their path is v's own: at makes the element's.
func (v value) elements() iter.Seq2[int, value] {
	return func(yield func(int, value) bool) {
		at := blank(v.text, 1)
		for i := 0; v.text[at] != ']'; i++ {
			end := skip(v.text, at)
			if !yield(i, value{v.path, v.text[at:end]}) {
				return
			}
			at = blank(v.text, end)
			if v.text[at] == ',' {
				at = blank(v.text, at+1)
			}
		}
	}
}

// at returns an element as errors shall name it.
func (v value) at(i int) value {
	v.path += "[" + strconv.Itoa(i) + "]"
	return v
}

// members yields the members of an object, in order, the path of each value set.
func (v value) members() iter.Seq2[string, value] {
	return func(yield func(string, value) bool) {
		prefix := v.path
		if prefix != "" {
			prefix += "."
		}
		at := blank(v.text, 1)
		for v.text[at] != '}' {
			end := skip(v.text, at)
			key := unquote(v.text[at:end])
			at = blank(v.text, blank(v.text, end)+1)
			end = skip(v.text, at)
			if !yield(key, value{prefix + clip(printable(key)), v.text[at:end]}) {
				return
			}
			at = blank(v.text, end)
			if v.text[at] == ',' {
				at = blank(v.text, at+1)
			}
		}
	}
}

// member returns a member of an object by name.
func (v value) member(name string) (value, bool) {
	for key, m := range v.members() {
		if key == name {
			return m, true
		}
	}
	return value{}, false
}

func blank(text []byte, at int) int {
	for text[at] == ' ' || text[at] == '\t' || text[at] == '\n' || text[at] == '\r' {
		at++
	}
	return at
}

// skip returns the end of the value that starts at at.
func skip(text []byte, at int) int {
	depth := 0
	for {
		switch text[at] {
		case '"':
			at++
			for text[at] != '"' {
				if text[at] == '\\' {
					at++
				}
				at++
			}
			at++
		case '{', '[':
			depth++
			at++
		case '}', ']':
			depth--
			at++
		case ',', ':', ' ', '\t', '\n', '\r':
			at++ // only inside brackets: a value starts with none of these
		default:
			for at < len(text) && !delimits(text[at]) {
				at++
			}
		}
		if depth == 0 {
			return at
		}
	}
}

func delimits(b byte) bool {
	switch b {
	case ',', ']', '}', ':', ' ', '\t', '\r', '\n':
		return true
	}
	return false
}

// clipBytes is the most of a client's text that an error repeats.
const clipBytes = 80

// clip cuts a text for an error message.
func clip(s string) string { return cut(s, clipBytes) }

// cut keeps at most n bytes of a text, on a rune's boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// printable replaces what could break a line of a log or a header.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if strconv.IsPrint(r) {
			return r
		}
		return utf8.RuneError
	}, s)
}
