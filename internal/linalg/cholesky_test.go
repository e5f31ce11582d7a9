package linalg_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
)

// TestBlockFactor finds the triangle r = lᵀ in the factor again, block by block, and multiplies it out: r·rᵀ is the matrix.
func TestBlockFactor(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, c := range []struct{ n, block int }{{1, 1}, {2, 2}, {3, 1}, {8, 3}, {33, 33}, {33, 64}, {130, 32}, {270, 270}, {270, 100}} {
		n, block := c.n, c.block
		const ridge = 0.25
		x := random(rng, 2*n, n)
		full := product(x.Transpose(), x)
		a := linalg.New(n, n)
		for i := range n {
			full.Row(i)[i] += ridge
			for j := range n {
				a.Row(i)[j] = full.Row(i)[j]
				if j > i {
					a.Row(i)[j] = math.NaN() // not read
				}
			}
			a.Row(i)[i] -= ridge
		}
		taken := linalg.Matrix{}
		if n > 2 { // what is taken away was there before
			taken = random(rng, n, 2)
			for i, v := range product(taken, taken.Transpose()).Data {
				a.Data[i] += v
			}
		}
		factor, err := linalg.BlockFactor(a, taken, ridge, block)
		if err != nil {
			t.Fatal(err)
		}
		f := factor.Transpose().Data
		r := linalg.New(n, n)
		for from := 0; from < n; from += block {
			to := min(from+block, n)
			for j := from; j < to; j++ { // column j of the inverse of f's block, from the diagonal up
				for i := j; i >= from; i-- {
					sum := 0.0
					if i == j {
						sum = 1
					}
					for k := i + 1; k <= j; k++ {
						sum -= f[i*n+k] * r.Row(k)[j]
					}
					r.Row(i)[j] = sum / f[i*n+i]
				}
			}
			for i := range from {
				for j := from; j < to; j++ {
					for k := from; k <= j; k++ {
						r.Row(i)[j] -= f[i*n+k] * r.Row(k)[j]
					}
				}
			}
		}
		near(t, fmt.Sprintf("r·rᵀ of %+v", c), product(r, r.Transpose()), full, 1e-11)
	}
}

func TestBlockFactorRefuses(t *testing.T) {
	for _, a := range [][]float64{{0}, {-1}, {math.NaN()}, {1, 0, 2, 1}, {1, 0, 1, 1}} {
		n := int(math.Sqrt(float64(len(a))))
		if _, err := linalg.BlockFactor(linalg.Matrix{Rows: n, Cols: n, Data: a}, linalg.Matrix{}, 0, n); !errors.Is(err, linalg.ErrNotDefinite) {
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
			linalg.SolveLower(l, b, 0)
			near(t, fmt.Sprintf("SolveLower of n = %d", n), b, want, bound)
			b = product(full.Transpose(), want)
			linalg.SolveLowerT(l, b, 0)
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
