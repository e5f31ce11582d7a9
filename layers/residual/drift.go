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

// Corrected returns the target that makes up for drifted inputs, the same for every kind of weight:
// w + λ·w·(M - C)·(C + α·tr(C)/n·I)⁻¹ (out, in), with M = cross = xᵀ·y and C = gram = yᵀ·y. For λ = 1 and α = 0 it is w·M·C⁻¹,
// the matrix that takes the inputs y closest to the results w·x, whatever approximates it then under C (weight-compression.md
// 18.1; AA-SVD, arXiv 2604.02119, for low rank; GPTAQ and ResComp, arXiv 2604.07955, for rounding with feedback). Between 0
// and 1, λ trusts the correction in part. α damps it where inputs are few: 0.03 is a good value.
func Corrected(w, cross, gram linalg.Matrix, lambda, alpha float64) (linalg.Matrix, error) {
	step, err := correction(w, Drift{cross, gram}, alpha)
	if err != nil {
		return linalg.Matrix{}, err
	}
	for i, v := range w.Data {
		step.Data[i] = v + lambda*step.Data[i]
	}
	return step, nil
}

// correction returns w·(M - C)·(C + α·tr(C)/n·I)⁻¹.
func correction(w linalg.Matrix, d Drift, alpha float64) (linalg.Matrix, error) {
	n := w.Cols
	for _, m := range []linalg.Matrix{d.Cross, d.Gram} {
		if m.Rows != n || m.Cols != n {
			return linalg.Matrix{}, fmt.Errorf("correct for drift: moments of %d x %d for a matrix of %d x %d", m.Rows, m.Cols, w.Rows, n)
		}
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
		return linalg.Matrix{}, fmt.Errorf("correct for drift: moments with %g of their mean diagonal added: %w", alpha, err)
	}
	step := linalg.Mul(w, subtract(d.Cross, d.Gram)).Transpose()
	linalg.SolveLower(l, step)
	linalg.SolveLowerT(l, step)
	step = step.Transpose()
	for i, v := range step.Data {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return linalg.Matrix{}, fmt.Errorf("correct for drift: element (%d, %d) of the correction is %g", i/n, i%n, v)
		}
	}
	return step, nil
}

// Strength returns which of lambdas is best for w: the target is corrected by the moments fit, and |x·wᵀ - y·targetᵀ|² is
// computed for other inputs, those of the moments check. The first of equals is taken.
//
// With D the correction for λ = 1, that is a constant - 2λ·tr(w·(M - C)·Dᵀ) + λ²·tr(D·C·Dᵀ) for the M and C of check. What the
// compression of the target adds does not depend on λ to first order.
func Strength(w linalg.Matrix, fit, check Drift, alpha float64, lambdas ...float64) (float64, error) {
	if len(lambdas) == 0 {
		return 0, fmt.Errorf("correct for drift: no strength to choose from")
	}
	if err := sameShape("correct for drift", fit.Gram, check.Gram); err != nil {
		return 0, err
	}
	if err := sameShape("correct for drift", fit.Cross, check.Cross); err != nil {
		return 0, err
	}
	step, err := correction(w, fit, alpha)
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
