package model

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/kernels"
	"eckart/kernels/cpu"
	"eckart/layers"
)

// picking is a stream on the host that picks tokens and does nothing but copying.
type picking struct {
	kernels.Discard
	uploads, bytes int
}

func (p *picking) Upload(dst kernels.Mat, src []byte) {
	p.uploads++
	p.bytes = copy(dst.Host[:dst.Bytes()], src)
}

func (p *picking) Choose(_, _, _ kernels.Mat) {}
func (p *picking) Follow(_, _ kernels.Mat)    {}

// TestInputs holds that one upload brings all that a step of any shape is told, as long as it must be, and that the places
// depend on the shape alone.
func TestInputs(t *testing.T) {
	dev, err := cpu.Open(cpu.Options{Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer dev.Close()
	arena, err := dev.NewArena(1 << 16)
	if err != nil {
		t.Fatal(err)
	}
	defer arena.Close()
	l := Limits{Rows: 40, Seqs: 5, Samples: 7, Blocks: 300, BlockTokens: 4}
	b, err := newBatch(arena, l)
	if err != nil {
		t.Fatal(err)
	}
	s := &picking{}
	b.pass = layers.NewPass(s, layers.Scratch{})
	b.choose.on(s)

	places := map[string][]*byte{}
	rng := rand.New(rand.NewPCG(1, 2))
	for turn := range 400 {
		var ids, pos, slots, samples, how, from []int32
		var tables [][]int32
		starts := []int32{0}
		b.Reset()
		for range 1 + rng.IntN(l.Seqs) {
			n := 1 + rng.IntN(l.Rows/l.Seqs)
			if turn%2 == 0 {
				n = 1
			}
			at := rng.IntN(l.Blocks*l.BlockTokens - n)
			table := make([]int32, (at+n+l.BlockTokens-1)/l.BlockTokens)
			for i := range table {
				table[i] = rng.Int32N(1000)
			}
			tokens := make([]int32, n)
			for i := range tokens {
				tokens[i] = rng.Int32N(1000) - 3
				ids, pos = append(ids, tokens[i]), append(pos, int32(at+i))
				slots = append(slots, table[(at+i)/l.BlockTokens]*int32(l.BlockTokens)+int32((at+i)%l.BlockTokens))
			}
			var wanted []int
			if rng.IntN(3) > 0 {
				wanted = []int{n - 1}
				samples = append(samples, starts[len(starts)-1]+int32(n)-1)
			}
			from, starts, tables = append(from, int32(at)), append(starts, int32(len(ids))), append(tables, table)
			b.Add(tokens, at, table, wanted)
		}
		for i := range samples {
			words := make([]int32, kernels.ChoiceWords)
			c := kernels.NoChoice
			if rng.IntN(2) == 0 {
				c = kernels.Choice{Scale: rng.Float32(), TopK: i, Draw: rng.Uint64N(1 << 53)}
				b.Pick(i, c)
			}
			c.Put(words)
			how = append(how, words...)
		}
		if turn%4 == 0 && len(samples) == len(ids) {
			b.pad(l.Seqs)
			for len(ids) < l.Seqs {
				words := make([]int32, kernels.ChoiceWords)
				kernels.NoChoice.Put(words)
				samples, how = append(samples, int32(len(ids))), append(how, words...)
				ids, pos, slots, from = append(ids, 0), append(pos, 0), append(slots, -1), append(from, 0)
				starts = append(starts, starts[len(starts)-1])
			}
		}

		s.uploads = 0
		b.upload()
		if s.uploads != 1 {
			t.Fatalf("%d uploads, want 1", s.uploads)
		}
		// What is used, 15 words for each input to be aligned, and the rest of the rows of the tables before the last.
		most := len(ids) + len(pos) + len(slots) + len(samples) + len(how) + len(from) + len(starts) + 7*15 + (len(tables)-1)*l.Blocks + len(tables[len(tables)-1])
		if s.bytes > 4*most {
			t.Errorf("%d rows of %d sequences take %d bytes, want at most %d", len(ids), len(from), s.bytes, 4*most)
		}
		seqs := b.pass.Seqs
		var at []*byte
		for _, c := range []struct {
			name string
			mat  kernels.Mat
			cols int
			want []int32
		}{
			{"ids", b.ids.mat, 1, ids},
			{"pos", b.pos.mat, 1, pos},
			{"slots", b.pass.Slots, 1, slots},
			{"samples", b.samples.mat, 1, samples},
			{"how", b.how.mat, kernels.ChoiceWords, how},
			{"from", seqs.From, 1, from},
			{"starts", seqs.Rows, 1, starts},
		} {
			var got []int32
			for i := range c.mat.Rows {
				got = append(got, c.mat.Int32s(i)...)
			}
			if !slices.Equal(got, c.want) || c.mat.Cols != c.cols {
				t.Fatalf("turn %d: %s are %v, want %v", turn, c.name, got, c.want)
			}
			if len(got) > 0 {
				at = append(at, &c.mat.Host[0])
			}
		}
		if seqs.Count != len(from) || seqs.Blocks.Rows < len(from) {
			t.Fatalf("turn %d: %d sequences, and %d tables, want %d", turn, seqs.Count, seqs.Blocks.Rows, len(from))
		}
		for i, table := range tables {
			if got := seqs.Blocks.Int32s(i)[:len(table)]; !slices.Equal(got, table) {
				t.Fatalf("turn %d: blocks of sequence %d are %v, want %v", turn, i, got, table)
			}
		}
		at = append(at, &seqs.Blocks.Host[0])
		shape := fmt.Sprint(len(ids), len(samples), len(from))
		if before, ok := places[shape]; ok && !slices.Equal(before, at) {
			t.Errorf("steps of shape %s have their inputs in different places", shape)
		}
		places[shape] = at
	}
}
