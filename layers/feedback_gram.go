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

	// panels is linalg.BlockFactor (n, n) of the damped Gram matrix for feedbackBlock columns: for every grid.Side of its
	// columns the rows down to the diagonal, so that what is read at once lies together. Where the last panel goes beyond
	// n, it is the identity.
	panels [][][grid.Side]float32
}

// NewFeedbackGram prepares a Gram matrix (n, n), of which the lower triangle is read and nothing is kept. damping and
// descending are as in Feedback. A matrix with elements that are not finite, or that is not positive definite even with all
// of its mean added to its diagonal, is an error.
func NewFeedbackGram(gram []float64, damping float64, descending bool) (*FeedbackGram, error) {
	n := int(math.Round(math.Sqrt(float64(len(gram)))))
	if n == 0 || len(gram) != n*n {
		return nil, fmt.Errorf("quantize with feedback: a Gram matrix of %d elements, want a square", len(gram))
	}
	g := &FeedbackGram{n: n, importance: make([]float32, n)}
	if descending {
		g.order, gram = arrange(gram, n)
	}
	for i := range n {
		g.importance[i] = float32(gram[i*n+i])
	}
	factor, ridge, err := blockFactor(gram, n, damping)
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
				g.panels[p] = panelOf(factor, n, p*grid.Side)
			}
		})
	}
	working.Wait()
	return g, nil
}

// panelOf returns columns from one on of an upper triangular factor (n, n), down to its diagonal.
func panelOf(factor []float64, n, from int) [][grid.Side]float32 {
	width := min(grid.Side, n-from)
	panel := make([][grid.Side]float32, from+grid.Side)
	for j := range from + width {
		for c, v := range factor[j*n+from:][:width] {
			panel[j][c] = float32(v)
		}
	}
	for c := width; c < grid.Side; c++ {
		panel[from+c][c] = 1
	}
	return panel
}

// Ridge returns what was added to the diagonal of the Gram matrix to make it definite.
func (g *FeedbackGram) Ridge() float64 { return g.ridge }

// arrange returns the order of columns by falling diagonal of a Gram matrix, and its lower triangle in that order.
func arrange(gram []float64, n int) (order []int32, ordered []float64) {
	order = make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortStableFunc(order, func(i, j int32) int {
		return cmp.Compare(gram[int(j)*n+int(j)], gram[int(i)*n+int(i)])
	})
	ordered = make([]float64, n*n)
	for i, from := range order {
		for j, at := range order[:i+1] {
			ordered[i*n+j] = gram[int(max(from, at))*n+int(min(from, at))]
		}
	}
	return order, ordered
}

// blockFactor returns what panels hold of the damped Gram matrix, and what it is damped by.
func blockFactor(gram []float64, n int, damping float64) (factor []float64, ridge float64, err error) {
	var mean float64
	for i := range n {
		for j, v := range gram[i*n:][:i+1] {
			if v-v != 0 || i == j && v < 0 {
				return nil, 0, fmt.Errorf("quantize with feedback: element (%d, %d) of the Gram matrix is %g", i, j, v)
			}
		}
		mean += gram[i*n+i] / float64(n)
	}
	if damping == 0 {
		damping = 0.01
	}
	for {
		ridge = damping * mean
		factor, err = linalg.BlockFactor(gram, n, ridge, feedbackBlock)
		if !errors.Is(err, linalg.ErrNotDefinite) || damping >= 1 {
			if err != nil {
				err = fmt.Errorf("quantize with feedback: Gram matrix with %g of its mean diagonal added: %w", damping, err)
			}
			return factor, ridge, err
		}
		damping = min(1, 10*damping)
	}
}
