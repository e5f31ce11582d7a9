package linalg_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/internal/linalg"
)

// interpolation returns k (rest, r) with a[:, rest] ≈ a[:, chosen]·kᵀ, by least squares, and the largest error of it.
func interpolation(t *testing.T, a linalg.Matrix, chosen []int) (k linalg.Matrix, worst float64) {
	t.Helper()
	b, rest := linalg.New(len(chosen), a.Rows), linalg.Matrix{Cols: a.Rows}
	for i, j := range chosen {
		for at := range a.Rows {
			b.Row(i)[at] = a.Row(at)[j]
		}
	}
	for j := range a.Cols {
		if slices.Contains(chosen, j) {
			continue
		}
		rest.Rows++
		for at := range a.Rows {
			rest.Data = append(rest.Data, a.Row(at)[j])
		}
	}
	l, err := linalg.Cholesky(product(b, b.Transpose()))
	if err != nil {
		t.Fatal(err)
	}
	kT := product(b, rest.Transpose())
	linalg.SolveLower(l, kT, 0)
	linalg.SolveLowerT(l, kT, 0)
	k = kT.Transpose()
	worst, _, _ = distance(product(k, b), rest)
	return k, worst
}

func TestPivotedQR(t *testing.T) {
	rng := newRand(6)
	for _, s := range [][3]int{{20, 30, 7}, {30, 20, 20}, {64, 100, 33}, {150, 170, 100}, {200, 300, 70}, {1, 5, 1}, {5, 1, 1}} {
		rows, cols, r := s[0], s[1], s[2]
		t.Run(fmt.Sprintf("%dx%dx%d", rows, cols, r), func(t *testing.T) {
			a := product(random(rng, rows, r), random(rng, r, cols))
			order, err := linalg.PivotedQR(a, r)
			if err != nil {
				t.Fatal(err)
			}
			sorted := slices.Clone(order)
			slices.Sort(sorted)
			if len(slices.Compact(sorted)) != r || sorted[0] < 0 || sorted[r-1] >= cols {
				t.Fatalf("order %v", order)
			}
			k, worst := interpolation(t, a, order)
			if worst > 1e-9*largest(a) {
				t.Errorf("the columns chosen miss the others by %g", worst)
			}
			if x := largest(k); x > 2+1e-9 {
				t.Errorf("the largest coefficient is %g, above 2", x)
			}
		})
	}
}

func TestPivotedQRRank(t *testing.T) {
	rng := newRand(7)
	a := product(random(rng, 40, 5), random(rng, 5, 50))
	if order, err := linalg.PivotedQR(a, 12); err != nil || len(order) != 5 {
		t.Errorf("a matrix of rank 5: order %v, error %v", order, err)
	}
	if order, err := linalg.PivotedQR(linalg.New(4, 4), 2); err != nil || len(order) != 0 {
		t.Errorf("a matrix of zeros: order %v, error %v", order, err)
	}
}

// TestPivotedQRKahan has a matrix from which pivoting alone chooses badly: its columns are about equally long at every
// step, the last is left over, and would take thousands of times the first.
func TestPivotedQRKahan(t *testing.T) {
	const n, sine = 40, 0.95
	cosine := math.Sqrt(1 - sine*sine)
	a := linalg.New(n-1, n)
	for i := range n - 1 {
		for j := i; j < n; j++ {
			a.Row(i)[j] = -cosine * math.Pow(sine, float64(i)) * (1 - 1e-7*float64(j))
			if j == i {
				a.Row(i)[j] = math.Pow(sine, float64(i)) * (1 - 1e-7*float64(j))
			}
		}
	}
	order, err := linalg.PivotedQR(a, n-1)
	if err != nil {
		t.Fatal(err)
	}
	k, _ := interpolation(t, a, order)
	if x := largest(k); x > 2+1e-6 {
		t.Errorf("the largest coefficient is %g, above 2", x)
	}
}
