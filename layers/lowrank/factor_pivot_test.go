package lowrank_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestPIFA puts matrices together again from their pivots.
func TestPIFA(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, shape := range [][2]int{{23, 14}, {14, 23}, {60, 60}, {9, 1}, {1, 9}} {
		w := matrixtest.Random(rng, shape[0], shape[1])
		for r := 1; r <= min(shape[0], shape[1]); r++ {
			f, err := lowrank.SVD(w, r)
			if err != nil {
				t.Fatal(err)
			}
			if r%2 == 0 { // another basis of the same product, far from orthogonal
				turn := matrixtest.Random(rng, r, r)
				f.U = linalg.Mul(f.U, turn)
				var v mat.Dense
				if err := v.Solve(gonum(turn), gonum(f.V)); err != nil {
					t.Fatal(err)
				}
				f.V.Data = v.RawMatrix().Data
			}
			pivots, v, k, err := lowrank.EncodePIFA(f)
			if err != nil {
				t.Fatalf("%v, rank %d: %v", shape, r, err)
			}
			if len(pivots) != r || !slices.IsSorted(pivots) || v.Rows != r || v.Cols != shape[1] || k.Rows != shape[0]-r || k.Cols != r {
				t.Fatalf("%v, rank %d: pivots %v, v %d x %d, k %d x %d", shape, r, pivots, v.Rows, v.Cols, k.Rows, k.Cols)
			}
			got, others := linalg.New(shape[0], shape[1]), linalg.Mul(k, v)
			next := 0
			for i := range shape[0] {
				if p := slices.Index(pivots, int32(i)); p >= 0 {
					copy(got.Row(i), v.Row(p))
				} else {
					copy(got.Row(i), others.Row(next))
					next++
				}
			}
			near(t, fmt.Sprintf("%v, rank %d", shape, r), got.Data, f.Product().Data, 1e-9)
			for _, c := range k.Data {
				if !(math.Abs(c) <= 2+1e-9) {
					t.Fatalf("%v, rank %d: a coefficient of %g", shape, r, c)
				}
			}
		}
	}
	// The matrix of Kahan defeats column pivoting: coefficients would grow as 2^rank.
	const n = 40
	u := linalg.New(n+1, n)
	for i := range n {
		for j := range i + 1 {
			u.Data[i*n+j] = math.Pow(0.9, float64(j)) * map[bool]float64{true: 1, false: -0.43}[i == j]
		}
	}
	copy(u.Row(n), matrixtest.Random(rng, 1, n).Data)
	_, _, k, err := lowrank.EncodePIFA(lowrank.Factors{U: u, V: matrixtest.Identity(n)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range k.Data {
		if !(math.Abs(c) <= 2+1e-6) {
			t.Errorf("a coefficient of %g", c)
		}
	}
	low := lowrank.Factors{U: linalg.Mul(matrixtest.Random(rng, 9, 2), matrixtest.Random(rng, 2, 3)), V: matrixtest.Random(rng, 3, 5)}
	if _, _, _, err := lowrank.EncodePIFA(low); err == nil {
		t.Error("encoded 3 pivots of a factor of rank 2")
	}
}
