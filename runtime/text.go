package runtime

import "slices"

// A decoder turns ids into text, whole characters at a time; *tokenizer.Stream does.
type decoder interface {
	Push(id int32) string
	Flush() string
}

// A text is the text of one sequence as it grows. It gives out what is certain and holds back the shortest end that may
// still become a stop string: where the text is cut depends on the text alone, not on where its tokens begin and end.
type text struct {
	decoder decoder
	stops   []stop
	include bool   // a stop string is part of the text
	held    []byte // decoded and not given out
}

// A stop is a stop string and how much of it the text ends with: the automaton of Knuth, Morris and Pratt.
type stop struct {
	text   string
	border []int // border[i]: longest proper prefix of text[:i+1] that also ends it
	at     int   // bytes of text that the held text ends with
}

func newText(d decoder, stops []string, include bool) text {
	t := text{decoder: d, include: include}
	for _, s := range stops {
		border := make([]int, len(s))
		for i, n := 1, 0; i < len(s); i++ {
			for n > 0 && s[i] != s[n] {
				n = border[n-1]
			}
			if s[i] == s[n] {
				n++
			}
			border[i] = n
		}
		t.stops = append(t.stops, stop{text: s, border: border})
	}
	return t
}

// next takes one byte of text and reports whether the stop string ends with it.
func (s *stop) next(c byte) bool {
	if s.at == len(s.text) {
		s.at = s.border[s.at-1]
	}
	for s.at > 0 && s.text[s.at] != c {
		s.at = s.border[s.at-1]
	}
	if s.text[s.at] == c {
		s.at++
	}
	return s.at == len(s.text)
}

// push takes the next token and returns the text that became certain, and the stop string that ended it, if one did.
// Without heed no stop string counts, nor does the text so far towards one.
func (t *text) push(id int32, heed bool) (out, hit string) {
	piece := t.decoder.Push(id)
	if !heed {
		return piece, ""
	}
	return t.feed(piece)
}

// flush returns the text that was held back, after the last token. What is left of an unfinished character becomes
// U+FFFD, which may complete a stop string.
func (t *text) flush() (out, hit string) {
	out, hit = t.feed(t.decoder.Flush())
	if hit == "" {
		out += string(t.held)
		t.held = t.held[:0]
	}
	return out, hit
}

// feed takes decoded text. Of stop strings that end at the same byte the longest counts; the text is cut before it.
func (t *text) feed(piece string) (out, hit string) {
	if len(t.stops) == 0 {
		return piece, ""
	}
	for i := range len(piece) {
		t.held = append(t.held, piece[i])
		for s := range t.stops {
			if t.stops[s].next(piece[i]) && len(t.stops[s].text) > len(hit) {
				hit = t.stops[s].text
			}
		}
		if hit != "" {
			end := len(t.held)
			if !t.include {
				end -= len(hit)
			}
			out = string(t.held[:end])
			t.held = t.held[:0]
			return out, hit
		}
	}
	keep := 0
	for _, s := range t.stops {
		keep = max(keep, s.at)
	}
	certain := len(t.held) - keep
	out = string(t.held[:certain])
	t.held = slices.Delete(t.held, 0, certain)
	return out, ""
}
