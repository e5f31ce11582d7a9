package lowrank

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
)

// store returns m rounded to t, held in memory.
func store(part string, m linalg.Matrix, t kernels.DType) (*layers.Dense, error) {
	d, err := layers.NewMatrix(m.Data, m.Rows, m.Cols, t)
	if err != nil {
		return nil, layers.InPart(err, part)
	}
	return d, nil
}

// Store returns the factors as a weight, rounded to t, F32, F16 or BF16.
func (f Factors) Store(t kernels.DType) (*Weight, error) {
	u, err := store("u", f.U, t)
	if err != nil {
		return nil, err
	}
	v, err := store("v", f.V, t)
	if err != nil {
		return nil, err
	}
	return New(u, v)
}

// StoreNested returns the factors as a weight whose rank can be cut at load, rounded to t. Energy must hold a number for each
// direction.
func (f Factors) StoreNested(t kernels.DType) (*Nested, error) {
	if len(f.Energy) < f.Rank() {
		return nil, fmt.Errorf("nested factors: the energy of %d directions is known, want %d", len(f.Energy), f.Rank())
	}
	ut, err := store("ut", f.U.Transpose(), t)
	if err != nil {
		return nil, err
	}
	v, err := store("v", f.V, t)
	if err != nil {
		return nil, err
	}
	energy := make([]float32, f.Rank())
	for i := range energy {
		energy[i] = float32(f.Energy[i])
	}
	return NewNested(ut.Parts()[0], v.Parts()[0], energy)
}

// StorePIFA returns the product in the encoding of EncodePIFA, rounded to t.
func (f Factors) StorePIFA(t kernels.DType) (*PIFA, error) {
	pivots, v, k, err := EncodePIFA(f)
	if err != nil {
		return nil, err
	}
	storedV, err := store("v", v, t)
	if err != nil {
		return nil, err
	}
	storedK, err := store("k", k, t)
	if err != nil {
		return nil, err
	}
	return NewPIFA(pivots, storedV, storedK)
}

// Quantize returns the factors as a weight whose factors are both rounded to codes, all columns of a factor alike. At 8 bits
// that costs nothing (weight-compression.md 12).
func (f Factors) Quantize(r layers.Rounding) (*Weight, error) {
	u, err := r.Quantize(float32s(f.U), f.U.Rows, nil)
	if err != nil {
		return nil, layers.InPart(err, "u")
	}
	v, err := r.Quantize(float32s(f.V), f.V.Rows, nil)
	if err != nil {
		return nil, layers.InPart(err, "v")
	}
	return New(u, v)
}

func float32s(m linalg.Matrix) []float32 {
	s := make([]float32, len(m.Data))
	for i, v := range m.Data {
		s[i] = float32(v)
	}
	return s
}
