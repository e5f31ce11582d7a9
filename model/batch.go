package model

import (
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// Limits bound a step. Everything a step needs is allocated for them once.
type Limits struct {
	Rows        int // tokens of a step
	Seqs        int // sequences of a step
	Samples     int // rows whose logits are wanted
	Blocks      int // cache blocks of one sequence
	BlockTokens int // tokens of a cache block
}

// A Batch is the input of a step, filled on the host and uploaded when the step runs.
type Batch struct {
	limits  Limits
	pass    *layers.Pass
	ids     column
	pos     column
	slots   column
	samples column // rows whose logits are wanted
	from    column // per sequence: tokens already in the cache
	starts  column // per sequence: its first row; one more at the end
	blocks  kernels.Mat
	tables  []int32 // blocks on the host: (sequences, limits.Blocks)
	choose  chooser

	programs []program // by rows, ascending; none where the stream does not record
}

// column is an I32 matrix of one column: its values on the host, and where they go.
type column struct {
	host []int32
	mat  kernels.Mat
}

func newColumn(a kernels.Arena, n int) (column, error) {
	m, err := a.Alloc(n, 1, kernels.I32)
	return column{make([]int32, 0, n), m}, err
}

// rows returns the part of the matrix that is in use.
func (c *column) rows() kernels.Mat { return c.mat.Slice(0, len(c.host)) }

func (c *column) upload(s kernels.Stream) {
	if len(c.host) > 0 {
		s.Upload(c.rows(), kernels.Int32Bytes(c.host))
	}
}

// NewBatch allocates step inputs and scratch for steps within l, and has a stream that can record the steps that only
// generate. After it a step allocates nothing. kv gives each layer's cache; it may be nil where nothing runs, to measure.
// Close gives back what was recorded; memory belongs to the arena.
func (d *Decoder) NewBatch(a kernels.Arena, s kernels.Stream, kv func(layer int) kernels.Pages, l Limits) (*Batch, error) {
	if l.Rows < 1 || l.Seqs < 1 || l.Samples < 0 || l.Blocks < 1 || l.BlockTokens < 1 || l.Samples > l.Rows || l.Seqs > l.Rows {
		panic(fmt.Sprintf("BUG: limits %+v", l))
	}
	b, err := newInputs(a, l)
	if err != nil {
		return nil, err
	}
	need := d.measureScratch(l)
	scratch, err := layers.NewScratch(a, need)
	if err != nil {
		return nil, fmt.Errorf("allocate scratch: %w", err)
	}
	b.pass = layers.NewPass(s, scratch)
	b.pass.Tables = make([]kernels.Mat, len(d.ropes))
	b.pass.KV = kv
	b.choose.on(s)
	if kv == nil {
		return b, nil
	}
	return b, d.record(b)
}

// newInputs allocates the step inputs of a batch, which has no pass yet.
func newInputs(a kernels.Arena, l Limits) (*Batch, error) {
	b := &Batch{limits: l, tables: make([]int32, 0, l.Seqs*l.Blocks)}
	var err error
	for _, c := range []struct {
		col *column
		n   int
	}{{&b.ids, l.Rows}, {&b.pos, l.Rows}, {&b.slots, l.Rows}, {&b.samples, max(1, l.Samples)}, {&b.from, l.Seqs}, {&b.starts, l.Seqs + 1}} {
		if *c.col, err = newColumn(a, c.n); err != nil {
			return nil, fmt.Errorf("allocate step inputs: %w", err)
		}
	}
	if b.blocks, err = a.Alloc(l.Seqs, l.Blocks, kernels.I32); err != nil {
		return nil, fmt.Errorf("allocate step inputs: %w", err)
	}
	if b.choose, err = newChooser(a, max(1, l.Samples)); err != nil {
		return nil, fmt.Errorf("allocate step inputs: %w", err)
	}
	b.Reset()
	return b, nil
}

// measureScratch runs the largest step on a device that does nothing and returns the bytes of scratch it took.
func (d *Decoder) measureScratch(l Limits) int64 {
	full := func(n int) column {
		return column{make([]int32, n), kernels.Mat{Rows: n, Cols: 1, Stride: 1, Type: kernels.I32}}
	}
	b := &Batch{ids: full(l.Rows), pos: full(l.Rows), slots: full(l.Rows), samples: full(l.Samples)}
	b.pass = layers.NewPass(kernels.Discard{}, layers.Scratch{})
	b.pass.Tables = make([]kernels.Mat, len(d.ropes))
	b.pass.KV = func(int) kernels.Pages { return kernels.Pages{} }
	d.forward(b)
	return b.pass.PeakScratch()
}

// Limits returns what the batch was allocated for.
func (b *Batch) Limits() Limits { return b.limits }

// SetProbe lets probe see named values of each step as they are made; nil stops it.
func (b *Batch) SetProbe(probe func(name string, m kernels.Mat)) { b.pass.Probe = probe }

// Reset empties the batch.
func (b *Batch) Reset() {
	b.ids.host, b.pos.host, b.slots.host = b.ids.host[:0], b.pos.host[:0], b.slots.host[:0]
	b.samples.host, b.from.host = b.samples.host[:0], b.from.host[:0]
	b.starts.host = append(b.starts.host[:0], 0)
	b.tables = b.tables[:0]
	b.choose.reset()
}

// Rows returns the tokens added so far.
func (b *Batch) Rows() int { return len(b.ids.host) }

// Add appends tokens of one sequence at positions from, from+1, ... blocks is the sequence's block table, long enough
// for them; sample lists, ascending, the tokens whose logits are wanted, as indices into tokens. In a batch that picks
// tokens (Picks), one below 0 stands for the token that the step before has picked for its sample -1-token.
func (b *Batch) Add(tokens []int32, from int, blocks []int32, sample []int) {
	l := b.limits
	n := len(tokens)
	if n == 0 || b.Rows()+n > l.Rows || len(b.from.host) == l.Seqs || len(blocks) > l.Blocks ||
		len(blocks)*l.BlockTokens < from+n || len(b.samples.host)+len(sample) > l.Samples {
		panic(fmt.Sprintf("BUG: %d tokens at %d, %d blocks, %d samples, on top of %d rows of %d sequences, limits %+v",
			n, from, len(blocks), len(sample), b.Rows(), len(b.from.host), l))
	}
	row := b.Rows()
	for _, i := range sample {
		b.samples.host = append(b.samples.host, int32(row+i))
	}
	b.choose.add(len(sample))
	for i, id := range tokens {
		at := from + i
		b.ids.host = append(b.ids.host, id)
		b.choose.follows = b.choose.follows || id < 0
		b.pos.host = append(b.pos.host, int32(at))
		b.slots.host = append(b.slots.host, blocks[at/l.BlockTokens]*int32(l.BlockTokens)+int32(at%l.BlockTokens))
	}
	b.from.host = append(b.from.host, int32(from))
	b.starts.host = append(b.starts.host, int32(b.Rows()))
	b.tables = append(b.tables, blocks...)
	b.tables = b.tables[:len(b.from.host)*l.Blocks] // the rest of the row is never read
}

// upload brings the inputs to the device.
func (b *Batch) upload() {
	s := b.pass.Stream
	for _, c := range []*column{&b.ids, &b.pos, &b.slots, &b.samples, &b.from, &b.starts} {
		c.upload(s)
	}
	if c := &b.choose; c.Chooser != nil && (len(b.programs) > 0 || c.picks > 0) && len(c.words) > 0 {
		s.Upload(c.how.Slice(0, len(c.words)/kernels.ChoiceWords), kernels.Int32Bytes(c.words))
	}
	if n := len(b.tables) / b.limits.Blocks; n > 0 {
		s.Upload(b.blocks.Slice(0, n), kernels.Int32Bytes(b.tables))
	}
}

// describe tells the pass where the inputs of the step are, and how many.
func (b *Batch) describe() {
	b.pass.Slots = b.slots.rows()
	b.pass.Seqs = kernels.Seqs{Count: len(b.from.host), Rows: b.starts.mat, From: b.from.mat, Blocks: b.blocks}
}
