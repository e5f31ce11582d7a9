package compress

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

// wideInputs is the number of inputs beyond which what takes its cube of operations is done as seldom as can be.
const wideInputs = 4096

// residualForm stores codes of few bits and a product that makes up for a part of their error: layers.Sum.
type residualForm struct{}

// Options implements Form.
func (residualForm) Options(out, in int, statistics bool) []Choice {
	if !statistics {
		return nil
	}
	ranks := []int{8, 16, 32, 64}
	if in > wideInputs { // for each of them the Gram matrix is decomposed
		ranks = []int{32}
	}
	var all []Choice
	for _, bits := range []int{4, 3, 2} {
		for _, rank := range ranks {
			if 8*rank > min(out, in) {
				continue
			}
			all = append(all, Choice{Form: formResidual, Bits: bits, Group: 32, Rank: rank, Factors: "int8", Method: methodIntrinsic})
		}
	}
	return all
}

// Footprint implements Form.
func (residualForm) Footprint(out, in int, c Choice) (Footprint, error) {
	r, err := c.rounding(out, in)
	if err == nil {
		err = c.checkRank(out, in)
	}
	if err != nil {
		return Footprint{}, err
	}
	f, err := c.factors([2]int{out, c.Rank}, [2]int{c.Rank, in})
	if err == nil && c.Method == methodIntrinsic { // the inputs' own directions, whatever the matrix
		f.Shared, f.Matrices = f.Matrices[1:], f.Matrices[:1:1]
	}
	f.Matrices = append(f.Matrices, Stored{out, in, &r})
	return f, err
}

// Predict implements Form. A residual whose inputs are known first is found row by row; the others need the whole matrix.
func (f residualForm) Predict(t *Target, c Choice) (float64, error) {
	if c.Method == methodIntrinsic && t.Gram != nil {
		v, left, err := t.Gram.DeflateLeading(c.Rank)
		if err != nil {
			return 0, fmt.Errorf("compress %s: %w", t.Name, err)
		}
		return t.predictFeedback(c, left, v)
	}
	s := t.all()
	base, p, err := f.solve(t, s.rows, c)
	if err != nil {
		return 0, err
	}
	dense, err := base.Dense()
	if err != nil {
		return 0, layers.Named(err, t.Name)
	}
	for i, v := range p.Product().Data {
		dense[i] += float32(v)
	}
	return s.relative(t, dense)
}

// Make implements Form.
func (f residualForm) Make(t *Target, c Choice) (layers.Weight, error) {
	base, p, err := f.solve(t, t.W, c)
	if err != nil {
		return nil, err
	}
	store := func() (layers.Weight, error) { return storeFactor(p.V, c.Factors) }
	u, err := storeFactor(p.U, c.Factors)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	var v layers.Weight
	if c.Method == methodIntrinsic {
		v, err = t.common(c, store)
	} else {
		v, err = store()
	}
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	product, err := lowrank.New(u, v)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	return layers.NewSum(base, product)
}

// solve finds base and residual for rows of the target's matrix.
func (residualForm) solve(t *Target, w linalg.Matrix, c Choice) (*layers.Grouped, lowrank.Factors, error) {
	fail := func(err error) (*layers.Grouped, lowrank.Factors, error) {
		return nil, lowrank.Factors{}, fmt.Errorf("compress %s: %w", t.Name, layers.Named(err, t.Name))
	}
	if t.Gram == nil {
		return fail(fmt.Errorf("a residual needs statistics of the inputs, and there are none"))
	}
	r, err := c.rounding(w.Rows, w.Cols)
	if err != nil {
		return fail(err)
	}
	q := quantizer(methodFeedback, r, t.Gram)
	if c.Method == methodEoRANear || c.Method == methodAlternatedNear {
		q = quantizer(methodNearest, r, t.Gram)
	}
	var base *layers.Grouped
	var f lowrank.Factors
	switch c.Method {
	case methodIntrinsic:
		base, f, err = residual.Intrinsic(w, t.Gram, c.Rank, q)
	case methodRefined:
		base, f, err = residual.Refined(w, t.Gram, c.Rank, max(1, c.Rounds), q)
	case methodEoRA, methodEoRANear: // no round of alternation follows the first residual
		base, f, err = residual.Alternate(w, t.Gram, c.Rank, 0, q, lowrank.Factors{})
	case methodAlternated, methodAlternatedNear:
		base, f, err = residual.Alternate(w, t.Gram, c.Rank, max(1, c.Rounds), q, lowrank.Factors{})
	default:
		err = fmt.Errorf("method %q is unknown", c.Method)
	}
	if err != nil {
		return fail(err)
	}
	return base, f, nil
}
