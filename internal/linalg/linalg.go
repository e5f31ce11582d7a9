// Package linalg holds small decompositions of float64 matrices, on gonum.
package linalg

import (
	"errors"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// ErrNotDefinite says that a matrix is not positive definite, as far as float64 can tell.
var ErrNotDefinite = errors.New("matrix is not positive definite")

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
