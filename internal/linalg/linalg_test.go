package linalg_test

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"eckart/internal/linalg"
)

// random returns a matrix of normal numbers.
//
//go:norace
func random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = rng.NormFloat64()
	}
	return m
}

func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

// product is the plain a·b, to which a transpose is given as a copy. Like other plain arithmetic of tests it is kept from the
// race detector: it runs on the test's goroutine, on memory of its own.
//
//go:norace
func product(a, b linalg.Matrix) linalg.Matrix {
	c := linalg.New(a.Rows, b.Cols)
	for i := range a.Rows {
		for k, x := range a.Row(i) {
			row := c.Row(i)
			for j, y := range b.Row(k) {
				row[j] += x * y
			}
		}
	}
	return c
}

// distance returns the largest difference between elements of a and b, and where it is.
//
//go:norace
func distance(a, b linalg.Matrix) (d float64, i, j int) {
	if a.Rows != b.Rows || a.Cols != b.Cols {
		return math.Inf(1), a.Rows, a.Cols
	}
	for at := range a.Data {
		if e := math.Abs(a.Data[at] - b.Data[at]); !(e <= d) {
			d, i, j = e, at/a.Cols, at%a.Cols
			if math.IsNaN(e) {
				return math.Inf(1), i, j
			}
		}
	}
	return d, i, j
}

// near fails the test where a and b differ by more than bound.
func near(t *testing.T, what string, a, b linalg.Matrix, bound float64) {
	t.Helper()
	if d, i, j := distance(a, b); d > bound {
		t.Errorf("%s: element (%d, %d) is off by %.3g, more than %.3g", what, i, j, d, bound)
	}
}

func identity(n int) linalg.Matrix {
	m := linalg.New(n, n)
	for i := range n {
		m.Data[i*n+i] = 1
	}
	return m
}

func largest(m linalg.Matrix) (x float64) {
	for _, e := range m.Data {
		x = max(x, math.Abs(e))
	}
	return x
}

func TestTranspose(t *testing.T) {
	m := random(newRand(1), 70, 33)
	for i := range m.Rows {
		for j := range m.Cols {
			if got := m.Transpose().Row(j)[i]; got != m.Row(i)[j] {
				t.Fatalf("(%d, %d) is %g, want %g", j, i, got, m.Row(i)[j])
			}
		}
	}
}

// wantError fails the test unless err has text in it.
func wantError(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want one with %q", err, text)
	}
}

func TestRow(t *testing.T) {
	m := linalg.New(2, 3)
	m.Row(1)[2] = 7
	if row := m.Row(1); m.Data[5] != 7 || len(row) != 3 || cap(row) != 3 {
		t.Errorf("row %v of capacity %d in %v", row, cap(row), m.Data)
	}
}
