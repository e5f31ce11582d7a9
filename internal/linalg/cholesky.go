package linalg

import (
	"errors"
	"fmt"
	"math"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// ErrNotDefinite says that a matrix is not positive definite, as far as float64 can tell.
var ErrNotDefinite = errors.New("matrix is not positive definite")

// Cholesky returns the lower triangular l (n, n) with l·lᵀ = a for a symmetric positive definite a (n, n), of which it
// reads the lower triangle. Above its diagonal l is 0. A matrix that is not positive definite, one with a NaN among them, is
// ErrNotDefinite.
func Cholesky(a Matrix) (l Matrix, err error) {
	mustBeSquare("Cholesky factor", a)
	n := a.Rows
	l = New(n, n)
	for i := range n {
		copy(l.Row(i)[:i+1], a.Row(i)[:i+1])
	}
	if n == 0 {
		return l, nil
	}
	if _, ok := lapack64.Potrf(blas64.Symmetric{N: n, Data: l.Data, Stride: n, Uplo: blas.Lower}); !ok {
		return Matrix{}, ErrNotDefinite
	}
	for i := range n {
		if math.IsInf(l.Row(i)[i], 0) {
			return Matrix{}, ErrNotDefinite
		}
	}
	return l, nil
}

// SolveLower sets b (n, cols) to l⁻¹·b for a lower triangular l (n, n) without zeros on its diagonal, of which it reads the
// lower triangle.
func SolveLower(l, b Matrix) { solve(l, b, blas.NoTrans) }

// SolveLowerT sets b (n, cols) to l⁻ᵀ·b for a lower triangular l (n, n) without zeros on its diagonal, of which it reads
// the lower triangle.
func SolveLowerT(l, b Matrix) { solve(l, b, blas.Trans) }

func solve(l, b Matrix, trans blas.Transpose) {
	mustBeSquare("triangular solve", l)
	if l.Rows != b.Rows {
		panic(fmt.Sprintf("BUG: triangular solve of %d x %d with %d x %d", l.Rows, l.Cols, b.Rows, b.Cols))
	}
	if len(b.Data) == 0 {
		return
	}
	t := blas64.Triangular{N: l.Rows, Data: l.Data, Stride: l.Cols, Uplo: blas.Lower, Diag: blas.NonUnit}
	blas64.Trsm(blas.Left, trans, 1, t, general(b))
}

// InverseFactor returns the upper triangular u (n, n) with uᵀ·u = a⁻¹ for a symmetric positive definite a (n, n), of which
// it reads the lower triangle. Below its diagonal u is 0.
//
// With the order of rows and columns reversed, a lower factor l·lᵀ of a becomes an upper one, r·rᵀ = a, and u = r⁻¹: one
// decomposition and one inverse of a triangle, and a⁻¹ itself is never made.
func InverseFactor(a []float64, n int) ([]float64, error) {
	b := make([]float64, n*n)
	for i := range n {
		for j := range i + 1 {
			b[(n-1-j)*n+n-1-i] = a[i*n+j]
		}
	}
	l, ok := lapack64.Potrf(blas64.Symmetric{N: n, Data: b, Stride: n, Uplo: blas.Lower})
	if !ok || !lapack64.Trtri(l) {
		return nil, ErrNotDefinite
	}
	// In place again: element (i, j) goes to (n-1-i, n-1-j), from the lower triangle to the upper.
	for i := range n {
		for j := range i {
			b[(n-1-i)*n+n-1-j], b[i*n+j] = b[i*n+j], 0
		}
	}
	for i := range n / 2 {
		at, mirrored := i*n+i, (n-1-i)*n+n-1-i
		b[at], b[mirrored] = b[mirrored], b[at]
	}
	return b, nil
}
