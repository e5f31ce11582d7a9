package lowrank_test

import (
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// shapes are matrices that are taller, wider and neither.
var shapes = [][2]int{{23, 14}, {14, 23}, {17, 17}, {1, 9}, {9, 1}}

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

// TestDeterministic runs methods that share work among goroutines again, on one of them.
func TestDeterministic(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 11))
	w, x := matrixtest.Random(rng, 60, 50), matrixtest.Inputs(rng, 80, 50, 2)
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

func TestFactorsRefuse(t *testing.T) {
	g, err := lowrank.NewGram(matrixtest.Identity(3), 3, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	w, bad := matrixtest.Random(rand.New(rand.NewPCG(1, 1)), 5, 3), linalg.New(5, 3)
	bad.Data[4] = math.Inf(1)
	_, err = lowrank.SVD(w, 4)
	matrixtest.Refuses(t, err, "rank 4 for a matrix of 5 x 3, want 1 to 3")
	_, err = lowrank.SVD(w, 0)
	matrixtest.Refuses(t, err, "rank 0")
	_, err = lowrank.Whitened(bad, g, 1)
	matrixtest.Refuses(t, err, "element (1, 1) of the matrix is +Inf")
	_, err = lowrank.Decompose(bad, nil)
	matrixtest.Refuses(t, err, "element (1, 1)")
	_, err = lowrank.Whitened(matrixtest.Random(rand.New(rand.NewPCG(1, 1)), 5, 4), g, 1)
	matrixtest.Refuses(t, err, "5 x 4 for a Gram matrix of 3 inputs")
	_, err = lowrank.Diagonal(w, []float64{1, 2}, 1)
	matrixtest.Refuses(t, err, "a scale of 2 numbers for 3 columns")
	_, err = lowrank.Diagonal(w, []float64{1, -2, 1}, 1)
	matrixtest.Refuses(t, err, "the scale of column 1 is -2")
	_, err = lowrank.Diagonal(w, []float64{0, 0, 0}, 1)
	matrixtest.Refuses(t, err, "the scales of all columns are 0")
	_, err = lowrank.Weighted(w, bad, 1, lowrank.WeightedOptions{})
	matrixtest.Refuses(t, err, "the weight of (1, 1) is +Inf")
	_, err = lowrank.Weighted(w, matrixtest.Identity(3), 1, lowrank.WeightedOptions{})
	matrixtest.Refuses(t, err, "weights of 3 x 3 for a matrix of 5 x 3")
	_, _, err = lowrank.DCT(linalg.New(0, 3), 1)
	matrixtest.Refuses(t, err, "0 x 3 has nothing to factorize")
}
