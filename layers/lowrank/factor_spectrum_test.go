package lowrank_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestDecompositions holds every rank of every method with a norm tr(e·G·eᵀ) against the oracle for the same G.
func TestDecompositions(t *testing.T) {
	for _, shape := range shapes {
		rng := rand.New(rand.NewPCG(1, uint64(shape[0])))
		w, x := matrixtest.Random(rng, shape[0], shape[1]), matrixtest.Inputs(rng, 40, shape[1], 2)
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
			{"svd", matrixtest.Identity(shape[1]), func(r int) (lowrank.Factors, error) { return lowrank.SVD(w, r) }},
			{"diagonal", matrixtest.Diagonal(squares), func(r int) (lowrank.Factors, error) { return lowrank.Diagonal(w, scale, r) }},
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
		w, x := matrixtest.Random(rng, shape[0], shape[1]), matrixtest.Inputs(rng, 40, shape[1], 2)
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
			sum := matrixtest.Identity(shape[1])
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
		left, right := matrixtest.Random(rng, shape[0], 60), matrixtest.Random(rng, 60, shape[1])
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
		x := matrixtest.Inputs(rng, 40, shape[1], 2)
		low := linalg.Mul(matrixtest.Random(rng, shape[0], 1), matrixtest.Random(rng, 1, shape[1]))
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

// TestSpectrumSingle finds spectra of both sides, and of matrices beside one another, in single precision, and holds what they
// say of every rank to what they say in float64.
func TestSpectrumSingle(t *testing.T) {
	same := func(what string, got, want float64) {
		t.Helper()
		// What is left of a matrix can have no more digits than the largest of its eigenvalues leaves it.
		if !(math.Abs(got-want) <= 1e-4*want+2e-9) {
			t.Errorf("%s is %g in single precision, %g in float64", what, got, want)
		}
	}
	for _, shape := range [][2]int{{90, 140}, {210, 120}} {
		rng := rand.New(rand.NewPCG(9, uint64(shape[0])))
		w, x := matrixtest.Random(rng, shape[0], shape[1]), matrixtest.Inputs(rng, 300, shape[1], 2)
		other := matrixtest.Random(rng, 50, shape[1])
		for name, shrinkage := range map[string]float64{"plain": -1, "whitened": 0.01} {
			known := func() (*lowrank.Spectrum, *lowrank.JointSpectrum, []float64, float64) {
				var g *lowrank.Gram // which keeps what it knows of itself
				if shrinkage >= 0 {
					var err error
					if g, err = lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, shrinkage); err != nil {
						t.Fatal(err)
					}
				}
				s, err := lowrank.Decompose(w, g)
				if err != nil {
					t.Fatal(err)
				}
				j, err := lowrank.DecomposeJoint([]linalg.Matrix{w, other}, g)
				if err != nil {
					t.Fatal(err)
				}
				sample, err := s.SampleErrors()
				if err != nil {
					t.Fatal(err)
				}
				f, err := s.Factors(20)
				if err != nil {
					t.Fatal(err)
				}
				return s, j, sample, f.Error
			}
			want, wantJoint, wantSample, wantError := known()
			lowrank.WithSingle(func() {
				got, joint, sample, e := known()
				if got.Energy()[0] == want.Energy()[0] {
					t.Errorf("%s %v: the same bits in single precision", name, shape)
				}
				for r := range want.Rank() {
					same(fmt.Sprintf("%s %v: the error of rank %d", name, shape, r), got.Error(r), want.Error(r))
					same(fmt.Sprintf("%s %v: the error of rank %d without shrinkage", name, shape, r), sample[r], wantSample[r])
				}
				for r := range wantJoint.Rank() {
					for i := range 2 {
						same(fmt.Sprintf("%s %v: the error of rank %d of matrix %d", name, shape, r, i), joint.Error(i, r), wantJoint.Error(i, r))
					}
				}
				same(fmt.Sprintf("%s %v: the error of factors", name, shape), e, wantError)
			})
		}
	}
}
