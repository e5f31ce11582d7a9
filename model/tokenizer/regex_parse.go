package tokenizer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The reader of patterns. It takes the part of Oniguruma's syntax (doc/RE of that project, Ruby's flavour) whose meaning it is
// sure of, and refuses the rest by name.

const (
	// maxRepeat bounds the counts in {n,m}.
	maxRepeat = 1000
	// maxDepth bounds the nesting of groups and sets.
	maxDepth = 100
)

// node is a part of a pattern.
type node struct {
	kind  nodeKind
	parts []*node // alternatives, sequence; one part: repeat, look
	set   *set
	// A repeat: between min and max times (max < 0: no bound).
	min, max int
	lazy     bool
	negated  bool
	assert   assertion
}

type nodeKind uint8

const (
	nodeSet nodeKind = iota
	nodeSequence
	nodeAlternatives
	nodeRepeat
	nodePossessive
	nodeLook
	nodeBehind
	nodeAssert
)

type patternParser struct {
	text  string
	pos   int
	depth int
	// fold is set inside of (?i:...).
	fold bool
}

func (p *patternParser) more() bool { return p.pos < len(p.text) }

// take steps over prefix if it is next.
func (p *patternParser) take(prefix string) bool {
	if strings.HasPrefix(p.text[p.pos:], prefix) {
		p.pos += len(prefix)
		return true
	}
	return false
}

func (p *patternParser) next() rune {
	r, size := utf8.DecodeRuneInString(p.text[p.pos:])
	p.pos += size
	return r
}

