package linalg

import (
	"fmt"
	"math/rand/v2"

	"gonum.org/v1/gonum/blas/blas64"
	"gonum.org/v1/gonum/lapack/lapack64"
)

// Iteration says how Leading works. Its zero value serves.
type Iteration struct {
	Seed       uint64 // of the random start
	Oversample int    // how many more directions than asked for are worked on; 0: a tenth of r, at least 32
	Rounds     int    // products with a before the last, at least 2; 0: 4
}

// Leading returns the r largest eigenvalues of a symmetric positive semidefinite a (n, n), in descending order, and their
// eigenvectors: column j of vectors (n, r) has length 1 and belongs to values[j]. Its entry of largest magnitude is
// positive. It reads all of a. An element that is not finite is an error.
//
// It is the randomized block subspace iteration of Halko, Martinsson and Tropp (arXiv 0909.4061), algorithm 4.4 for
// a symmetric a, with the Rayleigh-Ritz step of its section 5.3: vectors are exactly orthonormal, values are those of a in
// the subspace found, never above the true ones, and close to them where the spectrum falls.
func Leading(a Matrix, r int, o Iteration) (values []float64, vectors Matrix, err error) {
	mustBeSquare("leading eigenvalues", a)
	n := a.Rows
	if r < 0 || r > n {
		panic(fmt.Sprintf("BUG: %d leading eigenvalues of a matrix of %d x %d", r, n, n))
	}
	if err := checkFinite(a, false); err != nil {
		return nil, Matrix{}, fmt.Errorf("find %d leading eigenvalues: %w", r, err)
	}
	if o.Oversample == 0 {
		o.Oversample = max(32, r/10)
	}
	if o.Rounds == 0 {
		o.Rounds = 4
	}
	o.Rounds = max(o.Rounds, 2)
	block := r + o.Oversample
	if 2*block > n {
		values, vectors, err := Eigen(a)
		if err != nil {
			return nil, Matrix{}, err
		}
		return values[:r], firstColumns(vectors, r), nil
	}
	rng := rand.New(rand.NewPCG(o.Seed, uint64(n)))
	q := New(n, block)
	for i := range q.Data {
		q.Data[i] = rng.NormFloat64()
	}
	for range o.Rounds {
		q = Mul(a, q)
		orthonormalize(q)
	}
	all, turn, err := Eigen(TMul(q, Mul(a, q)))
	if err != nil {
		return nil, Matrix{}, err
	}
	vectors = Mul(q, firstColumns(turn, r))
	canonicalSigns(vectors)
	return all[:r], vectors, nil
}

// orthonormalize makes the columns of q (n, m) with n >= m orthonormal, with the span they had.
func orthonormalize(q Matrix) {
	tau, work := make([]float64, q.Cols), make([]float64, 64*q.Cols)
	lapack64.Geqrf(general(q), tau, work, len(work))
	lapack64.Orgqr(general(q), tau, work, len(work))
}

// firstColumns returns a copy of the first r columns of m.
func firstColumns(m Matrix, r int) Matrix {
	f := New(m.Rows, r)
	for i := range m.Rows {
		copy(f.Row(i), m.Row(i))
	}
	return f
}

func general(m Matrix) blas64.General {
	return blas64.General{Rows: m.Rows, Cols: m.Cols, Stride: max(m.Cols, 1), Data: m.Data}
}
