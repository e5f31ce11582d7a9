package lowrank_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// shapes are matrices that are taller, wider and neither.
var shapes = [][2]int{{23, 14}, {14, 23}, {17, 17}, {1, 9}, {9, 1}}

func random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = rng.NormFloat64()
	}
	return m
}

// inputs returns tokens inputs of n numbers that depend on one another, differ in size and have a mean.
func inputs(rng *rand.Rand, tokens, n int) linalg.Matrix {
	x := linalg.Mul(random(rng, tokens, n), random(rng, n, n))
	for i := range x.Data {
		j := i % n
		x.Data[i] = (x.Data[i] + 2*math.Sin(float64(j))) * math.Exp(-3*float64(j*7%n)/float64(n))
	}
	return x
}

func meanOf(x linalg.Matrix) []float64 {
	mean := make([]float64, x.Cols)
	for i := range x.Data {
		mean[i%x.Cols] += x.Data[i] / float64(x.Rows)
	}
	return mean
}

// shrunk returns (1-α)·c + α·tr(c)/n·I.
func shrunk(c linalg.Matrix, alpha float64) linalg.Matrix {
	n := c.Rows
	g := linalg.New(n, n)
	for i, v := range c.Data {
		g.Data[i] = (1 - alpha) * v
		for k := 0; i%(n+1) == 0 && k < n; k++ {
			g.Data[i] += alpha * c.Data[k*(n+1)] / float64(n)
		}
	}
	return g
}

func identity(n int) linalg.Matrix { return diag(slices.Repeat([]float64{1}, n)) }

func diag(d []float64) linalg.Matrix {
	m := linalg.New(len(d), len(d))
	for i, v := range d {
		m.Data[i*(len(d)+1)] = v
	}
	return m
}

func gonum(m linalg.Matrix) *mat.Dense { return mat.NewDense(m.Rows, m.Cols, m.Data) }

// oracle returns the best approximations of w in the norm of gram, by rank, their errors and the squared singular values, all
// from gonum's singular value decomposition of w·s for a root s of gram.
func oracle(t *testing.T, w, gram linalg.Matrix) (best []*mat.Dense, errs, energy []float64) {
	t.Helper()
	var chol mat.Cholesky
	if !chol.Factorize(mat.NewSymDense(gram.Rows, slices.Clone(gram.Data))) {
		t.Fatal("the Gram matrix of the test is not definite")
	}
	var s mat.TriDense
	chol.LTo(&s)
	var ws mat.Dense
	ws.Mul(gonum(w), &s)
	var svd mat.SVD
	if !svd.Factorize(&ws, mat.SVDThin) {
		t.Fatal("no singular values")
	}
	var u, v mat.Dense
	svd.UTo(&u)
	svd.VTo(&v)
	var total float64
	for _, x := range svd.Values(nil) {
		energy = append(energy, x*x)
		total += x * x
	}
	sum := mat.NewDense(w.Rows, w.Cols, nil)
	left := total
	for i, x := range svd.Values(nil) {
		var one mat.Dense
		one.Outer(x, u.ColView(i), v.ColView(i))
		sum.Add(sum, &one)
		left -= x * x
		var rest mat.Dense
		if err := rest.Solve(s.T(), sum.T()); err != nil { // sum·s⁻¹, transposed
			t.Fatal(err)
		}
		best = append(best, mat.DenseCopyOf(rest.T()))
		errs = append(errs, max(0, left/total))
	}
	return best, errs, energy
}

// near fails where a number of got is not within bound of that of want, relative to the largest of want.
func near(t *testing.T, what string, got, want []float64, bound float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d numbers, want %d", what, len(got), len(want))
	}
	var largest, worst float64
	at := 0
	for i, v := range want {
		largest = max(largest, math.Abs(v))
		if d := math.Abs(got[i] - v); !(d <= worst) {
			worst, at = d, i
		}
	}
	if !(worst <= bound*largest) {
		t.Errorf("%s: element %d is %g, want %g: off by %.2g of the largest, more than %.2g", what, at, got[at], want[at], worst/largest, bound)
	}
}

// canonical fails where the entry of largest magnitude of a column of u is negative.
func canonical(t *testing.T, u linalg.Matrix) {
	t.Helper()
	for j := range u.Cols {
		var largest float64
		for i := range u.Rows {
			if v := u.Data[i*u.Cols+j]; math.Abs(v) > math.Abs(largest) {
				largest = v
			}
		}
		if largest < 0 {
			t.Errorf("the largest entry of column %d is %g", j, largest)
		}
	}
}

