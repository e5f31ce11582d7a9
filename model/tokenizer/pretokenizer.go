package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// preTokenizer cuts a piece, which is not empty, into the pieces that the next one gets.
type preTokenizer interface {
	cut(p piece, yield func(piece))
}

type (
	// splitter cuts where a pattern says.
	splitter struct {
		pattern  pattern
		behavior behavior
		invert   bool
	}
	// byteLevel cuts words as GPT-2 does, or not at all, and spells them in the byte-level alphabet.
	byteLevel struct {
		*alphabet
		prefix bool                      // a piece that does not begin with a space gets one
		words  func(s string, i int) int // nil: no cut
		// raw leaves the bytes as they are, for a model that reads bytes.
		raw bool
	}
	// metaspace writes spaces as another character and cuts before each of those.
	metaspace struct {
		mark   string
		prefix prefixScheme
		split  bool
	}
)

type prefixScheme uint8

const (
	always prefixScheme = iota
	first
	never
)

func (s *splitter) cut(p piece, yield func(piece)) {
	split(p.text, s.pattern, s.behavior, s.invert, func(start, end int) {
		yield(piece{p.text[start:end], p.first && start == 0})
	})
}

func (b *byteLevel) cut(p piece, yield func(piece)) {
	if b.prefix && p.text[0] != ' ' {
		p.text = " " + p.text
	}
	if b.words == nil {
		b.spelled(p, yield)
		return
	}
	for start := 0; start < len(p.text); {
		// The pattern of GPT-2 leaves no gap.
		end := b.words(p.text, start)
		b.spelled(piece{p.text[start:end], p.first && start == 0}, yield)
		start = end
	}
}

func (b *byteLevel) spelled(p piece, yield func(piece)) {
	if !b.raw {
		p.text = string(b.spell(nil, p.text))
	}
	yield(p)
}

func (m *metaspace) cut(p piece, yield func(piece)) {
	p.text = strings.ReplaceAll(p.text, " ", m.mark)
	if (m.prefix == always || m.prefix == first && p.first) && !strings.HasPrefix(p.text, m.mark) {
		p.text = m.mark + p.text
	}
	if !m.split {
		yield(p)
		return
	}
	split(p.text, text(m.mark), mergedWithNext, false, func(start, end int) {
		yield(piece{p.text[start:end], p.first && start == 0})
	})
}

// wordsAndSigns finds runs of word characters, and runs of what is neither that nor space: \w+|[^\w\s]+.
func wordsAndSigns(s string, i int) int {
	kind := func(r rune) int {
		switch {
		case inWord(r):
			return 1
		case unicode.IsSpace(r):
			return 0
		}
		return 2
	}
	want := 0
	for i < len(s) {
		r, size := utf8.DecodeRuneInString(s[i:])
		k := kind(r)
		if k == 0 || want != 0 && k != want {
			break
		}
		want = k
		i += size
	}
	return i
}

// readPreTokenizers reads the field pre_tokenizer as a flat list.
func (f *file) readPreTokenizers(raw json.RawMessage) ([]preTokenizer, error) {
	kind, err := kindOf(raw)
	if err != nil || kind == "" {
		return nil, err
	}
	one := func(p preTokenizer, err error) ([]preTokenizer, error) { return []preTokenizer{p}, err }
	switch kind {
	case "Sequence":
		var v struct {
			Type          string
			PreTokenizers []json.RawMessage `json:"pretokenizers"`
		}
		if err := f.nested(raw, &v); err != nil {
			return nil, err
		}
		defer f.leave()
		var all []preTokenizer
		for _, raw := range v.PreTokenizers {
			some, err := f.readPreTokenizers(raw)
			if err != nil {
				return nil, err
			}
			all = append(all, some...)
		}
		return all, nil
	case "ByteLevel":
		var v byteLevelFile
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		b := &byteLevel{alphabet: f.alphabet, prefix: v.AddPrefixSpace}
		if v.UseRegex == nil || *v.UseRegex {
			b.words = f.classes.gpt2
		}
		return one(b, nil)
	case "Split":
		var v struct {
			Type     string
			Pattern  patternFile
			Behavior *behavior
			Invert   bool
		}
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		if v.Behavior == nil {
			return nil, fmt.Errorf("read Split: it has no behavior")
		}
		p, err := v.Pattern.pattern(f.classes)
		if err != nil {
			return nil, fmt.Errorf("read Split: %w", err)
		}
		return one(&splitter{p, *v.Behavior, v.Invert}, nil)
	case "Metaspace":
		m, err := readMetaspace(raw)
		return one(m, err)
	case "Digits":
		var v struct {
			Type             string
			IndividualDigits bool `json:"individual_digits"`
		}
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		b := contiguous
		if v.IndividualDigits {
			b = isolated
		}
		return one(&splitter{each(unicode.IsNumber), b, false}, nil)
	case "Punctuation":
		var v struct {
			Type     string
			Behavior behavior // absent: Isolated
		}
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		return one(&splitter{each(isPunctuation), v.Behavior, false}, nil)
	case "Whitespace":
		return one(&splitter{&scanner{next: wordsAndSigns}, removed, true}, bare(raw))
	case "WhitespaceSplit":
		return one(&splitter{each(unicode.IsSpace), removed, false}, bare(raw))
	}
	return nil, unknown(kind)
}

// isPunctuation reports whether r is of category P or one of the signs of ASCII that are of category S.
func isPunctuation(r rune) bool {
	return unicode.IsPunct(r) || r < 0x80 && unicode.IsSymbol(r)
}

// byteLevelFile is a ByteLevel, as a pre-tokenizer, a decoder or a post-processor; trim_offsets concerns offsets, of which this
// package has none.
type byteLevelFile struct {
	Type           string
	AddPrefixSpace bool  `json:"add_prefix_space"`
	TrimOffsets    bool  `json:"trim_offsets"`
	UseRegex       *bool `json:"use_regex"`
}

// readMetaspace reads a Metaspace, as a pre-tokenizer or as a decoder.
func readMetaspace(raw json.RawMessage) (*metaspace, error) {
	var v struct {
		Type           string
		Replacement    string
		PrependScheme  *string `json:"prepend_scheme"`
		AddPrefixSpace *bool   `json:"add_prefix_space"`
		Split          *bool
		StrRep         *string `json:"str_rep"`
	}
	if err := strict(raw, &v); err != nil {
		return nil, err
	}
	if utf8.RuneCountInString(v.Replacement) != 1 {
		return nil, fmt.Errorf("read Metaspace: the replacement %.60q is not one character", v.Replacement)
	}
	m := &metaspace{mark: v.Replacement, split: v.Split == nil || *v.Split}
	if v.PrependScheme != nil {
		switch *v.PrependScheme {
		case "always":
		case "first":
			m.prefix = first
		case "never":
			m.prefix = never
		default:
			return nil, fmt.Errorf("read Metaspace: the prepend_scheme %.60q is not supported", *v.PrependScheme)
		}
	}
	if v.AddPrefixSpace != nil && !*v.AddPrefixSpace {
		if v.PrependScheme != nil && m.prefix != never {
			return nil, fmt.Errorf("read Metaspace: add_prefix_space is false and prepend_scheme is %.60q", *v.PrependScheme)
		}
		m.prefix = never
	}
	return m, nil
}
