package lowrank

import (
	"maps"
	"math"
	"slices"
	"sync"

	"eckart/internal/linalg"
	"eckart/layers"
)

// Deflated is what is left of the sum C of a Gram matrix, without shrinkage, when errors in some directions of the inputs
// are made up for: C - C·Vᵀ·(V·C·Vᵀ)⁻¹·V·C for the directions that are the rows of V (r, n). For any e (rows, n) its norm is
// the least that an addition U·V leaves of tr(e·C·eᵀ).
type Deflated struct {
	sum   linalg.Matrix // C
	taken linalg.Matrix // (n, r), whose product with its transpose is what C is less

	// Of leading directions, where what is prepared is kept: by g, for how many of them as computed for the which time.
	g              *Gram
	known, version int
}

// Deflate returns what the directions v (r, n) leave. Where v has directions without inputs or ones that depend on one
// another it returns linalg.ErrNotDefinite.
func (g *Gram) Deflate(v linalg.Matrix) (*Deflated, error) {
	vc := linalg.Mul(v, g.sum)
	l, err := linalg.Cholesky(linalg.MulT(vc, v))
	if err != nil {
		return nil, err
	}
	linalg.SolveLower(l, vc, 0)
	return &Deflated{sum: g.sum, taken: vc.Transpose()}, nil
}

// DeflateLeading returns the directions of Leading(r), the columns of v (n, r), and what they leave: C - v·diag(values)·vᵀ.
// v must not be changed.
func (g *Gram) DeflateLeading(r int) (v linalg.Matrix, left *Deflated, err error) {
	g.spectrum.Lock()
	defer g.spectrum.Unlock()
	values, v, err := g.known(r)
	if err != nil {
		return linalg.Matrix{}, nil, err
	}
	roots, scaled := slices.Clone(values), firstColumns(v, r)
	for i, s := range roots {
		roots[i] = math.Sqrt(max(0, s))
	}
	scaleColumns(scaled, roots)
	return v, &Deflated{g.sum, scaled, g, r, g.spectrum.version}, nil
}

// Sum returns the matrix (n, n), symmetric, with a diagonal that is not negative.
func (d *Deflated) Sum() linalg.Matrix {
	left := linalg.MulT(d.taken, d.taken)
	for i, v := range d.sum.Data {
		left.Data[i] = v - left.Data[i]
	}
	for i, v := range d.Squares() {
		left.Row(i)[i] = v
	}
	return left
}

// Squares returns the diagonal of Sum, (n).
func (d *Deflated) Squares() []float64 {
	squares := make([]float64, d.sum.Rows)
	for i := range squares {
		left := d.sum.Row(i)[i]
		for _, v := range d.taken.Row(i) {
			left -= v * v
		}
		squares[i] = max(0, left)
	}
	return squares
}

// Feedback returns the matrix prepared for rounding with feedback; damping and descending are as in layers.Feedback. For
// leading directions it is kept with the Gram matrix, 2·n² bytes, until more of them are computed.
func (d *Deflated) Feedback(damping float64, descending bool) (*layers.FeedbackGram, error) {
	if d.g == nil {
		return layers.NewFeedbackGram(d.sum.Data, d.taken, damping, descending)
	}
	return d.g.prepared.get(preparedKey{d.known, d.version, damping, descending}, d.sum, d.taken)
}

// Feedback returns the sum, without shrinkage, prepared for rounding with feedback; damping and descending are as in
// layers.Feedback. It is kept, 2·n² bytes.
func (g *Gram) Feedback(damping float64, descending bool) (*layers.FeedbackGram, error) {
	return g.prepared.get(preparedKey{damping: damping, descending: descending}, g.sum, linalg.Matrix{})
}

// prepared holds what was prepared for rounding with feedback.
type prepared struct {
	sync.Mutex
	made map[preparedKey]*layers.FeedbackGram
}

// A preparedKey is what a prepared matrix depends on beside the sum.
type preparedKey struct {
	known, version int // directions taken out, and for the which time they were computed
	damping        float64
	descending     bool
}

// get returns what was prepared, or prepares it for sum - taken·takenᵀ.
func (p *prepared) get(key preparedKey, sum, taken linalg.Matrix) (*layers.FeedbackGram, error) {
	p.Lock()
	defer p.Unlock()
	if f := p.made[key]; f != nil {
		return f, nil
	}
	f, err := layers.NewFeedbackGram(sum.Data, taken, key.damping, key.descending)
	if err != nil {
		return nil, err
	}
	if p.made == nil {
		p.made = map[preparedKey]*layers.FeedbackGram{}
	}
	p.made[key] = f
	return f, nil
}

// forgetDeflated drops what directions were taken out of.
func (p *prepared) forgetDeflated() {
	p.Lock()
	defer p.Unlock()
	maps.DeleteFunc(p.made, func(k preparedKey, _ *layers.FeedbackGram) bool { return k.known != 0 })
}
