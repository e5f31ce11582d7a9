package lowrank_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"eckart/internal/linalg"
	"eckart/internal/matrixtest"
	"eckart/layers/lowrank"
)

// TestJoint stacks matrices by hand, each over its norm, to a taller and to a wider matrix than the inputs are many.
func TestJoint(t *testing.T) {
	for _, outs := range [][]int{{9, 3, 4}, {2, 5}, {8}} {
		rng := rand.New(rand.NewPCG(7, uint64(len(outs))))
		x := matrixtest.Inputs(rng, 40, 12, 2)
		g, err := lowrank.NewGram(linalg.TMul(x, x), x.Rows, nil, 0.01)
		if err != nil {
			t.Fatal(err)
		}
		gram := shrunk(g.Sum(), 0.01)
		var ws []linalg.Matrix
		stack := linalg.Matrix{Cols: 12}
		for i, out := range outs {
			w := matrixtest.Random(rng, out, 12)
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
		if _, err := lowrank.DecomposeJoint([]linalg.Matrix{ws[0], matrixtest.Random(rng, 3, 11)}, g); err == nil {
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
