package residual_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

func gonum(m linalg.Matrix) *mat.Dense { return mat.NewDense(m.Rows, m.Cols, m.Data) }

func minus(a, b linalg.Matrix) linalg.Matrix {
	c := linalg.New(a.Rows, a.Cols)
	for i, v := range a.Data {
		c.Data[i] = v - b.Data[i]
	}
	return c
}

func squares(m linalg.Matrix) float64 {
	var sum float64
	for _, v := range m.Data {
		sum += v * v
	}
	return sum
}

// TestEoRA: on the inputs themselves the residual leaves the tail of the singular values of the results of w - base.
func TestEoRA(t *testing.T) {
	for _, shape := range [][2]int{{23, 14}, {14, 23}, {1, 9}} {
		rng := rand.New(rand.NewPCG(1, uint64(shape[0])))
		w, x := matrixtest.Random(rng, shape[0], shape[1]), matrixtest.Inputs(rng, 40, shape[1], 0)
		base := linalg.New(shape[0], shape[1])
		for i, v := range w.Data {
			base.Data[i] = math.Round(v)
		}
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var svd mat.SVD
		if !svd.Factorize(gonum(linalg.MulT(x, minus(w, base))), mat.SVDNone) {
			t.Fatal("no singular values")
		}
		left := squares(linalg.MulT(x, minus(w, base)))
		for r, s := range svd.Values(nil) {
			if r == min(shape[0], shape[1]) {
				break
			}
			left -= s * s
			f, err := residual.EoRA(w, base, g, r+1)
			if err != nil {
				t.Fatal(err)
			}
			want := left / squares(linalg.MulT(x, w))
			got := squares(linalg.MulT(x, minus(minus(w, base), f.Product()))) / squares(linalg.MulT(x, w))
			if math.Abs(got-want) > 1e-12 || math.Abs(f.Error-want) > 1e-12 {
				t.Errorf("%v, rank %d: error %g on the inputs, %g as it says, want %g", shape, r+1, got, f.Error, want)
			}
		}
		_, err = residual.EoRA(w, base.Transpose(), g, 1)
		matrixtest.Refuses(t, err, "residual of a base: matrices of")
		_, err = residual.EoRA(w, base, g, 0)
		matrixtest.Refuses(t, err, "residual of a base: whitened decomposition: rank 0")
	}
}

// site is the inputs of a site and a matrix that reads them.
func site(t *testing.T, seed uint64, out, in int, shrinkage float64) (w, x linalg.Matrix, g *lowrank.Gram) {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, seed))
	w, x = matrixtest.Random(rng, out, in), matrixtest.Inputs(rng, 4*in, in, 0)
	g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, shrinkage)
	if err != nil {
		t.Fatal(err)
	}
	return w, x, g
}

// onInputs returns the error of base + u·v relative to w on inputs x.
func onInputs(t *testing.T, w, x linalg.Matrix, base layers.Weight, f lowrank.Factors) float64 {
	t.Helper()
	e := minus(minus(w, matrixtest.Of(t, base)), f.Product())
	return squares(linalg.MulT(x, e)) / squares(linalg.MulT(x, w))
}

func rounding(bits int) layers.Rounding {
	return layers.Rounding{Bits: bits, Group: 32, ScaleType: kernels.F16}
}

// A call is what a quantizer was given and what it made of it.
type call struct {
	target, gram linalg.Matrix
	base         *layers.Grouped
}

// recorded returns q and the calls that it has had.
func recorded(q residual.Quantizer) (residual.Quantizer, *[]call) {
	var calls []call
	return func(target linalg.Matrix, m residual.Moments) (*layers.Grouped, error) {
		base, err := q(target, m)
		calls = append(calls, call{target, m.Sum(), base})
		return base, err
	}, &calls
}

// near fails where a number of got is not within bound of that of want, relative to the largest of scale.
func near(t *testing.T, what string, got, want, scale linalg.Matrix, bound float64) {
	t.Helper()
	var largest float64
	for _, v := range scale.Data {
		largest = max(largest, math.Abs(v))
	}
	for i, v := range want.Data {
		if !(math.Abs(got.Data[i]-v) <= bound*largest) {
			t.Errorf("%s: element %d is %g, want %g", what, i, got.Data[i], v)
			return
		}
	}
}

