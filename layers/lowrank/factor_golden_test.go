package lowrank_test

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers/lowrank"
)

// TestGoldenErrors holds the errors of whole matrices against those of an independent float64 implementation.
func TestGoldenErrors(t *testing.T) {
	modules, want := matrixtest.Golden(t, "../..")
	for _, m := range modules {
		if testing.Short() && !strings.Contains(m.Name, "mlp") {
			continue
		}
		shrunk, err := lowrank.NewGram(m.Gram, matrixtest.GoldenTokens, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		plain, err := lowrank.Decompose(m.W, nil)
		if err != nil {
			t.Fatal(err)
		}
		whitened, err := lowrank.Decompose(m.W, shrunk)
		if err != nil {
			t.Fatal(err)
		}
		methods := map[string]func(r int) (lowrank.Factors, error){
			"svd":      plain.Factors,
			"diagonal": func(r int) (lowrank.Factors, error) { return lowrank.Diagonal(m.W, shrunk.Diagonal(), r) },
			"whitened": whitened.Factors,
			"output_pca": func(r int) (lowrank.Factors, error) {
				f, _, err := lowrank.OutputPCA(m.W, shrunk, r, false)
				return f, err
			},
			"dct": func(r int) (lowrank.Factors, error) {
				f, _, err := lowrank.DCT(m.W, r)
				return f, err
			},
		}
		check := func(method string, ratio float64, r int, product linalg.Matrix) {
			t.Helper()
			setting := fmt.Sprintf("%s@%g", method, ratio)
			got, want := lowrank.RelativeError(m.W, product, m.Gram), want[setting][m.Name]
			t.Logf("%-16s %-36s rank %3d: %.6f, golden %.6f (%+.3f %%)", setting, m.Name, r, got, want, 100*(got/want-1))
			if !(math.Abs(got-want) <= 1e-4*want) {
				t.Errorf("%s of %s, rank %d: error %.6f, golden %.6f", setting, m.Name, r, got, want)
			}
		}
		out, in := m.W.Rows, m.W.Cols
		for _, ratio := range []float64{0.8, 0.7, 0.6, 0.5} {
			for _, name := range slices.Sorted(maps.Keys(methods)) {
				r := lowrank.RankFor(ratio, out, in, 8)
				f, err := methods[name](r)
				if err != nil {
					t.Fatalf("%s of %s: %v", name, m.Name, err)
				}
				check(name, ratio, r, f.Product())
			}
		}
		// The goldens say only in the mean what a pivoted encoding reaches. At 0.6 its rank is that of factors at 0.7, for all
		// these shapes, and so is its error.
		r := lowrank.PIFARankFor(0.6, out, in, 8)
		f, err := whitened.Factors(r)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := f.StorePIFA(kernels.F32)
		if err != nil {
			t.Fatal(err)
		}
		check("whitened", 0.7, r, matrixtest.Of(t, encoded))
	}
}
