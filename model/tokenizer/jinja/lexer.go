package jinja

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokenEOF tokenKind = iota
	tokenData
	tokenBlockBegin
	tokenBlockEnd
	tokenVariableBegin
	tokenVariableEnd
	tokenName
	tokenString
	tokenNumber
	tokenOperator
)

type token struct {
	kind  tokenKind
	line  int
	text  string // the name, the operator, the decoded string or the data
	value Value  // of a number
}

// describe names a token in an error.
func (t token) describe() string {
	switch t.kind {
	case tokenEOF:
		return "end of template"
	case tokenData:
		return "template text"
	case tokenBlockBegin:
		return "'{%'"
	case tokenBlockEnd:
		return "'%}'"
	case tokenVariableBegin:
		return "'{{'"
	case tokenVariableEnd:
		return "'}}'"
	case tokenString:
		return "a string"
	case tokenNumber:
		return "a number"
	}
	return quote(clip(t.text))
}

// lexer cuts a template into tokens. Its rules of white space are those of
// jinja2 with trim_blocks and lstrip_blocks: a newline after a block is dropped,
// blanks before a block that begins its line are dropped, '-' strips all white
// space on its side and '+' keeps it.
type lexer struct {
	src  string
	pos  int
	line int
	// lineStart says that the text at pos begins a line, for lstrip_blocks.
	lineStart bool
	inside    tokenKind // tokenBlockBegin or tokenVariableBegin between tags, else 0
	pending   tokenKind // the tag whose text was just returned
	raw       bool      // the pending tag is {% raw %}
	brackets  []byte    // the closing brackets that are expected
}

func newLexer(source string) *lexer {
	source = normalizeNewlines(source)
	return &lexer{src: strings.TrimSuffix(source, "\n"), line: 1, lineStart: true}
}

func normalizeNewlines(s string) string {
	if strings.IndexByte(s, '\r') < 0 {
		return s
	}
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
}

func (l *lexer) errorf(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", l.line, fmt.Sprintf(format, args...))
}

// advance moves to pos i and keeps the line count.
func (l *lexer) advance(i int) {
	passed := l.src[l.pos:i]
	l.line += strings.Count(passed, "\n")
	l.lineStart = strings.HasSuffix(passed, "\n")
	l.pos = i
}

func (l *lexer) next() (token, error) {
	for {
		switch {
		case l.inside != 0:
			return l.code()
		case l.raw:
			l.raw = false
			tok, err := l.rawText()
			if err != nil || tok.text != "" {
				return tok, err
			}
		case l.pending != 0:
			tok := token{kind: l.pending, line: l.line}
			l.inside, l.pending = l.pending, 0
			return tok, nil
		case l.pos >= len(l.src):
			return token{kind: tokenEOF, line: l.line}, nil
		default:
			tok, err := l.dataText()
			if err != nil || tok.text != "" {
				return tok, err
			}
		}
	}
}

// dataText returns the text up to the next tag and leaves pos behind the tag's
// opening; the text may be empty.
func (l *lexer) dataText() (token, error) {
	tok := token{kind: tokenData, line: l.line}
	start := l.pos
	at := start
	for {
		i := strings.IndexByte(l.src[at:], '{')
		if i < 0 || at+i+1 >= len(l.src) {
			tok.text = l.src[start:]
			l.advance(len(l.src))
			return tok, nil
		}
		at += i
		if c := l.src[at+1]; c == '%' || c == '{' || c == '#' {
			break
		}
		at++
	}
	data, kind := l.src[start:at], l.src[at+1]
	end := at + 2
	var sign byte
	if end < len(l.src) && (l.src[end] == '-' || l.src[end] == '+') {
		sign = l.src[end]
		end++
	}
	tok.text = l.strip(data, sign, kind != '{')
	switch kind {
	case '%':
		if rawEnd, ok := matchTag(l.src, end, "raw", false); ok {
			l.advance(rawEnd)
			l.raw = true
			return tok, nil
		}
		l.advance(end)
		l.pending = tokenBlockBegin
	case '{':
		l.advance(end)
		l.pending = tokenVariableBegin
	case '#':
		l.advance(end)
		return tok, l.comment()
	}
	return tok, nil
}

// strip applies the rules of white space to the text before a tag.
func (l *lexer) strip(data string, sign byte, block bool) string {
	switch {
	case sign == '-':
		return strings.TrimRightFunc(data, isSpace)
	case sign == 0 && block:
		i := strings.LastIndexByte(data, '\n') + 1
		if (i > 0 || l.lineStart) && strings.TrimLeftFunc(data[i:], isSpace) == "" {
			return data[:i]
		}
	}
	return data
}

