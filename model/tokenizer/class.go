package tokenizer

import "unicode"

// class is a set of the kinds of character that split patterns speak of, one bit each.
type class uint8

const (
	letter class = 1 << iota // \p{L}
	number                   // \p{N}
	mark                     // \p{M}
	space                    // \s, the property White_Space
	sign                     // \p{P} and \p{S}
	upper                    // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	lower                    // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
	other  class = 0
)

// classes holds the class of each character of the basic plane; the tables of package unicode answer for the others.
type classes [1 << 16]class

func newClasses() *classes {
	c := new(classes)
	for _, t := range classTables {
		for _, r := range t.table.R16 {
			for ch := uint32(r.Lo); ch <= uint32(r.Hi); ch += uint32(r.Stride) {
				c[ch] |= t.class
			}
		}
	}
	return c
}

// classTables gives the classes of each general category.
var classTables = []struct {
	table *unicode.RangeTable
	class class
}{
	{unicode.Lu, letter | upper},
	{unicode.Lt, letter | upper},
	{unicode.Ll, letter | lower},
	{unicode.Lm, letter | upper | lower},
	{unicode.Lo, letter | upper | lower},
	{unicode.M, mark | upper | lower},
	{unicode.N, number},
	{unicode.P, sign},
	{unicode.S, sign},
	{unicode.White_Space, space},
}

// of returns the class of r.
func (c *classes) of(r rune) class {
	if uint32(r) < uint32(len(c)) {
		return c[r]
	}
	var k class
	for _, t := range classTables {
		if unicode.Is(t.table, r) {
			k |= t.class
		}
	}
	return k
}

// inWord reports whether r is a word character (\w): Alphabetic, M, Nd, Pc and the two joiners (UTS #18, annex C).
func inWord(r rune) bool {
	if r < 0x80 {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_'
	}
	return unicode.In(r, unicode.L, unicode.M, unicode.Nd, unicode.Nl, unicode.Pc, unicode.Other_Alphabetic) || r == 0x200C || r == 0x200D
}

// inPatternWord is \w as the patterns of a Split mean it. Oniguruma leaves the joiners out, and takes its answers below U+0100
// from an older table, in which the digits that are no decimal digits are word characters.
func inPatternWord(r rune) bool {
	switch r {
	case 0x200C, 0x200D:
		return false
	case '²', '³', '¹', '¼', '½', '¾':
		return true
	}
	return inWord(r)
}