// TestDecompositions holds every rank of every method with a norm tr(e·G·eᵀ) against the oracle for the same G.
func TestDecompositions(t *testing.T) {
	for _, shape := range shapes {
		rng := rand.New(rand.NewPCG(1, uint64(shape[0])))
		w, x := random(rng, shape[0], shape[1]), inputs(rng, 40, shape[1])
		sum := linalg.TMul(x, x)
		g, err := lowrank.NewGram(sum, x.Rows, meanOf(x), 0.05)
		if err != nil {
			t.Fatal(err)
		}
		scale := make([]float64, shape[1])
		for i := range scale {
			scale[i] = math.Exp(rng.NormFloat64())
		}
		squares := make([]float64, len(scale))
		for i, s := range scale {
			squares[i] = s * s
		}
		methods := []struct {
			name string
			gram linalg.Matrix
			at   func(r int) (lowrank.Factors, error)
		}{
			{"svd", identity(shape[1]), func(r int) (lowrank.Factors, error) { return lowrank.SVD(w, r) }},
			{"diagonal", diag(squares), func(r int) (lowrank.Factors, error) { return lowrank.Diagonal(w, scale, r) }},
			{"whitened", shrunk(sum, 0.05), func(r int) (lowrank.Factors, error) { return lowrank.Whitened(w, g, r) }},
			{"output PCA", sum, func(r int) (lowrank.Factors, error) {
				f, bias, err := lowrank.OutputPCA(w, g, r, false)
				if bias != nil {
					t.Error("a bias without a centre")
				}
				return f, err
			}},
		}
		for _, m := range methods {
			t.Run(fmt.Sprintf("%s/%dx%d", m.name, shape[0], shape[1]), func(t *testing.T) {
				best, errs, energy := oracle(t, w, m.gram)
				for r := 1; r <= min(shape[0], shape[1]); r++ {
					f, err := m.at(r)
					if err != nil {
						t.Fatal(err)
					}
					if f.Rank() != r {
						t.Fatalf("rank %d, want %d", f.Rank(), r)
					}
					near(t, fmt.Sprintf("product of rank %d", r), f.Product().Data, best[r-1].RawMatrix().Data, 1e-8)
					near(t, "energy", f.Energy, energy, 1e-10)
					if math.Abs(f.Error-errs[r-1]) > 1e-12 {
						t.Errorf("rank %d: error %g, want %g", r, f.Error, errs[r-1])
					}
					if e := lowrank.RelativeError(w, f.Product(), m.gram); math.Abs(e-f.Error) > 1e-12 {
						t.Errorf("rank %d: RelativeError gives %g, the method %g", r, e, f.Error)
					}
					canonical(t, f.U)
				}
			})
		}
	}
}

// TestSpectrum cuts all ranks of one decomposition: its errors are those that factors turn out to have, and factors of a
// lower rank are a prefix.
func TestSpectrum(t *testing.T) {
	for _, shape := range shapes {
		rng := rand.New(rand.NewPCG(2, uint64(shape[0])))
		w, x := random(rng, shape[0], shape[1]), inputs(rng, 40, shape[1])
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0.1)
		if err != nil {
			t.Fatal(err)
		}
		for name, g := range map[string]*lowrank.Gram{"whitened": g, "plain": nil} {
			s, err := lowrank.Decompose(w, g)
			if err != nil {
				t.Fatal(err)
			}
			if s.Rank() != min(shape[0], shape[1]) || s.Error(0) != 1 || s.Error(s.Rank()) != 0 {
				t.Fatalf("%s %v: %d ranks with errors from %g to %g", name, shape, s.Rank(), s.Error(0), s.Error(s.Rank()))
			}
			whole, err := s.Factors(s.Rank())
			if err != nil {
				t.Fatal(err)
			}
			for r := 1; r <= s.Rank(); r++ {
				f, err := s.Factors(r)
				if err != nil {
					t.Fatal(err)
				}
				if math.Abs(f.Error-s.Error(r)) > 1e-12 {
					t.Errorf("%s %v, rank %d: the spectrum says %g, the factors have %g", name, shape, r, s.Error(r), f.Error)
				}
				for i := range f.U.Rows {
					near(t, "prefix of a row of u", f.U.Row(i), whole.U.Row(i)[:r], 1e-12)
				}
				near(t, "first rows of v", f.V.Data, whole.V.Data[:r*shape[1]], 1e-12)
			}
			sum := identity(shape[1])
			if g != nil {
				sum = g.Sum()
			}
			sample, err := s.SampleErrors()
			if err != nil || len(sample) != s.Rank()+1 {
				t.Fatalf("%s %v: %d errors without shrinkage, and %v", name, shape, len(sample), err)
			}
			for r := 1; r <= s.Rank(); r++ {
				f, err := s.Factors(r)
				if err != nil {
					t.Fatal(err)
				}
				if e := lowrank.RelativeError(w, f.Product(), sum); math.Abs(e-sample[r]) > 1e-11 {
					t.Errorf("%s %v, rank %d: error %g without shrinkage, the spectrum says %g", name, shape, r, e, sample[r])
				}
			}
			if _, err := s.Factors(s.Rank() + 1); err == nil {
				t.Errorf("%s %v: factors beyond the rank of the matrix", name, shape)
			}
		}
	}
}

