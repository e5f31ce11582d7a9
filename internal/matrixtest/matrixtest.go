// Package matrixtest has matrices for tests of what factorizes and rounds them: random ones, and those of a trained model
// with the errors that an independent implementation reaches on them.
package matrixtest

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// Random returns a matrix (rows, cols) of independent normal numbers.
func Random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = rng.NormFloat64()
	}
	return m
}

// Inputs returns inputs (tokens, n) that depend on one another and differ in size, as those of a model do, with a part of mean
// times a mean.
func Inputs(rng *rand.Rand, tokens, n int, mean float64) linalg.Matrix {
	x := linalg.Mul(Random(rng, tokens, n), Random(rng, n, n))
	for i := range x.Data {
		j := i % n
		x.Data[i] = (x.Data[i] + mean*math.Sin(float64(j))) * math.Exp(-3*float64(j*7%n)/float64(n))
	}
	return x
}

// Identity returns the identity (n, n).
func Identity(n int) linalg.Matrix { return Diagonal(slices.Repeat([]float64{1}, n)) }

// Diagonal returns the matrix with d on the diagonal.
func Diagonal(d []float64) linalg.Matrix {
	m := linalg.New(len(d), len(d))
	for i, v := range d {
		m.Data[i*(len(d)+1)] = v
	}
	return m
}

// Of returns the matrix that a weight stands for.
func Of(t testing.TB, w layers.Weight) linalg.Matrix {
	t.Helper()
	values, err := w.Dense()
	if err != nil {
		t.Fatal(err)
	}
	out, in := w.Dims()
	return linalg.FromFloat32s(values, out, in)
}

// Refuses fails unless err says want.
func Refuses(t testing.TB, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// A Module is a matrix of layer 3 of gopher-dense, with the sum of products of its inputs over GoldenTokens tokens.
type Module struct {
	Name    string // without ".weight"
	W, Gram linalg.Matrix
}

// GoldenTokens are the tokens that the Gram matrices of Golden are sums over.
const GoldenTokens = 65536

// Golden returns the modules of which goldens beside the repository hold Gram matrices, and the errors that an independent
// float64 implementation reaches, by method@setting and module. It skips the test where there are none. root is the way to
// the repository.
func Golden(t *testing.T, root string) ([]Module, map[string]map[string]float64) {
	t.Helper()
	shared := root + "/../shared/"
	raw, err := os.ReadFile(shared + "golden/compression/modules.json")
	if err != nil {
		t.Skip("no shared goldens beside the repository")
	}
	var errs map[string]map[string]float64
	if err := json.Unmarshal(raw, &errs); err != nil {
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
	var modules []Module
	for _, name := range grams.Names() {
		name = strings.TrimSuffix(name, ".gram")
		modules = append(modules, Module{name, read(t, model, name+".weight"), read(t, grams, name+".gram")})
	}
	return modules, errs
}

// read returns a tensor of a checkpoint.
func read(t *testing.T, c *checkpoint.Checkpoint, name string) linalg.Matrix {
	t.Helper()
	tensor, ok := c.Tensor(name)
	if !ok || len(tensor.Shape) != 2 {
		t.Fatalf("%s: no matrix of that name", name)
	}
	raw := make([]byte, tensor.Bytes())
	if err := c.ReadAt(raw, tensor, 0); err != nil {
		t.Fatal(err)
	}
	types := map[checkpoint.DType]kernels.DType{checkpoint.F32: kernels.F32, checkpoint.BF16: kernels.BF16}
	return linalg.FromFloat32s(layers.Float32s(raw, types[tensor.Type]), tensor.Shape[0], tensor.Shape[1])
}
