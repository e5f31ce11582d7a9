package lowrank_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestGramRetries raises the shrinkage where a sum is not definite, and gives up where that does not help.
func TestGramRetries(t *testing.T) {
	tall := linalg.Matrix{Rows: 4, Cols: 3, Data: []float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 1, 0, 1}}
	// Two inputs of three channels: singular, and made definite by very little.
	x := linalg.Matrix{Rows: 2, Cols: 3, Data: []float64{1, 2, 3, 3, 2, 2}}
	g, err := lowrank.NewGram(linalg.TMul(x, x), 2, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := lowrank.Whitened(tall, g, 2)
	if err != nil {
		t.Fatal(err)
	}
	if e := lowrank.RelativeError(tall, f.Product(), g.Sum()); e > 1e-6 {
		t.Errorf("error %g at the rank of the inputs", e)
	}
	// An eigenvalue of -0.8, and no element that gives it away.
	indefinite := linalg.Matrix{Rows: 3, Cols: 3, Data: []float64{1, 0.9, -0.9, 0.9, 1, 0.9, -0.9, 0.9, 1}}
	for shrinkage, ok := range map[float64]bool{0: false, 0.01: false, 0.02: true} { // 0.27 is not enough, 0.54 is
		g, err := lowrank.NewGram(indefinite, 10, nil, shrinkage)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from what is kept
			if _, err = lowrank.Decompose(tall, g); ok != (err == nil) || !ok && !errors.Is(err, linalg.ErrNotDefinite) {
				t.Errorf("shrinkage %g: got %v", shrinkage, err)
			}
		}
	}
}

func TestGramRefuses(t *testing.T) {
	nan := math.NaN()
	for want, g := range map[string]struct {
		n         int
		data      []float64
		tokens    int
		mean      []float64
		shrinkage float64
	}{
		"want a square one":                     {2, []float64{1, 0, 0}, 1, nil, 0},
		"a mean of 1 numbers for 2 inputs":      {2, []float64{1, 0, 0, 1}, 1, []float64{1}, 0},
		"the sum of 0 tokens":                   {1, []float64{1}, 0, nil, 0},
		"shrinkage NaN":                         {1, []float64{1}, 1, nil, nan},
		"shrinkage 1.5":                         {1, []float64{1}, 1, nil, 1.5},
		"element (0, 1) of the matrix is NaN":   {2, []float64{1, nan, 0, 1}, 1, nil, 0},
		"it is not symmetric":                   {2, []float64{1, 0.5, 0.2, 1}, 1, nil, 0},
		"element (1, 0) is 1.5: matrix is not":  {2, []float64{1, 1.5, 1.5, 1}, 1, nil, 0},
		"element (0, 0) is -1: matrix is not":   {1, []float64{-1}, 1, nil, 0},
		"all inputs are 0: matrix is not posit": {1, []float64{0}, 1, nil, 0},
	} {
		_, err := lowrank.NewGram(linalg.Matrix{Rows: g.n, Cols: g.n, Data: g.data}, g.tokens, g.mean, g.shrinkage)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestGramShares asks for directions in different orders, from several goroutines.
func TestGramShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	x := matrixtest.Inputs(rng, 60, 12, 2)
	sum := linalg.TMul(x, x)
	g, err := lowrank.NewGram(sum, x.Rows, nil, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for r := 1; r <= 12; r++ {
		go func() {
			values, vectors, err := g.Leading(r)
			if err == nil && (len(values) != r || vectors.Rows != 12 || vectors.Cols != r) {
				err = fmt.Errorf("%d values and %d x %d vectors for %d", len(values), vectors.Rows, vectors.Cols, r)
			}
			if err == nil {
				_, err = lowrank.Whitened(matrixtest.Random(rand.New(rand.NewPCG(1, uint64(r))), 20, 12), g, r)
			}
			done <- err
		}()
	}
	for range 12 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	values, vectors, err := g.Eigen()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "sum from its directions", linalg.MulT(linalg.Mul(vectors, matrixtest.Diagonal(values)), vectors).Data, sum.Data, 1e-12)
	if _, _, err := g.Leading(13); err == nil {
		t.Error("13 of 12 directions")
	}
}
