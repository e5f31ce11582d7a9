package lowrank

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"

	"eckart/internal/linalg"
)

// A norm is |e|² = tr(e·G·eᵀ) of errors e (out, in), for a symmetric positive definite G (in, in) with a root s, s·sᵀ = G.
type norm interface {
	size(e linalg.Matrix) float64                       // tr(e·G·eᵀ) for e (rows, in)
	output(w linalg.Matrix) linalg.Matrix               // w·G·wᵀ (out, out) for w (out, in)
	input(w linalg.Matrix) linalg.Matrix                // sᵀ·wᵀ·w·s (in, in) for w (out, in)
	root(v linalg.Matrix, t linalg.Trait) linalg.Matrix // s·v for v (in, r)
	solve(v linalg.Matrix)                              // v ← s⁻ᵀ·v for v (in, r)
}

// plain is the norm of G = I, that of Frobenius.
type plain struct{}

func (plain) size(e linalg.Matrix) float64 { return dot(e, e) }

func (plain) output(w linalg.Matrix) linalg.Matrix {
	return linalg.MulT(w, w, precision(w.Rows, w.Rows, w.Cols))
}

func (plain) input(w linalg.Matrix) linalg.Matrix {
	return linalg.TMul(w, w, precision(w.Rows, w.Cols, w.Cols))
}

func (plain) root(v linalg.Matrix, _ linalg.Trait) linalg.Matrix { return v }
func (plain) solve(linalg.Matrix)                                {}

// diagonal is the norm of the G that has the squares of its elements on the diagonal.
type diagonal []float64

func (d diagonal) size(e linalg.Matrix) float64 {
	e = d.whiten(e)
	return dot(e, e)
}

func (d diagonal) output(w linalg.Matrix) linalg.Matrix { return plain{}.output(d.whiten(w)) }
func (d diagonal) input(w linalg.Matrix) linalg.Matrix  { return plain{}.input(d.whiten(w)) }

// whiten returns w·s for w (out, in).
func (d diagonal) whiten(w linalg.Matrix) linalg.Matrix {
	w = firstColumns(w, w.Cols)
	scaleColumns(w, d)
	return w
}

func (d diagonal) root(v linalg.Matrix, _ linalg.Trait) linalg.Matrix {
	v = firstColumns(v, v.Cols)
	scaleRows(v, d)
	return v
}

func (d diagonal) solve(v linalg.Matrix) {
	inverse := make([]float64, len(d))
	for i, s := range d {
		inverse[i] = 1 / s
	}
	scaleRows(v, inverse)
}

// whitening is the norm of a Gram matrix, whose root is its Cholesky factor l. On the output side l is not needed.
type whitening struct {
	*Gram
	l linalg.Matrix
}

func (g whitening) output(w linalg.Matrix) linalg.Matrix {
	return linalg.MulT(g.Times(w), w, linalg.Symmetric, precision(w.Rows, w.Rows, w.Cols))
}

// input multiplies wᵀ·w first, of which it takes one half: with what the triangle l saves, that is less work than the square of
// w·l where w is two thirds taller than wide, and little more where it is not.
func (g whitening) input(w linalg.Matrix) linalg.Matrix {
	n := w.Cols
	ww := linalg.TMul(w, w, precision(w.Rows, n, n))
	return linalg.TMul(linalg.Mul(ww, g.l, linalg.LowerB, precision(n, n, n)), g.l, linalg.LowerB, linalg.Symmetric, precision(n, n, n))
}

func (g whitening) root(v linalg.Matrix, t linalg.Trait) linalg.Matrix {
	return linalg.Mul(g.l, v, linalg.LowerA, t)
}

func (g whitening) solve(v linalg.Matrix) { linalg.SolveLowerT(g.l, v, 0) }

