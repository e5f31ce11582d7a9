package compress

import (
	"fmt"

	"eckart/kernels"
	"eckart/layers"
)

// nestedForm stores factors in order of importance, whose rank can be cut when the model is loaded: lowrank.Nested. For the
// same rank it takes what lowrank takes, so that a planner that is asked for a size has no use for it: it is chosen by
// --method alone.
type nestedForm struct{ lowRankForm }

// Options implements Form.
func (nestedForm) Options(int, int, bool) []Choice { return nil }

// Footprint implements Form.
func (f nestedForm) Footprint(out, in int, c Choice) (Footprint, error) {
	if c.Factors != "bf16" {
		return Footprint{}, fmt.Errorf("nested factors of type %q (bf16 is known)", c.Factors)
	}
	if c.Method != methodWhitened && c.Method != methodSVD {
		return Footprint{}, fmt.Errorf("nested factors by method %q, which does not order them (%s and %s do)", c.Method, methodWhitened, methodSVD)
	}
	size, err := f.lowRankForm.Footprint(out, in, c)
	size.Indices = c.Rank // what each direction stands for, in F32
	return size, err
}

// Make implements Form.
func (nestedForm) Make(t *Target, c Choice) (layers.Weight, error) {
	f, err := factorize(t, c)
	if err != nil {
		return nil, err
	}
	w, err := f.StoreNested(kernels.BF16)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	return w, nil
}
