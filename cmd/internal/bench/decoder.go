package bench

import (
	"context"
	"time"

	"eckart/kernels"
)

// The decoder's path does what llama-bench does: no sampling, no scheduling, random tokens. The engine is idle
// meanwhile, and what lies in the cache has no influence on time.

// fillTokens is how many tokens of a depth are computed; their blocks are copied until the depth is reached.
const fillTokens = 512

// table returns the block table of a sequence of the test, each of which has blocks of its own.
func (b *bench) table(t Test, sequence int) []int32 {
	table := make([]int32, b.Cache.BlocksFor(t.Depth+t.steps()))
	for i := range table {
		table[i] = int32(sequence*len(table) + i)
	}
	return table
}

// fill brings Depth tokens of every sequence into the cache. Memory that was never written would be one page of zeros,
// however much of it is read; so the blocks of a real prompt are copied to all of them.
func (b *bench) fill(t Test) error {
	first := b.table(t, 0)
	n := min(t.Depth, fillTokens)
	if err := b.prompt(first, b.ids(n), 0); err != nil {
		return err
	}
	from := b.Cache.BlocksFor(n)
	var buf []byte
	for l := range b.Plan.Specs {
		pages := b.Cache.Layer(l)
		for _, m := range []kernels.Mat{pages.K, pages.V} {
			block := m.Slice(0, 1).Bytes()
			if int64(len(buf)) < block {
				buf = make([]byte, block)
			}
			for s := range t.Batch {
				for i, to := range b.table(t, s)[:b.Cache.BlocksFor(t.Depth)] {
					if s == 0 && i < from {
						continue
					}
					b.Stream.Download(buf[:block], m.Slice(int(first[i%from]), 1))
					if err := b.Stream.Sync(); err != nil {
						return err
					}
					b.Stream.Upload(m.Slice(int(to), 1), buf[:block])
					if err := b.Stream.Sync(); err != nil {
						return err
					}
				}
			}
		}
	}
	return nil
}

// prompt computes ids at positions from on, in steps of at most StepTokens. The logits of the last one are computed
// too, as a prompt is there to be continued.
func (b *bench) prompt(table, ids []int32, from int) error {
	for len(ids) > 0 {
		n := min(len(ids), b.Plan.StepTokens)
		var sample []int
		if n == len(ids) {
			sample = []int{n - 1}
		}
		b.Batch.Reset()
		b.Batch.Add(ids[:n], from, table, sample)
		if _, err := b.Decoder.Forward(b.Batch); err != nil {
			return err
		}
		ids, from = ids[n:], from+n
	}
	return nil
}

// decoder runs a test on the decoder alone.
func (b *bench) decoder(ctx context.Context, t Test) (time.Duration, error) {
	if t.Prompt > 0 {
		ids, table := b.ids(t.Prompt), b.table(t, 0)
		start := time.Now()
		err := b.prompt(table, ids, t.Depth)
		return time.Since(start), err
	}
	ids, tables, sample := make([][]int32, t.Batch), make([][]int32, t.Batch), []int{0}
	for s := range ids {
		ids[s], tables[s] = b.ids(t.Tokens), b.table(t, s)
	}
	start := time.Now()
	for i := range t.Tokens {
		b.Batch.Reset()
		for s := range ids {
			b.Batch.Add(ids[s][i:i+1], t.Depth+i, tables[s], sample)
		}
		if _, err := b.Decoder.Forward(b.Batch); err != nil {
			return 0, err
		}
		if err := ctx.Err(); err != nil {
			return 0, err
		}
	}
	return time.Since(start), nil
}
