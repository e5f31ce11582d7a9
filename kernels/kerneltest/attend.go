package kerneltest

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/kernels"
)

// attention is a case of Store and Attend: sequences of tokens over one layer's cache.
type attention struct {
	heads, keyHeads  int
	keyDim, valueDim int
	blockTokens      int
	window           int
	cache            kernels.DType
	lengths          []int // tokens of each sequence
}

// part is some tokens of a sequence.
type part struct{ seq, from, n int }

// conversation is a case with its memory: the cache, full of NaNs where nothing is stored, and the tokens that will be.
type conversation struct {
	*bench
	attention
	kernels.Attention
	kv      kernels.Pages
	blocks  [][]int32   // of each sequence, in no order
	q, k, v [][]float32 // of each sequence: (tokens, heads·dim)
}

func (b *bench) converse(a attention) *conversation {
	b.Helper()
	c := &conversation{bench: b, attention: a}
	c.Attention = kernels.Attention{Heads: a.heads, Scale: float32(1 / math.Sqrt(float64(a.keyDim))), Window: a.window}
	count := 2 // some belong to nobody
	for _, n := range a.lengths {
		count += (n + a.blockTokens - 1) / a.blockTokens
	}
	free := b.rand.Perm(count)
	for _, n := range a.lengths {
		var blocks []int32
		for range (n + a.blockTokens - 1) / a.blockTokens {
			blocks = append(blocks, int32(free[0]))
			free = free[1:]
		}
		c.blocks = append(c.blocks, blocks)
		c.q = append(c.q, b.normal(n*a.heads*a.keyDim))
		c.k = append(c.k, b.normal(n*a.keyHeads*a.keyDim))
		c.v = append(c.v, b.normal(n*a.keyHeads*a.valueDim))
	}
	c.kv = kernels.Pages{Heads: a.keyHeads, KeyDim: a.keyDim, ValueDim: a.valueDim, BlockTokens: a.blockTokens}
	c.kv.K = b.take(count, a.keyHeads*a.blockTokens*a.keyDim, a.cache)
	c.kv.V = b.take(count, a.keyHeads*a.blockTokens*a.valueDim, a.cache)
	c.forget()
	return c
}

// forget fills the cache with NaNs.
func (c *conversation) forget() {
	for _, m := range []kernels.Mat{c.kv.K, c.kv.V} {
		c.Upload(m, bytes.Repeat([]byte{guard & 0xff, guard >> 8}, int(m.Bytes()/2)))
		c.sync()
	}
}

// rows returns the values of parts side by side, those of width columns a token, with rows of NaN before and after.
func (c *conversation) rows(of [][]float32, width int, parts []part, before, after int) []float32 {
	v := slices.Repeat([]float32{float32(math.NaN())}, before*width)
	for _, p := range parts {
		v = append(v, of[p.seq][p.from*width:(p.from+p.n)*width]...)
	}
	return append(v, slices.Repeat([]float32{float32(math.NaN())}, after*width)...)
}

// store stores the keys and values of parts in one call, with rows that have no slot around them.
func (c *conversation) store(f frame, parts ...part) {
	c.Helper()
	mark := c.used
	const before, after = 2, 1
	slots := []int32{-1, -1}
	for _, p := range parts {
		for i := p.from; i < p.from+p.n; i++ {
			slots = append(slots, c.blocks[p.seq][i/c.blockTokens]*int32(c.blockTokens)+int32(i%c.blockTokens))
		}
	}
	slots = append(slots, -1)
	k := c.floats(f, len(slots), c.keyHeads*c.keyDim, kernels.F32, c.rows(c.k, c.keyHeads*c.keyDim, parts, before, after))
	v := c.floats(f, len(slots), c.keyHeads*c.valueDim, kernels.F32, c.rows(c.v, c.keyHeads*c.valueDim, parts, before, after))
	c.Store(c.kv, k.Mat, v.Mat, c.ints(slots).Mat)
	c.sync()
	c.used = mark
}

