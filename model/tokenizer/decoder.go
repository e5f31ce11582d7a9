package tokenizer

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A decoder is a chain of stages between the tokens of the vocabulary and the text. The reference runs each stage over the list
// of all tokens; here a stage is fed as ids come, and hands on at once whatever no later token can change. A stage hands on
// tokens too, but may do so in fragments, since one that joins tokens (Fuse) makes one token of the whole text.

// stage is one stage at work on one sequence.
type stage interface {
	// push takes a fragment of a token; last is set with the one that ends it.
	push(fragment string, last bool)
	// end says that there are no more tokens.
	end()
}

// decoder makes the stage that it stands for, in front of another one.
type decoder interface {
	start(next stage) stage
	// bytes returns what the token stands for in the middle of a text, where each stage has done its part.
	bytes(token []byte) []byte
}

type (
	bytesDecoder    struct{ *alphabet }
	fallbackDecoder struct{}
	fuseDecoder     struct{}
	replaceDecoder  struct{ old, new string }
	stripDecoder    struct {
		content rune
		// left and right are how often it is removed at the start and at the end.
		left, right int
		// whole is set when the stage sees the whole text as one token.
		whole bool
	}
	metaspaceDecoder struct {
		mark rune
		// keep leaves the marks of the first token in.
		keep bool
	}
	// spaceDecoder puts spaces between tokens, as the reference does without decoder.
	spaceDecoder struct{}
)

// bytesStage reads tokens in the byte-level alphabet and joins them.
type bytesStage struct {
	*alphabet
	next  stage
	token string // fragments of a token that is not yet whole
	held  []byte // the beginning of a character
}

func (d bytesDecoder) start(next stage) stage { return &bytesStage{alphabet: d.alphabet, next: next} }

func (d bytesDecoder) bytes(token []byte) []byte { return d.alphabet.bytes(nil, string(token)) }

func (s *bytesStage) push(fragment string, last bool) {
	if s.token += fragment; !last {
		return
	}
	s.held = s.alphabet.bytes(s.held, s.token)
	s.token = ""
	if utf8.Valid(s.held) {
		if len(s.held) > 0 {
			s.next.push(string(s.held), false)
		}
		s.held = s.held[:0]
		return
	}
	var out strings.Builder
	for len(s.held) > 0 {
		n, st := leading(s.held)
		if st == cut {
			break
		}
		if st == whole {
			out.Write(s.held[:n])
		} else {
			out.WriteString(replacement)
		}
		s.held = s.held[n:]
	}
	s.next.push(out.String(), false)
}

func (s *bytesStage) end() {
	if len(s.held) > 0 {
		s.next.push(replacement, false)
	}
	s.next.push("", true)
	s.next.end()
}

// fallbackStage turns tokens <0xHH> into bytes. A character is handed on when its last byte is there; a byte of none becomes
// U+FFFD.
type fallbackStage struct {
	next  stage
	token string // the start of a token, as long as it may be a byte
	long  bool   // the token at hand is no byte
	held  []byte // the beginning of a character
	open  bool   // bytes have been handed on as the start of a token
}

func (fallbackDecoder) start(next stage) stage { return &fallbackStage{next: next} }

func (fallbackDecoder) bytes(token []byte) []byte {
	if b := byteToken(string(token)); b >= 0 {
		return []byte{byte(b)}
	}
	return token
}

func (s *fallbackStage) push(fragment string, last bool) {
	if !s.long {
		s.token += fragment
		if !last && len(s.token) <= len("<0xHH>") {
			return
		}
		fragment, s.token = s.token, ""
		if b := byteToken(fragment); last && b >= 0 {
			s.held = append(s.held, byte(b))
			s.open = true
			s.decode(false)
			return
		}
		s.close()
	}
	s.long = !last
	s.next.push(fragment, last)
}

