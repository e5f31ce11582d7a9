package layers

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"eckart/internal/linalg"
	"eckart/kernels"
)

// Feedback rounds matrices column by column and spreads the error of each over the columns that are still to come, where
// it matters least: GPTQ (Frantar et al. 2022, arXiv 2210.17323, algorithm 1). With G the Gram matrix of the inputs, the
// sum of their products, it makes the error of the results, tr((W - Ŵ)·G·(W - Ŵ)ᵀ), smaller than rounding alone does.
type Feedback struct {
	Rounding
	// Damping is added to the diagonal of the Gram matrix, in parts of its mean; 0 for 0.01. Where the matrix is still not
	// positive definite, ten times as much is tried, and so on up to 1.
	Damping float64
	// Descending takes the columns with the largest inputs first, while many are left to carry their errors. The columns
	// of the result have that order, and its groups are groups in it.
	Descending bool
}

// feedbackBlock is the number of columns after which the rest of a row hears of their errors: until then they are spread
// in the block only, so that the rest is gone through once a block. feedbackRows is the rows that do so together, which
// share what is read of the factor.
const (
	feedbackBlock = 128
	feedbackRows  = 8
)

// Quantize rounds w (rows, columns of gram), row-major, for inputs with the Gram matrix gram (columns, columns), of which
// the lower triangle is read. The result does not depend on the number of goroutines that work on it.
func (f Feedback) Quantize(w []float32, rows int, gram []float64) (*Grouped, error) {
	n := int(math.Round(math.Sqrt(float64(len(gram)))))
	if len(gram) != n*n || len(w) != rows*n {
		return nil, fmt.Errorf("quantize with feedback: %d rows of a matrix of %d elements, and a Gram matrix of %d", rows, len(w), len(gram))
	}
	format := f.Format(rows, n)
	if err := format.Check(); err != nil {
		return nil, err
	}
	order, ordered := f.arrange(gram, n)
	factor, err := f.factor(ordered, n)
	if err != nil {
		return nil, err
	}
	t := &feedbackTask{format: format, w: w, order: order, factor: make([]float32, n*n), importance: make([]float32, n)}
	for i, v := range factor {
		t.factor[i] = float32(v)
	}
	for i := range n {
		t.importance[i] = float32(ordered[i*n+i])
	}
	t.result = newGroupedRows(format, rows)
	if err := t.run(); err != nil {
		return nil, err
	}
	return newHeld(format, order, t.result)
}

// arrange returns the order of columns, nil for that of the matrix, and the lower triangle of the Gram matrix in it.
func (f Feedback) arrange(gram []float64, n int) (order []int32, ordered []float64) {
	if !f.Descending {
		return nil, gram
	}
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

// factor returns the upper triangular u with uᵀ·u the inverse of the damped Gram matrix.
func (f Feedback) factor(gram []float64, n int) ([]float64, error) {
	var mean float64
	for i := range n {
		for j := range i + 1 {
			if v := gram[i*n+j]; math.IsNaN(v) || math.IsInf(v, 0) || i == j && v < 0 {
				return nil, fmt.Errorf("quantize with feedback: element (%d, %d) of the Gram matrix is %g", i, j, v)
			}
		}
		mean += gram[i*n+i] / float64(n)
	}
	damping := f.Damping
	if damping == 0 {
		damping = 0.01
	}
	damped := slices.Clone(gram)
	for {
		for i := range n {
			damped[i*n+i] = gram[i*n+i] + damping*mean
		}
		u, err := linalg.InverseFactor(damped, n)
		if !errors.Is(err, linalg.ErrNotDefinite) || damping >= 1 {
			if err != nil {
				err = fmt.Errorf("quantize with feedback: Gram matrix with %g of its mean diagonal added: %w", damping, err)
			}
			return u, err
		}
		damping = min(1, 10*damping)
	}
}

// A feedbackTask is the rounding of one matrix.
type feedbackTask struct {
	format     kernels.Grouped
	w          []float32 // (rows, cols), in the matrix's own order of columns
	order      []int32
	factor     []float32 // (cols, cols), upper triangular
	importance []float32 // (cols), the diagonal of the Gram matrix
	result     GroupedRows
}

// run rounds all rows, some at a time on each processor. Of several errors it returns that of the first rows.
func (t *feedbackTask) run() error {
	tiles := (t.format.Rows + feedbackRows - 1) / feedbackRows
	errs := make([]error, tiles)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), tiles) {
		working.Go(func() {
			s := &feedbackScratch{rounder: newRounder(t.format), rest: make([]float32, feedbackRows*t.format.Cols)}
			for {
				tile := int(next.Add(1)) - 1
				if tile >= tiles {
					return
				}
				errs[tile] = t.tile(tile*feedbackRows, s)
			}
		})
	}
	working.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

