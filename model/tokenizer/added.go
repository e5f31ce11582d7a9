package tokenizer

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxAddedToken bounds the bytes of an added token: each position of a text may be compared with so many bytes.
const maxAddedToken = 1024

// addedToken is an entry of added_tokens: a token that is cut out of the text before anything else.
type addedToken struct {
	ID         *int64
	Content    *string
	SingleWord *bool `json:"single_word"`
	LStrip     *bool `json:"lstrip"`
	RStrip     *bool `json:"rstrip"`
	Normalized *bool
	Special    *bool
}

// check reports the first field that is missing or out of range.
func (a *addedToken) check() error {
	for _, f := range []struct {
		name    string
		present bool
	}{
		{"id", a.ID != nil},
		{"content", a.Content != nil},
		{"single_word", a.SingleWord != nil},
		{"lstrip", a.LStrip != nil},
		{"rstrip", a.RStrip != nil},
		{"normalized", a.Normalized != nil},
		{"special", a.Special != nil},
	} {
		if !f.present {
			return fmt.Errorf("read an added token: it has no field %s", f.name)
		}
	}
	if *a.Content == "" {
		return fmt.Errorf("read the added token of id %d: its content is empty", *a.ID)
	}
	if len(*a.Content) > maxAddedToken {
		return fmt.Errorf("read the added token of id %d: its content has %d bytes, at most %d are supported", *a.ID, len(*a.Content), maxAddedToken)
	}
	if err := checkID(*a.Content, *a.ID); err != nil {
		return fmt.Errorf("read added_tokens: %w", err)
	}
	return nil
}

// marker is an added token as it is looked for.
type marker struct {
	id                                 int32
	singleWord, lstrip, rstrip, hidden bool
}

// markers finds added tokens: at each place the longest one, and none inside of another.
type markers struct {
	nodes []markerNode
	// starts tells which bytes begin a token.
	starts [256]bool
	all    []marker
}

// markerNode is a node of the tree of contents.
type markerNode struct {
	next map[byte]int32
	// token is one more than the index of the token that ends here.
	token int32
}

// add enters a token. It must not be empty.
func (m *markers) add(content string, token marker) error {
	if len(m.nodes) == 0 {
		m.nodes = make([]markerNode, 1)
	}
	at := int32(0)
	m.starts[content[0]] = true
	for i := range len(content) {
		n := &m.nodes[at]
		to, ok := n.next[content[i]]
		if !ok {
			if n.next == nil {
				n.next = make(map[byte]int32)
			}
			to = int32(len(m.nodes))
			n.next[content[i]] = to
			m.nodes = append(m.nodes, markerNode{})
		}
		at = to
	}
	if m.nodes[at].token != 0 {
		return fmt.Errorf("read added_tokens: two tokens are matched as %.60q", content)
	}
	m.all = append(m.all, token)
	m.nodes[at].token = int32(len(m.all))
	return nil
}

// longest returns the longest token at s[i:] and its end, or nil.
func (m *markers) longest(s string, i int) (*marker, int) {
	var best *marker
	end, at := i, int32(0)
	for i < len(s) {
		to, ok := m.nodes[at].next[s[i]]
		if !ok {
			break
		}
		at = to
		i++
		if t := m.nodes[at].token; t != 0 {
			best, end = &m.all[t-1], i
		}
	}
	return best, end
}

// cut hands out the stretches of s in order: a token with its marker (and the space that it strips), or text with nil. A special
// token counts as text unless parseSpecial is set; what it covers is then not searched for others.
func (m *markers) cut(s string, parseSpecial bool, yield func(start, end int, token *marker)) {
	at := 0
	// stripped is where the run of space ends that was looked through last.
	stripped := 0
	if len(m.nodes) > 0 {
		for i := 0; i < len(s); {
			if !m.starts[s[i]] {
				i++
				continue
			}
			token, end := m.longest(s, i)
			if token == nil {
				i++
				continue
			}
			start, after := i, end
			i = end
			if token.hidden && !parseSpecial {
				continue
			}
			if token.singleWord {
				before, _ := utf8.DecodeLastRuneInString(s[:start])
				behind, _ := utf8.DecodeRuneInString(s[end:])
				if start > 0 && inWord(before) || end < len(s) && inWord(behind) {
					continue
				}
			}
			if token.lstrip {
				start = max(at, start)
				start = at + len(strings.TrimRightFunc(s[at:start], unicode.IsSpace))
			}
			if token.rstrip {
				if end >= stripped {
					stripped = len(s) - len(strings.TrimLeftFunc(s[end:], unicode.IsSpace))
				}
				after = stripped
			}
			if at < start {
				yield(at, start, nil)
			}
			// Of a token that lies in the space another one has stripped nothing is left if it strips that space too; otherwise it
			// counts, and so does the space behind it, again.
			if start < after {
				yield(start, after, token)
				at = after
			}
		}
	}
	if at < len(s) {
		yield(at, len(s), nil)
	}
}
