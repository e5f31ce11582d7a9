// Package kvcache owns which block of the cache holds which tokens, and the memory in which every layer keeps its keys
// and values. Memory is cut into blocks of equally many tokens; a sequence holds a list of blocks, in order of
// position, and block b of the list is row b of every layer's Pages. Bookkeeping never sees a matrix, and the matrices
// never see a sequence.
//
// Full blocks are found again by what they hold: the key of a block is a hash of its tokens and of the key of the block
// before it, so that a key stands for a whole prefix. A sequence that starts like an earlier one takes references to
// the same blocks. Blocks without a reference keep their content until their room is needed, and the one released
// longest ago goes first. Shared blocks are full, and nothing is ever written to a full block.
//
// A step of the engine collects what it needs in a Claim, which changes nothing; Commit makes it so and cannot fail.
// Seal makes what the step computed findable. Those two change a cache, nothing else does. A Cache and its sequences
// belong to one goroutine.
package kvcache

import (
	"errors"
	"fmt"

	"eckart/kernels"
)

// ErrFull says that the free blocks do not suffice.
var ErrFull = errors.New("cache is full")

// A Cache is the keys and values of all layers, and the book about its blocks.
type Cache struct {
	pages       []kernels.Pages
	blockTokens int

	blocks []block
	index  []int32 // by the low bits of a key: first block of a chain through block.chain, none for empty
	free   list    // the blocks without a reference, longest released first
	live   []*Seq  // sequences that hold blocks
	claim  Claim   // the one claim there is, reused by Begin
	hashed []byte  // input of the hash: a key and the tokens of a block
}

// New takes the memory of blocks blocks from a, for layers as the specs describe them. Keys and values are kept as t:
// F32, F16 or BF16.
func New(a kernels.Arena, specs []Spec, t kernels.DType, blockTokens, blocks int) (*Cache, error) {
	if t != kernels.F32 && t != kernels.F16 && t != kernels.BF16 {
		return nil, fmt.Errorf("make cache: type %s is not one of f32, f16, bf16", t)
	}
	if blockTokens < 1 || blocks < 1 || blocks > 1<<30 {
		return nil, fmt.Errorf("make cache: blocks and tokens of a block must be at least 1, got %d and %d", blocks, blockTokens)
	}
	c := &Cache{
		blockTokens: blockTokens,
		blocks:      make([]block, blocks),
		index:       make([]int32, indexLen(blocks)),
		hashed:      make([]byte, len(key{})+4*blockTokens),
	}
	for i, s := range specs {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("make cache: layer %d: %w", i, err)
		}
		k, err := a.Alloc(blocks, s.Heads*blockTokens*s.KeyDim, t)
		if err != nil {
			return nil, fmt.Errorf("make cache: keys of layer %d: %w", i, err)
		}
		v, err := a.Alloc(blocks, s.Heads*blockTokens*s.ValueDim, t)
		if err != nil {
			return nil, fmt.Errorf("make cache: values of layer %d: %w", i, err)
		}
		c.pages = append(c.pages, kernels.Pages{
			K: k, V: v, Heads: s.Heads, KeyDim: s.KeyDim, ValueDim: s.ValueDim, BlockTokens: blockTokens,
		})
	}
	for i := range c.index {
		c.index[i] = none
	}
	c.free = list{oldest: none, newest: none}
	for b := range c.blocks {
		c.pushNewest(int32(b))
	}
	c.claim = Claim{c: c, delta: make([]int32, blocks)}
	return c, nil
}

// Layer returns where layer i keeps its keys and values.
func (c *Cache) Layer(i int) kernels.Pages { return c.pages[i] }

// BlockTokens returns the tokens of a block.
func (c *Cache) BlockTokens() int { return c.blockTokens }

// Blocks returns how many blocks there are.
func (c *Cache) Blocks() int { return len(c.blocks) }

// Used returns how many blocks sequences hold. The others are free, though most still hold a prefix that Match finds.
func (c *Cache) Used() int { return len(c.blocks) - c.free.count }

// BlocksFor returns the blocks that hold the given number of tokens.
func (c *Cache) BlocksFor(tokens int) int { return (tokens + c.blockTokens - 1) / c.blockTokens }