func (p *patternParser) alternatives() (*node, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("groups nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	n := &node{kind: nodeAlternatives}
	for {
		sequence, err := p.sequence()
		if err != nil {
			return nil, err
		}
		n.parts = append(n.parts, sequence)
		if !p.take("|") {
			break
		}
	}
	if len(n.parts) == 1 {
		return n.parts[0], nil
	}
	return n, nil
}

func (p *patternParser) sequence() (*node, error) {
	n := &node{kind: nodeSequence}
	previous := byte(0) // the letter before, inside of (?i:...)
	for p.more() && p.text[p.pos] != '|' && p.text[p.pos] != ')' {
		c := lowerASCII(p.text[p.pos])
		if p.fold && slices.Contains([]string{"ff", "fi", "fl", "ss", "st"}, string([]byte{previous, c})) {
			// ß and the ligatures fold to two letters.
			return nil, fmt.Errorf("(?i: with the letters %c%c is not supported", previous, c)
		}
		previous = c
		atom, err := p.atom()
		if err != nil {
			return nil, err
		}
		if atom, err = p.quantified(atom); err != nil {
			return nil, err
		}
		n.parts = append(n.parts, atom)
	}
	return n, nil
}

// quantified reads the quantifiers behind an atom.
func (p *patternParser) quantified(atom *node) (*node, error) {
	if !p.more() {
		return atom, nil
	}
	n := &node{kind: nodeRepeat, parts: []*node{atom}, max: -1}
	counted := false
	switch p.text[p.pos] {
	case '*':
		p.pos++
	case '+':
		p.pos++
		n.min = 1
	case '?':
		p.pos++
		n.max = 1
	case '{':
		counted = true
		if err := p.counts(n); err != nil {
			return nil, err
		}
	default:
		return atom, nil
	}
	if atom.kind == nodeAssert || atom.kind == nodeLook || atom.kind == nodeBehind {
		return nil, fmt.Errorf("a repeated assertion is not supported")
	}
	if n.max != 0 && n.max != 1 && atom.empty() {
		return nil, fmt.Errorf("it repeats a group that may be empty")
	}
	if n.max < 0 && atom.unbounded() {
		return nil, fmt.Errorf("it repeats a group that repeats without bound itself, which takes exponential time")
	}
	if p.more() {
		switch c := p.text[p.pos]; {
		case c == '?' && counted && n.min == n.max:
			return nil, fmt.Errorf("? after {n} is not supported")
		case c == '?':
			p.pos++
			n.lazy = true
		case c == '+' && counted:
			return nil, fmt.Errorf("+ after {n,m} is not supported")
		case c == '+':
			if atom.kind != nodeSet {
				return nil, fmt.Errorf("a possessive repeat of a group is not supported")
			}
			p.pos++
			n.kind, n.set = nodePossessive, atom.set
		}
	}
	if p.more() && strings.IndexByte("*+?{", p.text[p.pos]) >= 0 {
		return nil, fmt.Errorf("a repeat of a repeat is not supported")
	}
	return n, nil
}

// counts reads {n}, {n,}, {n,m} or {,m}.
func (p *patternParser) counts(n *node) error {
	end := strings.IndexByte(p.text[p.pos:], '}')
	if end < 0 {
		return fmt.Errorf("{ without } is not supported")
	}
	body := p.text[p.pos+1 : p.pos+end]
	p.pos += end + 1
	low, high, two := strings.Cut(body, ",")
	var err error
	number := func(s string, missing int) int {
		if s == "" {
			return missing
		}
		v, e := strconv.ParseUint(s, 10, 31)
		if e != nil || v > maxRepeat {
			err = fmt.Errorf("the repeat {%.60s} is not supported (counts go to %d)", body, maxRepeat)
		}
		return int(v)
	}
	if low == "" && (!two || high == "") {
		return fmt.Errorf("the repeat {%.60s} is not supported", body)
	}
	n.min = number(low, 0)
	n.max = n.min
	if two {
		n.max = number(high, -1)
	}
	if err == nil && n.max >= 0 && n.max < n.min {
		err = fmt.Errorf("the repeat {%.60s} is not supported", body)
	}
	return err
}

func (p *patternParser) atom() (*node, error) {
	switch c := p.text[p.pos]; c {
	case '(':
		return p.group()
	case '[':
		p.pos++
		s, err := p.set()
		if err != nil {
			return nil, err
		}
		return &node{kind: nodeSet, set: s}, nil
	case '\\':
		return p.escaped()
	case '.':
		p.pos++
		s := &set{negated: true}
		s.add('\n', '\n')
		return &node{kind: nodeSet, set: s.close()}, nil
	case '^':
		p.pos++
		return &node{kind: nodeAssert, assert: lineStart}, nil
	case '$':
		p.pos++
		return &node{kind: nodeAssert, assert: lineEnd}, nil
	case '*', '+', '?', '{':
		return nil, fmt.Errorf("%c repeats nothing", c)
	}
	s := new(set)
	if err := p.literal(s, p.next()); err != nil {
		return nil, err
	}
	return &node{kind: nodeSet, set: s.close()}, nil
}

// literal adds a character to a set, in both cases inside of (?i:...).
func (p *patternParser) literal(s *set, r rune) error {
	s.add(r, r)
	if !p.fold {
		return nil
	}
	if r >= utf8.RuneSelf {
		return fmt.Errorf("(?i: with %q is not supported", r)
	}
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		s.add(f, f)
	}
	return nil
}

func (p *patternParser) group() (*node, error) {
	n := new(node)
	fold := p.fold
	switch {
	case p.take("(?:"):
	case p.take("(?i:"):
		p.fold = true
	case p.take("(?="):
		n.kind = nodeLook
	case p.take("(?!"):
		n.kind, n.negated = nodeLook, true
	case p.take("(?<="):
		n.kind = nodeBehind
	case p.take("(?<!"):
		n.kind, n.negated = nodeBehind, true
	case strings.HasPrefix(p.text[p.pos:], "(?"):
		return nil, fmt.Errorf("the group %.4s... is not supported", p.text[p.pos:])
	default:
		p.pos++ // a group that captures; nothing refers to it
	}
	inner, err := p.alternatives()
	if err != nil {
		return nil, err
	}
	p.fold = fold
	if !p.take(")") {
		return nil, fmt.Errorf("a group is not closed")
	}
	switch n.kind {
	case nodeLook:
		n.parts = []*node{inner}
		return n, nil
	case nodeBehind:
		if inner.kind == nodeSequence && len(inner.parts) == 1 {
			inner = inner.parts[0]
		}
		if inner.kind != nodeSet {
			return nil, fmt.Errorf("a look behind at more than one character is not supported")
		}
		n.set = inner.set
		return n, nil
	}
	return inner, nil
}

