package lowrank_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// weighted returns Σ weights·(w - approx)².
func weighted(w, weights, approx linalg.Matrix) float64 {
	var sum float64
	for i, d := range weights.Data {
		e := w.Data[i] - approx.Data[i]
		sum += d * e * e
	}
	return sum
}

// TestWeighted: rounds never raise the error, the end is stationary, and weights with a closed form reach it.
func TestWeighted(t *testing.T) {
	const r = 4
	for _, shape := range shapes[:3] {
		rng := rand.New(rand.NewPCG(10, uint64(shape[0])))
		w, weights := matrixtest.Random(rng, shape[0], shape[1]), linalg.New(shape[0], shape[1])
		for i := range weights.Data {
			weights.Data[i] = math.Exp(2 * rng.NormFloat64())
			if i%11 == 0 || i/shape[1] == 3 {
				weights.Data[i] = 0 // some elements, and a whole row, do not count
			}
		}
		whole := weighted(w, weights, linalg.New(shape[0], shape[1]))
		last := math.Inf(1)
		for rounds := 1; rounds <= 40; rounds++ {
			f, err := lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{Rounds: rounds, Tolerance: 1e-14})
			if err != nil {
				t.Fatal(err)
			}
			e := weighted(w, weights, f.Product()) / whole
			if math.Abs(e-f.Error) > 1e-12 {
				t.Errorf("%v, %d rounds: error %g, it says %g", shape, rounds, e, f.Error)
			}
			if e > last*(1+1e-9) {
				t.Errorf("%v: error %g after %d rounds, %g before the last", shape, e, rounds, last)
			}
			last = e
			canonical(t, f.U)
		}
		f, err := lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{Rounds: 4000, Tolerance: 1e-14})
		if err != nil {
			t.Fatal(err)
		}
		slope := linalg.New(shape[0], shape[1])
		for i, p := range f.Product().Data {
			slope.Data[i] = weights.Data[i] * (w.Data[i] - p) / math.Sqrt(whole)
		}
		for name, m := range map[string]linalg.Matrix{"u": linalg.MulT(slope, f.V), "v": linalg.TMul(f.U, slope)} {
			for i, v := range m.Data {
				if math.Abs(v) > 1e-3 {
					t.Errorf("%v: the error falls by %g along element %d of %s", shape, v, i, name)
				}
			}
		}
		plain, err := lowrank.SVD(w, r)
		if err != nil {
			t.Fatal(err)
		}
		if e := weighted(w, weights, plain.Product()) / whole; f.Error > e {
			t.Errorf("%v: error %g, %g without weights", shape, f.Error, e)
		}

		// Weights of one row and one column each have a closed form.
		ofRow, ofCol := make([]float64, shape[0]), make([]float64, shape[1])
		scaled := linalg.New(shape[0], shape[1])
		for i := range weights.Data {
			row, col := i/shape[1], i%shape[1]
			ofRow[row], ofCol[col] = 1+math.Sin(float64(row))/2, 1+math.Cos(float64(col))/2
			weights.Data[i] = ofRow[row] * ofCol[col]
			scaled.Data[i] = math.Sqrt(ofRow[row]) * w.Data[i]
		}
		_, errs, _ := oracle(t, scaled, matrixtest.Diagonal(ofCol))
		f, err = lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(f.Error-errs[r-1]) > 1e-9 {
			t.Errorf("%v: error %g with separable weights, the best is %g", shape, f.Error, errs[r-1])
		}
	}
}