// attend attends from parts in one call and returns their rows, side by side. Rows of no sequence stand around them.
func (c *conversation) attend(f frame, parts ...part) []float32 {
	c.Helper()
	mark := c.used
	const before, after = 1, 2
	bounds, from := []int32{before}, []int32(nil)
	mostBlocks := 1
	for _, p := range parts {
		bounds = append(bounds, bounds[len(bounds)-1]+int32(p.n))
		from = append(from, int32(p.from))
		mostBlocks = max(mostBlocks, len(c.blocks[p.seq])+1)
	}
	rows := int(bounds[len(parts)]) + after
	// Two more sequences than there are, and blocks behind each one's last: nobody may look at them.
	s := kernels.Seqs{Count: len(parts)}
	s.Rows = c.ints(append(slices.Clone(bounds), 1<<30, 1<<30)).Mat
	s.From = c.ints(append(slices.Clone(from), 1<<30, 1<<30)).Mat
	s.Blocks = c.place(packed, len(parts)+2, mostBlocks, kernels.I32, func(i int) uint32 {
		if seq := i / mostBlocks; seq < len(parts) {
			// Only what the part can see: the tokens up to its last.
			p := parts[seq]
			if seen := (p.from + p.n + c.blockTokens - 1) / c.blockTokens; p.n > 0 && i%mostBlocks < seen {
				return uint32(c.blocks[p.seq][i%mostBlocks])
			}
		}
		return 1 << 30
	}).Mat
	q := c.floats(f, rows, c.heads*c.keyDim, kernels.F32, c.rows(c.q, c.heads*c.keyDim, parts, before, after))
	width := c.heads * c.valueDim
	old := c.normal(rows * width)
	y := c.floats(f, rows, width, kernels.F32, old)
	c.Attend(y.Mat, q.Mat, c.kv, s, c.Attention)
	got := c.read(y)
	last := (rows - after) * width
	sameBits(c.T, "rows before the first sequence", got[:before*width], old[:before*width])
	sameBits(c.T, "rows after the last sequence", got[last:], old[last:])
	c.used = mark
	return got[before*width : last]
}

// reference returns what attend of parts should.
func (c *conversation) reference(parts ...part) []float64 {
	keys, values := make([][]float32, len(c.k)), make([][]float32, len(c.v))
	for i := range keys {
		keys[i], values[i] = rounded(c.cache, c.k[i]), rounded(c.cache, c.v[i])
	}
	var want []float64
	y := make([]float64, c.valueDim)
	for _, p := range parts {
		for t := p.from; t < p.from+p.n; t++ {
			for h := range c.heads {
				head := h / (c.heads / c.keyHeads)
				attendReference(y, c.q[p.seq][(t*c.heads+h)*c.keyDim:][:c.keyDim],
					func(t int) []float32 { return keys[p.seq][(t*c.keyHeads+head)*c.keyDim:][:c.keyDim] },
					func(t int) []float32 { return values[p.seq][(t*c.keyHeads+head)*c.valueDim:][:c.valueDim] },
					t+1, c.Attention)
				want = append(want, y...)
			}
		}
	}
	return want
}

// attentions are the cases of Attend, with the tokens of each sequence that are in the cache before the step.
func attentions() (cases []attention, before [][]int) {
	add := func(a attention, n ...int) {
		cases, before = append(cases, a), append(before, n)
	}
	blocks := []int{16, 32}
	i := 0
	for _, group := range []int{1, 2, 3, 4, 7} {
		for _, dim := range []int{16, 32, 64, 80, 96, 128, 256} {
			heads := 1 + i%2
			add(attention{heads * group, heads, dim, dim, blocks[i%2], 0, types[i%3], []int{35, 20}}, 0, 19)
			i++
		}
	}
	for _, t := range types {
		for _, block := range blocks {
			add(attention{6, 2, 64, 64, block, 0, t, []int{50, 38, 17, 17, 1, 64, 80, 20, 33}}, 0, 37, 15, 16, 0, 31, 64, 20, 32)
			add(attention{4, 1, 128, 128, block, 0, t, []int{34, 48, 97}}, 0, 47, 96)
			add(attention{2, 2, 48, 32, block, 0, t, []int{40}}, 3)
			add(attention{3, 1, 32, 80, block, 20, t, []int{70, 55}}, 2, 54)
		}
	}
	// Sequences without rows, as steps of a fixed size are filled up with.
	add(attention{4, 2, 32, 32, 16, 0, kernels.F16, []int{30, 30, 17}}, 29, 30, 17)
	add(attention{4, 2, 64, 64, 16, 0, kernels.F16, []int{90, 12}}, 0, 12)
	for _, window := range []int{1, 2, 5, 16, 17, 33, 100} {
		add(attention{4, 2, 32, 32, 16, window, kernels.F16, []int{70, 90, 120, 61}}, 0, 40, 119, 60)
	}
	for i, t := range types { // long ones, whatever a device takes for a tile or a segment
		add(attention{3, 1, 32, 32, 16, 0, t, []int{1100, 260, 700}}, 1090, 129, 699)
		add(attention{3 * (i%2 + 1), i%2 + 1, 16, 16, 16, 900 * (i % 2), t, []int{1030}}, 900*(i%2))
		add(attention{2, 1, 20, 20, 4, 600, t, []int{900, 1300}}, 890, 1299)
	}
	for n := 1; n <= 33; n++ { // odd widths and blocks of any length
		add(attention{n%3*2 + 2, 2, n, 34 - n, 1 + n%19, n % 4 * 6, types[n%3], []int{21, 12}}, 5, 11)
	}
	return cases, before
}

