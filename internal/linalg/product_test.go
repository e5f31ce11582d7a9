package linalg_test

import (
	"fmt"
	"testing"

	"eckart/internal/linalg"
)

func TestProducts(t *testing.T) {
	rng := newRand(2)
	for _, s := range [][3]int{
		{0, 3, 4}, {3, 0, 4}, {3, 4, 0}, {1, 1, 1}, {2, 3, 4}, {5, 7, 9}, {17, 33, 9}, {24, 8, 12}, {25, 257, 13}, {130, 70, 100}, {3, 600, 300},
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
