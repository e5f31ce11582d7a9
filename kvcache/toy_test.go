package kvcache

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// toy is the cache as one would explain it: prefixes are strings, the free list is a slice, the index is a map, and a
// claim is tried on a copy. It is slow and obvious, and has no code in common with the cache.
type toy struct {
	blockTokens int
	blocks      map[int]toyBlock
	free        []int          // longest released first
	found       map[string]int // prefix -> block
	seqs        map[int][]int  // sequence -> blocks
	tokens      map[int]int    // sequence -> tokens there is room for
}

type toyBlock struct {
	refs   int
	prefix string // "" when nothing can be found in it
}

type toyLine struct {
	seq    int
	drop   bool
	salt   string
	prefix []int32 // of an addition: the tokens that are shared
	n      int
}

func newToy(blockTokens, blocks int) *toy {
	t := &toy{blockTokens, map[int]toyBlock{}, nil, map[string]int{}, map[int][]int{}, map[int]int{}}
	for b := range blocks {
		t.blocks[b] = toyBlock{}
		t.free = append(t.free, b)
	}
	return t
}

func (t *toy) copy() *toy {
	c := &toy{t.blockTokens, maps.Clone(t.blocks), slices.Clone(t.free), maps.Clone(t.found), map[int][]int{}, maps.Clone(t.tokens)}
	for s, blocks := range t.seqs {
		c.seqs[s] = slices.Clone(blocks)
	}
	return c
}

func prefixName(salt string, tokens []int32) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q", salt)
	for _, t := range tokens {
		fmt.Fprintf(&b, " %d", t)
	}
	return b.String()
}

func (t *toy) match(salt string, tokens []int32) int {
	n := 0
	for n+t.blockTokens < len(tokens) {
		if _, ok := t.found[prefixName(salt, tokens[:n+t.blockTokens])]; !ok {
			break
		}
		n += t.blockTokens
	}
	return n
}

// apply does what a claim of these lines asks for, or reports that there is no room.
func (t *toy) apply(lines []toyLine) bool {
	for _, l := range lines {
		if l.drop {
			continue
		}
		for n := t.blockTokens; n <= len(l.prefix); n += t.blockTokens {
			b := t.found[prefixName(l.salt, l.prefix[:n])]
			line := t.blocks[b]
			line.refs++
			t.blocks[b] = line
			t.free = slices.DeleteFunc(t.free, func(f int) bool { return f == b })
			t.seqs[l.seq] = append(t.seqs[l.seq], b)
		}
		t.tokens[l.seq] += len(l.prefix)
	}
	for _, l := range lines {
		if !l.drop {
			continue
		}
		for _, b := range slices.Backward(t.seqs[l.seq]) {
			line := t.blocks[b]
			line.refs--
			t.blocks[b] = line
			if line.refs > 0 {
				continue
			}
			if line.prefix == "" {
				t.free = slices.Insert(t.free, 0, b)
			} else {
				t.free = append(t.free, b)
			}
		}
		delete(t.seqs, l.seq)
		delete(t.tokens, l.seq)
	}
	for _, l := range lines {
		if l.drop {
			continue
		}
		t.tokens[l.seq] += l.n
		for len(t.seqs[l.seq])*t.blockTokens < t.tokens[l.seq] {
			if len(t.free) == 0 {
				return false
			}
			b := t.free[0]
			t.free = t.free[1:]
			if p := t.blocks[b].prefix; p != "" {
				delete(t.found, p)
			}
			t.blocks[b] = toyBlock{refs: 1}
			t.seqs[l.seq] = append(t.seqs[l.seq], b)
		}
	}
	return true
}

// seal makes full blocks findable that a computation of the tokens after the first old ones has filled.
func (t *toy) seal(seq int, salt string, old int, tokens []int32) {
	for i := old / t.blockTokens; (i+1)*t.blockTokens <= len(tokens); i++ {
		p := prefixName(salt, tokens[:(i+1)*t.blockTokens])
		if _, ok := t.found[p]; ok {
			continue
		}
		b := t.seqs[seq][i]
		t.found[p] = b
		t.blocks[b] = toyBlock{refs: t.blocks[b].refs, prefix: p}
	}
}
