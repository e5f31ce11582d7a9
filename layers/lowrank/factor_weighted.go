package lowrank

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"sync"
	"sync/atomic"

	"eckart/internal/linalg"
)

// WeightedOptions says how Weighted iterates. Its zero value serves.
type WeightedOptions struct {
	Rounds    int     // of both factors at most; 0: 30
	Tolerance float64 // stop where a round takes less than this part off the error; 0: 1e-4
}

// Weighted returns factors of rank r that lower Σ weights[i,j]·(w - U·V)[i,j]², for weights (out, in) of each element of w
// (out, in), such as squared gradients: no norm of the form tr(e·G·eᵀ), and no closed form. Error is that sum for w - U·V
// relative to w itself. Energy is nil.
//
// It starts from the exact solution for weights that are a product of one for the row and one for the column, and then
// solves for the rows of U with V fixed, for the columns of V with U fixed, and so on: each step is a set of independent
// least-squares problems and never raises the error (Srebro and Jaakkola 2003, section 3; weighted alternating least squares).
// What it ends in may be a local minimum. A round takes about 2·out·in·r² multiplications.
func Weighted(w, weights linalg.Matrix, r int, o WeightedOptions) (Factors, error) {
	const what = "weighted factors"
	if err := checkRank(what, w, r); err != nil {
		return Factors{}, err
	}
	if weights.Rows != w.Rows || weights.Cols != w.Cols {
		return Factors{}, fmt.Errorf("%s: weights of %d x %d for a matrix of %d x %d", what, weights.Rows, weights.Cols, w.Rows, w.Cols)
	}
	for i, d := range weights.Data {
		if !(d >= 0) || math.IsInf(d, 0) {
			return Factors{}, fmt.Errorf("%s: the weight of (%d, %d) is %g, want a finite number not below 0", what, i/w.Cols, i%w.Cols, d)
		}
	}
	if o.Rounds == 0 {
		o.Rounds = 30
	}
	if o.Tolerance == 0 {
		o.Tolerance = 1e-4
	}
	f, err := separable(w, weights, r)
	if err != nil {
		return Factors{}, err
	}
	wT, weightsT := w.Transpose(), weights.Transpose()
	whole := weightedError(w, weights, Factors{})
	last := weightedError(w, weights, f)
	for range o.Rounds {
		if err := solveRows(f.U, f.V, w, weights); err != nil {
			return Factors{}, fmt.Errorf("%s: %w", what, err)
		}
		vT := f.V.Transpose()
		if err := solveRows(vT, f.U.Transpose(), wT, weightsT); err != nil {
			return Factors{}, fmt.Errorf("%s: %w", what, err)
		}
		f.V = vT.Transpose()
		now := weightedError(w, weights, f)
		if last-now <= o.Tolerance*last {
			break
		}
		last = now
	}
	f, err = balance(f)
	if err != nil {
		return Factors{}, err
	}
	f.Error = relative(weightedError(w, weights, f), whole)
	return f, nil
}

// weightedError returns Σ weights·(w - U·V)², or Σ weights·w² for factors without elements.
func weightedError(w, weights linalg.Matrix, f Factors) float64 {
	var sum float64
	for from := 0; from < w.Rows; from += blockRows {
		to := min(from+blockRows, w.Rows)
		e := rows(w, from, to)
		if f.U.Data != nil {
			e = subtract(e, linalg.Mul(rows(f.U, from, to), f.V))
		}
		for i, d := range rows(weights, from, to).Data {
			sum += d * e.Data[i] * e.Data[i]
		}
	}
	return sum
}