// decode hands on the characters that are held, and with rest set what remains of them.
func (s *fallbackStage) decode(rest bool) {
	for len(s.held) > 0 {
		n, st := leading(s.held)
		switch {
		case st == whole:
			s.next.push(string(s.held[:n]), false)
		case st == cut && !rest:
			return
		default:
			n = 1
			s.next.push(replacement, false)
		}
		s.held = s.held[n:]
	}
}

func (s *fallbackStage) close() {
	s.decode(true)
	if s.open {
		s.next.push("", true)
		s.open = false
	}
}

func (s *fallbackStage) end() {
	s.close()
	s.next.end()
}

// fuseStage joins all tokens.
type fuseStage struct{ next stage }

func (fuseDecoder) start(next stage) stage { return fuseStage{next} }

func (fuseDecoder) bytes(token []byte) []byte { return token }

func (s fuseStage) push(fragment string, _ bool) {
	if fragment != "" {
		s.next.push(fragment, false)
	}
}

func (s fuseStage) end() {
	s.next.push("", true)
	s.next.end()
}

// replaceStage replaces a string within each token. The end of a fragment that may be the beginning of it is held.
type replaceStage struct {
	replaceDecoder
	next stage
	held string
}

func (d replaceDecoder) start(next stage) stage { return &replaceStage{replaceDecoder: d, next: next} }

func (d replaceDecoder) bytes(token []byte) []byte {
	return []byte(strings.ReplaceAll(string(token), d.old, d.new))
}

func (s *replaceStage) push(fragment string, last bool) {
	text := s.held + fragment
	s.held = ""
	if !last {
		// What follows the last match, and could begin another one.
		rest := text
		if i := lastMatch(text, s.old); i >= 0 {
			rest = text[i+len(s.old):]
		}
		for n := min(len(s.old)-1, len(rest)); n > 0; n-- {
			if strings.HasSuffix(rest, s.old[:n]) {
				s.held = s.old[:n]
				break
			}
		}
	}
	s.next.push(strings.ReplaceAll(text[:len(text)-len(s.held)], s.old, s.new), last)
}

// lastMatch returns the start of the last match of old in text, matches being counted from the left, or -1.
func lastMatch(text, old string) int {
	last := -1
	for at := 0; ; {
		i := strings.Index(text[at:], old)
		if i < 0 {
			return last
		}
		last = at + i
		at = last + len(old)
	}
}

func (s *replaceStage) end() { s.next.end() }

// stripStage removes a character from the start and the end of each token, up to some times.
type stripStage struct {
	stripDecoder
	next    stage
	removed int  // times at the start of the token
	begun   bool // another character has come
	held    int  // times the character is held, until it is seen whether it ends the token
}

func (d stripDecoder) start(next stage) stage { return &stripStage{stripDecoder: d, next: next} }

func (d stripDecoder) bytes(token []byte) []byte {
	if d.whole {
		return token
	}
	var c collector
	s := d.start(&c)
	s.push(string(token), true)
	s.end()
	return c.text
}

func (s *stripStage) push(fragment string, last bool) {
	for !s.begun && s.removed < s.left {
		r, size := utf8.DecodeRuneInString(fragment)
		if size == 0 {
			break
		}
		if r != s.content {
			s.begun = true
			break
		}
		fragment = fragment[size:]
		s.removed++
	}
	content := string(s.content)
	body := fragment
	trailing := 0
	for trailing < s.right && strings.HasSuffix(body, content) {
		body = body[:len(body)-len(content)]
		trailing++
	}
	if body != "" {
		s.next.push(strings.Repeat(content, s.held)+body, false)
		s.held = 0
	}
	s.held += trailing
	if s.held > s.right {
		s.next.push(strings.Repeat(content, s.held-s.right), false)
		s.held = s.right
	}
	if last {
		s.next.push("", true)
		s.removed, s.begun, s.held = 0, false, 0
	}
}

func (s *stripStage) end() { s.next.end() }

// metaspaceStage writes marks as spaces, and removes them from the first token, which got one that no text had.
type metaspaceStage struct {
	metaspaceDecoder
	next  stage
	later bool // the first token is over
}

