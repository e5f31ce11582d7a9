package model

import (
	"errors"
	"fmt"

	"eckart/kernels"
)

// A stream that records (kernels.Recorder) runs steps of a shape it knows as a program: a step asks for some hundred
// verbs, which takes longer than a fast device needs to run them. The shape is a row for each sequence, whose logits are
// wanted, which is what generating takes; the number of rows is one of a few buckets, filled up with rows that belong to
// no sequence and store nothing. Where the stream picks tokens, a program begins with those of the step before and ends with
// the choice of the next ones.

// program is a recorded step of so many rows.
type program struct {
	rows   int
	run    kernels.Program
	logits kernels.Mat
}

// buckets returns the numbers of rows that programs are recorded for, up to what l holds: powers of two to 8, then
// multiples of 8 to 64, then of 32. A row more costs little where all rows share the reading of the weights.
func buckets(l Limits) []int {
	most := min(l.Rows, l.Seqs, l.Samples)
	var b []int
	for n, step := 1, 1; n < most; n += step {
		b = append(b, n)
		switch {
		case n < 8:
			step = n
		case n < 64:
			step = 8
		default:
			step = 32
		}
	}
	if most > 0 {
		b = append(b, most)
	}
	return b
}

// record records a program for each bucket, where the stream can. Nothing runs.
func (d *Decoder) record(b *Batch) error {
	recorder, ok := b.pass.Stream.(kernels.Recorder)
	if !ok {
		return nil
	}
	defer b.Reset()
	picks := b.Picks()
	for _, n := range buckets(b.limits) {
		b.Reset()
		b.pad(n)
		b.place()
		p := program{rows: n}
		var err error
		if p.run, err = recorder.Record(func() { p.logits = d.step(b, picks, picks) }); err != nil {
			return errors.Join(fmt.Errorf("record a step of %d rows: %w", n, err), b.Close())
		}
		b.programs = append(b.programs, p)
	}
	return nil
}

// program returns the program that runs the batch, nil if there is none.
func (b *Batch) program() *program {
	rows := b.Rows()
	if len(b.programs) == 0 || rows == 0 || b.pass.Probe != nil || len(b.from.host) != rows || len(b.samples.host) != rows {
		return nil
	}
	// As many rows as sequences and as samples: there is one of each, in order, as a sequence has a row at least.
	for i := range b.programs {
		if b.programs[i].rows >= rows {
			return &b.programs[i]
		}
	}
	return nil
}

// pad adds rows of no sequence, each with its logits, until there are n, and as many sequences without rows.
func (b *Batch) pad(n int) {
	end := b.starts.host[len(b.starts.host)-1]
	for b.Rows() < n {
		b.sample(b.Rows())
		b.ids.host = append(b.ids.host, 0)
		b.pos.host = append(b.pos.host, 0)
		b.slots.host = append(b.slots.host, -1)
		b.from.host = append(b.from.host, 0)
		b.starts.host = append(b.starts.host, end)
	}
}

// Close gives back the programs of the batch.
func (b *Batch) Close() error {
	var errs []error
	for _, p := range b.programs {
		errs = append(errs, p.run.Close())
	}
	b.programs = nil
	return errors.Join(errs...)
}