// A Spectrum is a matrix decomposed in the norm of its inputs, from which factors of any rank are cut, and their errors
// known, without decomposing again. It is the singular value decomposition of w·s with s·sᵀ = G, found as the eigenvalues
// of the smaller of two matrices (weight-compression.md 0.1):
//
//   - on the output side, out ≤ in, of w·G·wᵀ = u·σ²·uᵀ: then w·s = u·σ·vᵀ gives σ·vᵀ·s⁻¹ = uᵀ·w, and neither a root of G
//     nor an inverse is needed (form c; Swift-SVD, arXiv 2604.01609);
//   - on the input side of sᵀ·wᵀ·w·s = v·σ²·vᵀ: then u·σ = w·s·v, and one triangular solve gives vᵀ·s⁻¹ (form d).
//
// A product of more than 2³² pairs of numbers is linalg.Single: squared singular values are then off by about 1e-7 of the
// largest.
//
// It refers to the matrix and the Gram matrix that it was made of. It may be used by several goroutines at once.
type Spectrum struct {
	w      linalg.Matrix
	norm   norm
	output bool      // directions are u, else v
	energy []float64 // (known): σ², descending
	tail   []float64 // (known + 1): the sum of energy from an index on, and of what is not known
	whole  float64   // tr(w·G·wᵀ)

	// Errors are known without directions, which take longer to find.
	found   sync.Once
	squared linalg.Matrix // whose eigenvectors they are; let go of when they are found
	vectors linalg.Matrix // (out, known) or (in, known)
	failed  error
}

// Decompose returns the whole spectrum of w (out, in) in the norm of g, min(out, in) directions; nil for g is the plain
// singular value decomposition. A g that is not definite is ErrNotDefinite where the input side is the smaller one.
func Decompose(w linalg.Matrix, g *Gram) (*Spectrum, error) {
	const what = "decompose"
	if err := checkMatrix(what, w); err != nil {
		return nil, err
	}
	var n norm = plain{}
	if g != nil {
		var err error
		if n, err = g.norm(what, w); err != nil {
			return nil, err
		}
	}
	s := newSpectrum(w, n)
	energy, err := linalg.Eigenvalues(s.squared)
	if err != nil {
		return nil, err
	}
	s.know(energy)
	return s, nil
}

// norm returns the norm of g for a matrix w, with the root where w takes one.
func (g *Gram) norm(what string, w linalg.Matrix) (norm, error) {
	if w.Cols != g.Dim() {
		return nil, fmt.Errorf("%s: a matrix of %d x %d for a Gram matrix of %d inputs", what, w.Rows, w.Cols, g.Dim())
	}
	if w.Rows <= w.Cols {
		return whitening{Gram: g}, nil
	}
	of, l, err := g.definite()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return whitening{of, l}, nil
}

// newSpectrum returns the spectrum of w of which nothing but sizes are known yet.
func newSpectrum(w linalg.Matrix, n norm) *Spectrum {
	s := &Spectrum{w: w, norm: n, output: w.Rows <= w.Cols}
	if s.output {
		s.squared = n.output(w)
	} else {
		s.squared = n.input(w)
	}
	for i := range s.squared.Rows {
		s.whole += s.squared.Data[i*s.squared.Cols+i]
	}
	return s
}

// know takes in the leading eigenvalues of what is squared.
func (s *Spectrum) know(energy []float64) {
	known := len(energy)
	s.energy, s.tail = energy, make([]float64, known+1)
	var all float64
	for i, e := range energy {
		energy[i] = max(0, e)
		all += energy[i]
	}
	if known < s.squared.Rows {
		s.tail[known] = max(0, s.whole-all)
	}
	for i := known - 1; i >= 0; i-- {
		s.tail[i] = s.tail[i+1] + energy[i]
	}
}

// directions returns the eigenvectors that belong to energy, (out, known) or (in, known). They must not be changed.
func (s *Spectrum) directions() (linalg.Matrix, error) {
	s.found.Do(func() {
		_, s.vectors, s.failed = linalg.Eigen(s.squared)
		s.squared = linalg.Matrix{}
	})
	return s.vectors, s.failed
}

