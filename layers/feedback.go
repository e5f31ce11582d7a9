package layers

import (
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"eckart/internal/grid"
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

// Quantize rounds w (rows, columns of gram), row-major, for inputs with the Gram matrix gram (columns, columns), of which
// the lower triangle is read. The result does not depend on the number of goroutines that work on it. Where several
// matrices have the same inputs, NewFeedbackGram once and FeedbackGram.Quantize for each give the same in less time.
func (f Feedback) Quantize(w []float32, rows int, gram []float64) (*Grouped, error) {
	g, err := NewFeedbackGram(gram, linalg.Matrix{}, f.Damping, f.Descending)
	if err != nil {
		return nil, err
	}
	return g.Quantize(w, rows, f.Rounding)
}

// Quantize rounds w (rows, n), row-major, as Feedback.Quantize does. Of rows that r cannot hold the first is named in a
// ValueError.
func (g *FeedbackGram) Quantize(w []float32, rows int, r Rounding) (*Grouped, error) {
	t, err := g.task(w, rows, r)
	if err == nil {
		err = t.run()
	}
	if err != nil {
		return nil, err
	}
	return newHeld(t.format, g.order, t.result)
}

// Errors rounds w (rows, n) as Quantize does and returns what that leaves: the errors e (rows, n), w less the rounded matrix,
// and for each row e·(G + Ridge·I)·eᵀ, which rounding finds on its way and a product with G for much more.
func (g *FeedbackGram) Errors(w []float32, rows int, r Rounding) (errors []float32, norms []float64, err error) {
	t, err := g.task(w, rows, r)
	if err != nil {
		return nil, nil, err
	}
	t.errors, t.norms = make([]float32, len(w)), make([]float64, rows)
	if err := t.run(); err != nil {
		return nil, nil, err
	}
	return t.errors, t.norms, nil
}

func (g *FeedbackGram) task(w []float32, rows int, r Rounding) (*feedbackTask, error) {
	if len(w) != rows*g.n {
		return nil, fmt.Errorf("quantize with feedback: %d rows of a matrix of %d elements, and a Gram matrix of %d", rows, len(w), g.n*g.n)
	}
	format := r.Format(rows, g.n)
	if err := format.Check(); err != nil {
		return nil, err
	}
	return &feedbackTask{FeedbackGram: g, format: format, w: w, result: newGroupedRows(format, rows)}, nil
}

// feedbackBlock is the number of columns after which the rest of a row hears of their errors: until then they are spread in
// the block only, so that the rest is gone through once a block. feedbackStrips is the strips of rows that do so together:
// they share what is read of the factor, a part of a panel at a time, which stays in the nearest cache meanwhile. Both are
// the fastest for 2048 and for 8192 columns (BenchmarkFeedback).
//
// In a block errors are spread as GPTQ does, with a factor of the inverse. What a later block hears is the sum of the errors
// themselves, of numbers less what their codes stand for, times a factor of the Gram matrix (LDLQ; Chee et al. 2023, arXiv
// 2307.13304, theorem 1, has both as one): the same in the end, and no inverse of more than a block is needed. A group that
// goes on beyond a block has its grid chosen before the columns there have heard of what the block will do for them.
const (
	feedbackBlock  = 256
	feedbackStrips = 4
)

// A feedbackTask is the rounding of one matrix: of strips of grid.Side rows each, the last filled up with zeros.
type feedbackTask struct {
	*FeedbackGram
	format kernels.Grouped
	w      []float32 // (rows, n), in the matrix's own order of columns
	result GroupedRows

	errors []float32 // of Errors; nil where they are not asked for
	norms  []float64
}

// run rounds all rows, a tile of some strips at a time on each processor. Of several errors it returns that of the first
// row.
func (t *feedbackTask) run() error {
	strips := (t.format.Rows + grid.Side - 1) / grid.Side
	workers := min(runtime.GOMAXPROCS(0), strips)
	// As many tiles for each worker, so that none waits for another at the end.
	rounds := (strips + feedbackStrips*workers - 1) / (feedbackStrips * workers)
	most := (strips + rounds*workers - 1) / (rounds * workers)
	tiles := (strips + most - 1) / most
	errs := make([]error, tiles)
	var next atomic.Int64
	var working sync.WaitGroup
	for range workers {
		working.Go(func() {
			rounder := newRounder(t.format)
			tile := make([]feedbackStrip, most)
			for i := range tile {
				columns := len(t.panels) * grid.Side
				tile[i] = feedbackStrip{rounder: rounder, rest: make([][grid.Side]float32, columns), lost: make([][grid.Side]float32, columns)}
			}
			for {
				i := int(next.Add(1)) - 1
				if i >= tiles {
					return
				}
				errs[i] = t.tile(i*most, tile[:min(most, strips-i*most)])
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

// A feedbackStrip is rows being rounded side by side.
type feedbackStrip struct {
	*rounder
	first, rows int                  // of the matrix
	rest        [][grid.Side]float32 // (columns, rows): numbers with the errors so far taken off, or the errors that GPTQ spreads of them
	lost        [][grid.Side]float32 // numbers, less what their codes stand for where there are codes
	grids       grid.Grids           // of the groups that the rows are in
	codes       [grid.Side][grid.Side]byte
	group       []float32   // of a row
	err         *ValueError // of the first row that has one
}

// tile rounds strips from one on.
func (t *feedbackTask) tile(strip int, tile []feedbackStrip) error {
	for i := range tile {
		t.start(strip+i, &tile[i])
	}
	const side = grid.Side
	for first := 0; first < len(t.panels); first += feedbackBlock / side {
		next := min(first+feedbackBlock/side, len(t.panels))
		for i := range tile {
			for p := first; p < next; p++ {
				t.round(p, &tile[i])
				for later := p + 1; later < next; later++ {
					tile[i].spread(tile[i].rest, p, p+1, later, t.panels[later])
				}
			}
		}
		for later := next; later < len(t.panels); later++ {
			for i := range tile {
				tile[i].spread(tile[i].lost, first, next, later, t.panels[later])
			}
		}
	}
	for i := range tile {
		if err := tile[i].err; err != nil {
			return err
		}
		if t.errors != nil {
			t.tell(&tile[i])
		}
	}
	return nil
}

// tell fills in the errors of a strip that is done, and their norms: what GPTQ spreads of a column is the part of it that
// nothing later makes up for.
func (t *feedbackTask) tell(s *feedbackStrip) {
	for r := range s.rows {
		row := t.errors[(s.first+r)*t.n:][:t.n]
		for c := range row {
			at := c
			if t.order != nil {
				at = int(t.order[c])
			}
			row[at] = s.lost[c][r]
			t.norms[s.first+r] += float64(s.rest[c][r]) * float64(s.rest[c][r])
		}
	}
}

// start fills a strip with its rows.
func (t *feedbackTask) start(strip int, s *feedbackStrip) {
	s.first, s.err = strip*grid.Side, nil
	s.rows = min(grid.Side, t.format.Rows-s.first)
	clear(s.rest)
	for from := 0; from < t.n; from += grid.Side {
		columns := s.rest[from:min(from+grid.Side, t.n)]
		for r := range s.rows {
			row := t.w[(s.first+r)*t.n:][:t.n]
			if t.order == nil {
				for c, v := range row[from:][:len(columns)] {
					columns[c][r] = v
				}
			} else {
				for c, at := range t.order[from:][:len(columns)] {
					columns[c][r] = row[at]
				}
			}
		}
	}
	copy(s.lost, s.rest)
}

// round finds the codes of panel p, and the grids of the groups that begin there.
func (t *feedbackTask) round(p int, s *feedbackStrip) {
	from := p * grid.Side
	if from%t.format.Group == 0 {
		for r := range s.rows {
			t.fit(from, r, s)
		}
	}
	grid.RoundPanel(&s.codes, s.panel(p), (*grid.Panel)(t.panels[p][from:]), &s.grids, s.top())
	for r := range s.rows {
		codes := t.result.Codes[(s.first+r)*t.n:][:t.n]
		scale, zero := s.grids.Scale[r], s.grids.Zero[r]
		for c := range codes[from:min(from+grid.Side, t.n)] {
			codes[from+c] = s.codes[c][r]
			s.lost[from+c][r] -= float32(scale * (float32(s.codes[c][r]) - zero))
		}
	}
}

// fit finds the grid of the group of columns from one on, in row r of the strip.
func (t *feedbackTask) fit(from, r int, s *feedbackStrip) {
	f, g, groups, scaleBytes := t.format, from/t.format.Group, t.format.Groups(), t.format.ScaleType.Bytes()
	end := min(from+f.Group, t.n)
	s.group = s.group[:0]
	for _, column := range s.rest[from:end] {
		s.group = append(s.group, column[r])
	}
	row := s.first + r
	scale, zero := s.rounder.fit(s.group, t.importance[from:end])
	if math.IsInf(float64(scale), 0) && (s.err == nil || row < s.err.Row) {
		s.err = &ValueError{Row: row, What: outOfReach(f, g)}
	}
	putScale(t.result.Scales[(row*groups+g)*scaleBytes:], scale, f.ScaleType)
	if f.Zeros {
		t.result.Zeros[row*groups+g] = byte(zero)
	}
	s.grids.Scale[r], s.grids.Inverse[r], s.grids.Zero[r] = scale, 1/scale, float32(zero)
}

// panel returns the columns of panel p.
func (s *feedbackStrip) panel(p int) *grid.Panel { return (*grid.Panel)(s.rest[p*grid.Side:]) }

// spread takes errors of panels [first, end) off a later one, where u is the factor's panel.
func (s *feedbackStrip) spread(errors [][grid.Side]float32, first, end, later int, u [][grid.Side]float32) {
	from, to := first*grid.Side, end*grid.Side
	grid.Spread(s.panel(later), errors[from:to], u[from:to])
}
