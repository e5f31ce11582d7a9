package kvcache

import (
	"strings"
	"testing"
)

// TestCheck breaks the book in every way that Check knows and expects it to say so.
func TestCheck(t *testing.T) {
	for name, test := range map[string]struct {
		spoil func(c *Cache, s *Seq)
		want  string
	}{
		"place":           {func(_ *Cache, s *Seq) { s.live = 1 }, "believes"},
		"block lost":      {func(_ *Cache, s *Seq) { s.blocks = s.blocks[1:] }, "holds 3 blocks"},
		"sealed too much": {func(_ *Cache, s *Seq) { s.sealed = 4 }, "4 blocks sealed"},
		"no such block":   {func(_ *Cache, s *Seq) { s.blocks[1] = 99 }, "block 99"},
		"held twice":      {func(_ *Cache, s *Seq) { s.blocks[3] = s.blocks[0] }, "twice"},
		"another's key":   {func(_ *Cache, s *Seq) { s.keys[0] = s.keys[1] }, "something else"},
		"reference lost":  {func(c *Cache, s *Seq) { c.blocks[s.blocks[0]].refs-- }, "1 sequences hold it"},
		"index lost":      {func(c *Cache, s *Seq) { *c.place(&s.keys[0]) = none }, "not the one found"},
		"in use and free": {func(c *Cache, s *Seq) { c.pushNewest(s.blocks[3]) }, "is free and has 1"},
		"points back":     {func(c *Cache, _ *Seq) { c.blocks[c.free.newest].prev = 0 }, "points back"},
		"circle":          {func(c *Cache, _ *Seq) { c.blocks[c.free.newest].next = c.free.oldest }, "points back"},
		"count":           {func(c *Cache, _ *Seq) { c.free.count++ }, "its head says"},
		"free lost":       {func(c *Cache, _ *Seq) { c.unlink(c.free.oldest) }, "no reference"},
		"stranger in the index": {func(c *Cache, _ *Seq) {
			b := c.free.oldest
			at := c.place(&c.blocks[b].key)
			c.blocks[b].chain, *at = *at, b
		}, "is in the index"},
	} {
		c := newCache(t, 4, 8)
		s := add(t, c, "", count(14))
		if err := c.Check(); err != nil {
			t.Fatal(err)
		}
		test.spoil(c, s)
		if err := c.Check(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, test.want)
		}
	}
}