// TestRounded: the diagonal of the Gram matrix is what weighs the columns.
func TestRounded(t *testing.T) {
	w, _, g := site(t, 1, 6, 32, 0)
	single, importance := make([]float32, len(w.Data)), make([]float32, w.Cols)
	for i, v := range w.Data {
		single[i] = float32(v)
	}
	_, left, err := g.DeflateLeading(4)
	if err != nil {
		t.Fatal(err)
	}
	for name, m := range map[string]residual.Moments{"all": g, "some directions": left} {
		for i := range importance {
			importance[i] = float32(m.Sum().Data[i*(w.Cols+1)])
		}
		want, err := rounding(3).Quantize(single, w.Rows, importance)
		if err != nil {
			t.Fatal(err)
		}
		got, err := residual.Rounded(rounding(3))(w, m)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(matrixtest.Of(t, got).Data, matrixtest.Of(t, want).Data) {
			t.Errorf("errors in %s count: other codes than with the diagonal as importance", name)
		}
	}
	_, _, other := site(t, 1, 6, 31, 0)
	_, err = residual.Rounded(rounding(3))(w, other)
	matrixtest.Refuses(t, err, "moments of 31 inputs for a matrix of 6 x 32")
}

// TestIntrinsic: the right factor is the inputs' own, the base is rounded for what it leaves, and the left factor is the
// best for the two.
func TestIntrinsic(t *testing.T) {
	const r = 5
	for _, shape := range [][2]int{{20, 32}, {40, 16}} {
		w, _, g := site(t, 2, shape[0], shape[1], 0)
		for _, inner := range map[string]residual.Quantizer{
			"rounded": residual.Rounded(rounding(3)), "feedback": residual.WithFeedback(layers.Feedback{Rounding: rounding(3)}),
		} {
			q, calls := recorded(inner)
			base, f, err := residual.Intrinsic(w, g, r, q)
			if err != nil {
				t.Fatal(err)
			}
			var eigen mat.EigenSym
			if !eigen.Factorize(mat.NewSymDense(shape[1], slices.Clone(g.Sum().Data)), true) {
				t.Fatal("no eigenvalues")
			}
			var vectors mat.Dense
			eigen.VectorsTo(&vectors)
			left := minus(g.Sum(), linalg.New(shape[1], shape[1]))
			for k := range r {
				at := shape[1] - 1 - k // gonum's values ascend
				var along float64
				for j := range shape[1] {
					along += vectors.At(j, at) * f.V.Row(k)[j]
					for i := range shape[1] {
						left.Data[i*shape[1]+j] -= eigen.Values(nil)[at] * vectors.At(i, at) * vectors.At(j, at)
					}
				}
				if math.Abs(math.Abs(along)-1) > 1e-9 {
					t.Errorf("%v: direction %d of the residual is not that of the inputs: %g", shape, k, along)
				}
			}
			near(t, "the Gram matrix that the base is rounded for", (*calls)[0].gram, left, g.Sum(), 1e-10)
			near(t, "the target of the base", (*calls)[0].target, w, w, 0)
			// A row of the error is orthogonal to the directions of the residual, in the results.
			e := minus(minus(w, matrixtest.Of(t, base)), f.Product())
			slope := linalg.MulT(linalg.Mul(e, g.Sum()), f.V)
			near(t, "slope along the left factor", slope, linalg.New(shape[0], r), g.Sum(), 1e-9)
			// Another matrix that reads the site has the same right factor, bit for bit.
			_, other, err := residual.Intrinsic(matrixtest.Random(rand.New(rand.NewPCG(5, 5)), 9, shape[1]), g, r, inner)
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(other.V.Data, f.V.Data) {
				t.Errorf("%v: two matrices that read one site have different right factors", shape)
			}
		}
		_, _, err := residual.Intrinsic(w, g, shape[1], residual.Rounded(rounding(3)))
		matrixtest.Refuses(t, err, "quantize for a known residual: rank")
		_, _, err = residual.Intrinsic(w.Transpose(), g, 1, residual.Rounded(rounding(3)))
		matrixtest.Refuses(t, err, "for a Gram matrix of")
	}
}