// comment skips a comment. At the very end of the template it need not close,
// nor need {% raw %}: that is how jinja2's rules come out.
func (l *lexer) comment() error {
	if l.pos == len(l.src) {
		return nil
	}
	i := strings.Index(l.src[l.pos:], "#}")
	if i < 0 {
		return l.errorf("close the comment with '#}'")
	}
	end := l.pos + i + 2
	switch {
	case i > 0 && l.src[end-3] == '-':
		end = skipSpace(l.src, end)
	case i > 0 && l.src[end-3] == '+':
	default:
		end = skipNewline(l.src, end)
	}
	l.advance(end)
	return nil
}

// rawText returns what stands between {% raw %} and {% endraw %}.
func (l *lexer) rawText() (token, error) {
	tok := token{kind: tokenData, line: l.line}
	if l.pos == len(l.src) {
		return tok, nil
	}
	for at := l.pos; ; at += 2 {
		i := strings.Index(l.src[at:], "{%")
		if i < 0 {
			return tok, l.errorf("close the raw block with '{%% endraw %%}'")
		}
		at += i
		after := at + 2
		var sign byte
		if after < len(l.src) && (l.src[after] == '-' || l.src[after] == '+') {
			sign = l.src[after]
			after++
		}
		if end, ok := matchTag(l.src, after, "endraw", true); ok {
			tok.text = l.strip(l.src[l.pos:at], sign, true)
			l.advance(end)
			return tok, nil
		}
	}
}

// matchTag matches a bare tag such as raw from behind its '{%', and returns the
// position behind its '%}'. Only the closing tag trims the newline after it.
func matchTag(src string, i int, name string, closing bool) (int, bool) {
	i = skipSpace(src, i)
	if !strings.HasPrefix(src[i:], name) {
		return 0, false
	}
	i = skipSpace(src, i+len(name))
	switch rest := src[i:]; {
	case strings.HasPrefix(rest, "-%}"):
		return skipSpace(src, i+3), true
	case strings.HasPrefix(rest, "%}"):
		if closing {
			return skipNewline(src, i+2), true
		}
		return i + 2, true
	case closing && strings.HasPrefix(rest, "+%}"):
		return i + 3, true
	}
	return 0, false
}

func skipNewline(src string, i int) int {
	if i < len(src) && src[i] == '\n' {
		i++
	}
	return i
}

func skipSpace(src string, i int) int {
	for i < len(src) {
		r, n := utf8.DecodeRuneInString(src[i:])
		if !isSpace(r) {
			break
		}
		i += n
	}
	return i
}

// isSpace is Python's str.isspace, which knows the ASCII separators 1c to 1f.
func isSpace(r rune) bool {
	if r < 0x80 {
		return r == ' ' || r >= '\t' && r <= '\r' || r >= 0x1c && r <= 0x1f
	}
	return unicode.IsSpace(r)
}

// tagEnd matches the end of the tag that the lexer is inside of.
func (l *lexer) tagEnd() (end int, ok bool) {
	rest := l.src[l.pos:]
	if l.inside == tokenVariableBegin {
		switch {
		case strings.HasPrefix(rest, "-}}"):
			return skipSpace(l.src, l.pos+3), true
		case strings.HasPrefix(rest, "}}"):
			return l.pos + 2, true
		}
		return 0, false
	}
	switch {
	case strings.HasPrefix(rest, "+%}"):
		return l.pos + 3, true
	case strings.HasPrefix(rest, "-%}"):
		return skipSpace(l.src, l.pos+3), true
	case strings.HasPrefix(rest, "%}"):
		return skipNewline(l.src, l.pos+2), true
	}
	return 0, false
}

// code returns a token from inside a tag.
func (l *lexer) code() (token, error) {
	for {
		if len(l.brackets) == 0 {
			if end, ok := l.tagEnd(); ok {
				tok := token{kind: tokenVariableEnd, line: l.line}
				if l.inside == tokenBlockBegin {
					tok.kind = tokenBlockEnd
				}
				l.inside = 0
				l.advance(end)
				return tok, nil
			}
		}
		end := skipSpace(l.src, l.pos)
		if end == l.pos {
			break
		}
		l.advance(end)
	}
	if l.pos >= len(l.src) {
		return token{kind: tokenEOF, line: l.line}, nil
	}
	tok := token{line: l.line}
	rest := l.src[l.pos:]
	c := rest[0]
	switch {
	case c >= '0' && c <= '9':
		n, v, err := scanNumber(rest, l.pos > 0 && l.src[l.pos-1] == '.')
		if err != nil {
			return tok, l.errorf("%v", err)
		}
		tok.kind, tok.value, tok.text = tokenNumber, v, rest[:n]
		l.advance(l.pos + n)
		return tok, nil
	case c == '\'' || c == '"':
		return l.quoted(c)
	}
	if n := scanName(rest); n > 0 {
		tok.kind, tok.text = tokenName, rest[:n]
		l.advance(l.pos + n)
		return tok, nil
	}
	return l.operator()
}