// TestLargeDecomposition takes the way of large matrices and small ranks, whose iteration is not exact but close.
func TestLargeDecomposition(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for _, shape := range [][2]int{{520, 540}, {540, 520}} {
		// 1/i² is a spectrum as steep as those of trained matrices in the norm of their inputs.
		left, right := random(rng, shape[0], 60), random(rng, 60, shape[1])
		for i := range right.Data {
			right.Data[i] /= math.Pow(float64(1+i/shape[1]), 2)
		}
		w := linalg.Mul(left, right)
		f, err := lowrank.SVD(w, 20)
		if err != nil {
			t.Fatal(err)
		}
		s, err := lowrank.Decompose(w, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := f.Error, s.Error(20); !(got >= want*(1-1e-9) && got <= want*1.001) {
			t.Errorf("%v: error %g, the best is %g", shape, got, want)
		}
		if len(f.Energy) >= s.Rank() {
			t.Errorf("%v: all %d directions computed for 20", shape, len(f.Energy))
		}
	}
}

// TestDegenerate decomposes matrices and inputs of which parts are 0: products must come out right whatever is divided by.
func TestDegenerate(t *testing.T) {
	rng := rand.New(rand.NewPCG(4, 4))
	for _, shape := range shapes {
		x := inputs(rng, 40, shape[1])
		low := linalg.Mul(random(rng, shape[0], 1), random(rng, 1, shape[1]))
		for i := range x.Data {
			if i%x.Cols == 2 {
				x.Data[i] = 0 // a channel that is never used
			}
		}
		sum := linalg.TMul(x, x)
		g, err := lowrank.NewGram(sum, x.Rows, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		r := min(shape[0], shape[1])
		zero := linalg.New(shape[0], shape[1])
		for name, w := range map[string]linalg.Matrix{"rank 1": low, "zero": zero} {
			for method, at := range map[string]func() (lowrank.Factors, error){
				"svd":      func() (lowrank.Factors, error) { return lowrank.SVD(w, r) },
				"whitened": func() (lowrank.Factors, error) { return lowrank.Whitened(w, g, r) },
				"diagonal": func() (lowrank.Factors, error) { return lowrank.Diagonal(w, g.Diagonal(), r) },
				"output PCA": func() (lowrank.Factors, error) {
					f, _, err := lowrank.OutputPCA(w, g, r, false)
					return f, err
				},
			} {
				f, err := at()
				if err != nil {
					t.Fatalf("%s of %s %v: %v", method, name, shape, err)
				}
				if e := lowrank.RelativeError(w, f.Product(), sum); !(e < 1e-12) || !(f.Error < 1e-12) {
					t.Errorf("%s of %s %v: error %g, it says %g", method, name, shape, e, f.Error)
				}
			}
		}
	}
}

// TestGramRetries raises the shrinkage where a sum is not definite, and gives up where that does not help.
func TestGramRetries(t *testing.T) {
	tall := linalg.Matrix{Rows: 4, Cols: 3, Data: []float64{1, 2, 3, 4, 5, 6, 7, 8, 10, 1, 0, 1}}
	// Two inputs of three channels: singular, and made definite by very little.
	x := linalg.Matrix{Rows: 2, Cols: 3, Data: []float64{1, 2, 3, 3, 2, 2}}
	g, err := lowrank.NewGram(linalg.TMul(x, x), 2, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	f, err := lowrank.Whitened(tall, g, 2)
	if err != nil {
		t.Fatal(err)
	}
	if e := lowrank.RelativeError(tall, f.Product(), g.Sum()); e > 1e-6 {
		t.Errorf("error %g at the rank of the inputs", e)
	}
	// An eigenvalue of -0.8, and no element that gives it away.
	indefinite := linalg.Matrix{Rows: 3, Cols: 3, Data: []float64{1, 0.9, -0.9, 0.9, 1, 0.9, -0.9, 0.9, 1}}
	for shrinkage, ok := range map[float64]bool{0: false, 0.01: false, 0.02: true} { // 0.27 is not enough, 0.54 is
		g, err := lowrank.NewGram(indefinite, 10, nil, shrinkage)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 { // the second time from what is kept
			if _, err = lowrank.Decompose(tall, g); ok != (err == nil) || !ok && !errors.Is(err, linalg.ErrNotDefinite) {
				t.Errorf("shrinkage %g: got %v", shrinkage, err)
			}
		}
	}
}

func TestGramRefuses(t *testing.T) {
	nan := math.NaN()
	for want, g := range map[string]struct {
		n         int
		data      []float64
		tokens    int
		mean      []float64
		shrinkage float64
	}{
		"want a square one":                     {2, []float64{1, 0, 0}, 1, nil, 0},
		"a mean of 1 numbers for 2 inputs":      {2, []float64{1, 0, 0, 1}, 1, []float64{1}, 0},
		"the sum of 0 tokens":                   {1, []float64{1}, 0, nil, 0},
		"shrinkage NaN":                         {1, []float64{1}, 1, nil, nan},
		"shrinkage 1.5":                         {1, []float64{1}, 1, nil, 1.5},
		"element (0, 1) of the matrix is NaN":   {2, []float64{1, nan, 0, 1}, 1, nil, 0},
		"it is not symmetric":                   {2, []float64{1, 0.5, 0.2, 1}, 1, nil, 0},
		"element (1, 0) is 1.5: matrix is not":  {2, []float64{1, 1.5, 1.5, 1}, 1, nil, 0},
		"element (0, 0) is -1: matrix is not":   {1, []float64{-1}, 1, nil, 0},
		"all inputs are 0: matrix is not posit": {1, []float64{0}, 1, nil, 0},
	} {
		_, err := lowrank.NewGram(linalg.Matrix{Rows: g.n, Cols: g.n, Data: g.data}, g.tokens, g.mean, g.shrinkage)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestGramShares asks for directions in different orders, from several goroutines.
func TestGramShares(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 5))
	x := inputs(rng, 60, 12)
	sum := linalg.TMul(x, x)
	g, err := lowrank.NewGram(sum, x.Rows, nil, 0.01)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error)
	for r := 1; r <= 12; r++ {
		go func() {
			values, vectors, err := g.Leading(r)
			if err == nil && (len(values) != r || vectors.Rows != 12 || vectors.Cols != r) {
				err = fmt.Errorf("%d values and %d x %d vectors for %d", len(values), vectors.Rows, vectors.Cols, r)
			}
			if err == nil {
				_, err = lowrank.Whitened(random(rand.New(rand.NewPCG(1, uint64(r))), 20, 12), g, r)
			}
			done <- err
		}()
	}
	for range 12 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	values, vectors, err := g.Eigen()
	if err != nil {
		t.Fatal(err)
	}
	near(t, "sum from its directions", linalg.MulT(linalg.Mul(vectors, diag(values)), vectors).Data, sum.Data, 1e-12)
	if _, _, err := g.Leading(13); err == nil {
		t.Error("13 of 12 directions")
	}
}

// TestCentre holds the bias of centring against the inputs themselves: with it the results of the factors are those of the
// matrix in the mean, it never hurts, and the directions are the best for what is left.
func TestCentre(t *testing.T) {
	for _, shape := range shapes[:3] {
		rng := rand.New(rand.NewPCG(6, uint64(shape[0])))
		w, x := random(rng, shape[0], shape[1]), inputs(rng, 50, shape[1])
		mean := meanOf(x)
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, mean, 0)
		if err != nil {
			t.Fatal(err)
		}
		centred := linalg.New(x.Rows, x.Cols)
		for i, v := range x.Data {
			centred.Data[i] = v - mean[i%x.Cols]
		}
		best, _, energy := oracle(t, w, linalg.TMul(centred, centred))
		want := linalg.MulT(x, w)
		var whole float64
		for _, v := range want.Data {
			whole += v * v
		}
		for r := 1; r <= min(shape[0], shape[1]); r++ {
			f, bias, err := lowrank.OutputPCA(w, g, r, true)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "product", f.Product().Data, best[r-1].RawMatrix().Data, 1e-8)
			near(t, "energy", f.Energy, energy, 1e-10)
			near(t, "uᵀ·u", linalg.TMul(f.U, f.U).Data, identity(r).Data, 1e-10)
			got := linalg.MulT(linalg.MulT(x, f.V), f.U)
			var left float64
			off := make([]float64, shape[0])
			for i, v := range got.Data {
				d := want.Data[i] - v - bias[i%shape[0]]
				left += d * d
				off[i%shape[0]] += d / float64(x.Rows)
			}
			for i, v := range off {
				if math.Abs(v) > 1e-10 {
					t.Errorf("%v, rank %d: result %d is off by %g in the mean", shape, r, i, v)
				}
			}
			if math.Abs(f.Error-left/whole) > 1e-12 {
				t.Errorf("%v, rank %d: error %g, on the inputs %g", shape, r, f.Error, left/whole)
			}
			plain, _, err := lowrank.OutputPCA(w, g, r, false)
			if err != nil {
				t.Fatal(err)
			}
			if f.Error > plain.Error+1e-12 {
				t.Errorf("%v, rank %d: error %g with a bias, %g without", shape, r, f.Error, plain.Error)
			}
		}
	}
	g, err := lowrank.NewGram(identity(3), 3, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := lowrank.OutputPCA(identity(3), g, 1, true); err == nil {
		t.Error("centred without a mean")
	}
}

// TestJoint stacks matrices by hand, each over its norm, to a taller and to a wider matrix than the inputs are many.
func TestJoint(t *testing.T) {
	for _, outs := range [][]int{{9, 3, 4}, {2, 5}, {8}} {
		rng := rand.New(rand.NewPCG(7, uint64(len(outs))))
		x := inputs(rng, 40, 12)
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		gram := shrunk(g.Sum(), 0.01)
		var ws []linalg.Matrix
		stack := linalg.Matrix{Cols: 12}
		for i, out := range outs {
			w := random(rng, out, 12)
			for k := range w.Data {
				w.Data[k] *= math.Pow(10, float64(i)) // as large as they may be, they count alike
			}
			norm := math.Sqrt(quadratic(w, gram))
			for _, v := range w.Data {
				stack.Data = append(stack.Data, v/norm)
			}
			ws, stack.Rows = append(ws, w), stack.Rows+out
		}
		best, _, _ := oracle(t, stack, gram)
		j, err := lowrank.DecomposeJoint(ws, g)
		if err != nil {
			t.Fatal(err)
		}
		if j.Rank() != min(stack.Rows, 12) {
			t.Errorf("%v: rank %d", outs, j.Rank())
		}
		for r := 1; r <= j.Rank(); r++ {
			us, v, err := j.Factors(r)
			if err != nil {
				t.Fatal(err)
			}
			var got []float64
			for i, u := range us {
				if u.Rows != outs[i] || u.Cols != r {
					t.Errorf("%v: factor %d is %d x %d", outs, i, u.Rows, u.Cols)
				}
				p := linalg.Mul(u, v)
				if e := lowrank.RelativeError(ws[i], p, gram); math.Abs(e-j.Error(i, r)) > 1e-9 {
					t.Errorf("%v: matrix %d at rank %d has error %g, it says %g", outs, i, r, e, j.Error(i, r))
				}
				norm := math.Sqrt(quadratic(ws[i], gram))
				for _, v := range p.Data {
					got = append(got, v/norm)
				}
			}
			near(t, "products", got, best[r-1].RawMatrix().Data, 1e-8)
		}
		if _, _, err := j.Factors(13); err == nil {
			t.Error("more directions than there are inputs")
		}
		if _, err := lowrank.DecomposeJoint([]linalg.Matrix{ws[0], random(rng, 3, 11)}, g); err == nil {
			t.Error("joint factors of matrices that read different inputs")
		}
	}
}

// quadratic returns tr(w·gram·wᵀ), by its definition.
func quadratic(w, gram linalg.Matrix) float64 {
	var sum float64
	for o := range w.Rows {
		for i, a := range w.Row(o) {
			for k, b := range w.Row(o) {
				sum += a * gram.Data[i*gram.Cols+k] * b
			}
		}
	}
	return sum
}

// TestRanks counts what is stored.
func TestRanks(t *testing.T) {
	for _, shape := range [][2]int{{4096, 4096}, {1024, 4096}, {256, 704}, {704, 256}, {128, 256}, {7, 5}} {
		m, n := shape[0], shape[1]
		for _, ratio := range []float64{0.05, 0.5, 0.6, 0.7, 0.8, 1} {
			budget := ratio * float64(m) * float64(n)
			plain, pifa := 0, 0
			for r := 1; r <= min(m, n); r++ {
				if float64(r*(m+n)) <= budget {
					plain = r
				}
				if float64(r*(m+n-r)+r) <= budget+1e-6 {
					pifa = r
				}
			}
			if got := lowrank.RankFor(ratio, m, n, 8); got != plain/8*8 {
				t.Errorf("%v at %g: rank %d, want %d", shape, ratio, got, plain/8*8)
			}
			if got := lowrank.PIFARankFor(ratio, m, n, 1); got != pifa {
				t.Errorf("%v at %g: rank of PIFA %d, want %d", shape, ratio, got, pifa)
			}
		}
	}
	// The paper's table: weight-compression.md 17.1.
	for ratio, want := range map[float64]int{0.8: 2263, 0.7: 1852, 0.6: 1505} {
		if got := lowrank.PIFARankFor(ratio, 4096, 4096, 1); got != want {
			t.Errorf("rank of PIFA at %g: %d, want %d", ratio, got, want)
		}
	}
}

// TestPIFA puts matrices together again from their pivots.
func TestPIFA(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 8))
	for _, shape := range [][2]int{{23, 14}, {14, 23}, {60, 60}, {9, 1}, {1, 9}} {
		w := random(rng, shape[0], shape[1])
		for r := 1; r <= min(shape[0], shape[1]); r++ {
			f, err := lowrank.SVD(w, r)
			if err != nil {
				t.Fatal(err)
			}
			if r%2 == 0 { // another basis of the same product, far from orthogonal
				turn := random(rng, r, r)
				f.U = linalg.Mul(f.U, turn)
				var v mat.Dense
				if err := v.Solve(gonum(turn), gonum(f.V)); err != nil {
					t.Fatal(err)
				}
				f.V.Data = v.RawMatrix().Data
			}
			pivots, v, k, err := lowrank.EncodePIFA(f)
			if err != nil {
				t.Fatalf("%v, rank %d: %v", shape, r, err)
			}
			if len(pivots) != r || !slices.IsSorted(pivots) || v.Rows != r || v.Cols != shape[1] || k.Rows != shape[0]-r || k.Cols != r {
				t.Fatalf("%v, rank %d: pivots %v, v %d x %d, k %d x %d", shape, r, pivots, v.Rows, v.Cols, k.Rows, k.Cols)
			}
			got, others := linalg.New(shape[0], shape[1]), linalg.Mul(k, v)
			next := 0
			for i := range shape[0] {
				if p := slices.Index(pivots, int32(i)); p >= 0 {
					copy(got.Row(i), v.Row(p))
				} else {
					copy(got.Row(i), others.Row(next))
					next++
				}
			}
			near(t, fmt.Sprintf("%v, rank %d", shape, r), got.Data, f.Product().Data, 1e-9)
			for _, c := range k.Data {
				if !(math.Abs(c) <= 2+1e-9) {
					t.Fatalf("%v, rank %d: a coefficient of %g", shape, r, c)
				}
			}
		}
	}
	// The matrix of Kahan defeats column pivoting: coefficients would grow as 2^rank.
	const n = 40
	u := linalg.New(n+1, n)
	for i := range n {
		for j := range i + 1 {
			u.Data[i*n+j] = math.Pow(0.9, float64(j)) * map[bool]float64{true: 1, false: -0.43}[i == j]
		}
	}
	copy(u.Row(n), random(rng, 1, n).Data)
	_, _, k, err := lowrank.EncodePIFA(lowrank.Factors{U: u, V: identity(n)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range k.Data {
		if !(math.Abs(c) <= 2+1e-6) {
			t.Errorf("a coefficient of %g", c)
		}
	}
	low := lowrank.Factors{U: linalg.Mul(random(rng, 9, 2), random(rng, 2, 3)), V: random(rng, 3, 5)}
	if _, _, _, err := lowrank.EncodePIFA(low); err == nil {
		t.Error("encoded 3 pivots of a factor of rank 2")
	}
}

// TestDCT computes the transform as the sum that defines it.
func TestDCT(t *testing.T) {
	for _, shape := range shapes {
		rng := rand.New(rand.NewPCG(9, uint64(shape[0])))
		w := random(rng, shape[0], shape[1])
		n := shape[1]
		s, norms := linalg.New(shape[0], n), make([]float64, n)
		var whole float64
		for i := range shape[0] {
			for k := range n {
				scale := math.Sqrt(2 / float64(n))
				if k == 0 {
					scale = math.Sqrt(1 / float64(n))
				}
				for j := range n {
					s.Data[i*n+k] += scale * w.Data[i*n+j] * math.Cos(math.Pi*float64(k)*(2*float64(j)+1)/(2*float64(n)))
				}
				norms[k] += s.Data[i*n+k] * s.Data[i*n+k]
				whole += s.Data[i*n+k] * s.Data[i*n+k]
			}
		}
		for r := 1; r <= min(shape[0], n); r++ {
			f, columns, err := lowrank.DCT(w, r)
			if err != nil {
				t.Fatal(err)
			}
			near(t, "v·vᵀ", linalg.MulT(f.V, f.V).Data, identity(r).Data, 1e-12)
			left, least := whole, math.Inf(1)
			for k, c := range columns {
				left -= norms[c]
				least = min(least, norms[c])
				for i := range shape[0] {
					if d := f.U.Data[i*r+k] - s.Data[i*n+c]; math.Abs(d) > 1e-12 {
						t.Fatalf("%v: (%d, %d) of u is off by %g", shape, i, k, d)
					}
				}
			}
			for k, v := range norms {
				if v > least+1e-12 && !slices.Contains(columns, k) {
					t.Errorf("%v, rank %d: column %d has norm %g and is not among %v", shape, r, k, v, columns)
				}
			}
			if math.Abs(f.Error-left/whole) > 1e-12 {
				t.Errorf("%v, rank %d: error %g, want %g", shape, r, f.Error, left/whole)
			}
			if math.Abs(lowrank.RelativeError(w, f.Product(), identity(n))-f.Error) > 1e-12 {
				t.Errorf("%v, rank %d: the product has another error than %g", shape, r, f.Error)
			}
		}
	}
}

// weighted returns Σ weights·(w - approx)².
func weighted(w, weights, approx linalg.Matrix) float64 {
	var sum float64
	for i, d := range weights.Data {
		e := w.Data[i] - approx.Data[i]
		sum += d * e * e
	}
	return sum
}

// TestWeighted: rounds never raise the error, the end is stationary, and weights with a closed form reach it.
func TestWeighted(t *testing.T) {
	const r = 4
	for _, shape := range shapes[:3] {
		rng := rand.New(rand.NewPCG(10, uint64(shape[0])))
		w, weights := random(rng, shape[0], shape[1]), linalg.New(shape[0], shape[1])
		for i := range weights.Data {
			weights.Data[i] = math.Exp(2 * rng.NormFloat64())
			if i%11 == 0 || i/shape[1] == 3 {
				weights.Data[i] = 0 // some elements, and a whole row, do not count
			}
		}
		whole := weighted(w, weights, linalg.New(shape[0], shape[1]))
		last := math.Inf(1)
		for rounds := 1; rounds <= 40; rounds++ {
			f, err := lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{Rounds: rounds, Tolerance: 1e-14})
			if err != nil {
				t.Fatal(err)
			}
			e := weighted(w, weights, f.Product()) / whole
			if math.Abs(e-f.Error) > 1e-12 {
				t.Errorf("%v, %d rounds: error %g, it says %g", shape, rounds, e, f.Error)
			}
			if e > last*(1+1e-9) {
				t.Errorf("%v: error %g after %d rounds, %g before the last", shape, e, rounds, last)
			}
			last = e
			canonical(t, f.U)
		}
		f, err := lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{Rounds: 4000, Tolerance: 1e-14})
		if err != nil {
			t.Fatal(err)
		}
		slope := linalg.New(shape[0], shape[1])
		for i, p := range f.Product().Data {
			slope.Data[i] = weights.Data[i] * (w.Data[i] - p) / math.Sqrt(whole)
		}
		for name, m := range map[string]linalg.Matrix{"u": linalg.MulT(slope, f.V), "v": linalg.TMul(f.U, slope)} {
			for i, v := range m.Data {
				if math.Abs(v) > 1e-3 {
					t.Errorf("%v: the error falls by %g along element %d of %s", shape, v, i, name)
				}
			}
		}
		plain, err := lowrank.SVD(w, r)
		if err != nil {
			t.Fatal(err)
		}
		if e := weighted(w, weights, plain.Product()) / whole; f.Error > e {
			t.Errorf("%v: error %g, %g without weights", shape, f.Error, e)
		}

		// Weights of one row and one column each have a closed form.
		ofRow, ofCol := make([]float64, shape[0]), make([]float64, shape[1])
		scaled := linalg.New(shape[0], shape[1])
		for i := range weights.Data {
			row, col := i/shape[1], i%shape[1]
			ofRow[row], ofCol[col] = 1+math.Sin(float64(row))/2, 1+math.Cos(float64(col))/2
			weights.Data[i] = ofRow[row] * ofCol[col]
			scaled.Data[i] = math.Sqrt(ofRow[row]) * w.Data[i]
		}
		_, errs, _ := oracle(t, scaled, diag(ofCol))
		f, err = lowrank.Weighted(w, weights, r, lowrank.WeightedOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(f.Error-errs[r-1]) > 1e-9 {
			t.Errorf("%v: error %g with separable weights, the best is %g", shape, f.Error, errs[r-1])
		}
	}
}

