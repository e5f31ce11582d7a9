package compress

import (
	"cmp"
	"slices"

	"eckart/internal/linalg"
)

// A sample is some rows of a target's matrix from which the error of all is estimated: the rows that count most, all of
// them, and of the others some, spread evenly from the largest to the smallest.
type sample struct {
	rows   linalg.Matrix
	heavy  int     // of the rows: those that stand for themselves alone
	weight float64 // of the others: how many each stands for

	sized bool
	size  float64 // see norm
}

// What a sample takes of large matrices. In trained models a few rows may hold most of the errors.
const (
	heavyRows = 128
	otherRows = 256
)

// all returns the sample that is the matrix.
func (t *Target) all() *sample {
	if t.whole == nil {
		t.whole = &sample{rows: t.W, heavy: t.W.Rows}
	}
	return t.whole
}

// sample returns a sample of the matrix, which is the same for every form.
func (t *Target) sample() *sample {
	if t.W.Rows <= heavyRows+otherRows {
		return t.all()
	}
	if t.sampled != nil {
		return t.sampled
	}
	size := t.rowNorms(t.W)
	order := make([]int, t.W.Rows)
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(size[j], size[i]) })
	s := &sample{rows: linalg.New(heavyRows+otherRows, t.W.Cols), heavy: heavyRows}
	rest := len(order) - heavyRows
	s.weight = float64(rest) / otherRows
	for i := range s.rows.Rows {
		at := i
		if i >= heavyRows {
			at = heavyRows + (2*(i-heavyRows)+1)*rest/(2*otherRows) // the middle of as many parts
		}
		copy(s.rows.Row(i), t.W.Row(order[at]))
	}
	t.sampled = s
	return s
}

// relative returns the relative squared error of the matrix where dense stands for the sample.
func (s *sample) relative(t *Target, dense []float32) (float64, error) {
	e := linalg.New(s.rows.Rows, s.rows.Cols)
	for i, v := range dense {
		e.Data[i] = s.rows.Data[i] - float64(v)
	}
	return t.share(s.sum(t.rowNorms(e)), s.norm(t))
}

// norm estimates tr(W·C·Wᵀ) of t, of which s is a sample. It is computed once.
func (s *sample) norm(t *Target) float64 {
	if !s.sized {
		s.size, s.sized = s.sum(t.rowNorms(s.rows)), true
	}
	return s.size
}

// sum estimates the sum over all rows of the matrix from numbers for those of the sample.
func (s *sample) sum(rows []float64) float64 {
	var heavy, others float64
	for i, v := range rows {
		if i < s.heavy {
			heavy += v
		} else {
			others += v
		}
	}
	return heavy + s.weight*others
}
