package residual_test

import (
	"fmt"
	"strings"
	"testing"

	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

// TestGoldenErrors holds the errors of whole matrices against those of an independent float64 implementation, whose grids
// are not searched: ours must match within 0.5 % or do better.
func TestGoldenErrors(t *testing.T) {
	modules, golden := matrixtest.Golden(t, "../..")
	for _, m := range modules {
		name, w, sum := m.Name, m.W, m.Gram
		if testing.Short() && !strings.HasSuffix(name, "v_proj") {
			continue
		}
		g, err := lowrank.NewGram(sum, matrixtest.GoldenTokens, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		check := func(setting string, base *layers.Grouped, f lowrank.Factors, err error) {
			t.Helper()
			if err != nil {
				t.Fatalf("%s of %s: %v", setting, name, err)
			}
			values, err := base.Dense()
			if err != nil {
				t.Fatal(err)
			}
			approx := f.Product()
			for i, v := range values {
				approx.Data[i] += float64(v)
			}
			got, want := lowrank.RelativeError(w, approx, sum), golden[setting][name]
			t.Logf("%-30s %-36s %.6f, golden %.6f (%+.2f %%)", setting, name, got, want, 100*(got/want-1))
			if !(got <= 1.005*want) {
				t.Errorf("%s of %s: error %.6f, golden %.6f", setting, name, got, want)
			}
		}
		for _, bits := range []int{4, 3, 2} {
			format := layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
			rtn, gptq := residual.Rounded(format), residual.WithFeedback(layers.Feedback{Rounding: format})
			for _, r := range []int{8, 16, 32} {
				if r != 16 && strings.Contains(name, "mlp") {
					continue // the larger matrices: enough time is spent on them at one rank
				}
				at := func(method string) string { return fmt.Sprintf("int%d+%s@%d", bits, method, r) }
				base, f, err := residual.Alternate(w, g, r, 0, rtn, lowrank.Factors{})
				check(at("rtn_eora"), base, f, err)
				base, f, err = residual.Alternate(w, g, r, 0, gptq, lowrank.Factors{})
				check(at("gptq_eora"), base, f, err)
				base, intrinsic, err := residual.Intrinsic(w, g, r, gptq)
				check(at("intrinsic"), base, intrinsic, err)
				if r != 16 {
					continue
				}
				base, f, err = residual.Alternate(w, g, r, 5, rtn, lowrank.Factors{})
				check(at("rtn_alternated5"), base, f, err)
				base, f, err = residual.Alternate(w, g, r, 2, gptq, lowrank.Factors{})
				check(at("gptq_alternated2"), base, f, err)
				base, f, err = residual.Alternate(w, g, r, 2, gptq, intrinsic)
				check(at("intrinsic_alternated2"), base, f, err)
				base, f, err = residual.Refined(w, g, r, 2, gptq)
				check(at("intrinsic_alternated2"), base, f, err) // the same rounds in another way
			}
		}
	}
}
