package linalg

import (
	"fmt"
	"math"
	"math/rand/v2"
)

// Iteration says how Leading works. Its zero value serves.
type Iteration struct {
	Seed       uint64  // of the random start
	Oversample int     // how many more directions than asked for are worked on, at least 16; 0: a tenth of r, at least 32
	Rounds     int     // products with a before the last, at least 2; 0: 4
	Settled    float64 // stop where a round adds less than this share to what the directions hold of the trace; 0: never
}

// directDivisor is the share of all directions, 1/directDivisor, from which on Eigen is faster (BenchmarkLeading).
const directDivisor = 3

// Leading returns the r largest eigenvalues of a symmetric positive semidefinite a (n, n), in descending order, and their
// eigenvectors: column j of vectors (n, r) has length 1 and belongs to values[j]. Its entry of largest magnitude is
// positive. It reads all of a. An element that is not finite is an error.
//
// It is the randomized block subspace iteration of Halko, Martinsson and Tropp (arXiv 0909.4061, algorithm 4.4) with a
// Rayleigh-Ritz step. The iteration is Single, that step is not: vectors are orthonormal as those of Eigen are, and values are
// those of a in the subspace found, never above the true ones but for rounding, and close to them where the spectrum falls.
// Where r is a large part of n, it is Eigen. It takes four matrices (r+Oversample, n).
func Leading(a Matrix, r int, o Iteration) (values []float64, vectors Matrix, err error) {
	mustBeSquare("leading eigenvalues", a)
	n := a.Rows
	if r < 0 || r > n {
		panic(fmt.Sprintf("BUG: %d leading eigenvalues of a matrix of %d x %d", r, n, n))
	}
	if err := CheckFinite(a); err != nil {
		return nil, Matrix{}, fmt.Errorf("find %d leading eigenvalues: %w", r, err)
	}
	if o.Oversample == 0 {
		o.Oversample = max(32, r/10)
	}
	if o.Rounds == 0 {
		o.Rounds = 4
	}
	o.Oversample, o.Rounds = max(o.Oversample, 16), max(o.Rounds, 2)
	block := r + o.Oversample
	if directDivisor*block > n {
		values, all, err := Eigen(a)
		if err != nil {
			return nil, Matrix{}, err
		}
		vectors = New(n, r)
		for i := range n {
			copy(vectors.Row(i), all.Row(i))
		}
		return values[:r], vectors, nil
	}

	// Directions are rows. A scale keeps products within the range of single precision.
	var top float64 // of the diagonal, where no element is larger than the largest there
	for i := range n {
		top = max(top, a.Row(i)[i])
	}
	_, exponent := math.Frexp(top)
	scaled := a
	if exponent > 60 || exponent < -60 {
		scaled = New(n, n)
		scale(scaled.Data, a.Data, -exponent)
	} else {
		exponent = 0
	}
	rng := rand.New(rand.NewPCG(o.Seed, uint64(n)))
	q := New(block, n)
	for i := range q.Data {
		q.Data[i] = rng.NormFloat64()
	}
	var held float64 // of the trace, by the directions of the round before
	for round := range o.Rounds {
		next := multiplySquare(q, scaled, Single)
		var now float64
		for i := range block {
			now += dot(q.Row(i), next.Row(i))
		}
		orthonormalize(next)
		q = next
		if round > 1 && now-held < o.Settled*now {
			break
		}
		held = now
	}
	ritz, turn, err := Eigen(MulT(multiplySquare(q, scaled, 0), q))
	if err != nil {
		return nil, Matrix{}, fmt.Errorf("find %d leading eigenvalues: %w", r, err)
	}
	values = make([]float64, r)
	first, order := New(block, r), make([]int, r)
	for j := range r {
		values[j], order[j] = math.Ldexp(ritz[j], exponent), j
	}
	for i := range block {
		copy(first.Row(i), turn.Row(i))
	}
	vectors = New(n, r)
	columnsOf(vectors, TMul(first, q), order)
	return values, vectors, nil
}

// multiplySquare returns q·a for few rows q (rows, n) and a symmetric a (n, n): the transpose of a·qᵀ, so that the packed a need
// not stay beyond the second cache.
func multiplySquare(q, a Matrix, t Trait) Matrix { return MulT(a, q, t).Transpose() }
