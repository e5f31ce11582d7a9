package quantized

import (
	"fmt"
	"slices"

	"eckart/model/checkpoint"
)

// A grid is scales, each for a block of a matrix. Blocks at the right and bottom edge may reach beyond it.
type grid struct {
	c          *checkpoint.Checkpoint
	t          *checkpoint.Tensor
	high, wide int // rows and columns of a block
	blocks     int // in a row
}

// takeGrid takes the scales of a matrix of out by in. Where one scale serves a whole matrix or row, dimensions of one
// may be left out.
func (m *module) takeGrid(part string, out, in, high, wide int, types ...checkpoint.DType) (*grid, error) {
	t, err := m.take(part, types...)
	if err != nil {
		return nil, err
	}
	rows, cols := (out+high-1)/high, (in+wide-1)/wide
	ok := slices.Equal(t.Shape, []int{rows, cols}) || cols == 1 && slices.Equal(t.Shape, []int{rows}) ||
		rows == 1 && cols == 1 && len(t.Shape) == 0
	if !ok {
		return nil, fmt.Errorf("%s has shape %v, want %v for %s", t.Name, t.Shape, []int{rows, cols}, m.what())
	}
	return &grid{m.c, t, high, wide, cols}, nil
}

// read returns the bytes of the scales of n rows from row on, and the rows of scales before them.
func (g *grid) read(row, n int) (raw []byte, first int, err error) {
	first = row / g.high
	rowBytes := g.blocks * g.t.Type.BitSize() / 8
	raw = make([]byte, ((row+n-1)/g.high+1-first)*rowBytes)
	return raw, first, g.c.ReadAt(raw, g.t, int64(first*rowBytes))
}

// rows returns the scales of n rows from row on: those of row i begin at (i/high - first)·blocks.
func (g *grid) rows(row, n int) (scales []float32, first int, err error) {
	raw, first, err := g.read(row, n)
	if err != nil {
		return nil, 0, err
	}
	scales = widen(raw, g.t.Type)
	return scales, first, checkScales(scales, g.t, first*g.blocks)
}

// spread copies the bytes of each row's scales to dst (n, blocks), after they were judged.
func (g *grid) spread(dst []byte, row, n int) error {
	raw, first, err := g.read(row, n)
	if err != nil {
		return err
	}
	if err := checkScales(widen(raw, g.t.Type), g.t, first*g.blocks); err != nil {
		return err
	}
	g.copyRows(dst, raw, row, n, first)
	return nil
}

// copyRows sets dst (n, blocks) to the elements of raw, which begins with row first of the grid, that are of each row.
func (g *grid) copyRows(dst, raw []byte, row, n, first int) {
	rowBytes := g.blocks * g.t.Type.BitSize() / 8
	for i := range n {
		copy(dst[i*rowBytes:(i+1)*rowBytes], raw[((row+i)/g.high-first)*rowBytes:])
	}
}
