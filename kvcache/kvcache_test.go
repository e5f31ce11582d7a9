package kvcache

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"eckart/kernels"
)

var oneLayer = []Spec{{Heads: 1, KeyDim: 1, ValueDim: 1}}

func newCache(t testing.TB, blockTokens, blocks int) *Cache {
	t.Helper()
	c, err := New(&kernels.Counter{}, oneLayer, kernels.F16, blockTokens, blocks)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// trial drives a cache and a toy with the same calls and compares what can be seen of them. It also plays the device:
// what Store would have written in each slot must be there when a prefix is shared.
type trial struct {
	t      testing.TB
	cache  *Cache
	toy    *toy
	next   func(n int) int // a number below n
	seqs   map[int]*trialSeq
	serial int
	slots  map[int]string // what was stored: the prefix that ends there
}

type trialSeq struct {
	*Seq
	salt     string
	tokens   []int32
	computed int
}

func newTrial(t testing.TB, blockTokens, blocks int, next func(n int) int) *trial {
	return &trial{
		t: t, cache: newCache(t, blockTokens, blocks), toy: newToy(blockTokens, blocks), next: next,
		seqs: map[int]*trialSeq{}, slots: map[int]string{},
	}
}

// step is one claim of a few lines, followed by what a scheduler would do: compute, then seal.
func (r *trial) step() {
	claim := r.cache.Begin()
	var lines []toyLine
	var grown []int
	used := map[int]bool{}
	ids := make([]int, 0, len(r.seqs))
	for id := range r.seqs {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	for range 1 + r.next(4) {
		var line toyLine
		if kind := r.next(4); kind > 0 || len(ids) == 0 {
			var id int
			if kind > 1 && len(ids) > 0 {
				id = ids[r.next(len(ids))]
			} else {
				r.serial++
				id = r.serial
				s := &trialSeq{salt: []string{"", "a"}[r.next(2)]}
				s.Seq = r.cache.NewSeq(s.salt, 64)
				for range 1 + r.next(24) {
					s.tokens = append(s.tokens, int32(r.next(2))) // few tokens: many shared prefixes
				}
				r.seqs[id] = s
			}
			if used[id] {
				continue
			}
			used[id] = true
			s := r.seqs[id]
			cached := 0
			if s.computed == 0 && s.Tokens() == 0 {
				cached = r.cache.Match(s.Seq, s.tokens)
				if want := r.toy.match(s.salt, s.tokens); cached != want {
					r.t.Fatalf("match %v of salt %q: %d tokens, want %d", s.tokens, s.salt, cached, want)
				}
			}
			if len(s.tokens) == s.computed {
				s.tokens = append(s.tokens, int32(r.next(2)))
			}
			n := 1 + r.next(len(s.tokens)-s.computed-cached)
			line = toyLine{seq: id, salt: s.salt, prefix: s.tokens[:cached], n: n}
			room := claim.Room()
			need := claim.Need(s.Seq, cached, n)
			err := claim.Add(s.Seq, cached, n)
			if fits := r.toy.copy().apply(append(slices.Clip(lines), line)); fits != (err == nil) {
				r.t.Fatalf("add %+v after %+v: error %v, but room is %v", line, lines, err, fits)
			}
			if err != nil {
				if !errors.Is(err, ErrFull) || need <= room || claim.Room() != room {
					r.t.Fatalf("add: %v, need %d of %d, %d after", err, need, room, claim.Room())
				}
				if s.Tokens() == 0 && s.computed == 0 {
					delete(r.seqs, id)
				}
				continue
			}
			if claim.Room() != room-need {
				r.t.Fatalf("add takes %d blocks, need said %d", room-claim.Room(), need)
			}
			grown = append(grown, id)
		} else {
			id := ids[r.next(len(ids))]
			if used[id] {
				continue
			}
			used[id] = true
			claim.Drop(r.seqs[id].Seq)
			line = toyLine{seq: id, drop: true}
		}
		lines = append(lines, line)
		after := r.toy.copy()
		after.apply(lines)
		if claim.Room() != len(after.free) {
			r.t.Fatalf("room is %d after %+v, want %d", claim.Room(), lines, len(after.free))
		}
	}
	r.compare("after an open claim")
	if r.next(8) == 0 {
		for _, id := range grown { // the claim is abandoned
			if r.seqs[id].computed == 0 {
				delete(r.seqs, id)
			}
		}
		return
	}
	claim.Commit()
	r.toy.apply(lines)
	for _, l := range lines {
		if l.drop {
			delete(r.seqs, l.seq)
		}
	}
	r.compare("after commit")
	for _, l := range lines {
		if !l.drop {
			s := r.seqs[l.seq]
			r.compute(s, len(l.prefix), l.n)
			r.cache.Seal(s.Seq, s.tokens[:s.computed])
			r.toy.seal(l.seq, l.salt, s.computed-l.n, s.tokens[:s.computed])
		}
	}
	r.compare("after seal")
}

// compute checks the shared tokens and stores n more.
func (r *trial) compute(s *trialSeq, cached, n int) {
	slot := func(i int) int {
		return int(s.Blocks()[i/r.cache.blockTokens])*r.cache.blockTokens + i%r.cache.blockTokens
	}
	s.computed += cached + n
	for i := s.computed - n; i < s.computed; i++ {
		r.slots[slot(i)] = prefixName(s.salt, s.tokens[:i+1])
	}
	for i := range s.computed {
		if got, want := r.slots[slot(i)], prefixName(s.salt, s.tokens[:i+1]); got != want {
			r.t.Fatalf("position %d holds %s, want %s", i, got, want)
		}
	}
}

func (r *trial) compare(when string) {
	if err := r.cache.Check(); err != nil {
		r.t.Fatalf("%s: %v", when, err)
	}
	if got, want := r.cache.Used(), len(r.toy.blocks)-len(r.toy.free); got != want {
		r.t.Fatalf("%s: %d blocks used, want %d", when, got, want)
	}
	findable := 0
	for b := range r.cache.blocks {
		if r.cache.blocks[b].findable {
			findable++
		}
	}
	if findable != len(r.toy.found) {
		r.t.Fatalf("%s: %d blocks findable, want %d", when, findable, len(r.toy.found))
	}
	for id, s := range r.seqs {
		var got []int
		for _, b := range s.Blocks() {
			got = append(got, int(b))
		}
		if want := r.toy.seqs[id]; !slices.Equal(got, want) {
			r.t.Fatalf("%s: sequence %d holds blocks %v, want %v", when, id, got, want)
		}
	}
}

func TestAgainstToy(t *testing.T) {
	for _, shape := range []struct{ blockTokens, blocks int }{{1, 7}, {2, 12}, {3, 20}, {4, 5}, {16, 3}} {
		t.Run(fmt.Sprintf("%dx%d", shape.blocks, shape.blockTokens), func(t *testing.T) {
			for seed := range uint64(12) {
				rng := rand.New(rand.NewPCG(seed, 1))
				r := newTrial(t, shape.blockTokens, shape.blocks, rng.IntN)
				for range 150 {
					r.step()
				}
			}
		})
	}
}

func FuzzCalls(f *testing.F) {
	f.Add([]byte("claims and drops and matches, in some order"))
	f.Add([]byte{3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3, 2, 3, 8, 4, 6, 2, 6, 4, 3, 3, 8, 3, 2, 7, 9, 5})
	f.Fuzz(func(t *testing.T, calls []byte) {
		r := newTrial(t, 2, 9, func(n int) int {
			if len(calls) == 0 {
				return 0
			}
			v := int(calls[0]) % n
			calls = calls[1:]
			return v
		})
		for range 400 {
			if len(calls) == 0 {
				return
			}
			r.step()
		}
	})
}

// add commits room for all tokens of a new sequence and seals it.
func add(t *testing.T, c *Cache, salt string, tokens []int32) *Seq {
	t.Helper()
	s := c.NewSeq(salt, len(tokens))
	cached := c.Match(s, tokens)
	cl := c.Begin()
	if err := cl.Add(s, cached, len(tokens)-cached); err != nil {
		t.Fatal(err)
	}
	cl.Commit()
	c.Seal(s, tokens)
	return s
}

func drop(c *Cache, s *Seq) {
	cl := c.Begin()
	cl.Drop(s)
	cl.Commit()
}

func count(n int) []int32 {
	tokens := make([]int32, n)
	for i := range tokens {
		tokens[i] = int32(i)
	}
	return tokens
}

func TestMatchLeavesTheLastToken(t *testing.T) {
	c := newCache(t, 4, 8)
	drop(c, add(t, c, "", count(12)))
	for _, test := range []struct{ prompt, want int }{{1, 0}, {4, 0}, {5, 4}, {8, 4}, {9, 8}, {12, 8}, {13, 12}, {20, 12}} {
		if got := c.Match(c.NewSeq("", 20), count(test.prompt)); got != test.want {
			t.Errorf("match of %d tokens: %d, want %d", test.prompt, got, test.want)
		}
	}
	if got := c.Match(c.NewSeq("", 20), nil); got != 0 {
		t.Errorf("match of no tokens: %d, want 0", got)
	}
}

func TestSaltsShareNothing(t *testing.T) {
	c := newCache(t, 4, 16)
	add(t, c, "a", count(13))
	for salt, want := range map[string]int{"a": 12, "b": 0, "": 0, "a\x00": 0} {
		if got := c.Match(c.NewSeq(salt, 13), count(13)); got != want {
			t.Errorf("match with salt %q: %d tokens, want %d", salt, got, want)
		}
	}
}

func TestEvictsLongestReleasedFirst(t *testing.T) {
	c := newCache(t, 2, 6)
	old, young := []int32{1, 1, 2, 2, 3}, []int32{7, 7, 8, 8, 9}
	drop(c, add(t, c, "", old))
	drop(c, add(t, c, "", young))
	add(t, c, "", []int32{5, 5, 5}) // two blocks: the two that hold half a block, of no use to anyone
	if a, b := c.Match(c.NewSeq("", 5), old), c.Match(c.NewSeq("", 5), young); a != 4 || b != 4 {
		t.Errorf("after blank blocks were reused, prefixes of %d and %d tokens are left, want 4 and 4", a, b)
	}
	add(t, c, "", []int32{6}) // one more: the end of the older prefix
	if a, b := c.Match(c.NewSeq("", 5), old), c.Match(c.NewSeq("", 5), young); a != 2 || b != 4 {
		t.Errorf("after one eviction, prefixes of %d and %d tokens are left, want 2 and 4", a, b)
	}
}

func TestAwaits(t *testing.T) {
	c := newCache(t, 2, 16)
	first, second, other := c.NewSeq("", 8), c.NewSeq("", 8), c.NewSeq("", 8)
	tokens := count(7)
	c.Match(first, tokens)
	cl := c.Begin()
	if err := cl.Add(first, 0, 4); err != nil { // the first chunk of its prompt
		t.Fatal(err)
	}
	cl.Commit()
	n := c.Match(second, tokens)
	if n != 0 || !c.Awaits(second, n, first) {
		t.Errorf("second matches %d tokens and does not await the first", n)
	}
	if n := c.Match(other, []int32{9, 9, 9}); c.Awaits(other, n, first) {
		t.Error("another prompt awaits the first")
	}
	c.Seal(first, tokens[:4])
	if n = c.Match(second, tokens); n != 4 || !c.Awaits(second, n, first) {
		t.Errorf("after a chunk second matches %d tokens, want 4 and to await two more", n)
	}
	cl = c.Begin()
	if err := cl.Add(first, 0, 3); err != nil {
		t.Fatal(err)
	}
	cl.Commit()
	c.Seal(first, tokens)
	if n = c.Match(second, tokens); n != 6 || c.Awaits(second, n, first) {
		t.Errorf("after the prompt second matches %d tokens, want 6 and to await none", n)
	}
}

func TestNew(t *testing.T) {
	specs := []Spec{{Heads: 2, KeyDim: 3, ValueDim: 5}, {Heads: 1, KeyDim: 7, ValueDim: 7, Window: 9}}
	var a kernels.Counter
	c, err := New(&a, specs, kernels.BF16, 4, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := a.Used(), Bytes(specs, kernels.BF16, 4, 10); got != want {
		t.Errorf("the cache took %d bytes, Bytes says %d", got, want)
	}
	if got, want := BlockBytes(specs, kernels.BF16, 4), int64((2*8+14)*4*2); got != want {
		t.Errorf("a block takes %d bytes, want %d", got, want)
	}
	kv := c.Layer(0)
	if kv.K.Rows != 10 || kv.K.Cols != 2*4*3 || kv.V.Cols != 2*4*5 || kv.K.Type != kernels.BF16 || kv.BlockTokens != 4 || kv.Heads != 2 {
		t.Errorf("pages of layer 0 are %+v", kv)
	}
	for _, test := range []struct {
		spec  Spec
		dtype kernels.DType
		n     int
		want  string
	}{
		{oneLayer[0], kernels.I32, 1, "type i32"},
		{oneLayer[0], kernels.F16, 0, "at least 1, got 0"},
		{Spec{Heads: 0, KeyDim: 1, ValueDim: 1}, kernels.F16, 1, "layer 0: heads"},
		{Spec{Heads: 1, KeyDim: 1, ValueDim: 0}, kernels.F16, 1, "widths"},
		{Spec{Heads: 1, KeyDim: 1, ValueDim: 1, Window: -1}, kernels.F16, 1, "window"},
	} {
		if _, err := New(&kernels.Counter{}, []Spec{test.spec}, test.dtype, 4, test.n); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want one with %q", test, err, test.want)
		}
	}
}

// TestAllocs holds that a sequence which grows token by token, and the prefixes it leaves behind, cost no allocation.
func TestAllocs(t *testing.T) {
	c := newCache(t, 4, 64)
	tokens := count(4096)
	s := c.NewSeq("", 256)
	at := 0
	grow := func() {
		cl := c.Begin()
		if at == 200 {
			cl.Drop(s)
			cl.Commit()
			at = 0
			return
		}
		if err := cl.Add(s, 0, 1); err != nil {
			t.Fatal(err)
		}
		cl.Commit()
		at++
		c.Seal(s, tokens[:at])
	}
	for range 500 {
		grow()
	}
	if n := testing.AllocsPerRun(1000, grow); n != 0 {
		t.Errorf("a step allocates %v times", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	c := newCache(b, 16, 8192)
	tokens := count(100_000)
	s := c.NewSeq("", len(tokens))
	cl := c.Begin()
	if err := cl.Add(s, 0, len(tokens)); err != nil {
		b.Fatal(err)
	}
	cl.Commit()
	c.Seal(s, tokens)
	for b.Loop() {
		c.Match(c.NewSeq("", len(tokens)), tokens)
	}
}
