package linalg_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/internal/linalg"
)

func TestLeading(t *testing.T) {
	for name, value := range map[string]func(i int) float64{
		"steep": func(i int) float64 { return math.Pow(float64(1+i), -2) },
		"slow":  func(i int) float64 { return math.Pow(float64(1+i), -0.6) },
		"low rank": func(i int) float64 {
			if i < 9 {
				return float64(100 - i)
			}
			return 0
		},
		"zero": func(int) float64 { return 0 },
	} {
		want := spectrum(200, value)
		a := withSpectrum(5, want)
		for _, r := range []int{0, 1, 12, 40, 150, 200} {
			t.Run(fmt.Sprintf("%s/%d", name, r), func(t *testing.T) {
				values, vectors, err := linalg.Leading(a, r, linalg.Iteration{Seed: 3})
				if err != nil {
					t.Fatal(err)
				}
				if len(values) != r || vectors.Rows != 200 || vectors.Cols != r {
					t.Fatalf("%d values, vectors of %d x %d", len(values), vectors.Rows, vectors.Cols)
				}
				near(t, "orthogonality", product(vectors.Transpose(), vectors), identity(r), 1e-13)
				// The energy that the subspace holds is what a rank of r keeps.
				var got, most float64
				for i, x := range values {
					got, most = got+x, most+want[i]
					if x > want[i]+1e-12 {
						t.Errorf("value %d is %g, above %g", i, x, want[i])
					}
				}
				if got < most*(1-4e-3) {
					t.Errorf("the subspace holds %g of %g", got, most)
				}
			})
		}
	}
}

func TestLeadingSeed(t *testing.T) {
	a := withSpectrum(5, spectrum(150, func(i int) float64 { return math.Pow(float64(1+i), -0.6) }))
	_, one, _ := linalg.Leading(a, 12, linalg.Iteration{Seed: 3})
	_, same, _ := linalg.Leading(a, 12, linalg.Iteration{Seed: 3})
	_, other, _ := linalg.Leading(a, 12, linalg.Iteration{Seed: 4})
	if !slices.Equal(one.Data, same.Data) {
		t.Error("one seed gives two results")
	}
	if slices.Equal(one.Data, other.Data) {
		t.Error("the seed changes nothing")
	}
}

// TestLeadingSettled stops early on a spectrum that settles at once, and must still find it.
func TestLeadingSettled(t *testing.T) {
	want := spectrum(150, func(i int) float64 { return math.Pow(2, -float64(i)) })
	a := withSpectrum(6, want)
	values, vectors, err := linalg.Leading(a, 10, linalg.Iteration{Rounds: 50, Settled: 1e-6})
	if err != nil {
		t.Fatal(err)
	}
	_, all, err := linalg.Leading(a, 10, linalg.Iteration{Rounds: 50})
	if err != nil {
		t.Fatal(err)
	}
	if slices.Equal(vectors.Data, all.Data) {
		t.Error("it never settles")
	}
	for i, x := range values {
		if math.Abs(x-want[i]) > 1e-12 {
			t.Errorf("value %d is %g, want %g", i, x, want[i])
		}
	}
}

// TestLeadingScale has elements whose squares overflow or vanish.
func TestLeadingScale(t *testing.T) {
	for _, scale := range []float64{1e-300, 1e300} {
		want := spectrum(120, func(i int) float64 { return math.Pow(2, -float64(i)) })
		a := withSpectrum(6, want)
		for i := range a.Data {
			a.Data[i] *= scale
		}
		values, _, err := linalg.Leading(a, 8, linalg.Iteration{})
		if err != nil {
			t.Fatal(err)
		}
		for i, x := range values {
			if !(math.Abs(x/scale-want[i]) <= 1e-12) {
				t.Errorf("value %d is %g, want %g", i, x, want[i]*scale)
			}
		}
	}
}
