package kvcache

import (
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
)

// none ends a list of blocks.
const none int32 = -1

// A block is the book's line about one block. A block is in the free list exactly when refs is 0, and in the index
// exactly when it is findable.
type block struct {
	key        key
	refs       int32 // sequences that hold it
	findable   bool
	chain      int32 // the next block whose key has the same place in the index
	prev, next int32 // neighbours in the free list
}

// A key names the prefix that ends with a full block. It is a cryptographic hash, so that no client can make two
// prompts share a block, by chance or on purpose: a collision of SHA-256 would have to be found. At about 100 ns a block
// there is nothing to gain from a weaker one.
type key [sha256.Size]byte

// rootKey stands before the first block of every sequence with this salt. It is hashed from fewer or other bytes than
// any other key, whose input is a key and a block of tokens.
func rootKey(salt string) key { return sha256.Sum256([]byte("salt\x00" + salt)) }

// nextKey returns the key of the block that holds tokens and follows a block with key before.
func (c *Cache) nextKey(before key, tokens []int32) key {
	buf := append(c.hashed[:0], before[:]...)
	for _, t := range tokens {
		buf = binary.LittleEndian.AppendUint32(buf, uint32(t))
	}
	return sha256.Sum256(buf)
}

// The index is a hash table whose chains run through the blocks: it never grows and never allocates, and its order
// depends on nothing but the calls.

// indexLen returns the places of an index over that many blocks: a power of two, at most two thirds full.
func indexLen(blocks int) int { return 1 << bits.Len(uint(blocks+blocks/2)) }

// place returns where in the index the chain of k starts.
func (c *Cache) place(k *key) *int32 {
	return &c.index[binary.LittleEndian.Uint64(k[:])&uint64(len(c.index)-1)]
}

// find returns the block with that key, or none.
func (c *Cache) find(k *key) int32 {
	b := *c.place(k)
	for b != none && c.blocks[b].key != *k {
		b = c.blocks[b].chain
	}
	return b
}

// publish makes b findable by k.
func (c *Cache) publish(b int32, k *key) {
	at := c.place(k)
	c.blocks[b].key, c.blocks[b].findable, c.blocks[b].chain = *k, true, *at
	*at = b
}

// forget makes b no longer findable.
func (c *Cache) forget(b int32) {
	at := c.place(&c.blocks[b].key)
	for *at != b {
		at = &c.blocks[*at].chain
	}
	*at = c.blocks[b].chain
	c.blocks[b].key, c.blocks[b].findable, c.blocks[b].chain = key{}, false, none
}

// A list is the free blocks, linked through them.
type list struct {
	oldest, newest int32
	count          int
}

// pushNewest adds b to the free list as the last to be reused.
func (c *Cache) pushNewest(b int32) {
	c.blocks[b].prev, c.blocks[b].next = c.free.newest, none
	if c.free.newest == none {
		c.free.oldest = b
	} else {
		c.blocks[c.free.newest].next = b
	}
	c.free.newest = b
	c.free.count++
}

// pushOldest adds b to the free list as the first to be reused.
func (c *Cache) pushOldest(b int32) {
	c.blocks[b].prev, c.blocks[b].next = none, c.free.oldest
	if c.free.oldest == none {
		c.free.newest = b
	} else {
		c.blocks[c.free.oldest].prev = b
	}
	c.free.oldest = b
	c.free.count++
}

// unlink takes b out of the free list.
func (c *Cache) unlink(b int32) {
	prev, next := c.blocks[b].prev, c.blocks[b].next
	if prev == none {
		c.free.oldest = next
	} else {
		c.blocks[prev].next = next
	}
	if next == none {
		c.free.newest = prev
	} else {
		c.blocks[next].prev = prev
	}
	c.blocks[b].prev, c.blocks[b].next = none, none
	c.free.count--
}

// take returns a free block for new content, with one reference. What it held is forgotten.
func (c *Cache) take() int32 {
	b := c.free.oldest
	if b == none {
		panic("BUG: no free block behind a claim")
	}
	c.unlink(b)
	if c.blocks[b].findable {
		c.forget(b)
	}
	c.blocks[b].refs = 1
	return b
}

// hold adds a reference to a block whose content stays.
func (c *Cache) hold(b int32) {
	if c.blocks[b].refs == 0 {
		c.unlink(b)
	}
	c.blocks[b].refs++
}

// release gives a reference back. A block that nobody can find is of no use to keep, so it is reused first.
func (c *Cache) release(b int32) {
	c.blocks[b].refs--
	switch {
	case c.blocks[b].refs > 0:
	case c.blocks[b].findable:
		c.pushNewest(b)
	default:
		c.pushOldest(b)
	}
}
