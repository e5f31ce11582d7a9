package translate

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// kind is what a statement is.
type kind int

const (
	instruction kind = iota
	directive        // .reg, .pragma, and what stands around kernels
	label
	entry   // the head of a kernel
	open    // {
	closing // }
)

// statement is one statement of PTX.
type statement struct {
	kind     kind
	line     int
	op       string   // mnemonic whole, directive, label, or name of a kernel
	typ      string   // of a .reg
	guard    string   // %p1 or !%p1
	operands []string // as written; {a, b} is one operand

	bytes, threads int // of a kernel: size of its arguments, threads of a block
}

// String returns the statement as it may have been written.
func (s statement) String() string {
	text := s.op
	if s.guard != "" {
		text = "@" + s.guard + " " + text
	}
	if len(s.operands) > 0 {
		text += " " + strings.Join(s.operands, ", ")
	}
	return text
}

// parse divides a text into statements.
func parse(text []byte) ([]statement, error) {
	p := &parser{text: string(text), line: 1}
	var all []statement
	for {
		p.space()
		if p.at == len(p.text) {
			return all, nil
		}
		s, err := p.statement()
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", p.line, err)
		}
		all = append(all, s)
	}
}

type parser struct {
	text string
	at   int
	line int
}

// space passes over white space and comments.
func (p *parser) space() {
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '\n':
			p.line++
			p.at++
		case c == ' ' || c == '\t' || c == '\r':
			p.at++
		case strings.HasPrefix(p.text[p.at:], "//"):
			for p.at < len(p.text) && p.text[p.at] != '\n' {
				p.at++
			}
		default:
			return
		}
	}
}

// until takes what stands before any of the characters in stops, without comments, and leaves the stop.
func (p *parser) until(stops string) (string, error) {
	var b strings.Builder
	for p.at < len(p.text) {
		before := p.at
		p.space()
		if p.at > before {
			b.WriteByte(' ')
			continue
		}
		if strings.HasPrefix(p.text[p.at:], "::") { // of a mnemonic, and no end of a label
			b.WriteString("::")
			p.at += 2
			continue
		}
		if strings.IndexByte(stops, p.text[p.at]) >= 0 {
			return strings.TrimSpace(b.String()), nil
		}
		b.WriteByte(p.text[p.at])
		p.at++
	}
	return "", errors.New("the text ends within a statement")
}

func (p *parser) statement() (statement, error) {
	s := statement{line: p.line}
	switch c := p.text[p.at]; {
	case c == '{' || c == '}':
		p.at++
		s.kind = open
		if c == '}' {
			s.kind = closing
		}
		return s, nil
	case strings.HasPrefix(p.text[p.at:], ".visible"):
		return p.entry(s)
	case strings.HasPrefix(p.text[p.at:], ".version"), strings.HasPrefix(p.text[p.at:], ".target"), strings.HasPrefix(p.text[p.at:], ".address_size"):
		end := p.at + strings.IndexByte(p.text[p.at:]+"\n", '\n') // these end with their line
		words := strings.Fields(p.text[p.at:end])
		p.at = min(end, len(p.text))
		s.kind, s.op, s.operands = directive, words[0], words[1:]
		return s, nil
	}
	text, err := p.until(";:")
	if err != nil {
		return s, err
	}
	stop := p.text[p.at]
	p.at++
	if stop == ':' {
		s.kind, s.op = label, text
		return s, nil
	}
	if guarded, ok := strings.CutPrefix(text, "@"); ok {
		var rest string
		if s.guard, rest, ok = strings.Cut(guarded, " "); !ok {
			return s, fmt.Errorf("%q is no instruction", text)
		}
		text = strings.TrimSpace(rest)
	}
	var rest string
	s.op, rest, _ = strings.Cut(text, " ")
	if strings.HasPrefix(s.op, ".") {
		s.kind = directive
		if s.op == ".reg" {
			s.typ, rest, _ = strings.Cut(strings.TrimSpace(rest), " ")
		}
	}
	s.operands, err = split(rest)
	return s, err
}

// entry reads the head of a kernel: .visible .entry name(.param ...) .maxntid ..., up to its brace.
func (p *parser) entry(s statement) (statement, error) {
	s.kind = entry
	text, err := p.until("{")
	if err != nil {
		return s, err
	}
	head, rest, ok := strings.Cut(text, "(")
	parameters, limits, closed := strings.Cut(rest, ")")
	words := strings.Fields(head)
	if !ok || !closed || len(words) != 3 || words[1] != ".entry" {
		return s, fmt.Errorf("%q is no head of a kernel", text)
	}
	s.op = words[2]
	if strings.TrimSpace(parameters) != "" {
		// One block of arguments, whose name ends in the size in bytes.
		words = strings.Fields(parameters)
		size := words[len(words)-1]
		from, to := strings.IndexByte(size, '['), strings.IndexByte(size, ']')
		if len(words) != 5 || words[0] != ".param" || words[3] != ".b8" || size[:max(from, 0)] != s.op+"_param_0" || to < from {
			return s, fmt.Errorf("kernel %s has parameters %q and not one block of arguments", s.op, parameters)
		}
		if s.bytes, err = strconv.Atoi(size[from+1 : to]); err != nil {
			return s, fmt.Errorf("kernel %s: %w", s.op, err)
		}
	}
	words = strings.Fields(strings.ReplaceAll(limits, ",", " "))
	for i, w := range words {
		if w == ".maxntid" && i+1 < len(words) {
			if s.threads, err = strconv.Atoi(words[i+1]); err != nil {
				return s, fmt.Errorf("kernel %s: %w", s.op, err)
			}
		}
	}
	return s, nil
}

// split divides operands at commas that stand in no braces.
func split(text string) ([]string, error) {
	var operands []string
	depth, from := 0, 0
	for i := 0; i <= len(text); i++ {
		switch {
		case i == len(text) || text[i] == ',' && depth == 0:
			if o := strings.TrimSpace(text[from:i]); o != "" {
				operands = append(operands, o)
			} else if i < len(text) {
				return nil, fmt.Errorf("%q lacks an operand", text)
			}
			from = i + 1
		case text[i] == '{':
			depth++
		case text[i] == '}':
			depth--
		}
	}
	if depth != 0 {
		return nil, fmt.Errorf("%q has braces that do not match", text)
	}
	return operands, nil
}
