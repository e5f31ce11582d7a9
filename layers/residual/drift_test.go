package residual_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/residual"
)

// A drift is the inputs x of a model and the y that have become of them, and their moments.
type drift struct{ x, y linalg.Matrix }

func newDrift(rng *rand.Rand, change linalg.Matrix, tokens int, noise float64) drift {
	x := matrixtest.Inputs(rng, tokens, change.Rows, 0)
	y := linalg.Mul(x, change)
	for i := range y.Data {
		y.Data[i] += noise * rng.NormFloat64()
	}
	return drift{x, y}
}

func (d drift) moments() residual.Drift {
	return residual.Drift{Shift: linalg.TMul(minus(d.x, d.y), d.y), Gram: linalg.TMul(d.y, d.y)}
}

// error is |x·wᵀ - y·targetᵀ|².
func (d drift) error(w, target linalg.Matrix) float64 {
	return squares(minus(linalg.MulT(d.x, w), linalg.MulT(d.y, target)))
}

// change returns the identity with something added.
func change(rng *rand.Rand, n int, by float64) linalg.Matrix {
	c := matrixtest.Random(rng, n, n)
	for i := range c.Data {
		c.Data[i] *= by
		if i%(n+1) == 0 {
			c.Data[i]++
		}
	}
	return c
}

// corrected returns w corrected by m.
func corrected(w linalg.Matrix, m residual.Drift, lambda, alpha float64) (linalg.Matrix, error) {
	c, err := residual.NewCorrection(m, alpha)
	if err != nil {
		return linalg.Matrix{}, err
	}
	return c.Corrected(w, lambda)
}

// TestCorrected: in full it is what least squares over the inputs gives, in part it lies between, damped it is the least
// of the damped problem.
func TestCorrected(t *testing.T) {
	for _, shape := range [][2]int{{5, 9}, {9, 5}} {
		rng := rand.New(rand.NewPCG(2, uint64(shape[0])))
		w := matrixtest.Random(rng, shape[0], shape[1])
		d := newDrift(rng, change(rng, shape[1], 0.1), 60, 0.3)
		m := d.moments()

		full, err := corrected(w, m, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		var want mat.Dense
		if err := want.Solve(gonum(d.y), gonum(linalg.MulT(d.x, w))); err != nil { // QR, not the normal equations
			t.Fatal(err)
		}
		for i, v := range full.Data {
			if v0 := want.At(i%shape[1], i/shape[1]); math.Abs(v-v0) > 1e-9 {
				t.Fatalf("%v: element %d is %g, least squares give %g", shape, i, v, v0)
			}
		}
		none, err := corrected(w, m, 0, 0.03)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(none.Data, w.Data) {
			t.Errorf("%v: a correction of strength 0 changes the matrix", shape)
		}
		half, err := corrected(w, m, 0.5, 0)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range half.Data {
			if math.Abs(v-(w.Data[i]+full.Data[i])/2) > 1e-12 {
				t.Fatalf("%v: element %d of half a correction is %g", shape, i, v)
			}
		}
		// |x·wᵀ - y·targetᵀ|² + α·tr(C)/n·|target - w|² is stationary: (target - w)·C - w·S + α·tr(C)/n·(target - w) = 0.
		const alpha = 0.2
		damped, err := corrected(w, m, 1, alpha)
		if err != nil {
			t.Fatal(err)
		}
		slope := minus(linalg.Mul(minus(damped, w), m.Gram), linalg.Mul(w, m.Shift))
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
	_, err := residual.NewCorrection(residual.Drift{Shift: linalg.New(3, 3), Gram: linalg.New(2, 2)}, 0)
	matrixtest.Refuses(t, err, "moments of 3 x 3 and 2 x 2")
	_, err = residual.NewCorrection(residual.Drift{Shift: linalg.New(3, 3), Gram: linalg.New(3, 3)}, 0.03)
	matrixtest.Refuses(t, err, "not positive definite")
	_, err = corrected(linalg.New(2, 3), residual.Drift{Shift: linalg.New(2, 2), Gram: matrixtest.Identity(2)}, 1, 0)
	matrixtest.Refuses(t, err, "moments of 2 x 2 for a matrix of 2 x 3")
}

// TestStrength chooses what computing the error on the other inputs chooses: all of the correction where many tokens
// show the drift, little or none where few make it up.
func TestStrength(t *testing.T) {
	lambdas := []float64{0, 0.25, 0.5, 0.75, 1}
	seen := map[float64]bool{}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(3, seed))
		w := matrixtest.Random(rng, 6, 10)
		c := change(rng, 10, 0.03*float64(seed%3))
		fit := newDrift(rng, c, []int{12, 20, 2000}[seed%3], 1)
		check := newDrift(rng, c, 500, 1)
		by, err := residual.NewCorrection(fit.moments(), 0.03)
		if err != nil {
			t.Fatal(err)
		}
		got, err := by.Strength(w, check.moments(), lambdas...)
		if err != nil {
			t.Fatal(err)
		}
		best, least := 0.0, math.Inf(1)
		for _, l := range lambdas {
			m := fit.moments()
			target, err := corrected(w, m, l, 0.03)
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
	w, d := linalg.New(2, 3), residual.Drift{Shift: linalg.New(3, 3), Gram: matrixtest.Identity(3)}
	by, err := residual.NewCorrection(d, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = by.Strength(w, d)
	matrixtest.Refuses(t, err, "no strength")
	_, err = by.Strength(linalg.New(2, 2), d, 0, 1)
	matrixtest.Refuses(t, err, "moments of 3 x 3 for a matrix of 2 x 2")
	_, err = by.Strength(w, residual.Drift{Shift: linalg.New(2, 2), Gram: linalg.New(3, 3)}, 0, 1)
	matrixtest.Refuses(t, err, "matrices of 3 x 3 and 2 x 2")
}
