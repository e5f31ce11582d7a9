package model

import "eckart/kernels"

// inputs are what a step is told. They lie in one stretch of memory, on the host and on the device alike, and one upload
// brings them all: each costs the host a call of the driver and the device a copy, microseconds however short it is.
//
// The tables of blocks are longer than all the rest, so they have a place of their own, where they are written and uploaded
// from. How long the others are is known when the batch is full: then they are laid out so that they end where the tables
// begin. Where each lies follows from the numbers of rows, samples and sequences alone, so a program finds its inputs
// where every step of its shape has them.
//
// They are there once, though a step may be started before the one before it is finished: a stream that allows that has read
// the host's when Upload returns (kernels.Marker), and writes the device's when the step before has been done.
type inputs struct {
	ids, pos, slots input // of each row
	samples, how    input // of each sample: its row; how its token is picked, where the stream picks
	from            input // of each sequence: tokens already in the cache
	starts          input // of each sequence: its first row; one more at the end
	tables          input // of each sequence: its blocks

	words  []int32     // all of them, on the host
	whole  kernels.Mat // and on the device: (words, 1)
	first  int         // word of those of the step
	middle int         // word that the tables begin at
}

// input is a matrix of integers that a step reads.
type input struct {
	cols int
	host []int32     // row by row
	mat  kernels.Mat // where they are on the device
}

// inputWords returns the words that n of them take up, so that each input is aligned as what an arena hands out.
func inputWords(n int) int { return int(kernels.ArenaBytes(n, 1, kernels.I32) / 4) }

// newInputs allocates the inputs of steps within l.
func newInputs(a kernels.Arena, l Limits) (in inputs, err error) {
	column := func(rows, cols int) input {
		in.middle += inputWords(rows * cols)
		return input{cols: cols, host: make([]int32, 0, rows*cols)}
	}
	samples := max(1, l.Samples)
	in.ids, in.pos, in.slots = column(l.Rows, 1), column(l.Rows, 1), column(l.Rows, 1)
	in.samples, in.how = column(samples, 1), column(samples, kernels.ChoiceWords)
	in.from, in.starts = column(l.Seqs, 1), column(l.Seqs+1, 1)
	in.words = make([]int32, in.middle+l.Seqs*l.Blocks)
	in.tables.cols, in.tables.host = l.Blocks, in.words[in.middle:in.middle]
	in.whole, err = a.Alloc(len(in.words), 1, kernels.I32)
	in.empty()
	return in, err
}

// columns returns the inputs that lie before the tables, in order.
func (in *inputs) columns() [7]*input {
	return [...]*input{&in.ids, &in.pos, &in.slots, &in.samples, &in.how, &in.from, &in.starts}
}

// empty leaves no rows.
func (in *inputs) empty() {
	for _, c := range in.columns() {
		c.host = c.host[:0]
	}
	in.starts.host = append(in.starts.host, 0)
	in.tables.host = in.tables.host[:0]
}

// layOut gives the inputs their places.
func (in *inputs) layOut() {
	in.first = in.middle
	columns := in.columns()
	for _, c := range columns {
		in.first -= inputWords(len(c.host))
	}
	at := in.first
	for _, c := range columns {
		copy(in.words[at:], c.host)
		c.mat = in.matrix(at, len(c.host)/c.cols, c.cols)
		at += inputWords(len(c.host))
	}
	in.tables.mat = in.matrix(in.middle, len(in.from.host), in.tables.cols)
}

// matrix returns the matrix (rows, cols) that begins at a word.
func (in *inputs) matrix(word, rows, cols int) kernels.Mat {
	m := in.whole.Slice(word, rows*cols)
	m.Rows, m.Cols, m.Stride = rows, cols, cols
	return m
}

// used returns what there is of the step to upload, after layOut.
func (in *inputs) used() (to kernels.Mat, from []byte) {
	end := in.middle + len(in.tables.host)
	return in.whole.Slice(in.first, end-in.first), kernels.Int32Bytes(in.words[in.first:end])
}
