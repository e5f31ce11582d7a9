package tokenizer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// randomBPE returns a model over the letters a to e with merges of random tokens, most ranks first come.
func randomBPE(r *rand.Rand, n int) *bpe {
	f := &file{classes: newClasses(), alphabet: newAlphabet(), ids: make(map[string]int32)}
	vocab, merges := []string{"a", "b", "c", "d", "e"}, []string{}
	for len(merges) < n {
		a, b := vocab[r.IntN(len(vocab))], vocab[r.IntN(len(vocab))]
		if len(a+b) > 12 {
			continue
		}
		merges = append(merges, fmt.Sprintf("[%q,%q]", a, b))
		if !slices.Contains(vocab, a+b) {
			vocab = append(vocab, a+b)
		}
	}
	var ids []string
	for id, token := range vocab {
		ids = append(ids, fmt.Sprintf("%q:%d", token, id))
	}
	m, err := f.readBPE(&modelFile{Vocab: []byte("{" + strings.Join(ids, ",") + "}"), Merges: []byte("[" + strings.Join(merges, ",") + "]")})
	if err != nil {
		panic(err)
	}
	return m
}

// TestMerge holds the heap, and the cuts that come before it, to the plain form.
func TestMerge(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	cuts := 0
	for range 300 {
		m := randomBPE(r, 1+r.IntN(60))
		letters := "abcde"[:2+r.IntN(4)]
		var b strings.Builder
		for range 1 + r.IntN(300) {
			b.WriteByte(letters[r.IntN(len(letters))])
		}
		word := b.String()
		var sc scratch
		m.symbols(word, &sc.bpe)
		symbols := slices.Clone(sc.bpe.ids)
		want := slices.Clone(m.mergeShort(slices.Clone(symbols), false, &sc.bpe))
		if got := m.mergeLong(slices.Clone(symbols), false, &sc.bpe); !slices.Equal(got, want) {
			t.Fatalf("merge %q by heap: %v, want %v", word, got, want)
		}
		if got := m.encode(nil, word, false, &sc); !slices.Equal(got, want) {
			t.Fatalf("encode %q: %v, want %v", word, got, want)
		}
		for i := 1; i < len(symbols); i++ {
			if m.joins.get(pair(symbols[i-1], symbols[i])) == noPair {
				cuts++
			}
		}
	}
	if cuts < 1000 {
		t.Errorf("only %d places to cut, the test shows nothing", cuts)
	}
}

// TestPairs holds the table to a map.
func TestPairs(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	p, want := newPairs(4), map[uint64]uint64{}
	for range 20_000 {
		key := pair(int32(r.IntN(300)), int32(r.IntN(300)))
		value := uint64(r.IntN(1 << 30))
		p.set(key, value)
		want[key] = value
	}
	for a := range int32(301) {
		for b := range int32(301) {
			value, ok := want[pair(a, b)]
			if !ok {
				value = noPair
			}
			if got := p.get(pair(a, b)); got != value {
				t.Fatalf("pair %d %d: %d, want %d", a, b, got, value)
			}
		}
	}
	if p.count != len(want) {
		t.Errorf("%d entries, want %d", p.count, len(want))
	}
}

// BenchmarkMerge merges words of several lengths in both ways; where the heap begins to win is shortWord.
func BenchmarkMerge(b *testing.B) {
	r := rand.New(rand.NewPCG(5, 6))
	m := randomBPE(r, 400)
	for _, n := range []int{8, 16, 32, 48, 64, 96, 128} {
		symbols := make([]int32, n)
		for i := range symbols {
			symbols[i] = int32(r.IntN(5))
		}
		ids := make([]int32, n)
		var s bpeScratch
		for name, merge := range map[string]func([]int32, bool, *bpeScratch) []int32{"plain": m.mergeShort, "heap": m.mergeLong} {
			b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
				for b.Loop() {
					copy(ids, symbols)
					merge(ids, false, &s)
				}
			})
		}
	}
}
