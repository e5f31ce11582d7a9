package compress

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

// The methods of rounding.
const (
	methodNearest  = "nearest"  // round to nearest on a searched grid; errors weighed by the size of inputs where it is known
	methodFeedback = "feedback" // GPTQ: the error of a column is made up for by those after it
)

// roundForm stores codes of few bits: layers.Grouped.
type roundForm struct{}

// Options implements Form.
func (roundForm) Options(out, in int, statistics bool) []Choice {
	method := methodNearest
	if statistics {
		method = methodFeedback
	}
	var all []Choice
	for _, g := range []struct{ bits, group int }{{8, 128}, {4, 32}, {4, 64}, {4, 128}, {3, 32}, {3, 64}, {3, 128}, {2, 32}} {
		if g.group <= in || g.group == kernels.GroupedBlock {
			all = append(all, Choice{Form: formRound, Method: method, Bits: g.bits, Group: g.group})
		}
	}
	return all
}

// Footprint implements Form.
func (roundForm) Footprint(out, in int, c Choice) (Footprint, error) {
	r, err := c.rounding(out, in)
	return Footprint{Matrices: []Stored{{out, in, &r}}}, err
}

// rounding returns how the codes of c are found, for a matrix (out, in).
func (c Choice) rounding(out, in int) (layers.Rounding, error) {
	r := layers.Rounding{Bits: c.Bits, Group: c.Group, ScaleType: kernels.F16, Zeros: c.Zeros}
	if c.Form == formRound && c.Method != methodNearest && c.Method != methodFeedback {
		return r, fmt.Errorf("method %q (%s and %s are known)", c.Method, methodNearest, methodFeedback)
	}
	return r, r.Format(out, in).Check()
}

// Predict implements Form. Rows are rounded independently of one another, so that some stand for all.
func (f roundForm) Predict(t *Target, c Choice) (float64, error) {
	if t.Gram != nil && c.Method == methodFeedback {
		return t.predictFeedback(c, t.Gram, linalg.Matrix{})
	}
	s := t.sample()
	w, err := roundMatrix(t, s.rows, c)
	if err != nil {
		return 0, err
	}
	dense, err := w.Dense()
	if err != nil {
		return 0, layers.Named(err, t.Name)
	}
	return s.relative(t, dense)
}

// Make implements Form.
func (roundForm) Make(t *Target, c Choice) (layers.Weight, error) { return roundMatrix(t, t.W, c) }

// roundMatrix rounds rows of the target's matrix as c says.
func roundMatrix(t *Target, rows linalg.Matrix, c Choice) (*layers.Grouped, error) {
	r, err := c.rounding(rows.Rows, rows.Cols)
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	var w *layers.Grouped
	if t.Gram == nil {
		w, err = r.Quantize(rows.Float32s(), rows.Rows, nil)
	} else {
		w, err = quantizer(c.Method, r, t.Gram)(rows, t.Gram)
	}
	if err != nil {
		return nil, fmt.Errorf("compress %s: %w", t.Name, layers.Named(err, t.Name))
	}
	return w, nil
}

// quantizer returns what rounds by a method for inputs that g knows.
func quantizer(method string, r layers.Rounding, g *lowrank.Gram) residual.Quantizer {
	if method == methodNearest {
		return residual.Rounded(r)
	}
	return residual.WithFeedback(layers.Feedback{Rounding: r, Damping: damping(g)})
}

// damping returns that of rounding with feedback: what shrinkage adds to the diagonal is the damping of a sum that is not
// shrunk.
func damping(g *lowrank.Gram) float64 { return g.Shrinkage() / (1 - g.Shrinkage()) }

// predictFeedback returns the relative squared error of the target rounded with feedback as c says, from the sample's errors
// under m: the sum C of the target's Gram matrix, or, with the directions that are the columns of v (in, r), what is left of it
// when errors along them are made up for.
func (t *Target) predictFeedback(c Choice, m residual.Moments, v linalg.Matrix) (float64, error) {
	s := t.sample()
	r, err := c.rounding(s.rows.Rows, s.rows.Cols)
	if err != nil {
		return 0, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	g, err := m.Feedback(damping(t.Gram), false)
	if err != nil {
		return 0, fmt.Errorf("compress %s: %w", t.Name, err)
	}
	lost, norms, err := g.Errors(s.rows.Float32s(), s.rows.Rows, r)
	if err != nil {
		return 0, fmt.Errorf("compress %s: %w", t.Name, layers.Named(err, t.Name))
	}
	e := linalg.FromFloat32s(lost, s.rows.Rows, s.rows.Cols)
	var along linalg.Matrix
	if v.Cols > 0 {
		along = linalg.Mul(e, v)
	}
	for i := range norms {
		square := squares(e.Row(i))
		norms[i] = (1 - t.Gram.Shrinkage()) * (norms[i] - g.Ridge()*square)
		if v.Cols > 0 {
			square -= squares(along.Row(i))
		}
		norms[i] += t.Gram.Ridge() * square
	}
	return t.share(s.sum(norms), s.size(t))
}

// squares returns the sum of the squares of x.
func squares(x []float64) float64 {
	var sum float64
	for _, v := range x {
		sum += v * v
	}
	return sum
}