// decompose returns r or more of the leading directions of w.
func decompose(w linalg.Matrix, n norm, r int) (*Spectrum, error) {
	s := newSpectrum(w, n)
	s.found.Do(func() {
		var energy []float64
		if energy, s.vectors, s.failed = leading(s.squared, r); s.failed == nil {
			s.know(energy)
		}
		s.squared = linalg.Matrix{}
	})
	return s, s.failed
}

// Rank returns the most directions that there are factors of.
func (s *Spectrum) Rank() int { return len(s.energy) }

// Energy returns the squared singular values of w·s, descending. They must not be changed.
func (s *Spectrum) Energy() []float64 { return s.energy }

// Error returns the error that Factors(r) have, from the spectrum: the squared singular values dropped as a part of all.
func (s *Spectrum) Error(r int) float64 { return relative(s.tail[r], s.tail[0]) }

// SampleErrors returns for each rank from 0 to Rank() the error that its factors have for the inputs that the Gram matrix was
// made of, without its shrinkage: tr(e·C·eᵀ) / tr(w·C·wᵀ) with C their sum. The factors are the best in the norm of G, not of
// C, but directions are orthogonal in the results all the same, so that what they are worth adds up.
func (s *Spectrum) SampleErrors() ([]float64, error) {
	worth := slices.Clone(s.energy)
	if g, ok := s.norm.(whitening); ok && g.shrinkage > 0 {
		if g.shrinkage == 1 {
			return nil, errors.New("errors without shrinkage: nothing but shrinkage is left of the Gram matrix")
		}
		// A direction d of e = Σ d adds d·G·dᵀ = (1-α)·d·C·dᵀ + ridge·d·dᵀ to the squared error. On the output side d is uᵀ·w, on
		// the input side σ·vᵀ·s⁻¹.
		vectors, err := s.directions()
		if err != nil {
			return nil, err
		}
		d := vectors.Transpose()
		if s.output {
			d = linalg.Mul(d, s.w, precision(d.Rows, s.w.Rows, s.w.Cols))
		} else {
			v := firstColumns(vectors, s.Rank())
			g.solve(v)
			d = v.Transpose()
		}
		ridge := g.Ridge()
		for i := range worth {
			squared := vectorDot(d.Row(i), d.Row(i))
			if !s.output {
				squared *= s.energy[i]
			}
			worth[i] = max(0, worth[i]-ridge*squared) / (1 - g.shrinkage)
		}
	}
	errs := make([]float64, len(worth)+1)
	for i := len(worth) - 1; i >= 0; i-- {
		errs[i] = errs[i+1] + worth[i]
	}
	for i := len(worth); i >= 0; i-- {
		errs[i] = relative(errs[i], errs[0])
	}
	return errs, nil
}

// Factors returns the best factors of rank r, balanced: u·σ^½ and σ^½·vᵀ·s⁻¹.
func (s *Spectrum) Factors(r int) (Factors, error) {
	if r < 1 || r > s.Rank() {
		return Factors{}, fmt.Errorf("factors of rank %d of %d known directions", r, s.Rank())
	}
	vectors, err := s.directions()
	if err != nil {
		return Factors{}, err
	}
	// The scale of a direction cancels out of the product, so that it may be anything where nothing is left of σ.
	scale, inverse := make([]float64, r), make([]float64, r)
	for i := range scale {
		scale[i] = math.Sqrt(math.Sqrt(max(s.energy[i], 1e-30*s.energy[0])))
		if scale[i] == 0 {
			scale[i] = 1
		}
		inverse[i] = 1 / scale[i]
	}
	f := Factors{Energy: s.energy}
	kept := firstColumns(vectors, r)
	if s.output {
		f.V = linalg.TMul(kept, s.w)
		scaleRows(f.V, inverse)
		f.U = kept
		scaleColumns(f.U, scale)
	} else {
		f.U = linalg.Mul(s.w, s.norm.root(kept, 0))
		scaleColumns(f.U, inverse)
		s.norm.solve(kept)
		f.V = kept.Transpose()
		scaleRows(f.V, scale)
	}
	orient(f.U, f.V)
	f.Error = s.measure(f)
	return f, nil
}

