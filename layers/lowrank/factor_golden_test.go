package lowrank_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
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

// A module is a linear of layer 3 of gopher-dense.
type module struct {
	name    string
	w, gram linalg.Matrix
}

// goldenModules returns the modules of which the goldens hold Gram matrices, and the errors by method@setting and module.
func goldenModules(t *testing.T) ([]module, map[string]map[string]float64) {
	t.Helper()
	raw, err := os.ReadFile(shared + "golden/compression/modules.json")
	if err != nil {
		t.Skip("no shared goldens beside the repository")
	}
	var want map[string]map[string]float64
	if err := json.Unmarshal(raw, &want); err != nil {
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
	var modules []module
	for _, name := range grams.Names() {
		name = strings.TrimSuffix(name, ".gram")
		modules = append(modules, module{name, readMatrix(t, model, name+".weight"), readMatrix(t, grams, name+".gram")})
	}
	return modules, want
}

const goldenTokens = 65536

// TestGoldenErrors holds the errors of whole matrices against those of an independent float64 implementation, within 0.5 %.
func TestGoldenErrors(t *testing.T) {
	modules, want := goldenModules(t)
	methods := map[string]func(w linalg.Matrix, g, raw *lowrank.Gram, r int) (lowrank.Factors, error){
		"svd": func(w linalg.Matrix, _, _ *lowrank.Gram, r int) (lowrank.Factors, error) { return lowrank.SVD(w, r) },
		"diagonal": func(w linalg.Matrix, g, _ *lowrank.Gram, r int) (lowrank.Factors, error) {
			return lowrank.Diagonal(w, g.Diagonal(), r)
		},
		"whitened": func(w linalg.Matrix, g, _ *lowrank.Gram, r int) (lowrank.Factors, error) {
			return lowrank.Whitened(w, g, r)
		},
		"output_pca": func(w linalg.Matrix, _, raw *lowrank.Gram, r int) (lowrank.Factors, error) {
			f, _, err := lowrank.OutputPCA(w, raw, r, false)
			return f, err
		},
		"dct": func(w linalg.Matrix, _, _ *lowrank.Gram, r int) (lowrank.Factors, error) {
			f, _, err := lowrank.DCT(w, r)
			return f, err
		},
	}
	for _, m := range modules {
		shrunk, err := lowrank.NewGram(m.gram, goldenTokens, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := lowrank.NewGram(m.gram, goldenTokens, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, ratio := range []float64{0.8, 0.7, 0.6, 0.5} {
			for _, name := range slices.Sorted(maps.Keys(methods)) {
				f, err := methods[name](m.w, shrunk, raw, lowrank.RankFor(ratio, m.w.Rows, m.w.Cols, 8))
				if err != nil {
					t.Fatalf("%s of %s: %v", name, m.name, err)
				}
				setting := fmt.Sprintf("%s@%g", name, ratio)
				got, want := lowrank.RelativeError(m.w, f.Product(), m.gram), want[setting][m.name]
				t.Logf("%-16s %-36s rank %3d: %.6f, golden %.6f (%+.3f %%)", setting, m.name, f.Rank(), got, want, 100*(got/want-1))
				if !(got <= 1.005*want && got >= 0.995*want) {
					t.Errorf("%s of %s, rank %d: error %.6f, golden %.6f", setting, m.name, f.Rank(), got, want)
				}
			}
		}
	}
}
