package lowrank_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestDCT computes the transform as the sum that defines it.
func TestDCT(t *testing.T) {
	for _, shape := range shapes {
		rng := rand.New(rand.NewPCG(9, uint64(shape[0])))
		w := matrixtest.Random(rng, shape[0], shape[1])
		n := shape[1]
		s, norms := linalg.New(shape[0], n), make([]float64, n)
		var whole float64
		for i := range shape[0] {
			for k := range n {
				scale := math.Sqrt(2 / float64(n))
				if k == 0 {
					scale = math.Sqrt(1 / float64(n))
				}
				for j := range n {
					s.Data[i*n+k] += scale * w.Data[i*n+j] * math.Cos(math.Pi*float64(k)*(2*float64(j)+1)/(2*float64(n)))
				}
				norms[k] += s.Data[i*n+k] * s.Data[i*n+k]
				whole += s.Data[i*n+k] * s.Data[i*n+k]
			}
		}
		for r := 1; r <= min(shape[0], n); r++ {
			f, columns, err := lowrank.DCT(w, r)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "v·vᵀ", linalg.MulT(f.V, f.V).Data, matrixtest.Identity(r).Data, 1e-12)
			left, least := whole, math.Inf(1)
			for k, c := range columns {
				left -= norms[c]
				least = min(least, norms[c])
				for i := range shape[0] {
					if d := f.U.Data[i*r+k] - s.Data[i*n+c]; math.Abs(d) > 1e-12 {
						t.Fatalf("%v: (%d, %d) of u is off by %g", shape, i, k, d)
					}
				}
			}
			for k, v := range norms {
				if v > least+1e-12 && !slices.Contains(columns, k) {
					t.Errorf("%v, rank %d: column %d has norm %g and is not among %v", shape, r, k, v, columns)
				}
			}
			if math.Abs(f.Error-left/whole) > 1e-12 {
				t.Errorf("%v, rank %d: error %g, want %g", shape, r, f.Error, left/whole)
			}
			if math.Abs(lowrank.RelativeError(w, f.Product(), matrixtest.Identity(n))-f.Error) > 1e-12 {
				t.Errorf("%v, rank %d: the product has another error than %g", shape, r, f.Error)
			}
		}
	}
}
