package compress

import (
	"fmt"
	"slices"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// productRatios are the shares of a matrix's bytes at which products are considered.
var productRatios = []float64{0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95}

// rankMultiple is what ranks are rounded down to: whole vectors in the kernels.
const rankMultiple = 8

// lowRankForm stores two factors: lowrank.Weight.
type lowRankForm struct{}

// The methods of finding factors; whitened is the best there is where inputs are known.
const (
	methodSVD       = "svd"
	methodDiagonal  = "diagonal"
	methodWhitened  = "whitened"
	methodOutputPCA = "output_pca"
	methodDCT       = "dct"
	methodWeighted  = "weighted"
)

// Options implements Form.
func (lowRankForm) Options(out, in int, statistics bool) []Choice {
	return productOptions(formLowRank, lowrank.RankFor, out, in, statistics)
}

// productOptions returns a choice for each rank that ratios lead to, in bf16 and in int8.
func productOptions(form string, rankFor func(float64, int, int, int) int, out, in int, statistics bool) []Choice {
	method := methodSVD
	if statistics {
		method = methodWhitened
	}
	var all []Choice
	var ranks []int
	for _, ratio := range productRatios {
		r := rankFor(ratio, out, in, rankMultiple)
		if r == 0 || slices.Contains(ranks, r) {
			continue
		}
		ranks = append(ranks, r)
		for _, factors := range []string{"bf16", "int8"} {
			all = append(all, Choice{Form: form, Method: method, Rank: r, Factors: factors})
		}
	}
	return all
}

// Footprint implements Form.
func (lowRankForm) Footprint(out, in int, c Choice) (Footprint, error) {
	if err := c.checkRank(out, in); err != nil {
		return Footprint{}, err
	}
	return c.factors([2]int{out, c.Rank}, [2]int{c.Rank, in})
}

func (c Choice) checkRank(out, in int) error {
	if c.Rank < 1 || c.Rank > min(out, in) {
		return fmt.Errorf("rank %d for a matrix of %d x %d", c.Rank, out, in)
	}
	return nil
}

// factorNoise is the relative squared error that rounding both factors adds, by their type: hardly more than nothing beside
// what a rank that is worth choosing leaves. Measured on the matrices of a small trained model.
var factorNoise = map[string]float64{"bf16": 3e-6, "int8": 2.5e-5, "int4": 6.5e-3}

// Predict implements Form: all ranks follow from one decomposition.
func (lowRankForm) Predict(t *Target, c Choice) (float64, error) { return predictProduct(t, c) }

func predictProduct(t *Target, c Choice) (float64, error) {
	if c.Method != methodWhitened && (c.Method != methodSVD || t.Gram != nil) {
		f, err := factorize(t, c)
		if err != nil {
			return 0, err
		}
		return f.errorOf(t) + factorNoise[c.Factors], nil
	}
	s, err := t.Spectrum()
	if err != nil {
		return 0, err
	}
	return s.Error(c.Rank) + factorNoise[c.Factors], nil
}

// Make implements Form.
func (lowRankForm) Make(t *Target, c Choice) (layers.Weight, error) {
	f, err := factorize(t, c)
	if err != nil {
		return nil, err
	}
	return storeProduct(t, f.Factors, c.Factors)
}

// storeProduct returns factors for the target as they are stored.
func storeProduct(t *Target, f lowrank.Factors, kind string) (layers.Weight, error) {
	u, err := storeFactor(f.U, kind)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	v, err := storeFactor(f.V, kind)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	return lowrank.New(u, v)
}

// factors is what a method finds.
type factors struct{ lowrank.Factors }

// errorOf returns the error in the norm of the target, which need not be that of the method.
func (f factors) errorOf(t *Target) float64 {
	e := f.Product()
	for i, v := range t.W.Data {
		e.Data[i] = v - e.Data[i]
	}
	return sum(t.rowNorms(e)) / t.all().size(t)
}

// factorize finds factors as c says.
func factorize(t *Target, c Choice) (factors, error) {
	f, err := func() (lowrank.Factors, error) {
		known := t.Gram != nil || c.Method == methodDiagonal && t.Importance != nil
		if !known && slices.Contains([]string{methodDiagonal, methodOutputPCA, methodWhitened}, c.Method) {
			return lowrank.Factors{}, fmt.Errorf("method %s needs statistics of the inputs, and there are none", c.Method)
		}
		switch c.Method {
		case methodSVD:
			return lowrank.SVD(t.W, c.Rank)
		case methodDCT:
			f, _, err := lowrank.DCT(t.W, c.Rank)
			return f, err
		case methodDiagonal:
			scale, err := t.columnScale()
			if err != nil {
				return lowrank.Factors{}, err
			}
			return lowrank.Diagonal(t.W, scale, c.Rank)
		case methodWeighted:
			weights, err := t.elementWeights()
			if err != nil {
				return lowrank.Factors{}, err
			}
			if weights.Rows != t.W.Rows {
				return lowrank.Factors{}, fmt.Errorf("method %s needs a weight for every element, and there is one for each column (method %s takes those)", c.Method, methodDiagonal)
			}
			return lowrank.Weighted(t.W, weights, c.Rank, lowrank.WeightedOptions{})
		case methodOutputPCA:
			f, _, err := lowrank.OutputPCA(t.W, t.Gram, c.Rank, false)
			return f, err
		case methodWhitened:
			if t.spectrum != nil {
				return t.spectrum.Factors(c.Rank)
			}
			return lowrank.Whitened(t.W, t.Gram, c.Rank)
		}
		return lowrank.Factors{}, fmt.Errorf("method %q is unknown", c.Method)
	}()
	if err != nil {
		err = fmt.Errorf("compress %s: %w", t.Name, err)
	}
	return factors{f}, err
}

// storeFactor returns a factor as it is stored.
func storeFactor(m linalg.Matrix, kind string) (layers.Weight, error) {
	r, err := factorType(kind)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return layers.NewMatrix(m.Data, m.Rows, m.Cols, kernels.BF16)
	}
	return r.Quantize(m.Float32s(), m.Rows, nil)
}

// pifaForm stores the rows that span the others, and how: lowrank.PIFA.
type pifaForm struct{}

// Options implements Form.
func (pifaForm) Options(out, in int, statistics bool) []Choice {
	return productOptions(formPIFA, lowrank.PIFARankFor, out, in, statistics)
}

// Footprint implements Form.
func (pifaForm) Footprint(out, in int, c Choice) (Footprint, error) {
	if err := c.checkRank(out, in); err != nil {
		return Footprint{}, err
	}
	f, err := c.factors([2]int{c.Rank, in}, [2]int{out - c.Rank, c.Rank})
	f.Indices, f.Derived = c.Rank, out-c.Rank
	return f, err
}

// Predict implements Form.
func (pifaForm) Predict(t *Target, c Choice) (float64, error) { return predictProduct(t, c) }

// Make implements Form.
func (pifaForm) Make(t *Target, c Choice) (layers.Weight, error) {
	f, err := factorize(t, c)
	if err != nil {
		return nil, err
	}
	pivots, v, k, err := lowrank.EncodePIFA(f.Factors)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	stored := make([]layers.Weight, 2)
	for i, m := range []linalg.Matrix{v, k} {
		if stored[i], err = storeFactor(m, c.Factors); err != nil {
			return nil, fmt.Errorf("compress %s: %w", t.Name, err)
		}
	}
	return lowrank.NewPIFA(pivots, stored[0], stored[1])
}
