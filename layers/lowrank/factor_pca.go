package lowrank

import (
	"fmt"
	"math"

	"eckart/internal/linalg"
)

// OutputPCA returns the projection of the results of w (out, in) on their r principal directions: U (out, r) orthonormal,
// the leading eigenvectors of the second moment w·C·wᵀ of the results, and V = Uᵀ·w (LORD, Kaushal et al. 2023, arXiv
// 2309.14021, section 3). C is the sum of g without shrinkage, which may be singular: nothing is inverted. For that C it is
// what Whitened finds.
//
// With centre the directions are those of the covariance instead, w·(C/tokens - μ·μᵀ)·wᵀ with μ the mean of g, and the mean
// of what is projected away, (I - U·Uᵀ)·w·μ (out), is returned as a bias to add to the results (AFM, Yu and Wu 2023, AAAI,
// section 3.2). Otherwise bias is nil. Error includes the bias.
func OutputPCA(w linalg.Matrix, g *Gram, r int, centre bool) (f Factors, bias []float64, err error) {
	const what = "principal directions of the results"
	if err := checkRank(what, w, r); err != nil {
		return f, nil, err
	}
	if w.Cols != g.Dim() {
		return f, nil, fmt.Errorf("%s: a matrix of %d x %d for a Gram matrix of %d inputs", what, w.Rows, w.Cols, g.Dim())
	}
	c := g.sum
	if centre {
		if g.mean == nil {
			return f, nil, fmt.Errorf("%s: the Gram matrix has no mean to centre on", what)
		}
		c = linalg.New(g.Dim(), g.Dim())
		n := float64(g.tokens)
		for i, a := range g.mean {
			row, from := c.Row(i), g.sum.Row(i)
			for j, b := range g.mean {
				row[j] = from[j] - n*a*b
			}
		}
	}
	if f.Energy, f.U, err = principal(w, g, c, r, centre); err != nil {
		return f, nil, err
	}
	f.V = linalg.TMul(f.U, w)
	orient(f.U, f.V)

	size := func(e linalg.Matrix) float64 { return sum(linalg.Quadratic(e, c)) }
	e := blockwise(w, size, func(from, to int) linalg.Matrix {
		return subtract(rows(w, from, to), linalg.Mul(rows(f.U, from, to), f.V))
	})
	f.Error = relative(e, quadratic(w, linalg.Matrix{}, func(e linalg.Matrix) float64 { return sum(linalg.Quadratic(e, g.sum)) }))
	if !centre {
		return f, nil, nil
	}
	// Results are w·x, so that their mean is w·μ, and what U·V loses of it is the bias.
	kept := make([]float64, r)
	for i := range kept {
		kept[i] = vectorDot(f.V.Row(i), g.mean)
	}
	bias = make([]float64, w.Rows)
	for i := range bias {
		bias[i] = vectorDot(w.Row(i), g.mean) - vectorDot(f.U.Row(i), kept)
	}
	return f, bias, nil
}

// principal returns the eigenvalues of w·c·wᵀ as far as known, and the r leading eigenvectors (out, r). centred says that
// c is not the sum of g.
func principal(w linalg.Matrix, g *Gram, c linalg.Matrix, r int, centred bool) (energy []float64, u linalg.Matrix, err error) {
	if w.Rows <= w.Cols {
		energy, u, err = leading(linalg.MulT(linalg.Mul(w, c), w, linalg.Symmetric), r)
		if err != nil {
			return nil, u, err
		}
		return nonNegative(energy), firstColumns(u, r), nil
	}
	// Of a tall matrix, w·c·wᵀ is large and of rank in at most. With c = q·λ·qᵀ and f = w·q·λ^½ it is f·fᵀ, whose eigenvectors
	// are f·v·σ⁻¹ for those, v, of the small fᵀ·f (the eigen form, weight-compression.md 0.1 b).
	values, q, err := g.Eigen()
	if centred {
		values, q, err = linalg.Eigen(c)
	}
	if err != nil {
		return nil, u, err
	}
	roots := make([]float64, len(values))
	for i, v := range values {
		roots[i] = math.Sqrt(max(0, v))
	}
	f := linalg.Mul(w, q)
	scaleColumns(f, roots)
	energy, v, err := leading(linalg.TMul(f, f), r)
	if err != nil {
		return nil, u, err
	}
	nonNegative(energy)
	u = linalg.Mul(f, firstColumns(v, r))
	inverse := make([]float64, r)
	for i := range inverse {
		if energy[i] > 1e-24*energy[0] { // else the results have no such direction, and its column stays 0
			inverse[i] = 1 / math.Sqrt(energy[i])
		}
	}
	scaleColumns(u, inverse)
	return energy, u, nil
}

// nonNegative lifts what rounding has made negative of values that are not, in place.
func nonNegative(values []float64) []float64 {
	for i, v := range values {
		values[i] = max(0, v)
	}
	return values
}

func vectorDot(a, b []float64) float64 {
	var sum float64
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}
