package lowrank

import (
	"errors"
	"fmt"
	"math"
	"sync"

	"eckart/internal/linalg"
)

// Gram is the second moment of a site's inputs with what factorizations need of it, each computed when it is first asked
// for and then shared by all matrices that read the site. It may be used by several goroutines at once.
//
// Its matrix is G = (1-α)·sum + α·tr(sum)/n·I (n, n): shrinkage makes a sum of few inputs definite, whatever their scale.
// G is never formed: products with it are products with the sum.
type Gram struct {
	sum       linalg.Matrix
	tokens    int
	mean      []float64
	shrinkage float64 // α
	trace     float64 // of sum

	factor struct {
		sync.Once
		of  *Gram // g, or the same with more shrinkage
		l   linalg.Matrix
		err error
	}
	spectrum struct {
		sync.Mutex
		values  []float64
		vectors linalg.Matrix // (n, known)
		version int           // how often they were computed
	}
	prepared prepared
}

// maxRetries is how often the shrinkage of a Gram matrix that is not definite is multiplied by retryFactor.
const (
	maxRetries  = 3
	retryFactor = 3
)

// NewGram returns the Gram matrix of the inputs of a site: sum (n, n) is the sum of x·xᵀ over tokens inputs x, symmetric,
// and mean (n), which may be nil, is their mean. sum is kept, not copied. shrinkage is α.
//
// A sum that cannot be one of products is ErrNotDefinite. That a matrix is definite shows when it is decomposed: where it is
// not, three times the shrinkage is tried, at most three times, and what needs the decomposition returns ErrNotDefinite if
// that does not help (weight-compression.md, appendix 3).
func NewGram(sum linalg.Matrix, tokens int, mean []float64, shrinkage float64) (*Gram, error) {
	n := sum.Rows
	switch {
	case n == 0 || sum.Cols != n || len(sum.Data) != n*n:
		return nil, fmt.Errorf("gram matrix: %d x %d with %d elements, want a square one", n, sum.Cols, len(sum.Data))
	case mean != nil && len(mean) != n:
		return nil, fmt.Errorf("gram matrix: a mean of %d numbers for %d inputs", len(mean), n)
	case tokens < 1:
		return nil, fmt.Errorf("gram matrix: the sum of %d tokens, want at least 1", tokens)
	case !(shrinkage >= 0 && shrinkage <= 1):
		return nil, fmt.Errorf("gram matrix: shrinkage %g, want 0 to 1", shrinkage)
	}
	g := &Gram{sum: sum, tokens: tokens, mean: mean, shrinkage: shrinkage}
	roots := make([]float64, n)
	for i := range n {
		d := sum.Data[i*n+i]
		g.trace += d
		roots[i] = math.Sqrt(max(0, d))
	}
	if err := checkProducts(sum, roots); err != nil {
		if e := checkMatrix("gram matrix", sum); e != nil { // says more of what is not finite
			err = e
		}
		return nil, err
	}
	if g.trace == 0 {
		return nil, fmt.Errorf("gram matrix: all inputs are 0: %w", linalg.ErrNotDefinite)
	}
	return g, nil
}

// checkProducts returns an error that names an element of sum (n, n) that no sum of products has whose diagonal has these roots.
func checkProducts(sum linalg.Matrix, roots []float64) error {
	// Squares of the lower triangle are held against those above, which are read row by row too: elements below one another
	// share what the nearest cache has room for.
	const side = 32
	n := len(roots)
	strip := func(first int) (err error) {
		var above [side][side]float64
		for from := 0; from <= first; from += side {
			for j := range min(side, n-from) {
				copy(above[j][:], sum.Row(from + j)[first:min(first+side, n)])
			}
			for i := first; i < min(first+side, n); i++ {
				for j, a := range sum.Row(i)[from:min(from+side, i+1)] {
					b, bound := above[j][i-first], roots[i]*roots[from+j] // Cauchy and Schwarz
					switch {
					case !(math.Abs(a-b) <= 1e-6*bound):
						return fmt.Errorf("gram matrix: elements (%d, %d) and (%d, %d) are %g and %g: it is not symmetric", i, from+j, from+j, i, a, b)
					case a < 0 && i == from+j || !(math.Abs(a) <= 1.0001*bound):
						return fmt.Errorf("gram matrix: element (%d, %d) is %g: %w", i, from+j, a, linalg.ErrNotDefinite)
					}
				}
			}
		}
		return nil
	}
	if i := linalg.FirstRow((n+side-1)/side, side*n, func(i int) bool { return strip(i*side) != nil }); i >= 0 {
		return strip(i * side)
	}
	return nil
}

// Dim returns the number of inputs, the rows and columns of the matrix.
func (g *Gram) Dim() int { return g.sum.Rows }

// Tokens returns how many inputs were added up.
func (g *Gram) Tokens() int { return g.tokens }

// Sum returns the sum of products as it was given, without shrinkage. It must not be changed.
func (g *Gram) Sum() linalg.Matrix { return g.sum }

// Squares returns the diagonal of Sum, (n).
func (g *Gram) Squares() []float64 {
	squares := make([]float64, g.Dim())
	for i := range squares {
		squares[i] = g.sum.Row(i)[i]
	}
	return squares
}

