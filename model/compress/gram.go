package compress

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"eckart/internal/linalg"
	"eckart/kernels"
)

const (
	// batchTokens are the most tokens whose products are summed in F32. More would cost memory and precision, fewer time,
	// as every batch adds a matrix (in, in) to the sums.
	batchTokens = 4096
	// gramRows are the rows of a product made at once. Only columns up to the diagonal are computed, by this grain.
	gramRows = 256
	// transposeTile is the side of the squares in which rows become columns; the nearest cache holds both.
	transposeTile = 32
)

// batchOf returns the most tokens whose products are summed at once, of so many windows of at most the given tokens: as many
// whole windows as batchTokens holds.
func batchOf(window, windows int) int { return min(max(1, batchTokens/window), windows) * window }

// A multiplier makes Gram matrices on a stream, one at a time, in memory that all sites share.
type multiplier struct {
	stream  kernels.Stream
	arena   kernels.Arena
	widest  int         // columns of inputs
	columns kernels.Mat // (1, widest·stride) F32: tokens side by side
	product kernels.Mat // (1, gramRows·widest) F32
	host    []float32   // of product, for a device that does not share the host's memory
}

// newMultiplier returns a multiplier for inputs of at most widest columns and batches of at most batch tokens.
func newMultiplier(d kernels.Device, s kernels.Stream, widest, batch int) (*multiplier, error) {
	rows := min(gramRows, widest)
	a, err := d.NewArena(kernels.ArenaBytes(1, widest*stride(batch), kernels.F32) + kernels.ArenaBytes(1, rows*widest, kernels.F32))
	if err != nil {
		return nil, err
	}
	m := &multiplier{stream: s, arena: a, widest: widest}
	if m.columns, err = a.Alloc(1, widest*stride(batch), kernels.F32); err == nil {
		m.product, err = a.Alloc(1, rows*widest, kernels.F32)
	}
	if err == nil && m.product.Host == nil {
		m.host = make([]float32, rows*widest)
	}
	return m, err
}

// close frees what the multiplier holds. Nil holds nothing.
func (m *multiplier) close() error {
	if m == nil {
		return nil
	}
	return m.arena.Close()
}

// shaped returns the start of m, a row, as a packed matrix.
func shaped(m kernels.Mat, rows, cols int) kernels.Mat {
	m.Rows, m.Cols, m.Stride = rows, cols, cols
	return m
}

// add adds the lower triangle of x·xᵀ to sum (in, in) for the first tokens columns of x (in, stride), tokens side by side.
func (m *multiplier) add(sum linalg.Matrix, x []float32, stride, tokens int) error {
	in := sum.Rows
	all := shaped(m.columns, in, stride)
	m.stream.Upload(all, kernels.Float32Bytes(x))
	all = all.Window(0, tokens)
	for row := 0; row < in; row += gramRows {
		n := min(gramRows, in-row)
		if err := m.addRows(sum, row, all.Slice(row, n), all.Slice(0, row+n)); err != nil {
			return err
		}
	}
	return nil
}

// addRows adds x·yᵀ, of x (rows, tokens) and y (cols, tokens), to the first cols columns of sum from row on.
func (m *multiplier) addRows(sum linalg.Matrix, row int, x, y kernels.Mat) error {
	p := shaped(m.product, x.Rows, y.Rows)
	m.stream.MatMul(p, x, y, kernels.Set)
	if p.Host == nil {
		m.stream.Download(kernels.Float32Bytes(m.host[:x.Rows*y.Rows]), p)
	}
	if err := m.stream.Sync(); err != nil {
		return err
	}
	workers := min(runtime.GOMAXPROCS(0), x.Rows)
	var all sync.WaitGroup
	for t := range workers {
		all.Go(func() {
			for i := x.Rows * t / workers; i < x.Rows*(t+1)/workers; i++ {
				var product []float32
				if p.Host != nil {
					product = p.Float32s(i)
				} else {
					product = m.host[i*y.Rows:]
				}
				dst := sum.Row(row + i)[:y.Rows]
				for j, v := range product[:y.Rows] {
					dst[j] += float64(v)
				}
			}
		})
	}
	all.Wait()
	return nil
}

// An accumulator collects the moments of one site.
type accumulator struct {
	site   string
	in     int
	tokens int
	gram   linalg.Matrix // lower triangle
	mean   []float64     // sums

	columns []float32 // (in, stride): the tokens that gram does not hold yet, side by side
	stride  int
	batch   int // tokens that there is room for
	held    int // of them
}

