package kvcache

import "fmt"

// Check returns the first thing in the book that cannot be, or nil. It walks everything and is meant for tests.
func (c *Cache) Check() error {
	refs := make([]int32, len(c.blocks))
	for i, s := range c.live {
		if s.live != i {
			return fmt.Errorf("check cache: sequence %d believes to be sequence %d", i, s.live)
		}
		if want := c.BlocksFor(s.tokens); len(s.blocks) != want {
			return fmt.Errorf("check cache: sequence %d holds %d blocks for %d tokens, want %d", i, len(s.blocks), s.tokens, want)
		}
		if s.sealed > s.tokens/c.blockTokens {
			return fmt.Errorf("check cache: sequence %d has %d blocks sealed of %d tokens", i, s.sealed, s.tokens)
		}
		mine := make(map[int32]bool)
		for j, b := range s.blocks {
			if b < 0 || int(b) >= len(c.blocks) {
				return fmt.Errorf("check cache: sequence %d holds block %d of %d", i, b, len(c.blocks))
			}
			if mine[b] {
				return fmt.Errorf("check cache: sequence %d holds block %d twice", i, b)
			}
			mine[b] = true
			refs[b]++
			if line := &c.blocks[b]; line.findable && (j >= s.sealed || line.key != s.keys[j]) {
				return fmt.Errorf("check cache: block %d of sequence %d is findable as something else", b, i)
			}
		}
	}
	for b := range c.blocks {
		line := &c.blocks[b]
		if line.refs != refs[b] {
			return fmt.Errorf("check cache: block %d counts %d references, %d sequences hold it", b, line.refs, refs[b])
		}
		if line.refs > 1 && !line.findable {
			return fmt.Errorf("check cache: block %d is shared by %d and not findable", b, line.refs)
		}
		if line.findable && c.find(&line.key) != int32(b) {
			return fmt.Errorf("check cache: block %d is not the one found by its key", b)
		}
	}
	return c.checkLists()
}

// checkLists walks the free list and the index.
func (c *Cache) checkLists() error {
	count, before := 0, none
	for b := c.free.oldest; b != none; b = c.blocks[b].next {
		if c.blocks[b].refs != 0 {
			return fmt.Errorf("check cache: block %d is free and has %d references", b, c.blocks[b].refs)
		}
		if c.blocks[b].prev != before {
			return fmt.Errorf("check cache: block %d follows %d in the free list and points back to %d", b, before, c.blocks[b].prev)
		}
		before = b
		if count++; count > len(c.blocks) {
			return fmt.Errorf("check cache: the free list runs in a circle")
		}
	}
	if before != c.free.newest || count != c.free.count {
		return fmt.Errorf("check cache: the free list has %d blocks up to %d, its head says %d up to %d", count, before, c.free.count, c.free.newest)
	}
	free := 0
	for b := range c.blocks {
		if c.blocks[b].refs == 0 {
			free++
		}
	}
	if free != count {
		return fmt.Errorf("check cache: %d blocks have no reference, %d are in the free list", free, count)
	}
	findable := 0
	for b := range c.blocks {
		if c.blocks[b].findable {
			findable++
		}
	}
	listed := 0
	for _, b := range c.index {
		for ; b != none; b = c.blocks[b].chain {
			if !c.blocks[b].findable {
				return fmt.Errorf("check cache: block %d is in the index and not findable", b)
			}
			if listed++; listed > findable {
				return fmt.Errorf("check cache: the index lists more than the %d findable blocks", findable)
			}
		}
	}
	if listed != findable {
		return fmt.Errorf("check cache: %d blocks are findable, the index lists %d", findable, listed)
	}
	return nil
}
