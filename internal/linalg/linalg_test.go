package linalg_test

import (
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
)

// TestInverseFactor multiplies the factor out again: uᵀ·u·a is the identity.
func TestInverseFactor(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 8, 33, 130} {
		x := make([]float64, 2*n*n)
		for i := range x {
			x[i] = rng.NormFloat64()
		}
		full, a := make([]float64, n*n), make([]float64, n*n)
		for i := range n {
			for j := range n {
				for k := range 2 * n {
					full[i*n+j] += x[k*n+i] * x[k*n+j] / float64(n)
				}
				a[i*n+j] = full[i*n+j]
				if j > i {
					a[i*n+j] = math.NaN() // not read
				}
			}
		}
		u, err := linalg.InverseFactor(a, n)
		if err != nil {
			t.Fatal(err)
		}
		ua := make([]float64, n*n)
		for i := range n {
			for k := range n {
				if k < i && u[i*n+k] != 0 {
					t.Fatalf("n = %d: (%d, %d) below the diagonal is %g", n, i, k, u[i*n+k])
				}
				for j := range n {
					ua[i*n+j] += u[i*n+k] * full[k*n+j]
				}
			}
		}
		for i := range n {
			for j := range n {
				var got, want float64
				for k := range n {
					got += u[k*n+i] * ua[k*n+j]
				}
				if i == j {
					want = 1
				}
				if math.Abs(got-want) > 1e-8 {
					t.Fatalf("n = %d: inverse times matrix has %g at (%d, %d)", n, got, i, j)
				}
			}
		}
	}
}

func TestInverseFactorRefuses(t *testing.T) {
	for _, a := range [][]float64{{0}, {-1}, {math.NaN()}, {1, 0, 2, 1}, {1, 0, 1, 1}} {
		n := int(math.Sqrt(float64(len(a))))
		if _, err := linalg.InverseFactor(a, n); !errors.Is(err, linalg.ErrNotDefinite) {
			t.Errorf("%v: got %v", a, err)
		}
	}
}
