package kvcache

import (
	"fmt"
	"slices"
)

// A Claim collects what one step needs of the cache and changes nothing before Commit. There is one claim at a time:
// Begin abandons the one before.
type Claim struct {
	c     *Cache
	room  int // free blocks that are not spoken for
	lines []claimLine

	delta   []int32 // per block: references that Commit will add to those it has
	touched []int32 // blocks whose delta is not 0, some of them twice
}

type claimLine struct {
	s      *Seq
	drop   bool
	cached int // leading tokens that s shares
	n      int // tokens to make room for after them
}

// Begin returns an empty claim. It changes nothing.
func (c *Cache) Begin() *Claim {
	cl := &c.claim
	for _, b := range cl.touched {
		cl.delta[b] = 0
	}
	cl.touched = cl.touched[:0]
	cl.lines = cl.lines[:0]
	cl.room = c.free.count
	return cl
}

// Room returns how many blocks are left to claim.
func (cl *Claim) Room() int { return cl.room }

// Need returns how many blocks of Room the same Add would take, whether or not there are as many.
func (cl *Claim) Need(s *Seq, cached, n int) int {
	shared := cached / cl.c.blockTokens
	need := cl.c.BlocksFor(s.tokens+cached+n) - len(s.blocks) - shared
	for i := range shared {
		if b := cl.shared(s, i); cl.refs(b) == 0 {
			need++
		}
	}
	return need
}

// Add claims room for n more tokens of s, or returns ErrFull and leaves the claim as it was. An empty sequence may
// start with cached tokens that Match found since the last Commit; for others cached is 0. A sequence is added once to
// a claim.
func (cl *Claim) Add(s *Seq, cached, n int) error {
	if cached > 0 && s.tokens > 0 || cached%cl.c.blockTokens != 0 {
		panic(fmt.Sprintf("BUG: %d cached tokens for a sequence of %d", cached, s.tokens))
	}
	need := cl.Need(s, cached, n)
	if need > cl.room {
		return ErrFull
	}
	cl.room -= need
	for i := range cached / cl.c.blockTokens {
		cl.move(cl.shared(s, i), 1)
	}
	cl.lines = append(cl.lines, claimLine{s: s, cached: cached, n: n})
	return nil
}

// Drop makes s empty. Its full blocks stay findable until their room is needed; blocks that nobody else holds can be
// claimed at once. A sequence that was added to the claim cannot be dropped in it.
func (cl *Claim) Drop(s *Seq) {
	for _, b := range s.blocks {
		cl.move(b, -1)
		if cl.refs(b) == 0 {
			cl.room++
		}
	}
	cl.lines = append(cl.lines, claimLine{s: s, drop: true})
}

// shared returns the findable block with the i-th key of s.
func (cl *Claim) shared(s *Seq, i int) int32 {
	b := cl.c.find(&s.keys[i])
	if b == none {
		panic(fmt.Sprintf("BUG: block %d of a prefix is not in the cache", i))
	}
	return b
}

// refs returns the references b will have after Commit.
func (cl *Claim) refs(b int32) int32 { return cl.c.blocks[b].refs + cl.delta[b] }

func (cl *Claim) move(b, by int32) {
	cl.delta[b] += by
	cl.touched = append(cl.touched, b)
}

// Commit changes the cache as claimed, and cannot fail. The claim is empty afterwards.
func (cl *Claim) Commit() {
	c := cl.c
	// Shared blocks are held before any block is released or taken: none of them may be taken for new content.
	for _, l := range cl.lines {
		if l.drop {
			continue
		}
		c.enter(l.s)
		for i := range l.cached / c.blockTokens {
			b := cl.shared(l.s, i)
			c.hold(b)
			l.s.blocks = append(l.s.blocks, b)
		}
		l.s.sealed += l.cached / c.blockTokens
		l.s.tokens += l.cached
	}
	for _, l := range cl.lines {
		if l.drop {
			c.leave(l.s)
		}
	}
	for _, l := range cl.lines {
		if l.drop {
			continue
		}
		l.s.tokens += l.n
		for len(l.s.blocks) < c.BlocksFor(l.s.tokens) {
			l.s.blocks = append(l.s.blocks, c.take())
		}
	}
	c.Begin()
}

// enter lists s among the sequences that hold blocks.
func (c *Cache) enter(s *Seq) {
	if s.live >= 0 {
		return
	}
	s.live = len(c.live)
	c.live = append(c.live, s)
	s.blocks = slices.Grow(s.blocks, s.reserve)
}

// leave releases the blocks of s, the last one first: of a prefix that is kept, the end is reused before the start.
func (c *Cache) leave(s *Seq) {
	for _, b := range slices.Backward(s.blocks) {
		c.release(b)
	}
	s.blocks, s.tokens, s.sealed = s.blocks[:0], 0, 0
	if s.live < 0 {
		return
	}
	last := len(c.live) - 1
	c.live[s.live] = c.live[last]
	c.live[s.live].live = s.live
	c.live[last] = nil
	c.live = c.live[:last]
	s.live = -1
}