// measure returns the error of f, computed from its product.
func (s *Spectrum) measure(f Factors) float64 {
	t := precision(s.w.Rows, f.Rank(), s.w.Cols)
	e := blockwise(s.w, s.norm.size, func(from, to int) linalg.Matrix {
		return subtract(rows(s.w, from, to), linalg.Mul(rows(f.U, from, to), f.V, t))
	})
	return relative(e, s.whole)
}

// SVD returns the factors of rank r that are closest to w (out, in) in the norm of Frobenius: the singular value
// decomposition cut off (Eckart and Young 1936), with G = I. It knows nothing of inputs.
func SVD(w linalg.Matrix, r int) (Factors, error) {
	if err := checkRank("singular value decomposition", w, r); err != nil {
		return Factors{}, err
	}
	return factorize(w, plain{}, r)
}

// Diagonal returns the factors of rank r that are closest to w (out, in) where an error in column j counts scale[j] times:
// SVD(w·D)·D⁻¹ with D = diag(scale), G = D². With scale the root of the mean squared gradients of a column it is FWSVD (Hsu
// et al. 2022, arXiv 2207.00112, equation 4); with the mean magnitude of inputs to some power it is ASVD (Yuan et al. 2023,
// arXiv 2312.05821, section 3.2); Gram.Diagonal gives that of second moments. A column of scale 0, whose errors do not count,
// is given a millionth of the mean.
func Diagonal(w linalg.Matrix, scale []float64, r int) (Factors, error) {
	const what = "diagonally weighted decomposition"
	if err := checkRank(what, w, r); err != nil {
		return Factors{}, err
	}
	d, err := newDiagonal(what, scale, w.Cols)
	if err != nil {
		return Factors{}, err
	}
	return factorize(w, d, r)
}

// newDiagonal returns the norm of scale, whose zeros are lifted.
func newDiagonal(what string, scale []float64, n int) (diagonal, error) {
	if len(scale) != n {
		return nil, fmt.Errorf("%s: a scale of %d numbers for %d columns", what, len(scale), n)
	}
	var mean float64
	for j, s := range scale {
		if !(s >= 0) || math.IsInf(s, 0) {
			return nil, fmt.Errorf("%s: the scale of column %d is %g, want a finite number not below 0", what, j, s)
		}
		mean += s / float64(n)
	}
	if mean == 0 {
		return nil, fmt.Errorf("%s: the scales of all columns are 0", what)
	}
	d := make(diagonal, n)
	for j, s := range scale {
		d[j] = max(s, 1e-6*mean)
	}
	return d, nil
}

// Whitened returns the factors of rank r whose results are closest to those of w (out, in) for the inputs of g: the
// singular value decomposition of w·s with s·sᵀ = G, cut off (SVD-LLM, Wang et al. 2024, arXiv 2403.07378, section 3.2; DRONE
// and EoRA minimize the same). Decompose gives all ranks for the price of one.
func Whitened(w linalg.Matrix, g *Gram, r int) (Factors, error) {
	const what = "whitened decomposition"
	if err := checkRank(what, w, r); err != nil {
		return Factors{}, err
	}
	n, err := g.norm(what, w)
	if err != nil {
		return Factors{}, err
	}
	return factorize(w, n, r)
}

func factorize(w linalg.Matrix, n norm, r int) (Factors, error) {
	s, err := decompose(w, n, r)
	if err != nil {
		return Factors{}, err
	}
	return s.Factors(r)
}