// separable returns the best factors for the product of the mean weights of rows and of columns.
func separable(w, weights linalg.Matrix, r int) (Factors, error) {
	ofRow, ofCol := make([]float64, w.Rows), make([]float64, w.Cols)
	for i := range weights.Rows {
		for j, d := range weights.Row(i) {
			ofRow[i] += d / float64(w.Cols)
			ofCol[j] += d / float64(w.Rows)
		}
	}
	for _, s := range [][]float64{ofRow, ofCol} {
		for i := range s {
			s[i] = math.Sqrt(s[i])
		}
	}
	left, err := newDiagonal("weights of rows", ofRow, w.Rows)
	if err != nil {
		return Factors{}, err
	}
	scaled := firstColumns(w, w.Cols)
	scaleRows(scaled, left)
	f, err := Diagonal(scaled, ofCol, r)
	if err != nil {
		return Factors{}, err
	}
	left.solve(f.U)
	return Factors{U: f.U, V: f.V}, nil
}

// damping is what is added to the diagonal of a row's equations, in parts of its mean. It holds a row back to where it was
// and not to 0, so that it never raises an error.
const damping = 1e-10

// solveRows sets each row u of us (rows, r) to the one with the least Σ weights·(w - u·v)² for its row of w, with v (r, cols).
func solveRows(us, v, w, weights linalg.Matrix) error {
	errs := make([]error, us.Rows)
	var next atomic.Int64
	var working sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), us.Rows) {
		working.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= us.Rows {
					return
				}
				errs[i] = solveRow(us.Row(i), v, w.Row(i), weights.Row(i))
			}
		})
	}
	working.Wait()
	return errors.Join(errs...)
}

func solveRow(u []float64, v linalg.Matrix, w, weights []float64) error {
	r := len(u)
	weighted := firstColumns(v, v.Cols)
	scaleColumns(weighted, weights)
	equations := linalg.MulT(weighted, v)
	var mean float64
	for i := range r {
		mean += equations.Data[i*r+i] / float64(r)
	}
	if mean == 0 {
		return nil // nothing in the row counts
	}
	e := linalg.Mul(linalg.Matrix{Rows: 1, Cols: r, Data: u}, v)
	for j, x := range w {
		e.Data[j] = x - e.Data[j]
	}
	step := linalg.MulT(weighted, e) // (r, 1)
	for add := damping * mean; ; add *= 1000 {
		for i := range r {
			equations.Data[i*r+i] += add
		}
		l, err := linalg.Cholesky(equations)
		if errors.Is(err, linalg.ErrNotDefinite) && add < mean {
			continue
		}
		if err != nil {
			return err
		}
		linalg.SolveLower(l, step, 0)
		linalg.SolveLowerT(l, step, 0)
		for i, d := range step.Data {
			u[i] += d
		}
		return nil
	}
}

// balance returns the same product in the form that the singular value decomposition gives it: directions that are
// orthogonal on both sides, the largest first, each with the root of its singular value in both factors.
func balance(f Factors) (Factors, error) {
	// U = q·lᵀ with orthonormal q, and lᵀ·V = y·σ·zᵀ: then U·V = (q·y)·σ·zᵀ, with q·y = U·l⁻ᵀ·y.
	l, err := linalg.Cholesky(linalg.TMul(f.U, f.U))
	if errors.Is(err, linalg.ErrNotDefinite) { // a direction is superfluous: any form will do
		orient(f.U, f.V)
		return f, nil
	}
	if err != nil {
		return f, err
	}
	b := linalg.TMul(l, f.V)
	squared, y, err := linalg.Eigen(linalg.MulT(b, b))
	if err != nil {
		return f, err
	}
	scale, inverse := make([]float64, len(squared)), make([]float64, len(squared))
	for i, s := range squared {
		scale[i] = math.Sqrt(math.Sqrt(max(s, 1e-30*squared[0])))
		if scale[i] == 0 {
			scale[i] = 1
		}
		inverse[i] = 1 / scale[i]
	}
	v := linalg.TMul(y, b)
	scaleRows(v, inverse)
	linalg.SolveLowerT(l, y, 0)
	u := linalg.Mul(f.U, y)
	scaleColumns(u, scale)
	orient(u, v)
	return Factors{U: u, V: v}, nil
}