// escaped reads what begins with a backslash, outside of a set.
func (p *patternParser) escaped() (*node, error) {
	for _, a := range []struct {
		text   string
		assert assertion
	}{{`\A`, textStart}, {`\z`, textEnd}, {`\b`, boundary}, {`\B`, noBoundary}} {
		if p.take(a.text) {
			return &node{kind: nodeAssert, assert: a.assert}, nil
		}
	}
	s := new(set)
	r, class, err := p.escape()
	if err != nil {
		return nil, err
	}
	if class != nil {
		s.addClass(class)
	} else if err := p.literal(s, r); err != nil {
		return nil, err
	}
	return &node{kind: nodeSet, set: s.close()}, nil
}

// escape reads an escape that stands for a character or a class.
func (p *patternParser) escape() (rune, func(rune) bool, error) {
	p.pos++
	if !p.more() {
		return 0, nil, fmt.Errorf("it ends with a backslash")
	}
	c := p.next()
	not := func(in func(rune) bool) func(rune) bool { return func(r rune) bool { return !in(r) } }
	digit := func(r rune) bool { return unicode.Is(unicode.Nd, r) }
	switch c {
	case 'n':
		return '\n', nil, nil
	case 'r':
		return '\r', nil, nil
	case 't':
		return '\t', nil, nil
	case 'f':
		return '\f', nil, nil
	case 'v':
		return '\v', nil, nil
	case 'a':
		return '\a', nil, nil
	case 'e':
		return 0x1B, nil, nil
	case 's':
		return 0, unicode.IsSpace, nil
	case 'S':
		return 0, not(unicode.IsSpace), nil
	case 'd':
		return 0, digit, nil
	case 'D':
		return 0, not(digit), nil
	case 'w':
		return 0, inPatternWord, nil
	case 'W':
		return 0, not(inPatternWord), nil
	case 'p', 'P':
		return p.property(c == 'P')
	case 'x':
		if p.take("{") {
			hex, _, closed := strings.Cut(p.text[p.pos:], "}")
			if !closed {
				return 0, nil, fmt.Errorf(`\x{ is not closed`)
			}
			p.pos += len(hex) + 1
			return codePoint(hex)
		}
		return p.hex(2)
	case 'u':
		return p.hex(4)
	}
	if c >= utf8.RuneSelf || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' {
		return 0, nil, fmt.Errorf(`\%c is not supported`, c)
	}
	return c, nil, nil
}

// hex reads an escape of exactly n digits.
func (p *patternParser) hex(n int) (rune, func(rune) bool, error) {
	if len(p.text)-p.pos < n {
		return 0, nil, fmt.Errorf("an escape of %d hexadecimal digits is cut", n)
	}
	p.pos += n
	if n == 2 && p.text[p.pos-2] >= '8' {
		// Oniguruma reads these as bytes of UTF-8.
		return 0, nil, fmt.Errorf(`\x%s is not supported, write \u00%[1]s`, p.text[p.pos-2:p.pos])
	}
	return codePoint(p.text[p.pos-n : p.pos])
}

func codePoint(hex string) (rune, func(rune) bool, error) {
	v, err := strconv.ParseUint(hex, 16, 32)
	if err != nil || v > unicode.MaxRune || !utf8.ValidRune(rune(v)) {
		return 0, nil, fmt.Errorf("%q is not the hexadecimal number of a character", hex)
	}
	return rune(v), nil, nil
}

