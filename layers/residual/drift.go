package residual

import (
	"fmt"
	"math"

	"eckart/internal/linalg"
)

// Drift is the moments of a site whose inputs have drifted: x are those of the original model, (tokens, in), and y those that
// the layers compressed so far produce for the same tokens.
type Drift struct {
	Cross linalg.Matrix // xᵀ·y, (in, in)
	Gram  linalg.Matrix // yᵀ·y, (in, in), symmetric
}

// A Correction makes up for drifted inputs. What it takes does not depend on the matrix: all that read the site share it.
type Correction struct {
	drift Drift
	l     linalg.Matrix // l·lᵀ is the damped Gram matrix
}

// NewCorrection returns the correction by the moments d, M = d.Cross and C = d.Gram. α damps it where inputs are few: 0.03 is
// a good value. Where C + α·tr(C)/n·I is not definite the error is linalg.ErrNotDefinite.
func NewCorrection(d Drift, alpha float64) (*Correction, error) {
	n := d.Gram.Rows
	if d.Gram.Cols != n || d.Cross.Rows != n || d.Cross.Cols != n {
		return nil, fmt.Errorf("correct for drift: moments of %d x %d and %d x %d, want both square and alike", d.Cross.Rows, d.Cross.Cols, n, d.Gram.Cols)
	}
	var trace float64
	for i := range n {
		trace += d.Gram.Data[i*n+i]
	}
	damped := linalg.New(n, n)
	copy(damped.Data, d.Gram.Data)
	for i := range n {
		damped.Data[i*n+i] += alpha * trace / float64(n)
	}
	l, err := linalg.Cholesky(damped)
	if err != nil {
		return nil, fmt.Errorf("correct for drift: moments with %g of their mean diagonal added: %w", alpha, err)
	}
	return &Correction{d, l}, nil
}

// Corrected returns the target that makes up for drifted inputs, the same for every kind of weight:
// w + λ·w·(M - C)·(C + α·tr(C)/n·I)⁻¹ (out, in). For λ = 1 and α = 0 it is w·M·C⁻¹, the matrix that takes the inputs y closest
// to the results w·x, whatever approximates it then under C (weight-compression.md 18.1; AA-SVD, arXiv 2604.02119, for low
// rank; GPTAQ and ResComp, arXiv 2604.07955, for rounding with feedback). Between 0 and 1, λ trusts the correction in part.
func (c *Correction) Corrected(w linalg.Matrix, lambda float64) (linalg.Matrix, error) {
	step, err := c.step(w)
	if err != nil {
		return linalg.Matrix{}, err
	}
	for i, v := range w.Data {
		step.Data[i] = v + lambda*step.Data[i]
	}
	return step, nil
}

// step returns w·(M - C)·(C + α·tr(C)/n·I)⁻¹.
func (c *Correction) step(w linalg.Matrix) (linalg.Matrix, error) {
	n := c.l.Rows
	if w.Cols != n {
		return linalg.Matrix{}, fmt.Errorf("correct for drift: moments of %d x %d for a matrix of %d x %d", n, n, w.Rows, w.Cols)
	}
	step := linalg.Mul(w, subtract(c.drift.Cross, c.drift.Gram)).Transpose()
	linalg.SolveLower(c.l, step)
	linalg.SolveLowerT(c.l, step)
	step = step.Transpose()
	for i, v := range step.Data {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return linalg.Matrix{}, fmt.Errorf("correct for drift: element (%d, %d) of the correction is %g", i/n, i%n, v)
		}
	}
	return step, nil
}

// Strength returns which of lambdas is best for w: |x·wᵀ - y·targetᵀ|² is computed for other inputs than those that the
// correction is by, of the moments check. The first of equals is taken.
//
// With D the correction for λ = 1, that is a constant - 2λ·tr(w·(M - C)·Dᵀ) + λ²·tr(D·C·Dᵀ) for the M and C of check. What the
// compression of the target adds does not depend on λ to first order.
func (c *Correction) Strength(w linalg.Matrix, check Drift, lambdas ...float64) (float64, error) {
	if len(lambdas) == 0 {
		return 0, fmt.Errorf("correct for drift: no strength to choose from")
	}
	if err := sameShape("correct for drift", c.drift.Gram, check.Gram); err != nil {
		return 0, err
	}
	if err := sameShape("correct for drift", c.drift.Cross, check.Cross); err != nil {
		return 0, err
	}
	step, err := c.step(w)
	if err != nil {
		return 0, err
	}
	var linear, square float64
	toward, own := linalg.Mul(w, subtract(check.Cross, check.Gram)), linalg.Mul(step, check.Gram)
	for i, d := range step.Data {
		linear += toward.Data[i] * d
		square += own.Data[i] * d
	}
	best, least := 0.0, math.Inf(1)
	for _, l := range lambdas {
		if e := l*l*square - 2*l*linear; e < least {
			best, least = l, e
		}
	}
	return best, nil
}
