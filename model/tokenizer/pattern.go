package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// pattern finds what a Split or a Replace speaks of.
type pattern interface {
	// matches calls yield with each match in text, from left to right and never empty, until yield returns false.
	matches(text string, yield func(start, end int) bool)
}

// patternFile is a pattern as it stands in the file: {"String": s} or {"Regex": r}.
type patternFile struct {
	String *string
	Regex  *string
}

// pattern returns the matcher for p.
func (p patternFile) pattern(c *classes) (pattern, error) {
	switch {
	case (p.String == nil) == (p.Regex == nil):
		return nil, fmt.Errorf("the pattern is neither String nor Regex")
	case p.Regex != nil:
		if s := c.scanner(*p.Regex); s != nil {
			return s, nil
		}
		return compile(*p.Regex)
	case *p.String == "":
		return nil, fmt.Errorf("the pattern is the empty string")
	}
	return text(*p.String), nil
}

func (p *patternFile) UnmarshalJSON(b []byte) error {
	type plain patternFile
	return strict(b, (*plain)(p))
}

// text is a pattern that matches itself.
type text string

func (p text) matches(s string, yield func(start, end int) bool) {
	for at := 0; ; {
		i := strings.Index(s[at:], string(p))
		if i < 0 || !yield(at+i, at+i+len(p)) {
			return
		}
		at += i + len(p)
	}
}

func (n *scanner) matches(s string, yield func(start, end int) bool) {
	for i := 0; i < len(s); {
		if n.starts != nil && !n.starts[s[i]] {
			i++ // a byte within a character begins no match, so that it may be skipped alone
			continue
		}
		if end := n.next(s, i); end > i {
			if !yield(i, end) {
				return
			}
			i = end
			continue
		}
		_, size := utf8.DecodeRuneInString(s[i:])
		i += size
	}
}

// each is a pattern that matches every single character of a kind.
type each func(rune) bool

func (in each) matches(s string, yield func(start, end int) bool) {
	for i, r := range s {
		if in(r) && !yield(i, i+utf8.RuneLen(r)) {
			return
		}
	}
}

// behavior says what becomes of the matches when a text is split.
type behavior uint8

const (
	isolated           behavior = iota // each match is a piece
	removed                            // matches are dropped
	mergedWithPrevious                 // each match is the end of the piece before
	mergedWithNext                     // each match is the start of the piece behind
	contiguous                         // matches that touch are one piece
)

func (b *behavior) UnmarshalJSON(raw []byte) error {
	var name string
	if err := json.Unmarshal(raw, &name); err != nil {
		return err
	}
	for i, known := range []string{"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"} {
		if name == known {
			*b = behavior(i)
			return nil
		}
	}
	return fmt.Errorf("the behavior %.60q is not supported", name)
}

// split calls yield with the pieces of s, none of them empty. With invert set, what lies between the matches counts as
// matching.
func split(s string, p pattern, b behavior, invert bool, yield func(start, end int)) {
	// The pieces are joined from an unbroken row of stretches, each a match or not. A piece is held back until the stretch
	// behind it has shown that it does not belong to it.
	start, end := 0, 0
	previous := false // the stretch before was a match
	stretch := func(from, to int, match bool) {
		if from == to {
			return
		}
		join := false
		switch b {
		case removed:
			if match {
				return
			}
		case contiguous:
			join = match == previous
		case mergedWithPrevious:
			join = match && !previous
		case mergedWithNext:
			join = !match && previous
		}
		if !join && end > start {
			yield(start, end)
		}
		if !join {
			start = from
		}
		end = to
		previous = match
	}
	at := 0
	p.matches(s, func(from, to int) bool {
		stretch(at, from, invert)
		stretch(from, to, !invert)
		at = to
		return true
	})
	stretch(at, len(s), invert)
	if end > start {
		yield(start, end)
	}
}