// TestAlternate plays the rounds by hand.
func TestAlternate(t *testing.T) {
	const r = 4
	w, x, g := site(t, 3, 20, 32, 0)
	for name, inner := range map[string]residual.Quantizer{
		"rounded": residual.Rounded(rounding(2)), "feedback": residual.WithFeedback(layers.Feedback{Rounding: rounding(2)}),
	} {
		whitened, err := lowrank.Whitened(w, g, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, start := range []lowrank.Factors{{}, whitened} {
			target := w
			if start.U.Data != nil {
				target = minus(w, start.Product())
			}
			least := math.Inf(1)
			for round := range 5 {
				rounds := round
				if start.U.Data != nil {
					rounds++
				}
				q, calls := recorded(inner)
				base, f, err := residual.Alternate(w, g, r, rounds, q, start)
				if err != nil {
					t.Fatal(err)
				}
				near(t, "target of the last round", (*calls)[len(*calls)-1].target, target, w, 1e-12)
				fitted, err := residual.EoRA(w, matrixtest.Of(t, (*calls)[len(*calls)-1].base), g, r)
				if err != nil {
					t.Fatal(err)
				}
				least = min(least, fitted.Error)
				target = minus(w, fitted.Product())
				if f.Error != least {
					t.Errorf("%s, %d rounds: error %g, the least is %g", name, rounds, f.Error, least)
				}
				if e := onInputs(t, w, x, base, f); math.Abs(e-f.Error) > 1e-12 {
					t.Errorf("%s, %d rounds: error %g on the inputs, %g as it says", name, rounds, e, f.Error)
				}
			}
			first, _, err := residual.Alternate(w, g, r, 1, inner, start)
			if err != nil {
				t.Fatal(err)
			}
			refit, err := residual.EoRA(w, matrixtest.Of(t, first), g, r)
			if err != nil {
				t.Fatal(err)
			}
			if !(least < refit.Error) {
				t.Errorf("%s: rounds do not help: %g, %g after one", name, least, refit.Error)
			}
		}
	}
	_, _, err := residual.Alternate(w, g, r, 0, residual.Rounded(rounding(2)), lowrank.Factors{U: linalg.New(20, 1), V: linalg.New(1, 32)})
	matrixtest.Refuses(t, err, "0 rounds, want at least 1")
	_, _, err = residual.Alternate(w, g, r, 1, residual.Rounded(rounding(2)), lowrank.Factors{U: linalg.New(19, 1), V: linalg.New(1, 32)})
	matrixtest.Refuses(t, err, "matrices of 20 x 32 and 19 x 32")
	_, _, err = residual.Alternate(w, g, r, 1, residual.Rounded(rounding(7)), lowrank.Factors{})
	matrixtest.Refuses(t, err, "alternate base and residual: ")
}

// TestRefined: each base is rounded for what the residual at hand leaves, the best of all rounds is kept, and it is better
// than fitting a residual to a base that knows nothing of it.
func TestRefined(t *testing.T) {
	const r, rounds = 4, 3
	w, x, g := site(t, 6, 24, 32, 0)
	inner := residual.WithFeedback(layers.Feedback{Rounding: rounding(3)})
	q, calls := recorded(inner)
	base, f, err := residual.Refined(w, g, r, rounds, q)
	if err != nil {
		t.Fatal(err)
	}
	if len(*calls) != rounds+1 {
		t.Fatalf("%d bases, want %d", len(*calls), rounds+1)
	}
	least := math.Inf(1)
	rng := rand.New(rand.NewPCG(7, 7))
	for i, c := range *calls {
		fitted, err := residual.EoRA(w, matrixtest.Of(t, c.base), g, r)
		if err != nil {
			t.Fatal(err)
		}
		least = min(least, fitted.Error)
		if i == rounds {
			break
		}
		next := (*calls)[i+1]
		near(t, "target of the next round", next.target, minus(w, fitted.Product()), w, 1e-12)
		// What the best left factor leaves of any error, by least squares over the inputs, is the error in the Gram matrix given.
		e := matrixtest.Random(rng, 3, w.Cols)
		a, b := linalg.MulT(x, fitted.V), linalg.MulT(x, e)
		var u, product mat.Dense
		if err := u.Solve(gonum(a), gonum(b)); err != nil {
			t.Fatal(err)
		}
		product.Mul(gonum(a), &u)
		left := minus(b, linalg.Matrix{Rows: b.Rows, Cols: b.Cols, Data: product.RawMatrix().Data})
		near(t, "error that is left", linalg.MulT(linalg.Mul(e, next.gram), e), linalg.TMul(left, left), linalg.TMul(b, b), 1e-9)
	}
	if f.Error != least {
		t.Errorf("error %g, the least of the rounds is %g", f.Error, least)
	}
	if e := onInputs(t, w, x, base, f); math.Abs(e-f.Error) > 1e-12 {
		t.Errorf("error %g on the inputs, %g as it says", e, f.Error)
	}
	_, plain, err := residual.Alternate(w, g, r, rounds, inner, lowrank.Factors{})
	if err != nil {
		t.Fatal(err)
	}
	base, known, err := residual.Intrinsic(w, g, r, inner)
	if err != nil {
		t.Fatal(err)
	}
	if before := onInputs(t, w, x, base, known); f.Error >= plain.Error || f.Error >= before {
		t.Errorf("error %g, alternating %g, known before %g", f.Error, plain.Error, before)
	}
	_, _, err = residual.Refined(w, g, 0, 1, inner)
	matrixtest.Refuses(t, err, "refine base and residual: quantize for a known residual: rank 0")
}
