package linalg

import (
	"errors"
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// Eigen returns the eigenvalues of a symmetric a (n, n), of which it reads the lower triangle, in descending order, and
// their eigenvectors: column j of vectors (n, n) has length 1 and belongs to values[j]. Its entry of largest magnitude is
// positive. An element that is not finite is an error.
func Eigen(a Matrix) (values []float64, vectors Matrix, err error) {
	mustBeSquare("eigenvalues", a)
	if err := checkFinite(a, true); err != nil {
		return nil, Matrix{}, fmt.Errorf("find eigenvalues: %w", err)
	}
	n := a.Rows
	values, vectors = make([]float64, n), New(n, n)
	if n == 0 {
		return values, vectors, nil
	}
	z := New(n, n)
	copy(z.Data, a.Data)
	s := blas64.Symmetric{N: n, Data: z.Data, Stride: n, Uplo: blas.Lower}
	ascending, work := make([]float64, n), make([]float64, 1)
	lapack64.Syev(lapack.EVCompute, s, ascending, work, -1)
	work = make([]float64, int(work[0]))
	if !lapack64.Syev(lapack.EVCompute, s, ascending, work, len(work)) {
		return nil, Matrix{}, errors.New("find eigenvalues: the iteration did not converge")
	}
	for j := range n {
		values[j] = ascending[n-1-j]
		for i := range n {
			vectors.Data[i*n+j] = z.Data[i*n+n-1-j]
		}
	}
	canonicalSigns(vectors)
	return values, vectors, nil
}
