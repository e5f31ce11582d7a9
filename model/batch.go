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
	inputs
	limits Limits
	pass   *layers.Pass
	choose chooser

	programs []program // by rows, ascending; none where the stream does not record
}

// NewBatch allocates step inputs and scratch for steps within l, and has a stream that can record the steps that only
// generate. After it a step allocates nothing. kv gives each layer's cache; it may be nil where nothing runs, to measure.
// Close gives back what was recorded; memory belongs to the arena.
func (d *Decoder) NewBatch(a kernels.Arena, s kernels.Stream, kv func(layer int) kernels.Pages, l Limits) (*Batch, error) {
	if l.Rows < 1 || l.Seqs < 1 || l.Samples < 0 || l.Blocks < 1 || l.BlockTokens < 1 || l.Samples > l.Rows || l.Seqs > l.Rows {
		panic(fmt.Sprintf("BUG: limits %+v", l))
	}
	b, err := newBatch(a, l)
	if err != nil {
		return nil, err
	}
	scratch, err := layers.NewScratch(a, d.measureScratch(b))
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

// newBatch allocates the step inputs of a batch, which has no pass yet.
func newBatch(a kernels.Arena, l Limits) (*Batch, error) {
	b := &Batch{limits: l}
	var err error
	if b.inputs, err = newInputs(a, l); err != nil {
		return nil, fmt.Errorf("allocate step inputs: %w", err)
	}
	if b.choose, err = newChooser(a, max(1, l.Samples)); err != nil {
		return nil, fmt.Errorf("allocate step inputs: %w", err)
	}
	return b, nil
}

// measureScratch runs the largest step on a device that does nothing and returns the bytes of scratch it took. The batch,
// which has no stream yet, is empty after it.
func (d *Decoder) measureScratch(b *Batch) int64 {
	l := b.limits
	b.ids.host, b.pos.host, b.slots.host = b.ids.host[:l.Rows], b.pos.host[:l.Rows], b.slots.host[:l.Rows]
	b.samples.host = b.samples.host[:l.Samples]
	b.pass = layers.NewPass(kernels.Discard{}, layers.Scratch{})
	b.pass.Tables = make([]kernels.Mat, len(d.ropes))
	b.pass.KV = func(int) kernels.Pages { return kernels.Pages{} }
	b.place()
	d.forward(b)
	b.Reset()
	return b.pass.PeakScratch()
}

// Limits returns what the batch was allocated for.
func (b *Batch) Limits() Limits { return b.limits }

// SetProbe lets probe see named values of each step as they are made; nil stops it.
func (b *Batch) SetProbe(probe func(name string, m kernels.Mat)) { b.pass.Probe = probe }

// Reset empties the batch.
func (b *Batch) Reset() {
	b.empty()
	b.choose.picks, b.choose.follows = 0, false
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
		b.sample(row + i)
	}
	for i, id := range tokens {
		at := from + i
		b.ids.host = append(b.ids.host, id)
		b.choose.follows = b.choose.follows || id < 0
		b.pos.host = append(b.pos.host, int32(at))
		b.slots.host = append(b.slots.host, blocks[at/l.BlockTokens]*int32(l.BlockTokens)+int32(at%l.BlockTokens))
	}
	b.tables.host = append(b.tables.host[:len(b.from.host)*l.Blocks], blocks...) // the rest of a row is never read
	b.from.host = append(b.from.host, int32(from))
	b.starts.host = append(b.starts.host, int32(b.Rows()))
}

// sample wants the logits of a row, whose token is picked elsewhere unless Pick says otherwise.
func (b *Batch) sample(row int) {
	b.samples.host = append(b.samples.host, int32(row))
	if n := len(b.how.host); b.Picks() {
		b.how.host = b.how.host[:n+kernels.ChoiceWords]
		kernels.NoChoice.Put(b.how.host[n:])
	}
}

// place lays the inputs out and tells the pass where they are.
func (b *Batch) place() {
	b.layOut()
	b.pass.Slots = b.slots.mat
	b.pass.Seqs = kernels.Seqs{Count: len(b.from.host), Rows: b.starts.mat, From: b.from.mat, Blocks: b.tables.mat}
}

// upload brings the inputs to the device.
func (b *Batch) upload() {
	b.place()
	b.pass.Upload(b.used())
}