// stride returns the elements between rows of batch tokens. A multiple of the processor's page between them would have
// the rows of a tile share a few lines of its cache.
func stride(batch int) int { return (batch+15)/16*16 + 16 }

func newAccumulator(site string, in, batch int) *accumulator {
	a := newColumns(site, in, batch)
	a.gram = linalg.New(in, in)
	return a
}

// newColumns returns an accumulator without a Gram matrix, of which only what it has collected is used.
func newColumns(site string, in, batch int) *accumulator {
	return &accumulator{
		site: site, in: in, batch: batch, stride: stride(batch),
		mean: make([]float64, in), columns: make([]float32, in*stride(batch)),
	}
}

// add takes in the rows of a site, x (rows, in) of at most batch rows.
func (a *accumulator) add(m *multiplier, x []float32) error {
	rows := len(x) / a.in
	if a.held+rows > a.batch {
		if err := a.flush(m); err != nil {
			return err
		}
	}
	return a.collect(x)
}

// collect takes in rows for which there is room.
func (a *accumulator) collect(x []float32) error {
	rows := len(x) / a.in
	workers := min(runtime.GOMAXPROCS(0), (a.in+transposeTile-1)/transposeTile)
	bad := make([]int, workers)
	var all sync.WaitGroup
	for t := range workers {
		all.Go(func() { bad[t] = a.take(x, rows, a.in*t/workers, a.in*(t+1)/workers) })
	}
	all.Wait()
	for _, i := range bad {
		if i >= 0 {
			return fmt.Errorf("survey: the input of %s is %g in column %d of token %d", a.site, x[i], i%a.in, i/a.in)
		}
	}
	a.held += rows
	a.tokens += rows
	return nil
}

// take adds columns [from, to) of x (rows, in) to the means and lays them out behind the tokens that are held. It returns
// the place of an element that is not finite, or -1.
func (a *accumulator) take(x []float32, rows, from, to int) (bad int) {
	for i := range rows {
		row, mean := x[i*a.in+from:i*a.in+to], a.mean[from:to]
		if j := slices.IndexFunc(row, notFinite); j >= 0 {
			return i*a.in + from + j
		}
		for j, v := range row {
			mean[j] += float64(v)
		}
	}
	for i0 := 0; i0 < rows; i0 += transposeTile {
		i1 := min(i0+transposeTile, rows)
		for j0 := from; j0 < to; j0 += transposeTile {
			for j := j0; j < min(j0+transposeTile, to); j++ {
				line := a.columns[j*a.stride+a.held+i0 : j*a.stride+a.held+i1]
				for i := range line {
					line[i] = x[(i0+i)*a.in+j]
				}
			}
		}
	}
	return -1
}

func notFinite(v float32) bool { return v-v != 0 }

// flush adds the tokens that are held to the Gram matrix.
func (a *accumulator) flush(m *multiplier) error {
	if a.held == 0 {
		return nil
	}
	err := m.add(a.gram, a.columns, a.stride, a.held)
	a.held = 0
	return err
}

// finish returns the moments of all that was added.
func (a *accumulator) finish(m *multiplier) (*Moments, error) {
	if err := a.flush(m); err != nil {
		return nil, err
	}
	for i := range a.in {
		row := a.gram.Row(i)
		for j := range i + 1 {
			v := float32(row[j])
			if notFinite(v) {
				return nil, fmt.Errorf("survey: the input of %s is too large: products of its columns %d and %d sum to %g", a.site, i, j, row[j])
			}
			row[j] = float64(v)
		}
	}
	linalg.Mirror(a.gram)
	for j := range a.mean {
		a.mean[j] /= float64(a.tokens)
	}
	return &Moments{Tokens: a.tokens, Chosen: a.tokens, Gram: a.gram, Mean: a.mean}, nil
}

// change returns the sum over tokens of 1 - cos(before, after) for two states (tokens, dim). A token that is 0 before and
// after has not changed; one that is 0 on one side only counts as turned by a right angle.
func change(before, after []float32, dim int) float64 {
	var sum float64
	for at := 0; at < len(before); at += dim {
		var dot, b, a float64
		for j, v := range before[at : at+dim] {
			w := float64(after[at+j])
			dot += float64(v) * w
			b += float64(v) * float64(v)
			a += w * w
		}
		switch {
		case b > 0 && a > 0:
			sum += 1 - dot/(math.Sqrt(b)*math.Sqrt(a))
		case b != a:
			sum++
		}
	}
	return sum
}
