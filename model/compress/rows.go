package compress

import (
	"cmp"
	"math"
	"slices"

	"eckart/internal/linalg"
	"eckart/layers"
)

// A sample is some rows of a target's matrix from which the error of all is estimated: the rows that count most, all of
// them, and of the others some, spread evenly from the largest to the smallest.
type sample struct {
	rows   linalg.Matrix
	index  []int   // of each of rows; nil for all of the matrix
	heavy  int     // of the rows: those that stand for themselves alone
	weight float64 // of the others: how many each stands for
	norm   float64 // once it was asked for: see size
}

// What a sample takes of large matrices, and half of it of those with wide inputs. In trained models a few rows may hold most
// of the errors.
const (
	heavyRows = 128
	otherRows = 256
)

// fewProducts is how many products the error of all rows may take where nothing is estimated: a moment's work.
const fewProducts = 1 << 28

// judged returns the rows on which a representation of the whole matrix is judged: a sample where the products for all are many,
// because to find the error would take longer than to make what has it.
func (t *Target) judged() *sample {
	if linalg.Large(t.W.Rows, t.W.Cols, t.W.Cols) {
		return t.sample()
	}
	return t.all()
}

// all returns the sample that is the matrix.
func (t *Target) all() *sample {
	if t.whole == nil {
		t.whole = &sample{rows: t.W, heavy: t.W.Rows}
	}
	return t.whole
}

// sample returns a sample of the matrix, which is the same for every form. Rows are ordered by what they would be worth if
// inputs were independent of one another.
func (t *Target) sample() *sample {
	heavyRows, otherRows := heavyRows, otherRows
	if t.W.Cols > wideInputs {
		heavyRows, otherRows = heavyRows/2, otherRows/2
	}
	if t.W.Rows <= heavyRows+otherRows || t.W.Rows*t.W.Cols*t.W.Cols <= fewProducts {
		return t.all()
	}
	if t.sampled != nil {
		return t.sampled
	}
	var scale []float64
	if t.Gram != nil {
		scale = t.Gram.Diagonal()
	}
	size, order := make([]float64, t.W.Rows), make([]int, t.W.Rows)
	linalg.EachRow(t.W.Rows, t.W.Cols, func(i int) {
		order[i] = i
		for j, v := range t.W.Row(i) {
			if scale != nil {
				v *= scale[j]
			}
			size[i] += v * v
		}
	})
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(size[j], size[i]) })
	s := &sample{rows: linalg.New(heavyRows+otherRows, t.W.Cols), index: make([]int, heavyRows+otherRows), heavy: heavyRows}
	rest := len(order) - heavyRows
	s.weight = float64(rest) / float64(otherRows)
	for i := range s.index {
		at := i
		if i >= heavyRows {
			at = heavyRows + (2*(i-heavyRows)+1)*rest/(2*otherRows) // the middle of as many parts
		}
		s.index[i] = order[at]
		copy(s.rows.Row(i), t.W.Row(order[at]))
	}
	t.sampled = s
	return s
}

// size returns tr(W·C·Wᵀ) of the target, or what is estimated of it.
func (s *sample) size(t *Target) float64 {
	if s.norm == 0 {
		s.norm = s.sum(t.rowNorms(s.rows))
	}
	return s.norm
}

// of returns the rows of dense, the whole matrix, that are in the sample.
func (s *sample) of(dense []float32) []float32 {
	if s.index == nil {
		return dense
	}
	rows := make([]float32, 0, len(s.rows.Data))
	for _, row := range s.index {
		rows = append(rows, dense[row*s.rows.Cols:][:s.rows.Cols]...)
	}
	return rows
}

// matrix returns the rows of w, the whole matrix, that are in the sample.
func (s *sample) matrix(w layers.Weight) (linalg.Matrix, error) {
	dense, err := w.Dense()
	if err != nil {
		return linalg.Matrix{}, err
	}
	return linalg.FromFloat32s(s.of(dense), s.rows.Rows, s.rows.Cols), nil
}

// scaled returns the rows of the sample as long as what they stand for.
func (s *sample) scaled() linalg.Matrix {
	if s.heavy == s.rows.Rows {
		return s.rows
	}
	m, length := linalg.New(s.rows.Rows, s.rows.Cols), math.Sqrt(s.weight)
	for i := range m.Rows {
		row := m.Row(i)
		copy(row, s.rows.Row(i))
		if i >= s.heavy {
			for j := range row {
				row[j] *= length
			}
		}
	}
	return m
}

// relative returns the relative squared error of the matrix where dense stands for the sample.
func (s *sample) relative(t *Target, dense []float32) (float64, error) {
	e := linalg.New(s.rows.Rows, s.rows.Cols)
	for i, v := range dense {
		e.Data[i] = s.rows.Data[i] - float64(v)
	}
	return t.share(s.sum(t.rowNorms(e)), s.size(t))
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
