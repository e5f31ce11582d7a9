package kvcache

import (
	"fmt"
	"slices"
)

// A Seq is what one sequence holds of a cache. It starts empty; claims let it grow and make it empty again.
type Seq struct {
	root    key
	reserve int // most blocks it will hold, to grow its lists once

	blocks []int32 // in order of position
	tokens int     // tokens it has room for
	sealed int     // leading blocks that Seal has seen
	keys   []key   // of its leading full blocks, as far as they have been asked for
	live   int     // place in Cache.live while it holds blocks

	matchable int // leading blocks that the last Match was allowed to find
}

// NewSeq returns an empty sequence that will hold at most maxTokens tokens. Only sequences of equal salt share blocks:
// the salt names whatever makes equal tokens have unequal keys and values (an adapter), or keeps tenants apart.
func (c *Cache) NewSeq(salt string, maxTokens int) *Seq {
	return &Seq{root: rootKey(salt), reserve: c.BlocksFor(maxTokens), live: -1}
}

// Blocks returns the blocks of the sequence in order of position. The slice is valid until the next Commit.
func (s *Seq) Blocks() []int32 { return s.blocks }

// Tokens returns how many tokens the sequence has room for.
func (s *Seq) Tokens() int { return s.tokens }

// keysOf makes sure that s knows the keys of the first n full blocks of its tokens.
func (c *Cache) keysOf(s *Seq, tokens []int32, n int) {
	if n <= len(s.keys) {
		return
	}
	if cap(s.keys) < n {
		s.keys = slices.Grow(s.keys, max(n, s.reserve)-len(s.keys))
	}
	before := s.root
	if i := len(s.keys); i > 0 {
		before = s.keys[i-1]
	}
	for i := len(s.keys); i < n; i++ {
		before = c.nextKey(before, tokens[i*c.blockTokens:(i+1)*c.blockTokens])
		s.keys = append(s.keys, before)
	}
}

// Match returns how many of the leading tokens of an empty sequence the cache holds: whole blocks, and never all
// tokens, since the last one has to be computed for its logits. The tokens of a sequence may grow from call to call but
// not change. It changes nothing but what s remembers about its own tokens.
func (c *Cache) Match(s *Seq, tokens []int32) int {
	c.keysOf(s, tokens, len(tokens)/c.blockTokens)
	s.matchable = max(0, (len(tokens)-1)/c.blockTokens)
	for i := range s.matchable {
		if c.find(&s.keys[i]) == none {
			return i * c.blockTokens
		}
	}
	return s.matchable * c.blockTokens
}

// Awaits reports whether the next block that Match would look for after the n tokens it found for s is one that it has
// looked for on behalf of o. If o is computing its tokens, it pays to let o go first. It changes nothing.
func (c *Cache) Awaits(s *Seq, n int, o *Seq) bool {
	i := n / c.blockTokens
	return i < s.matchable && i < len(o.keys) && s.keys[i] == o.keys[i]
}

// Seal says that these leading tokens of s have been computed; full blocks among them become findable. A block whose
// content is already findable elsewhere stays private to s.
func (c *Cache) Seal(s *Seq, tokens []int32) {
	if len(tokens) > s.tokens {
		panic(fmt.Sprintf("BUG: seal %d tokens, room for %d", len(tokens), s.tokens))
	}
	n := len(tokens) / c.blockTokens
	c.keysOf(s, tokens, n)
	for ; s.sealed < n; s.sealed++ {
		if k := &s.keys[s.sealed]; c.find(k) == none {
			c.publish(s.blocks[s.sealed], k)
		}
	}
}
