package lowrank_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// TestDeflated holds the sum without its leading directions against those that gonum finds.
func TestDeflated(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 1))
	const n = 14
	x := matrixtest.Inputs(rng, 3*n, n, 2)
	sum := linalg.TMul(x, x)
	g, err := lowrank.NewGram(sum, x.Rows, nil, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	var eigen mat.EigenSym
	if !eigen.Factorize(mat.NewSymDense(n, sum.Data), true) {
		t.Fatal("no eigenvalues")
	}
	var vectors mat.Dense
	eigen.VectorsTo(&vectors)
	values := eigen.Values(nil) // ascending
	want, diagonal := linalg.New(n, n), make([]float64, n)
	copy(want.Data, sum.Data)
	for r := 1; r < n; r++ {
		for i := range n {
			for j := range n {
				want.Data[i*n+j] -= values[n-r] * vectors.At(i, n-r) * vectors.At(j, n-r)
			}
			diagonal[i] = want.Data[i*n+i]
		}
		v, leading, err := g.DeflateLeading(r)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "sum without leading directions", leading.Sum().Data, want.Data, 1e-9)
		mixed := linalg.MulT(matrixtest.Random(rng, r, r), v) // the same directions, spanned otherwise
		other, err := g.Deflate(mixed)
		if err != nil {
			t.Fatal(err)
		}
		near(t, "sum without directions", other.Sum().Data, want.Data, 1e-7)
		near(t, "its diagonal without leading directions", leading.Squares(), diagonal, 1e-9)
		near(t, "its diagonal without directions", other.Squares(), diagonal, 1e-7)
	}
	for _, r := range []int{0, n + 1} {
		if _, _, err := g.DeflateLeading(r); err == nil {
			t.Errorf("%d directions are taken out", r)
		}
	}
	if _, err := g.Deflate(linalg.New(2, n)); !errors.Is(err, linalg.ErrNotDefinite) {
		t.Errorf("directions of no length: got %v, want %v", err, linalg.ErrNotDefinite)
	}
}

// TestFeedbackShared: what is prepared once gives the numbers of what is prepared each time, and is not kept beyond the
// directions that it was made with.
func TestFeedbackShared(t *testing.T) {
	rng := rand.New(rand.NewPCG(22, 1))
	const rows, n, tokens = 5, 600, 60 // so many inputs that few directions are iterated for
	x := matrixtest.Random(rng, tokens, n)
	for i := range x.Data {
		x.Data[i] /= float64(1 + i/n) // of falling size
	}
	g, err := lowrank.NewGram(linalg.TMul(x, x), tokens, nil, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	w := make([]float32, rows*n)
	for i := range w {
		w[i] = float32(rng.NormFloat64())
	}
	prepared := func(known int, descending bool) (linalg.Matrix, *layers.FeedbackGram) {
		t.Helper()
		var f *layers.FeedbackGram
		sum := g.Sum()
		if known == 0 {
			f, err = g.Feedback(0.02, descending)
		} else {
			_, left, fail := g.DeflateLeading(known)
			if fail != nil {
				t.Fatal(fail)
			}
			sum = left.Sum()
			f, err = left.Feedback(0.02, descending)
		}
		if err != nil {
			t.Fatal(err)
		}
		return sum, f
	}
	for _, bits := range []int{4, 2} {
		f := layers.Feedback{Rounding: layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}, Damping: 0.02}
		for _, known := range []int{0, 8} {
			sum, shared := prepared(known, false)
			want, err := f.Quantize(w, rows, sum.Data)
			if err != nil {
				t.Fatal(err)
			}
			got, err := shared.Quantize(w, rows, f.Rounding)
			if err != nil {
				t.Fatal(err)
			}
			a, err := want.Dense()
			if err != nil {
				t.Fatal(err)
			}
			b, err := got.Dense()
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(a, b) {
				t.Errorf("%d bits, %d directions known: other numbers", bits, known)
			}
		}
	}
	same := func(known int, descending bool, as *layers.FeedbackGram) bool {
		_, f := prepared(known, descending)
		return f == as
	}
	_, whole := prepared(0, false)
	_, deflated := prepared(8, false)
	if same(0, true, whole) || !same(0, false, whole) || !same(8, false, deflated) {
		t.Error("another order of columns shares what is prepared, or the same does not")
	}
	if _, _, err := g.Leading(16); err != nil {
		t.Fatal(err)
	}
	if !same(0, false, whole) || same(8, false, deflated) {
		t.Error("with other directions, what none were taken out of is not shared, or what some were taken out of is")
	}
}