// Shrinkage returns α. Where a decomposition has needed more, its results are in the norm of that: see Spectrum.
func (g *Gram) Shrinkage() float64 { return g.shrinkage }

// Diagonal returns the root mean square of each input, (n): the scale of Diagonal that makes it a whitening by the
// diagonal of the Gram matrix.
func (g *Gram) Diagonal() []float64 {
	scale := g.Squares()
	for i, v := range scale {
		scale[i] = math.Sqrt(v / float64(g.tokens))
	}
	return scale
}

// Ridge returns what shrinkage adds to the diagonal.
func (g *Gram) Ridge() float64 { return g.shrinkage * g.trace / float64(g.Dim()) }

// Times returns e·G for e (rows, n), in single precision where that is a large product: see Spectrum.
func (g *Gram) Times(e linalg.Matrix) linalg.Matrix {
	p := linalg.Mul(e, g.sum, precision(e.Rows, g.Dim(), g.Dim()))
	keep, ridge := 1-g.shrinkage, g.Ridge()
	for i, v := range e.Data {
		p.Data[i] = keep*p.Data[i] + ridge*v
	}
	return p
}

// Sizes returns e·G·eᵀ for each row of e (rows, n), in half of the time of Times and as exact as linalg.Quadratic.
func (g *Gram) Sizes(e linalg.Matrix) []float64 {
	sizes := linalg.Quadratic(e, g.sum)
	keep, ridge := 1-g.shrinkage, g.Ridge()
	for i := range sizes {
		row := e.Row(i)
		sizes[i] = keep*sizes[i] + ridge*vectorDot(row, row)
	}
	return sizes
}

// Norm returns tr(e·G·eᵀ) for e (rows, n).
func (g *Gram) Norm(e linalg.Matrix) float64 { return quadratic(e, linalg.Matrix{}, g.size) }

// size implements norm.
func (g *Gram) size(e linalg.Matrix) float64 { return sum(g.Sizes(e)) }

// definite returns the Gram matrix, with more shrinkage where it takes that to make it definite, and its Cholesky factor l
// (n, n), l·lᵀ = G.
func (g *Gram) definite() (*Gram, linalg.Matrix, error) {
	f := &g.factor
	f.Do(func() {
		n := g.Dim()
		f.of = g
		for retry := 0; ; retry++ {
			c := linalg.New(n, n)
			keep, ridge := 1-f.of.shrinkage, f.of.Ridge()
			for i := range n {
				row, from := c.Row(i), g.sum.Row(i)
				for j := range i + 1 {
					row[j] = keep * from[j]
				}
				row[i] += ridge
			}
			f.l, f.err = linalg.Cholesky(c)
			if !errors.Is(f.err, linalg.ErrNotDefinite) || retry == maxRetries {
				break
			}
			more := max(f.of.shrinkage*retryFactor, 1e-6) // where there was none
			f.of = &Gram{sum: g.sum, tokens: g.tokens, mean: g.mean, trace: g.trace, shrinkage: min(1, more)}
		}
		if f.err != nil {
			f.err = fmt.Errorf("factorize the Gram matrix with shrinkage %g: %w", f.of.shrinkage, f.err)
		}
	})
	return f.of, f.l, f.err
}

// Eigen returns the eigenvalues of the sum, without shrinkage, in descending order, and the eigenvectors that are the
// columns of vectors (n, n). They must not be changed.
func (g *Gram) Eigen() (values []float64, vectors linalg.Matrix, err error) {
	return g.Leading(g.Dim())
}

// Leading is Eigen for the r largest eigenvalues: vectors is (n, r). What more than that is known is used again.
func (g *Gram) Leading(r int) (values []float64, vectors linalg.Matrix, err error) {
	g.spectrum.Lock()
	defer g.spectrum.Unlock()
	return g.known(r)
}

// known is Leading for whom has locked the spectrum.
func (g *Gram) known(r int) (values []float64, vectors linalg.Matrix, err error) {
	if r < 1 || r > g.Dim() {
		return nil, linalg.Matrix{}, fmt.Errorf("leading directions of the inputs: %d of %d", r, g.Dim())
	}
	s := &g.spectrum
	if len(s.values) < r {
		s.version++
		g.prepared.forgetDeflated()
		if s.values, s.vectors, err = leading(g.sum, r); err != nil {
			return nil, linalg.Matrix{}, err
		}
	}
	if len(s.values) == r {
		return s.values, s.vectors, nil
	}
	return s.values[:r], firstColumns(s.vectors, r), nil
}

// smallEigen is the size up to which all eigenvalues are computed where a few are asked for: they cost little there and are
// exact.
const smallEigen = 512

// leading returns r or more of the leading eigenvalues of a symmetric positive semidefinite a, and their eigenvectors.
func leading(a linalg.Matrix, r int) (values []float64, vectors linalg.Matrix, err error) {
	if a.Rows <= smallEigen || 4*r > a.Rows {
		return linalg.Eigen(a)
	}
	return linalg.Leading(a, r, linalg.Iteration{})
}