// property reads what follows \p or \P: the short name of a general category, or a script.
func (p *patternParser) property(negated bool) (rune, func(rune) bool, error) {
	if !p.take("{") {
		return 0, nil, fmt.Errorf(`\p without { is not supported`)
	}
	if p.take("^") {
		negated = !negated
	}
	name, _, closed := strings.Cut(p.text[p.pos:], "}")
	if !closed {
		return 0, nil, fmt.Errorf(`\p{ is not closed`)
	}
	p.pos += len(name) + 1
	table, ok := unicode.Categories[name]
	if !ok {
		table, ok = unicode.Scripts[name]
	}
	if !ok || name == "C" || name == "Cn" || name == "Cs" {
		return 0, nil, fmt.Errorf(`\p{%.60s} is not supported`, name)
	}
	return 0, func(r rune) bool { return unicode.Is(table, r) != negated }, nil
}

// set reads a set behind its [. A set inside of a set is joined to it.
func (p *patternParser) set() (*set, error) {
	if p.depth++; p.depth > maxDepth {
		return nil, fmt.Errorf("sets nest deeper than %d", maxDepth)
	}
	defer func() { p.depth-- }()
	s := &set{negated: p.take("^")}
	for first := true; ; first = false {
		if !p.more() {
			return nil, fmt.Errorf("a set is not closed")
		}
		if p.take("]") {
			if first {
				return nil, fmt.Errorf("a set that is empty or begins with ] is not supported")
			}
			return s.close(), nil
		}
		switch {
		case strings.HasPrefix(p.text[p.pos:], "[:"):
			return nil, fmt.Errorf("a POSIX class [:name:] is not supported")
		case strings.HasPrefix(p.text[p.pos:], "&&"):
			return nil, fmt.Errorf("the intersection of sets (&&) is not supported")
		}
		if p.take("[") {
			inner, err := p.set()
			if err != nil {
				return nil, err
			}
			s.addClass(inner.has)
			continue
		}
		low, class, err := p.member()
		if err != nil {
			return nil, err
		}
		if p.fold && (s.negated || class != nil) {
			return nil, fmt.Errorf("(?i: with such a set is not supported")
		}
		if class != nil {
			s.addClass(class)
			if strings.HasPrefix(p.text[p.pos:], "-") && !strings.HasPrefix(p.text[p.pos:], "-]") {
				return nil, fmt.Errorf("a range from a class is not supported")
			}
			continue
		}
		if !strings.HasPrefix(p.text[p.pos:], "-") || strings.HasPrefix(p.text[p.pos:], "-]") {
			if err := p.literal(s, low); err != nil {
				return nil, err
			}
			continue
		}
		p.pos++
		if !p.more() || p.text[p.pos] == '[' {
			return nil, fmt.Errorf("a range to a set is not supported")
		}
		high, class, err := p.member()
		switch {
		case err != nil:
			return nil, err
		case class != nil || high < low:
			return nil, fmt.Errorf("a range that does not go from a lower to a higher character is not supported")
		case p.fold:
			return nil, fmt.Errorf("(?i: with a range is not supported")
		}
		s.add(low, high)
	}
}

// member reads one character or class of a set.
func (p *patternParser) member() (rune, func(rune) bool, error) {
	if p.text[p.pos] != '\\' {
		return p.next(), nil, nil
	}
	if p.take(`\b`) {
		return '\b', nil, nil
	}
	return p.escape()
}

// empty reports whether n matches the empty string.
func (n *node) empty() bool {
	switch n.kind {
	case nodeSet:
		return false
	case nodeSequence:
		return !slices.ContainsFunc(n.parts, func(m *node) bool { return !m.empty() })
	case nodeAlternatives:
		return slices.ContainsFunc(n.parts, (*node).empty)
	case nodeRepeat, nodePossessive:
		return n.min == 0 || n.parts[0].empty()
	}
	return true // assertions
}

// unbounded reports whether a part of n repeats without bound.
func (n *node) unbounded() bool {
	return n.kind == nodeRepeat && n.max < 0 || slices.ContainsFunc(n.parts, (*node).unbounded)
}
