package lowrank_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestCentre holds the bias of centring against the inputs themselves: with it the results of the factors are those of the
// matrix in the mean, it never hurts, and the directions are the best for what is left.
func TestCentre(t *testing.T) {
	for _, shape := range shapes[:3] {
		rng := rand.New(rand.NewPCG(6, uint64(shape[0])))
		w, x := matrixtest.Random(rng, shape[0], shape[1]), matrixtest.Inputs(rng, 50, shape[1], 2)
		mean := meanOf(x)
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, mean, 0)
		if err != nil {
			t.Fatal(err)
		}
		centred := linalg.New(x.Rows, x.Cols)
		for i, v := range x.Data {
			centred.Data[i] = v - mean[i%x.Cols]
		}
		best, _, energy := oracle(t, w, linalg.TMul(centred, centred))
		want := linalg.MulT(x, w)
		var whole float64
		for _, v := range want.Data {
			whole += v * v
		}
		for r := 1; r <= min(shape[0], shape[1]); r++ {
			f, bias, err := lowrank.OutputPCA(w, g, r, true)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "product", f.Product().Data, best[r-1].RawMatrix().Data, 1e-8)
			near(t, "energy", f.Energy, energy, 1e-10)
			near(t, "uᵀ·u", linalg.TMul(f.U, f.U).Data, matrixtest.Identity(r).Data, 1e-10)
			got := linalg.MulT(linalg.MulT(x, f.V), f.U)
			var left float64
			off := make([]float64, shape[0])
			for i, v := range got.Data {
				d := want.Data[i] - v - bias[i%shape[0]]
				left += d * d
				off[i%shape[0]] += d / float64(x.Rows)
			}
			for i, v := range off {
				if math.Abs(v) > 1e-10 {
					t.Errorf("%v, rank %d: result %d is off by %g in the mean", shape, r, i, v)
				}
			}
			if math.Abs(f.Error-left/whole) > 1e-12 {
				t.Errorf("%v, rank %d: error %g, on the inputs %g", shape, r, f.Error, left/whole)
			}
			plain, _, err := lowrank.OutputPCA(w, g, r, false)
			if err != nil {
				t.Fatal(err)
			}
			if f.Error > plain.Error+1e-12 {
				t.Errorf("%v, rank %d: error %g with a bias, %g without", shape, r, f.Error, plain.Error)
			}
		}
	}
	g, err := lowrank.NewGram(matrixtest.Identity(3), 3, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := lowrank.OutputPCA(matrixtest.Identity(3), g, 1, true); err == nil {
		t.Error("centred without a mean")
	}
}