func testAttend(b *bench) {
	cases, before := attentions()
	if !testing.Short() {
		cases = append(cases, attention{15, 5, 64, 64, 16, 0, kernels.F16, []int{140, 300}},
			attention{14, 2, 64, 64, 32, 0, kernels.BF16, []int{90, 300}},
			attention{8, 8, 128, 128, 16, 128, kernels.F16, []int{150, 260}})
		before = append(before, []int{0, 299}, []int{40, 298}, []int{0, 257})
	}
	for i, a := range cases {
		if testing.Short() && i%3 > 0 {
			continue
		}
		b.each(fmt.Sprintf("%+v after %v", a, before[i]), func(name string, f frame) {
			c := b.converse(a)
			var history, step []part
			for seq, n := range before[i] {
				history = append(history, part{seq, 0, n})
				step = append(step, part{seq, n, a.lengths[seq] - n})
			}
			c.store(f, history...)
			c.store(f, step...)
			c.judge("Attend", a.cache, name, a.valueDim, c.attend(f, step...), c.reference(step...))
		})
	}
}

// peakedTokens are enough for scores to rise and fall across all that a device cuts a sequence into.
const peakedTokens = 1200

// testAttendPeaked tests scores so large that only differences from the largest can be raised to a power, rising and
// falling along the sequence. They are whole numbers, so that they are exact.
func testAttendPeaked(b *bench) {
	for _, t := range types {
		for slope := -3; slope <= 3; slope++ {
			if testing.Short() && slope%3 != 0 {
				continue
			}
			b.reset()
			c := b.converse(attention{2, 1, 16, 16, 16, 0, t, []int{peakedTokens}})
			c.Scale = 0.5
			for i := range c.q[0] {
				c.q[0][i] = float32(i % 16 % 3)
			}
			for i := range c.k[0] {
				token := i / 16
				c.k[0][i] = float32(slope*(token/10)%256 + token%2)
			}
			c.store(packed, part{0, 0, peakedTokens})
			for _, p := range []part{{0, 0, 40}, {0, 120, 20}, {0, 500, 20}, {0, 1020, 10}, {0, peakedTokens - 1, 1}} {
				c.judge("Attend", t, fmt.Sprintf("%s, slope %d, %+v", t, slope, p), 16, c.attend(packed, p), c.reference(p))
			}
		}
	}
}

// testStore holds that Store writes as many elements as it was given and no others. Where they lie is the device's
// affair; that they are the right ones shows in Attend.
func testStore(b *bench) {
	for i, t := range types {
		for n := 1; n <= 33; n++ {
			b.each(fmt.Sprintf("%s, %d tokens", t, n), func(name string, f frame) {
				c := b.converse(attention{3, 3, n, 34 - n, 16 >> (n % 3), 0, t, []int{n, 40}})
				old := [2][]byte{b.bytes(c.kv.K), b.bytes(c.kv.V)}
				c.store(f, part{1, 40, 0}) // nothing but rows without a slot
				if !bytes.Equal(b.bytes(c.kv.K), old[0]) || !bytes.Equal(b.bytes(c.kv.V), old[1]) {
					b.Fatalf("%s: a row with slot -1 is written", name)
				}
				c.store(f, part{0, 0, n}, part{1, 7, 1 + i})
				for j, m := range []kernels.Mat{c.kv.K, c.kv.V} {
					got, written := b.bytes(m), 0
					for at := 0; at < len(got); at += t.Bytes() {
						if !bytes.Equal(got[at:at+t.Bytes()], old[j][at:at+t.Bytes()]) {
							written++
						}
					}
					if want := (n + 1 + i) * m.Cols / c.blockTokens; written != want {
						b.Fatalf("%s: %d elements of %s are written, want %d", name, written, "KV"[j:j+1], want)
					}
				}
			})
		}
	}
}
