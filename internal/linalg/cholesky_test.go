package linalg_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
)

// TestInverseFactor multiplies the factor out again: uᵀ·u·a is the identity.
func TestInverseFactor(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, n := range []int{1, 2, 3, 8, 33, 130, 270} {
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

func TestCholesky(t *testing.T) { linalg.WithEachWidth(t, testCholesky) }

func testCholesky(t *testing.T) {
	rng := newRand(3)
	for _, n := range []int{0, 1, 2, 3, 8, 31, 64, 65, 130, 300} {
		x := random(rng, n+5, n)
		a := product(x.Transpose(), x)
		read := linalg.New(n, n)
		for i := range n {
			for j := range n {
				read.Row(i)[j] = a.Row(i)[j]
				if j > i {
					read.Row(i)[j] = math.NaN() // not read
				}
			}
		}
		l, err := linalg.Cholesky(read)
		if err != nil {
			t.Fatal(err)
		}
		near(t, fmt.Sprintf("l·lᵀ of n = %d", n), product(l, l.Transpose()), a, 1e-13*float64(n)*(1+largest(a)))
		for i := range n {
			for j := i + 1; j < n; j++ {
				if l.Row(i)[j] != 0 {
					t.Fatalf("n = %d: (%d, %d) is %g", n, i, j, l.Row(i)[j])
				}
				l.Row(i)[j] = math.NaN() // not read by the solves
			}
		}
		full, err := linalg.Cholesky(a)
		if err != nil {
			t.Fatal(err)
		}
		for _, cols := range []int{0, 1, 3, 40} {
			want := random(rng, n, cols)
			bound := 1e-11 * math.Sqrt(float64(n+1)) * 1e3
			b := product(full, want)
			linalg.SolveLower(l, b)
			near(t, fmt.Sprintf("SolveLower of n = %d", n), b, want, bound)
			b = product(full.Transpose(), want)
			linalg.SolveLowerT(l, b)
			near(t, fmt.Sprintf("SolveLowerT of n = %d", n), b, want, bound)
		}
	}
}

func TestCholeskyRefuses(t *testing.T) {
	for _, a := range [][]float64{{0}, {-1}, {math.NaN()}, {math.Inf(1)}, {1, 0, 2, 1}, {1, 0, 1, 1}} {
		n := int(math.Sqrt(float64(len(a))))
		if _, err := linalg.Cholesky(linalg.Matrix{Rows: n, Cols: n, Data: a}); !errors.Is(err, linalg.ErrNotDefinite) {
			t.Errorf("%v: got %v", a, err)
		}
	}
}
