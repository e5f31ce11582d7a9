package lowrank_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// TestStore rounds factors to what is stored: products differ by no more than that.
func TestStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	for _, shape := range [][2]int{{40, 24}, {24, 40}, {24, 24}} {
		w := matrixtest.Random(rng, shape[0], shape[1])
		for _, r := range []int{1, 10, 24} {
			f, err := lowrank.SVD(w, r)
			if err != nil {
				t.Fatal(err)
			}
			want := f.Product()
			for bound, stored := range map[float64]func() (layers.Weight, error){
				1e-6: func() (layers.Weight, error) { return f.Store(kernels.F32) },
				4e-3: func() (layers.Weight, error) { return f.Store(kernels.BF16) },
				5e-4: func() (layers.Weight, error) { return f.StoreNested(kernels.F16) },
				2e-2: func() (layers.Weight, error) { return f.StorePIFA(kernels.BF16) },
				2e-6: func() (layers.Weight, error) { return f.StorePIFA(kernels.F32) },
				1e-2: func() (layers.Weight, error) {
					return f.Quantize(layers.Rounding{Bits: 8, Group: 32, ScaleType: kernels.F32})
				},
			} {
				got, err := stored()
				if err != nil {
					t.Fatal(err)
				}
				dense, err := got.Dense()
				if err != nil {
					t.Fatal(err)
				}
				approx := linalg.New(shape[0], shape[1])
				for i, v := range dense {
					approx.Data[i] = float64(v)
				}
				if e := math.Sqrt(lowrank.RelativeError(want, approx, matrixtest.Identity(shape[1]))); !(e < bound) {
					t.Errorf("%s of %v, rank %d: off by %g, more than %g", got.Kind(), shape, r, e, bound)
				}
			}
		}
	}
	f, err := lowrank.SVD(linalg.Matrix{Rows: 2, Cols: 2, Data: []float64{1e12, 0, 0, 1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Store(kernels.F16)
	matrixtest.Refuses(t, err, "part u: row 0: the number of column 0 is 1e+06, which f16 does not hold")
	_, err = lowrank.Factors{U: f.U, V: f.V}.StoreNested(kernels.F32)
	matrixtest.Refuses(t, err, "the energy of 0 directions is known, want 1")
}
