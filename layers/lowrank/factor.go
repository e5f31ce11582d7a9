package lowrank

import (
	"fmt"
	"math"

	"eckart/internal/linalg"
)

// Factors is a matrix w (out, in) as a product of two thinner ones.
//
// The direction of index i is column i of U with row i of V. Directions stand in the order of what they are worth, so
// that the first r of them are the best of rank r (Eckart and Young 1936), and the entry of largest magnitude of a column
// of U is positive; where V is a fixed basis instead, order and signs are the basis's own. The balanced methods give both factors the root of a singular value, which keeps the numbers of both
// within reach of 16 bits; where U is orthonormal instead, the method says so.
type Factors struct {
	U, V linalg.Matrix // (out, rank), (rank, in)
	// Energy is the squared singular values in the norm of the method, descending, of the directions that are kept and
	// then of those that are dropped, as far as they are known; nil where the method has none.
	Energy []float64
	// Error is the squared error relative to the matrix in the norm of the method,
	// tr((w - U·V)·G·(w - U·V)ᵀ) / tr(w·G·wᵀ), computed from the factors and not from the spectrum.
	Error float64
}

// Rank returns the number of directions.
func (f Factors) Rank() int { return f.V.Rows }

// Product returns U·V, (out, in).
func (f Factors) Product() linalg.Matrix { return linalg.Mul(f.U, f.V) }

// RankFor returns the rank at which two factors of a matrix (out, in) have ratio times its elements,
// ratio·out·in/(out + in), rounded down to a multiple and never above that of the matrix.
func RankFor(ratio float64, out, in, multiple int) int {
	m, n := float64(out), float64(in)
	return roundRank(ratio*m*n/(m+n), out, in, multiple)
}

// PIFARankFor returns the rank r at which the PIFA encoding of a matrix (out, in), r·(out + in - r) numbers and r pivots,
// takes ratio times its elements: the smaller solution of r·(out + in + 1) - r² = ratio·out·in, rounded as in RankFor.
func PIFARankFor(ratio float64, out, in, multiple int) int {
	m, n := float64(out), float64(in)
	b := m + n + 1
	return roundRank((b-math.Sqrt(max(0, b*b-4*ratio*m*n)))/2, out, in, multiple)
}

func roundRank(r float64, out, in, multiple int) int {
	return int(min(math.Floor(r), float64(min(out, in)))) / multiple * multiple
}

// RelativeError returns tr((w - approx)·gram·(w - approx)ᵀ) / tr(w·gram·wᵀ) for matrices (out, in) and a symmetric gram
// (in, in): the squared error of the results for inputs with this Gram matrix. A w that gives 0 has the error 0 where approx
// gives 0 too, else infinity.
func RelativeError(w, approx, gram linalg.Matrix) float64 {
	return relative(
		quadratic(w, approx, func(e linalg.Matrix) float64 { return sum(linalg.Quadratic(e, gram)) }),
		quadratic(w, linalg.Matrix{}, func(e linalg.Matrix) float64 { return sum(linalg.Quadratic(e, gram)) }))
}

func relative(of, whole float64) float64 {
	if of == 0 {
		return 0
	}
	return of / whole
}

// precision is what products that serve a spectrum or an error are granted. A variable for the sake of tests.
var precision = linalg.Precision

// blockRows is how many rows of a matrix are worked on at once where their products need not stay.
const blockRows = 256

// rows returns rows [from, to) of m, not a copy.
func rows(m linalg.Matrix, from, to int) linalg.Matrix {
	return linalg.Matrix{Rows: to - from, Cols: m.Cols, Data: m.Data[from*m.Cols : to*m.Cols]}
}

// quadratic returns tr(e·G·eᵀ) of e = w - approx, of which approx may have no elements; size returns it for a piece of e.
func quadratic(w, approx linalg.Matrix, size func(e linalg.Matrix) float64) float64 {
	return blockwise(w, size, func(from, to int) linalg.Matrix {
		if approx.Data == nil {
			return rows(w, from, to)
		}
		return subtract(rows(w, from, to), rows(approx, from, to))
	})
}

// blockwise returns tr(e·G·eᵀ) for the e (rows of w, in) that block gives in pieces.
func blockwise(w linalg.Matrix, size func(e linalg.Matrix) float64, block func(from, to int) linalg.Matrix) float64 {
	var all float64
	for from := 0; from < w.Rows; from += blockRows {
		all += size(block(from, min(from+blockRows, w.Rows)))
	}
	return max(0, all)
}

func sum(values []float64) float64 {
	var s float64
	for _, v := range values {
		s += v
	}
	return s
}

// subtract returns a - b.
func subtract(a, b linalg.Matrix) linalg.Matrix {
	c := linalg.New(a.Rows, a.Cols)
	for i, v := range a.Data {
		c.Data[i] = v - b.Data[i]
	}
	return c
}

// dot returns the sum of the products of the elements of a and b.
func dot(a, b linalg.Matrix) float64 {
	var sum float64
	for i := range a.Rows {
		var row float64
		bi := b.Row(i)
		for j, v := range a.Row(i) {
			row += v * bi[j]
		}
		sum += row
	}
	return sum
}

// firstColumns returns a copy of the first r columns of m.
func firstColumns(m linalg.Matrix, r int) linalg.Matrix {
	f := linalg.New(m.Rows, r)
	for i := range m.Rows {
		copy(f.Row(i), m.Row(i))
	}
	return f
}

// scaleColumns multiplies column j of m by s[j], in place.
func scaleColumns(m linalg.Matrix, s []float64) {
	for i := range m.Rows {
		row := m.Row(i)
		for j := range row {
			row[j] *= s[j]
		}
	}
}

// scaleRows multiplies row i of m by s[i], in place.
func scaleRows(m linalg.Matrix, s []float64) {
	for i := range m.Rows {
		row := m.Row(i)
		for j := range row {
			row[j] *= s[i]
		}
	}
}

// orient gives each column of u, and row of v, the sign with which the column's entry of largest magnitude is positive.
func orient(u, v linalg.Matrix) {
	largest := make([]float64, u.Cols)
	for i := range u.Rows {
		for j, x := range u.Row(i) {
			if math.Abs(x) > math.Abs(largest[j]) {
				largest[j] = x
			}
		}
	}
	for j, x := range largest {
		largest[j] = math.Copysign(1, x)
	}
	scaleColumns(u, largest)
	scaleRows(v, largest)
}

// checkMatrix returns an error that names the first element of m that is not finite.
func checkMatrix(what string, m linalg.Matrix) error {
	if m.Rows == 0 || m.Cols == 0 {
		return fmt.Errorf("%s: a matrix of %d x %d has nothing to factorize", what, m.Rows, m.Cols)
	}
	if err := linalg.CheckFinite(m); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// checkRank is checkMatrix for a matrix that is to be given rank r.
func checkRank(what string, w linalg.Matrix, r int) error {
	if err := checkMatrix(what, w); err != nil {
		return err
	}
	if r < 1 || r > min(w.Rows, w.Cols) {
		return fmt.Errorf("%s: rank %d for a matrix of %d x %d, want 1 to %d", what, r, w.Rows, w.Cols, min(w.Rows, w.Cols))
	}
	return nil
}
