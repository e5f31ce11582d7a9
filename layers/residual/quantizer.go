package residual

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/layers"
)

// A Quantizer rounds target (out, in) for inputs with the second moments m (in, in).
type Quantizer func(target linalg.Matrix, m Moments) (*layers.Grouped, error)

// Moments says how much errors in the columns of a matrix count: *lowrank.Gram, all errors alike, or *lowrank.Deflated,
// errors in some directions not at all.
type Moments interface {
	// Sum returns the sum of products of the inputs (in, in), symmetric and positive semidefinite.
	Sum() linalg.Matrix
	// Squares returns its diagonal, (in), which is not negative.
	Squares() []float64
	// Feedback returns the sum prepared for rounding with feedback, as layers.NewFeedbackGram does.
	Feedback(damping float64, descending bool) (*layers.FeedbackGram, error)
}

// Rounded is plain rounding: the diagonal of the sum says how much an error in a column matters.
func Rounded(r layers.Rounding) Quantizer {
	return func(target linalg.Matrix, m Moments) (*layers.Grouped, error) {
		squares := m.Squares()
		if len(squares) != target.Cols {
			return nil, fmt.Errorf("round a matrix: moments of %d inputs for a matrix of %d x %d", len(squares), target.Rows, target.Cols)
		}
		importance := make([]float32, len(squares))
		for i, v := range squares {
			importance[i] = float32(v)
		}
		return r.Quantize(target.Float32s(), target.Rows, importance)
	}
}

// WithFeedback is rounding that spreads errors over the columns still to come (GPTQ). That is worth more than how the
// residual is found beside it.
//
// At 2 bits it depends on the grid: where scales just reach the largest number of a group, plain rounding with a residual of
// rank 16 or 32 has the smaller divergence of the two (weight-compression.md 18.2), though not the smaller error; with the
// searched scales of package layers, feedback has the smaller error for every matrix measured (TestGoldenErrors).
//
// What it prepares of the inputs is kept with them, for all matrices that read them and all formats: see Gram.Feedback.
func WithFeedback(f layers.Feedback) Quantizer {
	return func(target linalg.Matrix, m Moments) (*layers.Grouped, error) {
		g, err := m.Feedback(f.Damping, f.Descending)
		if err != nil {
			return nil, err
		}
		return g.Quantize(target.Float32s(), target.Rows, f.Rounding)
	}
}

// quantize returns the base that q makes of target, and its numbers.
func quantize(q Quantizer, target linalg.Matrix, m Moments) (*layers.Grouped, linalg.Matrix, error) {
	base, err := q(target, m)
	if err != nil {
		return nil, linalg.Matrix{}, err
	}
	made, err := matrixOf(base)
	if err == nil && (made.Rows != target.Rows || made.Cols != target.Cols) {
		err = fmt.Errorf("a quantizer made %d x %d of a matrix of %d x %d", made.Rows, made.Cols, target.Rows, target.Cols)
	}
	return base, made, err
}
