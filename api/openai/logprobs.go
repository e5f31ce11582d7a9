package openai

import (
	"slices"
	"strings"
	"unicode/utf8"

	"eckart/model/tokenizer"
	"eckart/runtime"
)

// An entry is a sampled token with its log-probability, as it waits to be reported.
type entry struct {
	id      int32
	logprob float32
	top     []runtime.Candidate
	start   int // bytes of the answer before the token
	offset  int // characters of the answer before the token
}

// A record collects the log-probabilities of one choice. A token is reported with the text that it begins: one whose
// text is held back (half a character, the beginning of a stop string) waits, and one that only spells a stop string
// that was cut off is not reported. The token that ends a sequence is not part of its text and is not reported either.
type record struct {
	tokenizer *tokenizer.Tokenizer
	special   bool // special tokens show in the text
	pending   []entry
	start     int // bytes of all tokens so far
	offset    int // characters of them
	shown     int // bytes of the answer so far
}

// add takes a token and returns the entries that can be reported now.
func (c *record) add(t *runtime.Token, includeStop bool) []entry {
	ended := t.Finish == runtime.FinishStop && t.StopString == ""
	if !ended {
		var piece []byte
		if c.special || !c.tokenizer.IsSpecial(t.ID) {
			piece = c.tokenizer.Bytes(t.ID)
		}
		offset := c.offset
		if len(piece) > 0 && !utf8.RuneStart(piece[0]) {
			offset = max(0, offset-1) // inside the character that an earlier token began
		}
		c.pending = append(c.pending, entry{t.ID, t.Logprob, slices.Clone(t.Top), c.start, offset})
		c.start += len(piece)
		for _, b := range piece {
			if utf8.RuneStart(b) {
				c.offset++
			}
		}
	}
	c.shown += len(t.Text)
	n := 0
	for n < len(c.pending) && c.pending[n].start < c.shown {
		n++
	}
	if t.Finish != "" && (t.StopString == "" || includeStop) {
		n = len(c.pending)
	}
	ready := c.pending[:n:n]
	c.pending = c.pending[n:]
	return ready
}

// appendTokenText appends a token as the string and the bytes of OpenAI's log-probability objects. The string of a
// token that is no whole text shows U+FFFD; its bytes are exact.
func appendTokenText(b []byte, piece []byte) []byte {
	b = append(b, `"token":`...)
	return appendString(b, string(piece))
}

func appendTokenBytes(b []byte, piece []byte) []byte {
	b = append(b, `"bytes":[`...)
	for i, c := range piece {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendInt(b, int(c))
	}
	return append(b, ']')
}

// appendChatLogprobs appends the logprobs object of a chat choice.
func appendChatLogprobs(b []byte, t *tokenizer.Tokenizer, entries []entry, alternatives int) []byte {
	b = append(b, `{"content":[`...)
	for i, e := range entries {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendCandidate(b, t, e.id, e.logprob)
		b = append(b, `,"top_logprobs":[`...)
		for j, c := range e.top[:min(alternatives, len(e.top))] {
			if j > 0 {
				b = append(b, ',')
			}
			b = appendCandidate(b, t, c.ID, c.Logprob)
			b = append(b, '}')
		}
		b = append(b, "]}"...)
	}
	return append(b, `],"refusal":null}`...)
}

// appendCandidate leaves the object open.
func appendCandidate(b []byte, t *tokenizer.Tokenizer, id int32, logprob float32) []byte {
	piece := t.Bytes(id)
	b = append(b, '{')
	b = appendTokenText(b, piece)
	b = append(b, `,"logprob":`...)
	b = appendLogprob(b, logprob)
	b = append(b, ',')
	return appendTokenBytes(b, piece)
}

// appendLegacyLogprobs appends the logprobs object of a completion: four lists of one length. The map of a token holds
// the alternatives and the token itself; of two with one spelling the likelier stays.
func appendLegacyLogprobs(b []byte, t *tokenizer.Tokenizer, entries []entry, alternatives int) []byte {
	list := func(name string, each func(b []byte, e *entry) []byte) {
		b = append(b, name...)
		b = append(b, '[')
		for i := range entries {
			if i > 0 {
				b = append(b, ',')
			}
			b = each(b, &entries[i])
		}
		b = append(b, ']')
	}
	list(`{"tokens":`, func(b []byte, e *entry) []byte { return appendString(b, string(t.Bytes(e.id))) })
	list(`,"token_logprobs":`, func(b []byte, e *entry) []byte { return appendLogprob(b, e.logprob) })
	list(`,"top_logprobs":`, func(b []byte, e *entry) []byte {
		all := append(slices.Clone(e.top[:min(alternatives, len(e.top))]), runtime.Candidate{ID: e.id, Logprob: e.logprob})
		var seen []string
		b = append(b, '{')
		for _, c := range all {
			name := strings.ToValidUTF8(string(t.Bytes(c.ID)), "\uFFFD")
			if slices.Contains(seen, name) {
				continue
			}
			if len(seen) > 0 {
				b = append(b, ',')
			}
			seen = append(seen, name)
			b = appendString(b, name)
			b = append(b, ':')
			b = appendLogprob(b, c.Logprob)
		}
		return append(b, '}')
	})
	list(`,"text_offset":`, func(b []byte, e *entry) []byte { return appendInt(b, e.offset) })
	return append(b, '}')
}
