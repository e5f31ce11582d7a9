package residual_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
	"eckart/model/checkpoint"
)

// shared is where goldens that are not part of the repository lie, beside it.
const shared = "../../../shared/"

// readMatrix returns a tensor of a checkpoint.
func readMatrix(t *testing.T, c *checkpoint.Checkpoint, name string) linalg.Matrix {
	t.Helper()
	tensor, ok := c.Tensor(name)
	if !ok || len(tensor.Shape) != 2 {
		t.Fatalf("%s: no matrix of that name", name)
	}
	raw := make([]byte, tensor.Bytes())
	if err := c.ReadAt(raw, tensor, 0); err != nil {
		t.Fatal(err)
	}
	m := linalg.New(tensor.Shape[0], tensor.Shape[1])
	for i, v := range layers.Float32s(raw, map[checkpoint.DType]kernels.DType{checkpoint.F32: kernels.F32, checkpoint.BF16: kernels.BF16}[tensor.Type]) {
		m.Data[i] = float64(v)
	}
	return m
}

// TestGoldenErrors holds the errors of whole matrices against those of an independent float64 implementation, whose grids
// are not searched: ours must match within 0.5 % or do better.
func TestGoldenErrors(t *testing.T) {
	raw, err := os.ReadFile(shared + "golden/compression/modules.json")
	if err != nil {
		t.Skip("no shared goldens beside the repository")
	}
	var golden map[string]map[string]float64
	if err := json.Unmarshal(raw, &golden); err != nil {
		t.Fatal(err)
	}
	open := func(path string) *checkpoint.Checkpoint {
		c, err := checkpoint.Open(shared + path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	grams, model := open("golden/compression/grams_layer3.safetensors"), open("models/gopher-dense")
	for _, name := range grams.Names() {
		name = strings.TrimSuffix(name, ".gram")
		w, sum := readMatrix(t, model, name+".weight"), readMatrix(t, grams, name+".gram")
		if testing.Short() && !strings.HasSuffix(name, "v_proj") {
			continue
		}
		g, err := lowrank.NewGram(sum, 65536, nil, 0.01)
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
