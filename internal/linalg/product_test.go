package linalg_test

import (
	"fmt"
	"runtime"
	"slices"
	"testing"

	"eckart/internal/linalg"
)

func TestProducts(t *testing.T) { linalg.WithEachWidth(t, testProducts) }

func testProducts(t *testing.T) {
	rng := newRand(2)
	for _, s := range [][3]int{
		{0, 3, 4},
		{3, 0, 4},
		{3, 4, 0},
		{1, 1, 1},
		{2, 3, 4},
		{5, 7, 9},
		{17, 33, 9},
		{24, 8, 12},
		{25, 257, 13},
		{130, 70, 100},
		{3, 600, 300},
		{500, 90, 3},
		{200, 400, 210},
	} {
		m, k, n := s[0], s[1], s[2]
		a, b := random(rng, m, k), random(rng, k, n)
		want := product(a, b)
		name := fmt.Sprintf("%d x %d x %d", m, k, n)
		near(t, "Mul "+name, linalg.Mul(a, b), want, 1e-12)
		near(t, "MulT "+name, linalg.MulT(a, b.Transpose()), want, 1e-12)
		near(t, "TMul "+name, linalg.TMul(a.Transpose(), b), want, 1e-12)
	}
}

// TestGrams multiplies a matrix by its own transpose, of which half is computed.
func TestGrams(t *testing.T) {
	linalg.WithEachWidth(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 1}, {7, 30}, {30, 7}, {200, 33}, {193, 205}, {20, 450}} {
			x := random(newRand(4), s[0], s[1])
			near(t, fmt.Sprintf("TMul %v", s), linalg.TMul(x, x), product(x.Transpose(), x), 1e-12)
			near(t, fmt.Sprintf("MulT %v", s), linalg.MulT(x, x), product(x, x.Transpose()), 1e-12)
		}
	})
}

// TestQuadratic holds it to the products of the whole matrix, of sizes around its blocks.
func TestQuadratic(t *testing.T) {
	linalg.WithEachWidth(t, func(t *testing.T) {
		for _, s := range [][2]int{{0, 3}, {3, 0}, {1, 1}, {7, 30}, {3, 511}, {2, 512}, {5, 513}, {4, 1100}} {
			rows, n := s[0], s[1]
			e, c := random(newRand(5), rows, n), symmetric(6, n)
			want := make([]float64, rows)
			ec := product(e, c)
			for i := range want {
				for j, v := range e.Row(i) {
					want[i] += v * ec.Row(i)[j]
				}
			}
			got := linalg.Quadratic(e, c)
			near(t, fmt.Sprintf("Quadratic %v", s), linalg.Matrix{Rows: 1, Cols: rows, Data: got}, linalg.Matrix{Rows: 1, Cols: rows, Data: want}, 1e-10)
		}
	})
}

// TestThreads holds every result to the same bits on any number of threads.
func TestThreads(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	n := 300
	a, b := random(newRand(1), n, n), random(newRand(2), n, n)
	s := linalg.TMul(a, a)
	// A triangle to solve with, of few rows, and more columns than one thread takes.
	few := random(newRand(3), 40, 40)
	triangle, err := linalg.Cholesky(linalg.TMul(few, few))
	if err != nil {
		t.Fatal(err)
	}
	wide := random(newRand(4), 40, 1500)
	results := func() [][]float64 {
		l, err := linalg.Cholesky(s)
		if err != nil {
			t.Fatal(err)
		}
		u, err := linalg.BlockFactor(s, linalg.Matrix{}, 0, 64)
		if err != nil {
			t.Fatal(err)
		}
		var single []float64
		linalg.WithSingle(true, func() {
			factor, err := linalg.BlockFactor(s, linalg.Matrix{}, 0.01*s.Data[0], 64)
			if err != nil {
				t.Fatal(err)
			}
			single = append(upper(factor).Data, linalg.Quadratic(a, s)...)
			single = append(single, linalg.MulT(a, b, linalg.Single).Data...)
		})
		values, vectors, err := linalg.Eigen(s)
		if err != nil {
			t.Fatal(err)
		}
		some, leading, err := linalg.Leading(s, 30, linalg.Iteration{})
		if err != nil {
			t.Fatal(err)
		}
		order, err := linalg.PivotedQR(a, 200)
		if err != nil {
			t.Fatal(err)
		}
		floats := make([]float64, len(order))
		for i, j := range order {
			floats[i] = float64(j)
		}
		x, y := linalg.Mul(triangle, wide), linalg.Mul(triangle, wide)
		linalg.SolveLower(triangle, x, 0)
		linalg.SolveLowerT(triangle, y, 0)
		alone, err := linalg.Eigenvalues(s)
		if err != nil {
			t.Fatal(err)
		}
		linalg.WithBand(true, func() {
			banded, err := linalg.Eigenvalues(s)
			if err != nil {
				t.Fatal(err)
			}
			alone = append(alone, banded...)
		})
		return [][]float64{linalg.Mul(a, b).Data, single, alone, linalg.Quadratic(a, s), l.Data, upper(u).Data, values, vectors.Data, some, leading.Data, floats, x.Data, y.Data}
	}
	runtime.GOMAXPROCS(1)
	want := results()
	for _, threads := range []int{2, 3, 8} {
		runtime.GOMAXPROCS(threads)
		for i, got := range results() {
			if !slices.Equal(got, want[i]) {
				t.Errorf("result %d differs on %d threads", i, threads)
			}
		}
	}
}