// TestDeterministic runs methods that share work among goroutines again, on one of them.
func TestDeterministic(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	w, x := random(rng, 60, 50), inputs(rng, 80, 50)
	weights := linalg.New(60, 50)
	for i := range weights.Data {
		weights.Data[i] = rng.Float64()
	}
	all := func() (bits []float64) {
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		a, err := lowrank.Whitened(w, g, 7)
		if err != nil {
			t.Fatal(err)
		}
		b, err := lowrank.Weighted(w, weights, 7, lowrank.WeightedOptions{Rounds: 3})
		if err != nil {
			t.Fatal(err)
		}
		_, v, k, err := lowrank.EncodePIFA(a)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Concat(a.U.Data, a.V.Data, b.U.Data, b.V.Data, v.Data, k.Data)
	}
	want := all()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	if !slices.Equal(all(), want) {
		t.Error("other numbers on one thread")
	}
}

// TestStore rounds factors to what is stored: products differ by no more than that.
func TestStore(t *testing.T) {
	rng := rand.New(rand.NewPCG(12, 12))
	for _, shape := range [][2]int{{40, 24}, {24, 40}, {24, 24}} {
		w := random(rng, shape[0], shape[1])
		for _, r := range []int{1, 10, 24} {
			f, err := lowrank.SVD(w, r)
			if err != nil {
				t.Fatal(err)
			}
			want := f.Product()
			for bound, stored := range map[float64]func() (layers.Weight, error){
				1e-6: func() (layers.Weight, error) { return f.Store(kernels.F32) },
				4e-3: func() (layers.Weight, error) { return f.Store(kernels.BF16) },
				5e-4: func() (layers.Weight, error) { return f.StoreNested(kernels.F16) },
				2e-2: func() (layers.Weight, error) { return f.StorePIFA(kernels.BF16) },
				2e-6: func() (layers.Weight, error) { return f.StorePIFA(kernels.F32) },
				1e-2: func() (layers.Weight, error) {
					return f.Quantize(layers.Rounding{Bits: 8, Group: 32, ScaleType: kernels.F32})
				},
			} {
				got, err := stored()
				if err != nil {
					t.Fatal(err)
				}
				dense, err := got.Dense()
				if err != nil {
					t.Fatal(err)
				}
				approx := linalg.New(shape[0], shape[1])
				for i, v := range dense {
					approx.Data[i] = float64(v)
				}
				if e := math.Sqrt(lowrank.RelativeError(want, approx, identity(shape[1]))); !(e < bound) {
					t.Errorf("%s of %v, rank %d: off by %g, more than %g", got.Kind(), shape, r, e, bound)
				}
			}
		}
	}
	f, err := lowrank.SVD(linalg.Matrix{Rows: 2, Cols: 2, Data: []float64{1e12, 0, 0, 1}}, 1)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Store(kernels.F16)
	refuses(t, err, "part u: row 0: the number of column 0 is 1e+06, which f16 does not hold")
	_, err = lowrank.Factors{U: f.U, V: f.V}.StoreNested(kernels.F32)
	refuses(t, err, "the energy of 0 directions is known, want 1")
}