func (d metaspaceDecoder) start(next stage) stage {
	return &metaspaceStage{metaspaceDecoder: d, next: next, later: d.keep}
}

func (d metaspaceDecoder) bytes(token []byte) []byte {
	return []byte(strings.ReplaceAll(string(token), string(d.mark), " "))
}

func (s *metaspaceStage) push(fragment string, last bool) {
	with := ""
	if s.later {
		with = " "
	}
	s.next.push(strings.ReplaceAll(fragment, string(s.mark), with), last)
	s.later = s.later || last
}

func (s *metaspaceStage) end() { s.next.end() }

// spaceStage puts a space between tokens.
type spaceStage struct {
	next  stage
	begun bool
}

func (spaceDecoder) start(next stage) stage { return &spaceStage{next: next} }

func (spaceDecoder) bytes(token []byte) []byte { return token }

func (s *spaceStage) push(fragment string, last bool) {
	if s.begun {
		fragment = " " + fragment
	}
	s.begun = true
	s.next.push(fragment, last)
}

func (s *spaceStage) end() { s.next.end() }

// collector is the end of a chain.
type collector struct{ text []byte }

func (c *collector) push(fragment string, _ bool) { c.text = append(c.text, fragment...) }
func (c *collector) end()                         {}

// readDecoders reads the field decoder as a flat list.
func (f *file) readDecoders(raw json.RawMessage) ([]decoder, error) {
	all, err := f.appendDecoders(nil, raw)
	if err == nil && all == nil {
		all = []decoder{spaceDecoder{}}
	}
	return all, err
}

// appendDecoders appends the decoders of a field.
func (f *file) appendDecoders(all []decoder, raw json.RawMessage) ([]decoder, error) {
	kind, err := kindOf(raw)
	if err != nil || kind == "" {
		return all, err
	}
	switch kind {
	case "Sequence":
		var v struct {
			Type     string
			Decoders []json.RawMessage
		}
		if err := f.nested(raw, &v); err != nil {
			return nil, err
		}
		defer f.leave()
		if all == nil {
			all = []decoder{}
		}
		for _, raw := range v.Decoders {
			if all, err = f.appendDecoders(all, raw); err != nil {
				return nil, err
			}
		}
		return all, nil
	case "ByteLevel":
		return append(all, bytesDecoder{f.alphabet}), strict(raw, new(byteLevelFile))
	case "ByteFallback":
		return append(all, fallbackDecoder{}), bare(raw)
	case "Fuse":
		return append(all, fuseDecoder{}), bare(raw)
	case "Replace":
		var v replaceFile
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		if v.Pattern.String == nil || *v.Pattern.String == "" {
			return nil, fmt.Errorf("read Replace: only a String that is not empty is supported as pattern")
		}
		return append(all, replaceDecoder{*v.Pattern.String, v.Content}), nil
	case "Strip":
		var v struct {
			Type        string
			Content     string
			Start, Stop int
		}
		if err := strict(raw, &v); err != nil {
			return nil, err
		}
		const most = 1000
		if utf8.RuneCountInString(v.Content) != 1 || v.Start < 0 || v.Stop < 0 || v.Start > most || v.Stop > most {
			return nil, fmt.Errorf("read Strip: it needs content of one character, start and stop of 0 to %d", most)
		}
		r, _ := utf8.DecodeRuneInString(v.Content)
		whole := false
		for _, d := range all {
			switch d.(type) {
			case fuseDecoder, bytesDecoder:
				whole = true
			}
		}
		return append(all, stripDecoder{r, v.Start, v.Stop, whole}), nil
	case "Metaspace":
		m, err := readMetaspace(raw)
		if err != nil {
			return nil, err
		}
		r, _ := utf8.DecodeRuneInString(m.mark)
		return append(all, metaspaceDecoder{r, m.prefix == never}), nil
	}
	return nil, unknown(kind)
}
