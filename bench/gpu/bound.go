package main

import (
	"errors"
	"fmt"
	"time"

	"eckart/kernels"
	"eckart/kvcache"
	"eckart/model"
)

// blockTokens is the number of tokens of a cache block: that of the commands.
const blockTokens = 16

// A bound is a model on a device.
type bound struct {
	device  kernels.Device
	stream  kernels.Stream
	source  model.Source
	decoder *model.Decoder
	cache   *kvcache.Cache
	loading time.Duration
	weights int64 // bytes
	arenas  []kernels.Arena
}

// bind loads a model whose cache holds so many tokens, in whole blocks. Nothing stays allocated on an error.
func bind(d kernels.Device, stream kernels.Stream, src model.Source, tokens int) (*bound, error) {
	b := &bound{device: d, stream: stream, source: src}
	if err := b.load(tokens); err != nil {
		return nil, errors.Join(err, b.close())
	}
	return b, nil
}

func (b *bound) load(tokens int) error {
	f, err := model.Measure(b.source, model.Limits{Rows: 1, Seqs: 1, Samples: 1, Blocks: 1, BlockTokens: blockTokens})
	if err != nil {
		return err
	}
	start := time.Now()
	weights, err := b.arena(f.Weights)
	if err != nil {
		return err
	}
	if b.decoder, err = model.Load(b.source, weights, b.stream, nil); err != nil {
		return err
	}
	b.loading, b.weights = time.Since(start), f.Weights
	blocks := (tokens + blockTokens - 1) / blockTokens
	cache, err := b.arena(kvcache.Bytes(f.Specs, kernels.F16, blockTokens, blocks))
	if err != nil {
		return err
	}
	b.cache, err = kvcache.New(cache, f.Specs, kernels.F16, blockTokens, blocks)
	return err
}

func (b *bound) arena(bytes int64) (kernels.Arena, error) {
	a, err := b.device.NewArena(bytes)
	if err == nil {
		b.arenas = append(b.arenas, a)
	}
	return a, err
}

func (b *bound) close() error {
	var errs []error
	for _, a := range b.arenas {
		errs = append(errs, a.Close())
	}
	b.arenas = nil
	return errors.Join(errs...)
}

// fill writes noise to the whole cache, as if sequences had been computed: memory that was never written may be read faster
// than other memory.
func (b *bound) fill(n noise) error {
	var buf []byte
	for l := range b.decoder.Specs() {
		pages := b.cache.Layer(l)
		for i, m := range []kernels.Mat{pages.K, pages.V} {
			rows := max(1, int(1<<22/m.Slice(0, 1).Bytes()))
			for row := 0; row < m.Rows; row += rows {
				part := m.Slice(row, min(rows, m.Rows-row))
				if int64(len(buf)) < part.Bytes() {
					buf = make([]byte, part.Bytes())
				}
				n.fill(buf[:part.Bytes()], 2*int64(7919*(2*l+i)+104729*row))
				b.stream.Upload(part, buf[:part.Bytes()])
				if err := b.stream.Sync(); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// within has use run steps within limits; their memory is given back after it.
func (b *bound) within(l model.Limits, use func(*model.Batch) error) (err error) {
	f, err := model.Measure(b.source, l)
	if err != nil {
		return err
	}
	a, err := b.device.NewArena(f.Workspace)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	batch, err := b.decoder.NewBatch(a, b.stream, b.cache.Layer, l)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, batch.Close()) }()
	return use(batch)
}

// table returns the blocks of a sequence of so many, each of which has blocks of its own for so many tokens.
func (b *bound) table(sequence, tokens int) ([]int32, error) {
	table := make([]int32, b.cache.BlocksFor(tokens))
	if (sequence+1)*len(table) > b.cache.Blocks() {
		return nil, fmt.Errorf("sequence %d of %d tokens is beyond a cache of %d blocks", sequence, tokens, b.cache.Blocks())
	}
	for i := range table {
		table[i] = int32(sequence*len(table) + i)
	}
	return table, nil
}
