package compress

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"eckart/internal/linalg"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// A Target is a matrix that is to be represented, with what is known of the inputs that it will multiply. What
// several forms need of it is computed once. One goroutine at a time may use it.
type Target struct {
	Name string        // of the weight, for errors
	W    linalg.Matrix // (out, in); with drift corrected, not what is stored
	Gram *lowrank.Gram // of the inputs; nil where nothing is known of them
	// Importance says what errors of single elements cost; nil where nothing is known of that.
	Importance *Importance

	group *group // of the matrices that read the same input; index is the target's place
	index int

	weights  linalg.Matrix // of Importance, once they were read
	spectrum *lowrank.Spectrum
	sampled  *sample // of the rows, and all of them, once they were asked for
	whole    *sample
}

// NewTarget reads the weight w, as the only one that reads its input.
func NewTarget(name string, w layers.Weight, g *lowrank.Gram) (*Target, error) {
	dense, err := w.Dense()
	if err != nil {
		return nil, layers.Named(err, name)
	}
	out, in := w.Dims()
	if i := slices.IndexFunc(dense, notFinite); i >= 0 {
		return nil, fmt.Errorf("read %s: element %d is not a finite number", name, i)
	}
	return (&Target{Name: name, W: linalg.FromFloat32s(dense, out, in), Gram: g}).in(&group{size: 1}, 0), nil
}

// replace has t stand for w, and forgets what is known of the matrix before.
func (t *Target) replace(w linalg.Matrix) { t.W, t.spectrum, t.sampled, t.whole = w, nil, nil, nil }

// elementWeights returns what an error of each element costs, (out, in), or (1, in) where it depends on the column alone.
func (t *Target) elementWeights() (linalg.Matrix, error) {
	if t.weights.Data == nil {
		if t.Importance == nil {
			return linalg.Matrix{}, errors.New("there are no weights for its elements (--importance FILE gives them)")
		}
		var err error
		if t.weights, err = t.Importance.Of(t.Name, t.W.Rows, t.W.Cols); err != nil {
			return linalg.Matrix{}, err
		}
	}
	return t.weights, nil
}

// columnScale returns how much an error in each column counts for lowrank.Diagonal, (in): the root of its mean importance
// (FWSVD) where that is known, and else of the mean squared input (ASVD with exponent 1).
func (t *Target) columnScale() ([]float64, error) {
	if t.Importance == nil {
		return t.Gram.Diagonal(), nil
	}
	weights, err := t.elementWeights()
	if err != nil {
		return nil, err
	}
	scale := make([]float64, weights.Cols)
	for i := range weights.Rows {
		for j, v := range weights.Row(i) {
			scale[j] += v / float64(weights.Rows)
		}
	}
	for j, v := range scale {
		scale[j] = math.Sqrt(v)
	}
	return scale, nil
}

// Spectrum returns the singular values of the matrix in the norm of its inputs.
func (t *Target) Spectrum() (*lowrank.Spectrum, error) {
	if t.spectrum == nil {
		s, err := lowrank.Decompose(t.W, t.Gram)
		if err != nil {
			return nil, fmt.Errorf("factorize %s: %w", t.Name, err)
		}
		t.spectrum = s
	}
	return t.spectrum, nil
}

// Error returns the relative squared error of w on the inputs of the target, tr((W - Ŵ)·C·(W - Ŵ)ᵀ) / tr(W·C·Wᵀ), with
// the identity for C where nothing is known of them. Of a large matrix some rows stand for all.
func (t *Target) Error(w layers.Weight) (float64, error) {
	dense, err := w.Dense()
	if err != nil {
		return 0, layers.Named(err, t.Name)
	}
	s := t.judged()
	return s.relative(t, s.of(dense))
}

// share returns lost / whole.
func (t *Target) share(lost, whole float64) (float64, error) {
	switch {
	case lost == 0:
		return 0, nil
	case math.IsNaN(lost / whole):
		return 0, fmt.Errorf("compress %s: its error is not a number", t.Name)
	}
	return lost / whole, nil
}

// rowNorms returns e·C·eᵀ of each row e.
func (t *Target) rowNorms(e linalg.Matrix) []float64 {
	if t.Gram != nil {
		return t.Gram.Sizes(e)
	}
	norms := make([]float64, e.Rows)
	for i := range norms {
		norms[i] = squares(e.Row(i))
	}
	return norms
}

func sum(values []float64) float64 {
	var s float64
	for _, v := range values {
		s += v
	}
	return s
}
