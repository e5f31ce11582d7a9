package residual_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/layers/lowrank"
	"eckart/layers/residual"
)

func random(rng *rand.Rand, rows, cols int) linalg.Matrix {
	m := linalg.New(rows, cols)
	for i := range m.Data {
		m.Data[i] = rng.NormFloat64()
	}
	return m
}

// inputs returns tokens inputs of n numbers that depend on one another and differ in size, as those of a model do.
func inputs(rng *rand.Rand, tokens, n int) linalg.Matrix {
	x := linalg.Mul(random(rng, tokens, n), random(rng, n, n))
	for i := range x.Data {
		x.Data[i] *= math.Exp(-3 * float64(i%n*7%n) / float64(n))
	}
	return x
}

func dense(m linalg.Matrix) *mat.Dense { return mat.NewDense(m.Rows, m.Cols, m.Data) }

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

func refuses(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestEoRA: on the inputs themselves the residual leaves the tail of the singular values of the results of w - base.
func TestEoRA(t *testing.T) {
	for _, shape := range [][2]int{{23, 14}, {14, 23}, {1, 9}} {
		rng := rand.New(rand.NewPCG(1, uint64(shape[0])))
		w, x := random(rng, shape[0], shape[1]), inputs(rng, 40, shape[1])
		base := linalg.New(shape[0], shape[1])
		for i, v := range w.Data {
			base.Data[i] = math.Round(v)
		}
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		var svd mat.SVD
		if !svd.Factorize(dense(linalg.MulT(x, minus(w, base))), mat.SVDNone) {
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
		refuses(t, err, "residual of a base: matrices of")
		_, err = residual.EoRA(w, base, g, 0)
		refuses(t, err, "residual of a base: whitened decomposition: rank 0")
	}
}

// A drift is the inputs x of a model and the y that have become of them, and their moments.
type drift struct{ x, y linalg.Matrix }

func newDrift(rng *rand.Rand, change linalg.Matrix, tokens int, noise float64) drift {
	x := inputs(rng, tokens, change.Rows)
	y := linalg.Mul(x, change)
	for i := range y.Data {
		y.Data[i] += noise * rng.NormFloat64()
	}
	return drift{x, y}
}

func (d drift) moments() residual.Drift {
	return residual.Drift{Cross: linalg.TMul(d.x, d.y), Gram: linalg.TMul(d.y, d.y)}
}

// error is |x·wᵀ - y·targetᵀ|².
func (d drift) error(w, target linalg.Matrix) float64 {
	return squares(minus(linalg.MulT(d.x, w), linalg.MulT(d.y, target)))
}

// change returns the identity with something added.
func change(rng *rand.Rand, n int, by float64) linalg.Matrix {
	c := random(rng, n, n)
	for i := range c.Data {
		c.Data[i] *= by
		if i%(n+1) == 0 {
			c.Data[i]++
		}
	}
	return c
}

// TestCorrected: in full it is what least squares over the inputs gives, in part it lies between, damped it is the least
// of the damped problem.
func TestCorrected(t *testing.T) {
	for _, shape := range [][2]int{{5, 9}, {9, 5}} {
		rng := rand.New(rand.NewPCG(2, uint64(shape[0])))
		w := random(rng, shape[0], shape[1])
		d := newDrift(rng, change(rng, shape[1], 0.1), 60, 0.3)
		m := d.moments()

		full, err := residual.Corrected(w, m.Cross, m.Gram, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		var want mat.Dense
		if err := want.Solve(dense(d.y), dense(linalg.MulT(d.x, w))); err != nil { // QR, not the normal equations
			t.Fatal(err)
		}
		for i, v := range full.Data {
			if v0 := want.At(i%shape[1], i/shape[1]); math.Abs(v-v0) > 1e-9 {
				t.Fatalf("%v: element %d is %g, least squares give %g", shape, i, v, v0)
			}
		}
		none, err := residual.Corrected(w, m.Cross, m.Gram, 0, 0.03)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(none.Data, w.Data) {
			t.Errorf("%v: a correction of strength 0 changes the matrix", shape)
		}
		half, err := residual.Corrected(w, m.Cross, m.Gram, 0.5, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range half.Data {
			if math.Abs(v-(w.Data[i]+full.Data[i])/2) > 1e-12 {
				t.Fatalf("%v: element %d of half a correction is %g", shape, i, v)
			}
		}
		// |x·wᵀ - y·targetᵀ|² + α·tr(C)/n·|target - w|² is stationary: (target·C - w·M) + α·tr(C)/n·(target - w) = 0.
		const alpha = 0.2
		damped, err := residual.Corrected(w, m.Cross, m.Gram, 1, alpha)
		if err != nil {
			t.Fatal(err)
		}
		slope := minus(linalg.Mul(damped, m.Gram), linalg.Mul(w, m.Cross))
		trace := 0.0
		for i := range shape[1] {
			trace += m.Gram.Data[i*(shape[1]+1)]
		}
		for i, v := range slope.Data {
			if s := v + alpha*trace/float64(shape[1])*(damped.Data[i]-w.Data[i]); math.Abs(s) > 1e-8*trace {
				t.Errorf("%v: the damped error falls by %g along element %d", shape, s, i)
			}
		}
	}
	w := linalg.New(2, 3)
	_, err := residual.Corrected(w, linalg.New(3, 3), linalg.New(2, 2), 1, 0)
	refuses(t, err, "moments of 2 x 2 for a matrix of 2 x 3")
	_, err = residual.Corrected(w, linalg.New(3, 3), linalg.New(3, 3), 1, 0.03)
	refuses(t, err, "not positive definite")
}

// TestStrength chooses what computing the error on the other inputs chooses: all of the correction where many tokens
// show the drift, little or none where few make it up.
func TestStrength(t *testing.T) {
	lambdas := []float64{0, 0.25, 0.5, 0.75, 1}
	seen := map[float64]bool{}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(3, seed))
		w := random(rng, 6, 10)
		c := change(rng, 10, 0.03*float64(seed%3))
		fit := newDrift(rng, c, []int{12, 20, 2000}[seed%3], 1)
		check := newDrift(rng, c, 500, 1)
		got, err := residual.Strength(w, fit.moments(), check.moments(), 0.03, lambdas...)
		if err != nil {
			t.Fatal(err)
		}
		best, least := 0.0, math.Inf(1)
		for _, l := range lambdas {
			m := fit.moments()
			target, err := residual.Corrected(w, m.Cross, m.Gram, l, 0.03)
			if err != nil {
				t.Fatal(err)
			}
			if e := check.error(w, target); e < least {
				best, least = l, e
			}
		}
		if got != best {
			t.Errorf("seed %d: strength %g, the error is least at %g", seed, got, best)
		}
		seen[got] = true
	}
	if len(seen) < 3 {
		t.Errorf("all cases choose among %v: they show nothing", seen)
	}
	w, d := linalg.New(2, 3), residual.Drift{Cross: linalg.New(3, 3), Gram: linalg.New(3, 3)}
	_, err := residual.Strength(w, d, d, 1)
	refuses(t, err, "no strength")
	_, err = residual.Strength(w, d, residual.Drift{Cross: linalg.New(2, 2), Gram: linalg.New(3, 3)}, 1, 0, 1)
	refuses(t, err, "matrices of 3 x 3 and 2 x 2")
}
