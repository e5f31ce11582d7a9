package cpu

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"eckart/kernels"
)

// attendCase is a call of Attend over several layers' caches, so that a step's keys and values come from memory as
// they do in a model.
type attendCase struct {
	y, q, k, v, slots kernels.Mat
	layers            []kernels.Pages
	seqs              kernels.Seqs
	attention         kernels.Attention
}

// newAttendCase returns sequences of n rows each, from tokens already in the cache; blocks lie in no order.
func newAttendCase(tb testing.TB, heads, keyHeads, dim, sequences, from, n, layers int, cache kernels.DType) *attendCase {
	const blockTokens = 16
	rng := rand.New(rand.NewPCG(3, 4))
	perSequence := (from + n + blockTokens - 1) / blockTokens
	ints := func(rows, cols int, v func(i int) int32) kernels.Mat {
		m := kernels.Mat{Rows: rows, Cols: cols, Stride: cols, Type: kernels.I32}
		m.Host = make([]byte, m.Bytes())
		for i := range rows * cols {
			m.Int32s(i / cols)[i%cols] = v(i)
		}
		return m
	}
	floats := func(rows, cols int) kernels.Mat {
		m := kernels.Mat{Rows: rows, Cols: cols, Stride: cols, Type: kernels.F32}
		m.Host = make([]byte, m.Bytes())
		for i := range rows {
			for j := range cols {
				m.Float32s(i)[j] = float32(rng.NormFloat64())
			}
		}
		return m
	}
	order := rng.Perm(sequences * perSequence)
	rows := sequences * n
	c := &attendCase{
		y: floats(rows, heads*dim), q: floats(rows, heads*dim), k: floats(rows, keyHeads*dim), v: floats(rows, keyHeads*dim),
		attention: kernels.Attention{Heads: heads, Scale: 0.125},
	}
	c.seqs = kernels.Seqs{
		Count:  sequences,
		Rows:   ints(sequences+1, 1, func(i int) int32 { return int32(i * n) }),
		From:   ints(sequences, 1, func(int) int32 { return int32(from) }),
		Blocks: ints(sequences, perSequence, func(i int) int32 { return int32(order[i]) }),
	}
	c.slots = ints(rows, 1, func(i int) int32 {
		position := from + i%n
		return int32(order[i/n*perSequence+position/blockTokens]*blockTokens + position%blockTokens)
	})
	for range layers {
		kv := kernels.Pages{Heads: keyHeads, KeyDim: dim, ValueDim: dim, BlockTokens: blockTokens}
		cols := keyHeads * blockTokens * dim
		kv.K = kernels.Mat{Rows: len(order), Cols: cols, Stride: cols, Type: cache}
		kv.V = kv.K
		for _, m := range []*kernels.Mat{&kv.K, &kv.V} {
			mem, err := reserve(m.Bytes())
			if err != nil {
				tb.Fatal(err)
			}
			tb.Cleanup(func() { _ = release(mem) })
			m.Host = mem
			for i := range m.Rows {
				for j := range m.Cols {
					put(*m, i, j, float32(j%16)/8-1)
				}
			}
		}
		c.layers = append(c.layers, kv)
	}
	return c
}

func (c *attendCase) attend(s *Stream, layer int) {
	s.Attend(c.y, c.q, c.layers[layer%len(c.layers)], c.seqs, c.attention)
}

// After the first call, a step of the same extent allocates nothing: whole prompts, and sequences that are split.
func TestAttentionAllocatesNothing(t *testing.T) {
	eachVariant(t, func(t *testing.T, o Options) {
		s := openStream(t, o, 2)
		for _, c := range []*attendCase{
			newAttendCase(t, 6, 2, 32, 2, 0, 70, 1, kernels.F16),
			newAttendCase(t, 6, 2, 32, 1, 2000, 1, 1, kernels.BF16),
		} {
			step := func() {
				s.Store(c.layers[0], c.k, c.v, c.slots)
				c.attend(s, 0)
			}
			step()
			if n := testing.AllocsPerRun(10, step); n != 0 {
				t.Errorf("a step of %d rows allocates %v times", c.q.Rows, n)
			}
		}
	})
}

// BenchmarkAttend measures prompts by arithmetic and single rows by the bytes of the cache they read, for a model of 15
// query heads over 5 key heads of 64 features.
func BenchmarkAttend(b *testing.B) {
	for _, isa := range ISAs() {
		if isa == Generic {
			continue
		}
		for _, threads := range []int{1, 2} {
			s := openStream(b, Options{ISA: isa}, threads)
			for _, cache := range []kernels.DType{kernels.F16, kernels.BF16, kernels.F32} {
				for _, e := range []struct{ sequences, from, n, layers int }{
					{1, 0, 512, 1}, {1, 3584, 512, 1}, {1, 511, 1, 64}, {1, 4095, 1, 8}, {8, 511, 1, 8}, {16, 200, 1, 8},
				} {
					if testing.Short() {
						if e.layers = 1; e.from > 1000 {
							continue
						}
					}
					c := newAttendCase(b, 15, 5, 64, e.sequences, e.from, e.n, e.layers, cache)
					b.Run(fmt.Sprintf("%s/threads=%d/%s/%dx%d+%d", isa, threads, cache, e.sequences, e.from, e.n), func(b *testing.B) {
						i := 0
						for b.Loop() {
							c.attend(s, i)
							i++
						}
						pairs := e.sequences * e.n * (2*e.from + e.n + 1) / 2 // of a query head
						if e.n == 1 {
							b.SetBytes(int64(pairs * 5 * 64 * 2 * cache.Bytes()))
						}
						b.ReportMetric(float64(pairs*15*64*2*2*b.N)/float64(b.Elapsed().Nanoseconds()), "GFLOP/s")
					})
				}
			}
		}
	}
}

func BenchmarkStore(b *testing.B) {
	for _, isa := range ISAs() {
		s := openStream(b, Options{ISA: isa}, 1)
		for _, cache := range []kernels.DType{kernels.F16, kernels.BF16, kernels.F32} {
			for _, n := range []int{1, 512} {
				c := newAttendCase(b, 15, 5, 64, 1, 0, n, 1, cache)
				b.Run(fmt.Sprintf("%s/%s/rows=%d", isa, cache, n), func(b *testing.B) {
					for b.Loop() {
						s.Store(c.layers[0], c.k, c.v, c.slots)
					}
					b.SetBytes(c.k.Bytes() + c.v.Bytes())
				})
			}
		}
	}
}
