package layers

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"

	"eckart/internal/grid"
	"eckart/internal/linalg"
)

// A FeedbackGram is the Gram matrix of some inputs, prepared for rounding with feedback: a factor of it, which
// takes longer to find than a small matrix takes to be rounded. All matrices that read the inputs can share it, whatever
// they are rounded to. It takes 2·n² bytes for n inputs, and may be used by several goroutines at once.
type FeedbackGram struct {
	n          int
	ridge      float64   // what was added to the diagonal
	order      []int32   // of the columns; nil for that of the inputs
	importance []float32 // (n), in that order: the diagonal of the Gram matrix

	// panels is linalg.BlockFactor (n, n) of the damped Gram matrix for feedbackBlock columns: for every grid.Side of its rows
	// the columns up to the diagonal, as rows of as many, so that what is read at once lies together. Where the last panel goes beyond
	// n, it is the identity.
	panels [][][grid.Side]float32
}

// NewFeedbackGram prepares gram - taken·takenᵀ for a Gram matrix (n, n), of which the lower triangle is read, and taken (n, r),
// what is made up for otherwise; without elements, nothing is. Neither is kept. damping and descending are as in Feedback. A
// matrix with elements that are not finite, or that is not positive definite even with all of its mean added to its diagonal,
// is an error.
func NewFeedbackGram(gram []float64, taken linalg.Matrix, damping float64, descending bool) (*FeedbackGram, error) {
	n := int(math.Round(math.Sqrt(float64(len(gram)))))
	if n == 0 || len(gram) != n*n {
		return nil, fmt.Errorf("quantize with feedback: a Gram matrix of %d elements, want a square", len(gram))
	}
	if taken.Data != nil && taken.Rows != n {
		return nil, fmt.Errorf("quantize with feedback: what is taken from a Gram matrix of %d rows has %d", n, taken.Rows)
	}
	in := inputs{linalg.Matrix{Rows: n, Cols: n, Data: gram}, taken}
	g := &FeedbackGram{n: n, importance: make([]float32, n)}
	if descending {
		g.order, in = in.arrange()
	}
	diagonal := in.diagonal()
	for i, v := range diagonal {
		g.importance[i] = float32(v)
	}
	factor, ridge, err := in.blockFactor(diagonal, damping)
	if err != nil {
		return nil, err
	}
	g.ridge = ridge
	g.panels = make([][][grid.Side]float32, (n+grid.Side-1)/grid.Side)
	workers := min(runtime.GOMAXPROCS(0), len(g.panels))
	var working sync.WaitGroup
	for t := range workers {
		working.Go(func() {
			for p := t; p < len(g.panels); p += workers {
				g.panels[p] = panelOf(factor, p*grid.Side)
			}
		})
	}
	working.Wait()
	return g, nil
}

// panelOf returns rows from one on of a lower triangular factor (n, n), as columns down to its diagonal.
func panelOf(factor linalg.Matrix, from int) [][grid.Side]float32 {
	width := min(grid.Side, factor.Rows-from)
	panel := make([][grid.Side]float32, from+grid.Side)
	const piece = 64 // columns of each row at a time, so that what is written stays in the nearest cache
	for first := 0; first < from+width; first += piece {
		for r := range width {
			row := factor.Row(from + r)[:from+r+1]
			for j := first; j < min(first+piece, len(row)); j++ {
				panel[j][r] = float32(row[j])
			}
		}
	}
	for r := width; r < grid.Side; r++ {
		panel[from+r][r] = 1
	}
	return panel
}

// Ridge returns what was added to the diagonal of the Gram matrix to make it definite.
func (g *FeedbackGram) Ridge() float64 { return g.ridge }

// inputs is a Gram matrix (n, n) less taken·takenᵀ, which is not formed: of thousands of inputs it would take as much memory
// again.
type inputs struct{ gram, taken linalg.Matrix }

// diagonal returns the diagonal, which rounding must not take below 0. What gram has there may be anything.
func (in inputs) diagonal() []float64 {
	d := make([]float64, in.gram.Rows)
	for i := range d {
		d[i] = in.gram.Row(i)[i]
		if in.taken.Data == nil {
			continue
		}
		for _, v := range in.taken.Row(i) {
			d[i] -= v * v
		}
		d[i] = max(0, d[i])
	}
	return d
}

// arrange returns the order of columns by falling diagonal, and the inputs in that order.
func (in inputs) arrange() (order []int32, ordered inputs) {
	n, diagonal := in.gram.Rows, in.diagonal()
	order = make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(i, j int32) int { return cmp.Compare(diagonal[j], diagonal[i]) })
	ordered.gram = linalg.New(n, n)
	for i, from := range order {
		row := ordered.gram.Row(i)
		for j, at := range order[:i+1] {
			row[j] = in.gram.Row(int(max(from, at)))[min(from, at)]
		}
	}
	if in.taken.Data != nil {
		ordered.taken = linalg.New(n, in.taken.Cols)
		for i, from := range order {
			copy(ordered.taken.Row(i), in.taken.Row(int(from)))
		}
	}
	return order, ordered
}

// check returns an error that names an element of gram that no sum of products has.
func (in inputs) check() error {
	if err := linalg.CheckFiniteBelow(in.gram); err != nil {
		return fmt.Errorf("quantize with feedback: Gram matrix: %w", err)
	}
	for i := range in.gram.Rows {
		if v := in.gram.Row(i)[i]; v < 0 {
			return fmt.Errorf("quantize with feedback: element (%d, %d) of the Gram matrix is %g", i, i, v)
		}
	}
	return nil
}

// blockFactor returns what panels hold of the damped inputs, and what they are damped by.
func (in inputs) blockFactor(diagonal []float64, damping float64) (factor linalg.Matrix, ridge float64, err error) {
	if err := in.check(); err != nil {
		return factor, 0, err
	}
	var mean float64
	for _, v := range diagonal {
		mean += v / float64(len(diagonal))
	}
	if damping == 0 {
		damping = 0.01
	}
	for {
		ridge = damping * mean
		factor, err = linalg.BlockFactor(in.gram, in.taken, ridge, feedbackBlock)
		if !errors.Is(err, linalg.ErrNotDefinite) || damping >= 1 {
			if err != nil {
				err = fmt.Errorf("quantize with feedback: Gram matrix with %g of its mean diagonal added: %w", damping, err)
			}
			return factor, ridge, err
		}
		damping = min(1, 10*damping)
	}
}
