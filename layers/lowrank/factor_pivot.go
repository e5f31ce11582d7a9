package lowrank

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"eckart/internal/linalg"
)

// EncodePIFA writes the product of f, of rank r, with r² fewer numbers and nothing lost (PIFA, Zhao et al. 2025, arXiv
// 2501.19090, section 4): r of its rows, the pivots, are stored as they are, v (r, in), and the others are combinations of
// them, k·v with k (out-r, r), in their order. pivots ascend.
//
// The coefficients depend on U alone, k·U[pivots] = U[others]. Pivots are those that linalg.PivotedQR chooses among the rows of
// an orthonormal basis of its columns, for which no coefficient exceeds 2 in magnitude: later, both arrays are rounded, and
// the coefficients multiply what that does to the pivot rows. Factors whose rank is below r are an error.
func EncodePIFA(f Factors) (pivots []int32, v, k linalg.Matrix, err error) {
	const what = "encode pivot rows"
	out, r := f.U.Rows, f.Rank()
	if f.U.Cols != r || r > out {
		return nil, v, k, fmt.Errorf("%s: factors of %d x %d and %d x %d", what, f.U.Rows, f.U.Cols, f.V.Rows, f.V.Cols)
	}
	for _, m := range []linalg.Matrix{f.U, f.V} {
		if err := checkMatrix(what, m); err != nil {
			return nil, v, k, err
		}
	}
	basis := f.U.Transpose() // (r, out), rows to be orthonormal
	if err := orthonormalize(basis); err != nil {
		return nil, v, k, fmt.Errorf("%s: the left factor has a rank below %d: %w", what, r, err)
	}
	chosen, err := linalg.PivotedQR(basis, r)
	if err != nil {
		return nil, v, k, fmt.Errorf("%s: %w", what, err)
	}
	if len(chosen) < r {
		return nil, v, k, fmt.Errorf("%s: the left factor has rank %d, want %d", what, len(chosen), r)
	}
	q := basis.Transpose() // (out, r)
	slices.Sort(chosen)
	if k, err = coefficients(q, chosen, complement(chosen, out)); err != nil {
		return nil, v, k, fmt.Errorf("%s: %w", what, err)
	}
	pivots = make([]int32, r)
	for i, p := range chosen {
		pivots[i] = int32(p)
	}
	return pivots, linalg.Mul(pick(f.U, chosen), f.V), k, nil
}

// independent is how far a direction of length 1 must be from the span of the others to count: what is nearer drowns in the
// rounding of the squares that orthonormalize works on.
const independent = 1e-7

// orthonormalize makes the rows of b (r, n) orthonormal, in their span: Cholesky QR, twice, so that the second time corrects
// what the first loses to their condition.
func orthonormalize(b linalg.Matrix) error {
	scale := make([]float64, b.Rows)
	for i := range scale {
		norm := math.Sqrt(vectorDot(b.Row(i), b.Row(i)))
		if norm == 0 {
			return errors.New("a direction is 0")
		}
		scale[i] = 1 / norm
	}
	scaleRows(b, scale)
	for range 2 {
		l, err := linalg.Cholesky(linalg.MulT(b, b))
		if err != nil {
			return err
		}
		for i := range l.Rows {
			if l.Data[i*l.Cols+i] < independent {
				return linalg.ErrNotDefinite
			}
		}
		linalg.SolveLower(l, b, 0)
	}
	return nil
}

// complement returns the numbers below n that are not among chosen, ascending.
func complement(chosen []int, n int) []int {
	in := make([]bool, n)
	for _, i := range chosen {
		in[i] = true
	}
	others := make([]int, 0, n-len(chosen))
	for i, c := range in {
		if !c {
			others = append(others, i)
		}
	}
	return others
}

// pick returns a copy of some rows of m.
func pick(m linalg.Matrix, rows []int) linalg.Matrix {
	p := linalg.New(len(rows), m.Cols)
	for i, from := range rows {
		copy(p.Row(i), m.Row(from))
	}
	return p
}

// coefficients returns the k (others, r) with k·q[chosen] = q[others], by the normal equations and one step of refinement.
func coefficients(q linalg.Matrix, chosen, others []int) (linalg.Matrix, error) {
	a, b := pick(q, chosen), pick(q, others)
	l, err := linalg.Cholesky(linalg.MulT(a, a))
	if err != nil {
		return linalg.Matrix{}, fmt.Errorf("the pivots depend on one another: %w", err)
	}
	solve := func(b linalg.Matrix) linalg.Matrix { // b·aᵀ·(a·aᵀ)⁻¹
		t := linalg.MulT(a, b)
		linalg.SolveLower(l, t, 0)
		linalg.SolveLowerT(l, t, 0)
		return t.Transpose()
	}
	k := solve(b)
	for i, d := range solve(subtract(b, linalg.Mul(k, a))).Data {
		k.Data[i] += d
	}
	return k, nil
}