type feedbackScratch struct {
	*rounder
	rest  []float32 // (rows, cols): the weights with the errors so far taken up
	err   [feedbackRows][feedbackBlock]float32
	scale [feedbackRows]float32 // of the group that each row is in
	zero  [feedbackRows]int
}

// tile rounds up to feedbackRows rows from first on.
func (t *feedbackTask) tile(first int, s *feedbackScratch) error {
	n, group := t.format.Cols, t.format.Group
	rows := min(feedbackRows, t.format.Rows-first)
	for r := range rows {
		from, to := t.w[(first+r)*n:][:n], s.rest[r*n:][:n]
		copy(to, from)
		for i, at := range t.order {
			to[i] = from[at]
		}
	}
	// A block ends where a group does, or lies within one: when a group begins, its columns have heard of all errors.
	block := max(1, feedbackBlock/group) * group
	for from := 0; from < n; {
		end := min(n, from+min(feedbackBlock, block-from%block))
		for r := range rows {
			if err := t.block(first+r, from, end, s, r); err != nil {
				return err
			}
		}
		for j := from; j < end; j++ {
			u := t.factor[j*n+end:][:n-end]
			for r := range rows {
				subtract(s.rest[r*n+end:][:n-end], s.err[r][j-from], u)
			}
		}
		from = end
	}
	return nil
}

// block rounds columns [from, end) of a row, which is row r of the tile, and leaves their errors.
func (t *feedbackTask) block(row, from, end int, s *feedbackScratch, r int) error {
	f := t.format
	n, groups, scaleBytes := f.Cols, f.Groups(), f.ScaleType.Bytes()
	x := s.rest[r*n:][:n]
	codes := t.result.Codes[row*n:][:n]
	for j := from; j < end; j++ {
		if j%f.Group == 0 {
			to := min(j+f.Group, n)
			s.scale[r], s.zero[r] = s.fit(x[j:to], t.importance[j:to])
			g := j / f.Group
			if math.IsInf(float64(s.scale[r]), 0) {
				return &ValueError{Row: row, What: outOfReach(f, g)}
			}
			putScale(t.result.Scales[(row*groups+g)*scaleBytes:], s.scale[r], f.ScaleType)
			if f.Zeros {
				t.result.Zeros[row*groups+g] = byte(s.zero[r])
			}
		}
		s.encode(codes[j:j+1], x[j:j+1], s.scale[r], s.zero[r])
		rounded := float32(s.scale[r] * float32(int(codes[j])-s.zero[r])) // the conversion keeps compilers from fusing the product
		u := t.factor[j*n:][:n]
		e := (x[j] - rounded) / u[j]
		s.err[r][j-from] = e
		subtract(x[j+1:end], e, u[j+1:end])
	}
	return nil
}

// subtract takes e·u off x.
func subtract(x []float32, e float32, u []float32) {
	u = u[:len(x)]
	for len(x) >= 4 && len(u) >= 4 {
		// The conversions keep products from being fused into the differences, which would round otherwise.
		x[0] -= float32(e * u[0])
		x[1] -= float32(e * u[1])
		x[2] -= float32(e * u[2])
		x[3] -= float32(e * u[3])
		x, u = x[4:], u[4:]
	}
	for i, v := range u {
		x[i] -= float32(e * v)
	}
}
