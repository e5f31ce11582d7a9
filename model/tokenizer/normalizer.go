package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// piece is a stretch of text on its way to the model.
type piece struct {
	text string
	// first is set when the text begins with what the whole text began with. Pre-tokenizers of type Metaspace can ask.
	first bool
}

// normalizer rewrites a piece that is not empty. What it returns may be.
type normalizer interface{ normalize(p piece) piece }

type (
	normalForm   norm.Form
	lowercase    struct{}
	stripAccents struct{}
	byteSpelling struct{ *alphabet }
	prepend      string
	sequence     []normalizer
	strip        struct{ left, right bool }
	replace      struct {
		pattern pattern
		content string
	}
)

func (s sequence) normalize(p piece) piece {
	for _, n := range s {
		if p.text == "" {
			break
		}
		p = n.normalize(p)
	}
	return p
}

func (f normalForm) normalize(p piece) piece {
	p.text = norm.Form(f).String(p.text)
	return p
}

// normalize maps characters one by one, as Rust's char::to_lowercase does: no rule looks at neighbours, and one character
// has a small form of two.
func (lowercase) normalize(p piece) piece {
	if strings.ContainsRune(p.text, 'İ') {
		p.text = strings.ReplaceAll(p.text, "İ", "i\u0307")
	}
	p.text = strings.Map(unicode.ToLower, p.text)
	return p
}

func (stripAccents) normalize(p piece) piece {
	r, _ := utf8.DecodeRuneInString(p.text)
	p.first = p.first && !unicode.Is(unicode.M, r)
	p.text = strings.Map(func(r rune) rune {
		if unicode.Is(unicode.M, r) {
			return -1
		}
		return r
	}, p.text)
	return p
}

func (b byteSpelling) normalize(p piece) piece {
	p.text = string(b.spell(nil, p.text))
	return p
}

func (s prepend) normalize(p piece) piece {
	p.text = string(s) + p.text
	return p
}

func (s strip) normalize(p piece) piece {
	if s.left {
		cut := strings.TrimLeftFunc(p.text, unicode.IsSpace)
		p.first = p.first && len(cut) == len(p.text)
		p.text = cut
	}
	if s.right {
		p.text = strings.TrimRightFunc(p.text, unicode.IsSpace)
	}
	return p
}

func (r replace) normalize(p piece) piece {
	var b strings.Builder
	at := 0
	r.pattern.matches(p.text, func(start, end int) bool {
		if at == 0 {
			b.Grow(len(p.text) + len(p.text)/2)
		}
		if start == 0 {
			// What replaces several characters counts as standing where the last of them stood.
			p.first = p.first && r.content != "" && utf8.RuneCountInString(p.text[:end]) == 1
		}
		b.WriteString(p.text[at:start])
		b.WriteString(r.content)
		at = end
		return true
	})
	if at > 0 {
		b.WriteString(p.text[at:])
		p.text = b.String()
	}
	return p
}

// readNormalizer reads the field normalizer, nil when it is absent or null.
func (f *file) readNormalizer(raw json.RawMessage) (normalizer, error) {
	kind, err := kindOf(raw)
	if err != nil || kind == "" {
		return nil, err
	}
	switch kind {
	case "NFC":
		return normalForm(norm.NFC), bare(raw)
	case "NFD":
		return normalForm(norm.NFD), bare(raw)
	case "NFKC":
		return normalForm(norm.NFKC), bare(raw)
	case "NFKD":
		return normalForm(norm.NFKD), bare(raw)
	case "Lowercase":
		return lowercase{}, bare(raw)
	case "StripAccents":
		return stripAccents{}, bare(raw)
	case "ByteLevel":
		return byteSpelling{f.alphabet}, bare(raw)
	case "Prepend":
		var v struct{ Type, Prepend string }
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		return prepend(v.Prepend), nil
	case "Strip":
		var v struct {
			Type       string
			StripLeft  bool `json:"strip_left"`
			StripRight bool `json:"strip_right"`
		}
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		return strip{v.StripLeft, v.StripRight}, nil
	case "Replace":
		var v replaceFile
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		p, err := v.Pattern.pattern(f.classes)
		if err != nil {
			return nil, fmt.Errorf("read Replace: %w", err)
		}
		return replace{p, v.Content}, nil
	case "Sequence":
		var v struct {
			Type        string
			Normalizers []json.RawMessage
		}
		if err := f.nested(raw, &v); err != nil {
			return nil, err
		}
		defer f.leave()
		var s sequence
		for _, raw := range v.Normalizers {
			n, err := f.readNormalizer(raw)
			if err != nil {
				return nil, err
			}
			if n != nil {
				s = append(s, n)
			}
		}
		return s, nil
	}
	return nil, unknown(kind)
}

// replaceFile is a Replace, as a normalizer or as a decoder.
type replaceFile struct {
	Type    string
	Pattern patternFile
	Content string
}
