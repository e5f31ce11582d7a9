package residual

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/layers"
)

// A Quantizer rounds target (out, in) for inputs whose sum of products is gram (in, in), symmetric and positive semidefinite.
type Quantizer func(target, gram linalg.Matrix) (*layers.Grouped, error)

// Rounded is plain rounding: the diagonal of the Gram matrix says how much an error in a column matters.
func Rounded(r layers.Rounding) Quantizer {
	return func(target, gram linalg.Matrix) (*layers.Grouped, error) {
		if err := sameShape("round a matrix", gram, linalg.Matrix{Rows: target.Cols, Cols: target.Cols}); err != nil {
			return nil, err
		}
		importance := make([]float32, target.Cols)
		for i := range importance {
			importance[i] = float32(max(0, gram.Data[i*gram.Cols+i]))
		}
		return r.Quantize(float32s(target), target.Rows, importance)
	}
}

// WithFeedback is rounding that spreads errors over the columns still to come (GPTQ). That is worth more than how the
// residual is found beside it.
//
// At 2 bits it depends on the grid: where scales just reach the largest number of a group, plain rounding with a residual of
// rank 16 or 32 has the smaller divergence of the two (weight-compression.md 18.2), though not the smaller error; with the
// searched scales of package layers, feedback has the smaller error for every matrix measured (TestGoldenErrors).
func WithFeedback(f layers.Feedback) Quantizer {
	return func(target, gram linalg.Matrix) (*layers.Grouped, error) {
		return f.Quantize(float32s(target), target.Rows, gram.Data)
	}
}

// quantize returns the base that q makes of target, and its numbers.
func quantize(q Quantizer, target, gram linalg.Matrix) (*layers.Grouped, linalg.Matrix, error) {
	base, err := q(target, gram)
	if err != nil {
		return nil, linalg.Matrix{}, err
	}
	m, err := matrixOf(base)
	if err == nil && (m.Rows != target.Rows || m.Cols != target.Cols) {
		err = fmt.Errorf("a quantizer made %d x %d of a matrix of %d x %d", m.Rows, m.Cols, target.Rows, target.Cols)
	}
	return base, m, err
}

func float32s(m linalg.Matrix) []float32 {
	s := make([]float32, len(m.Data))
	for i, v := range m.Data {
		s[i] = float32(v)
	}
	return s
}