func TestFactorsRefuse(t *testing.T) {
	g, err := lowrank.NewGram(identity(3), 3, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, bad := random(rand.New(rand.NewPCG(1, 1)), 5, 3), linalg.New(5, 3)
	bad.Data[4] = math.Inf(1)
	_, err = lowrank.SVD(w, 4)
	refuses(t, err, "rank 4 for a matrix of 5 x 3, want 1 to 3")
	_, err = lowrank.SVD(w, 0)
	refuses(t, err, "rank 0")
	_, err = lowrank.Whitened(bad, g, 1)
	refuses(t, err, "element (1, 1) of the matrix is +Inf")
	_, err = lowrank.Decompose(bad, nil)
	refuses(t, err, "element (1, 1)")
	_, err = lowrank.Whitened(random(rand.New(rand.NewPCG(1, 1)), 5, 4), g, 1)
	refuses(t, err, "5 x 4 for a Gram matrix of 3 inputs")
	_, err = lowrank.Diagonal(w, []float64{1, 2}, 1)
	refuses(t, err, "a scale of 2 numbers for 3 columns")
	_, err = lowrank.Diagonal(w, []float64{1, -2, 1}, 1)
	refuses(t, err, "the scale of column 1 is -2")
	_, err = lowrank.Diagonal(w, []float64{0, 0, 0}, 1)
	refuses(t, err, "the scales of all columns are 0")
	_, err = lowrank.Weighted(w, bad, 1, lowrank.WeightedOptions{})
	refuses(t, err, "the weight of (1, 1) is +Inf")
	_, err = lowrank.Weighted(w, identity(3), 1, lowrank.WeightedOptions{})
	refuses(t, err, "weights of 3 x 3 for a matrix of 5 x 3")
	_, _, err = lowrank.DCT(linalg.New(0, 3), 1)
	refuses(t, err, "0 x 3 has nothing to factorize")
}

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}
