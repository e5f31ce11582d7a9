package compress

import (
	"fmt"

	"eckart/layers"
	"eckart/layers/lowrank"
)

// jointForm stores factors of matrices that read one input, of which the second is the same for all: lowrank.Weight. All
// matrices of the input have the same choice, whose rank is that of them below one another. Of an input that a single
// matrix reads it is lowRankForm.
type jointForm struct{}

// largestJoint is the most elements of matrices below one another that a planner considers joint factors for. For more they
// take as long to decompose as all else that is predicted, and are seldom best: of gopher-dense at 3 bits and below alone.
const largestJoint = 4 << 20

// Options implements Form, for all matrices of an input below one another.
func (jointForm) Options(out, in int, statistics bool) []Choice {
	if out*in > largestJoint {
		return nil
	}
	return productOptions(formJoint, lowrank.RankFor, out, in, statistics)
}

// Footprint implements Form. The rank may be larger than the rows of a matrix that others stand beside.
func (jointForm) Footprint(out, in int, c Choice) (Footprint, error) {
	if err := c.checkRank(in, in); err != nil {
		return Footprint{}, err
	}
	f, err := c.factors([2]int{out, c.Rank})
	if err != nil {
		return f, err
	}
	v, err := c.factors([2]int{c.Rank, in})
	f.Shared = v.Matrices
	return f, err
}

// check returns an error where the choice's method is not the one that there is.
func (jointForm) check(t *Target, c Choice) error {
	want := methodWhitened
	if t.Gram == nil {
		want = methodSVD
	}
	if c.Method != want {
		return fmt.Errorf("compress %s: joint factors by method %s, want %s (whitened with statistics of the inputs, else svd)", t.Name, c.Method, want)
	}
	return nil
}

// Predict implements Form: all ranks follow from one decomposition.
func (f jointForm) Predict(t *Target, c Choice) (float64, error) {
	if err := f.check(t, c); err != nil {
		return 0, err
	}
	s, err := t.joint()
	if err != nil {
		return 0, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	if c.Rank > s.Rank() {
		return 0, fmt.Errorf("compress %s: joint factors of rank %d, of %d directions", t.Name, c.Rank, s.Rank())
	}
	return s.Error(t.index, c.Rank) + factorNoise[c.Factors], nil
}

// Make implements Form.
func (f jointForm) Make(t *Target, c Choice) (layers.Weight, error) {
	if err := f.check(t, c); err != nil {
		return nil, err
	}
	fail := func(err error) (layers.Weight, error) { return nil, fmt.Errorf("compress %s: %w", t.Name, err) }
	u, v, err := t.jointFactors(c.Rank)
	if err != nil {
		return fail(err)
	}
	left, err := storeFactor(u, c.Factors)
	if err != nil {
		return fail(err)
	}
	right, err := t.common(c, func() (layers.Weight, error) { return storeFactor(v, c.Factors) })
	if err != nil {
		return fail(err)
	}
	return lowrank.New(left, right)
}
