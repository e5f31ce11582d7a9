package tokenizer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// The fields vocab and merges hold nearly all of a file, as hundreds of thousands of short strings. They are read by hand: the
// time to load a vocabulary is most of what stands between the start of a program and its first token.

// cursor reads JSON that is known to be valid.
type cursor struct {
	raw []byte
	pos int
}

// next steps over space and separators and returns the byte that stands there, without taking it; 0 at the end.
func (c *cursor) next() byte {
	for ; c.pos < len(c.raw); c.pos++ {
		switch b := c.raw[c.pos]; b {
		case ' ', '\t', '\r', '\n', ',', ':':
		default:
			return b
		}
	}
	return 0
}

// string takes a string.
func (c *cursor) string() (string, error) {
	if c.next() != '"' {
		return "", fmt.Errorf("%s is not a string", c.excerpt())
	}
	start := c.pos
	for c.pos++; c.raw[c.pos] != '"'; c.pos++ {
		if c.raw[c.pos] == '\\' {
			c.pos++
		}
	}
	c.pos++
	quoted := c.raw[start:c.pos]
	if bytes.IndexByte(quoted, '\\') < 0 {
		return string(quoted[1 : len(quoted)-1]), nil
	}
	var s string
	err := json.Unmarshal(quoted, &s)
	return s, err
}

// number takes a number.
func (c *cursor) number() (string, error) {
	b := c.next()
	if b != '-' && (b < '0' || b > '9') {
		return "", fmt.Errorf("%s is not a number", c.excerpt())
	}
	start := c.pos
	for c.pos < len(c.raw) && strings.IndexByte("+-.0123456789Ee", c.raw[c.pos]) >= 0 {
		c.pos++
	}
	return string(c.raw[start:c.pos]), nil
}

// take takes a bracket.
func (c *cursor) take(bracket byte) bool {
	if c.next() != bracket {
		return false
	}
	c.pos++
	return true
}

func (c *cursor) excerpt() string { return fmt.Sprintf("%.40q", c.raw[c.pos:]) }

// readIDs reads {"token": id, ...} into f.
func (f *file) readIDs(raw json.RawMessage) error {
	c := cursor{raw: raw}
	if !c.take('{') {
		return fmt.Errorf("read vocab: %s is not an object", c.excerpt())
	}
	for !c.take('}') {
		token, err := c.string()
		if err != nil {
			return fmt.Errorf("read vocab: %w", err)
		}
		number, err := c.number()
		if err != nil {
			return fmt.Errorf("read vocab: the id of %.60q: %w", token, err)
		}
		id, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return fmt.Errorf("read vocab: the id %s of %.60q is not a number of 31 bits", number, token)
		}
		if first, twice := f.ids[token]; twice {
			return fmt.Errorf("read vocab: the token %.60q has the ids %d and %d", token, first, id)
		}
		if err := f.enter(f.ids, token, id); err != nil {
			return fmt.Errorf("read vocab: %w", err)
		}
	}
	return nil
}

// readScores reads [["token", score], ...] into f and returns the scores; ids count from zero.
func (f *file) readScores(raw json.RawMessage) ([]float64, error) {
	c := cursor{raw: raw}
	if !c.take('[') {
		return nil, fmt.Errorf("read vocab: %s is not an array", c.excerpt())
	}
	var scores []float64
	for !c.take(']') {
		if !c.take('[') {
			return nil, fmt.Errorf("read vocab: %s is not a token and its score", c.excerpt())
		}
		token, err := c.string()
		if err != nil {
			return nil, fmt.Errorf("read vocab: %w", err)
		}
		number, err := c.number()
		if err != nil || !c.take(']') {
			return nil, fmt.Errorf("read vocab: %.60q has no score, or more than that", token)
		}
		score, err := strconv.ParseFloat(number, 64)
		if err != nil {
			return nil, fmt.Errorf("read vocab: the score %s of %.60q is out of range", number, token)
		}
		if _, twice := f.ids[token]; twice {
			return nil, fmt.Errorf("read vocab: the token %.60q is there twice", token)
		}
		if err := f.enter(f.ids, token, int64(len(scores))); err != nil {
			return nil, fmt.Errorf("read vocab: %w", err)
		}
		scores = append(scores, score)
	}
	return scores, nil
}

// readMerges hands out the merges in order: pairs of tokens, or strings of two tokens with a space between.
func readMerges(raw json.RawMessage, yield func(rank int, a, b string) error) error {
	c := cursor{raw: raw}
	if !c.take('[') {
		return fmt.Errorf("read merges: %s is not an array", c.excerpt())
	}
	for rank := 0; !c.take(']'); rank++ {
		var a, b string
		var err error
		if c.take('[') {
			if a, err = c.string(); err == nil {
				b, err = c.string()
			}
			if err != nil || !c.take(']') {
				return fmt.Errorf("read merges: number %d is not a pair of tokens", rank)
			}
		} else {
			line, err := c.string()
			if err != nil {
				return fmt.Errorf("read merges: number %d: %w", rank, err)
			}
			if strings.HasPrefix(line, "#version") {
				rank--
				continue
			}
			var two bool
			a, b, two = strings.Cut(line, " ")
			if !two || strings.Contains(b, " ") {
				return fmt.Errorf("read merges: number %d, %.60q, is not two tokens with a space between", rank, line)
			}
		}
		if a == "" || b == "" {
			return fmt.Errorf("read merges: number %d, of %.60q and %.60q, has an empty side", rank, a, b)
		}
		if err := yield(rank, a, b); err != nil {
			return err
		}
	}
	return nil
}