func scanName(s string) int {
	for i, r := range s {
		letter := r == '_' || unicode.IsLetter(r) || unicode.Is(unicode.Nl, r)
		if !letter && (i == 0 || !unicode.In(r, unicode.Nd, unicode.Mn, unicode.Mc, unicode.Pc)) {
			return i
		}
	}
	return len(s)
}

func (l *lexer) operator() (token, error) {
	rest := l.src[l.pos:]
	n := 0
	if len(rest) >= 2 {
		switch rest[:2] {
		case "//", "**", "==", "!=", ">=", "<=":
			n = 2
		}
	}
	if n == 0 && strings.IndexByte("+-/*%~[](){}><=.:|,;", rest[0]) >= 0 {
		n = 1
	}
	if n == 0 {
		r, _ := utf8.DecodeRuneInString(rest)
		return token{}, l.errorf("unexpected character %q", r)
	}
	switch c := rest[0]; c {
	case '(':
		l.brackets = append(l.brackets, ')')
	case '[':
		l.brackets = append(l.brackets, ']')
	case '{':
		l.brackets = append(l.brackets, '}')
	case ')', ']', '}':
		last := len(l.brackets) - 1
		if last < 0 {
			return token{}, l.errorf("unexpected '%c'", c)
		}
		if l.brackets[last] != c {
			return token{}, l.errorf("unexpected '%c', expected '%c'", c, l.brackets[last])
		}
		l.brackets = l.brackets[:last]
	}
	if len(l.brackets) > maxBrackets {
		return token{}, fmt.Errorf("line %d: %w", l.line, limitf("brackets nested more than %d deep", maxBrackets))
	}
	tok := token{kind: tokenOperator, line: l.line, text: rest[:n]}
	l.advance(l.pos + n)
	return tok, nil
}

func (l *lexer) quoted(mark byte) (token, error) {
	tok := token{kind: tokenString, line: l.line}
	for i := l.pos + 1; i < len(l.src); i++ {
		switch l.src[i] {
		case '\\':
			i++
		case mark:
			s, err := unescape(l.src[l.pos+1 : i])
			if err != nil {
				return tok, l.errorf("%v", err)
			}
			tok.text = s
			l.advance(i + 1)
			return tok, nil
		}
	}
	return tok, l.errorf("close the string that begins with %c", mark)
}

// unescape decodes the escapes of a string literal as Python's unicode-escape
// does: an unknown escape stays as it is written.
func unescape(s string) (string, error) {
	i := strings.IndexByte(s, '\\')
	if i < 0 {
		return s, nil
	}
	var b strings.Builder
	b.Grow(len(s))
	for i >= 0 {
		b.WriteString(s[:i])
		s = s[i+1:]
		if s == "" {
			return "", fmt.Errorf("string ends in a backslash")
		}
		c := s[0]
		n := 1
		switch c {
		case '\n':
		case '\\', '\'', '"':
			b.WriteByte(c)
		case 'a':
			b.WriteByte('\a')
		case 'b':
			b.WriteByte('\b')
		case 'f':
			b.WriteByte('\f')
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		case 't':
			b.WriteByte('\t')
		case 'v':
			b.WriteByte('\v')
		case '0', '1', '2', '3', '4', '5', '6', '7':
			r := rune(0)
			for n = 0; n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7'; n++ {
				r = r<<3 | rune(s[n]-'0')
			}
			b.WriteRune(r)
		case 'x', 'u', 'U':
			n = map[byte]int{'x': 3, 'u': 5, 'U': 9}[c]
			r, ok := hexRune(s, n)
			if !ok {
				return "", fmt.Errorf("string has a malformed \\%c escape", c)
			}
			b.WriteRune(r)
		case 'N':
			return "", fmt.Errorf("string escapes \\N{...} are not supported: write the character or \\u")
		default:
			b.WriteByte('\\')
			// jinja2 writes a character outside ASCII as an escape before it decodes,
			// so behind a backslash that escape is what remains.
			r, size := utf8.DecodeRuneInString(s)
			n = size
			switch {
			case r < 0x80:
				b.WriteByte(c)
			case r <= 0xff:
				fmt.Fprintf(&b, "x%02x", r)
			case r <= 0xffff:
				fmt.Fprintf(&b, "u%04x", r)
			default:
				fmt.Fprintf(&b, "U%08x", r)
			}
		}
		s = s[n:]
		i = strings.IndexByte(s, '\\')
	}
	b.WriteString(s)
	return b.String(), nil
}

// hexRune reads the digits s[1:n].
func hexRune(s string, n int) (rune, bool) {
	if len(s) < n {
		return 0, false
	}
	var r rune
	for i := 1; i < n; i++ {
		d := strings.IndexByte("0123456789abcdef", s[i]|0x20)
		if d < 0 || s[i] < '0' {
			return 0, false
		}
		r = r<<4 | rune(d)
		if r > unicode.MaxRune {
			return 0, false
		}
	}
	return r, true
}
