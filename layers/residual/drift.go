package residual

import (
	"fmt"
	"math"

	"eckart/internal/linalg"
)

// Drift is the moments of a site whose inputs have drifted: x are those of the original model, (tokens, in), and y those that
// the layers compressed so far produce for the same tokens.
type Drift struct {
	Shift linalg.Matrix // (x - y)ᵀ·y, (in, in)
	Gram  linalg.Matrix // yᵀ·y, (in, in), symmetric
}

// A Correction makes up for drifted inputs. What it takes does not depend on the matrix: all that read the site share it.
type Correction struct {
	// step is S·(C + α·tr(C)/n·I)⁻¹ (n, n) for the moments S of the shift and C of the inputs: what a matrix is multiplied by
	// for what is added to it.
	step linalg.Matrix
}

// NewCorrection returns the correction by the moments d, S = d.Shift and C = d.Gram. α damps it where inputs are few: 0.03 is
// a good value. Where C + α·tr(C)/n·I is not definite the error is linalg.ErrNotDefinite.
func NewCorrection(d Drift, alpha float64) (*Correction, error) {
	n := d.Gram.Rows
	if d.Gram.Cols != n || d.Shift.Rows != n || d.Shift.Cols != n {
		return nil, fmt.Errorf("correct for drift: moments of %d x %d and %d x %d, want both square and alike", d.Shift.Rows, d.Shift.Cols, n, d.Gram.Cols)
	}
	var trace float64
	for i := range n {
		trace += d.Gram.Data[i*n+i]
	}
	// Divided by the mean diagonal, which changes nothing, numbers are within the range of single precision.
	damped, mean := linalg.New(n, n), trace/float64(n)
	for i, v := range d.Gram.Data {
		damped.Data[i] = v / mean
	}
	for i := range n {
		damped.Data[i*n+i] += alpha
	}
	l, err := linalg.Cholesky(damped)
	if err != nil {
		return nil, fmt.Errorf("correct for drift: moments with %g of their mean diagonal added: %w", alpha, err)
	}
	step := d.Shift.Transpose()
	for i := range step.Data {
		step.Data[i] /= mean
	}
	t := linalg.Precision(n, n, n)
	linalg.SolveLower(l, step, t)
	linalg.SolveLowerT(l, step, t)
	step = step.Transpose()
	for i, v := range step.Data {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, fmt.Errorf("correct for drift: element (%d, %d) of the correction is %g", i/n, i%n, v)
		}
	}
	return &Correction{step}, nil
}

// Corrected returns the target that makes up for drifted inputs, the same for every kind of weight:
// w + λ·w·S·(C + α·tr(C)/n·I)⁻¹ (out, in). For λ = 1 and α = 0 it is w·xᵀ·y·C⁻¹, the matrix that takes the inputs y closest
// to the results w·x, whatever approximates it then under C (weight-compression.md 18.1; AA-SVD, arXiv 2604.02119, for low
// rank; GPTAQ and ResComp, arXiv 2604.07955, for rounding with feedback). Between 0 and 1, λ trusts the correction in part.
func (c *Correction) Corrected(w linalg.Matrix, lambda float64) (linalg.Matrix, error) {
	if err := fits(w, c.step); err != nil {
		return linalg.Matrix{}, err
	}
	target := linalg.Mul(w, c.step, linalg.Precision(w.Rows, w.Cols, w.Cols))
	for i, v := range w.Data {
		target.Data[i] = v + lambda*target.Data[i]
	}
	return target, nil
}

// fits refuses a matrix that moments (n, n) are not those of the inputs of.
func fits(w, moments linalg.Matrix) error {
	if n := moments.Rows; w.Cols != n {
		return fmt.Errorf("correct for drift: moments of %d x %d for a matrix of %d x %d", n, n, w.Rows, w.Cols)
	}
	return nil
}

// Strength returns which of lambdas is best for w by the moments check of other inputs than those that the correction is by:
// |x·wᵀ - y·targetᵀ|² is computed for them. The first of equals is taken.
//
// With T the step, so that λ·w·T is what is added to w, that is a constant - 2λ·tr(w·S·(w·T)ᵀ) + λ²·tr(w·T·C·(w·T)ᵀ) for the
// S and C of the other inputs. What the compression of the target adds does not depend on λ to first order. Rows count by their
// squares, so that some of them, scaled up, may stand for all.
func (c *Correction) Strength(w linalg.Matrix, check Drift, lambdas ...float64) (float64, error) {
	const what = "correct for drift"
	if len(lambdas) == 0 {
		return 0, fmt.Errorf("%s: no strength to choose from", what)
	}
	if err := fits(w, c.step); err != nil {
		return 0, err
	}
	for _, m := range []linalg.Matrix{check.Gram, check.Shift} {
		if err := sameShape(what, c.step, m); err != nil {
			return 0, err
		}
	}
	t := linalg.Precision(w.Rows, w.Cols, w.Cols)
	step, towards := linalg.Mul(w, c.step, t), linalg.Mul(w, check.Shift, t)
	var linear, square float64
	for i, v := range step.Data {
		linear += v * towards.Data[i]
	}
	for _, v := range linalg.Quadratic(step, check.Gram) {
		square += v
	}
	if all := linear + square; math.IsNaN(all) || math.IsInf(all, 0) {
		return 0, fmt.Errorf("%s: its effect on other inputs is %g and %g, not finite", what, linear, square)
	}
	best, least := 0.0, math.Inf(1)
	for _, l := range lambdas {
		if e := l*l*square - 2*l*linear; e < least {
			best, least = l, e
		}
	}
	return best, nil
}
