package linalg_test

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"eckart/internal/linalg"
)

// magnitudes returns a with its elements made positive.
func magnitudes(a linalg.Matrix) linalg.Matrix {
	m := linalg.New(a.Rows, a.Cols)
	for i, x := range a.Data {
		m.Data[i] = math.Abs(x)
	}
	return m
}

// nearly fails the test where an element of got differs from that of want by more than bound times that of whole; and where
// none differs by as much as float64 would not, because then it was not single precision that computed them.
func nearly(t *testing.T, what string, got, want, whole linalg.Matrix, bound float64) {
	t.Helper()
	if got.Rows != want.Rows || got.Cols != want.Cols {
		t.Fatalf("%s: %d x %d, want %d x %d", what, got.Rows, got.Cols, want.Rows, want.Cols)
	}
	worst, at := 0.0, 0
	for i, x := range got.Data {
		if e := math.Abs(x-want.Data[i]) / whole.Data[i]; !(e <= worst) {
			worst, at = e, i
		}
	}
	if !(worst <= bound) {
		t.Errorf("%s: element (%d, %d) is %g, want %g: off by %.3g of its magnitudes, more than %.3g",
			what, at/got.Cols, at%got.Cols, got.Data[at], want.Data[at], worst, bound)
	}
	if worst < 1e-10 && len(got.Data) > 0 {
		t.Errorf("%s: off by no more than %.3g, which is not what single precision does", what, worst)
	}
}

// singleBound is what a sum of k products in single precision is off by, relative to its magnitudes: each of its elements is
// rounded, and each product and sum of a step, to 2⁻²⁴; steps have 384 products.
func singleBound(k int) float64 { return float64(min(k, 384)+3) * 0x1p-24 }

func TestSingle(t *testing.T) { linalg.WithEachWidth(t, testSingle) }

func testSingle(t *testing.T) {
	rng := newRand(2)
	for _, s := range [][3]int{{1, 2, 3}, {2, 3, 4}, {5, 7, 9}, {17, 33, 9}, {24, 8, 48}, {25, 385, 49}, {130, 70, 100}, {8, 1000, 97}, {200, 390, 110}} {
		m, k, n := s[0], s[1], s[2]
		a, b := random(rng, m, k), random(rng, k, n)
		want, whole := product(a, b), product(magnitudes(a), magnitudes(b))
		for name, got := range map[string]linalg.Matrix{
			"Mul":  linalg.Mul(a, b, linalg.Single),
			"MulT": linalg.MulT(a, b.Transpose(), linalg.Single),
			"TMul": linalg.TMul(a.Transpose(), b, linalg.Single),
		} {
			name := fmt.Sprintf("%s %d x %d x %d", name, m, k, n)
			nearly(t, name, got, want, whole, min(1e-6, singleBound(k))) // signs are mixed
		}
		a, b = magnitudes(a), magnitudes(b)
		nearly(t, fmt.Sprintf("of one sign, %d x %d x %d", m, k, n), linalg.Mul(a, b, linalg.Single), whole, whole, singleBound(k))
	}
	for _, s := range [][2]int{{7, 30}, {200, 33}, {193, 205}, {60, 450}} {
		x := random(rng, s[0], s[1])
		got := linalg.TMul(x, x, linalg.Single)
		want, whole := product(x.Transpose(), x), product(magnitudes(x.Transpose()), magnitudes(x))
		nearly(t, fmt.Sprintf("Gram matrix of %v", s), got, want, whole, singleBound(s[0]))
		near(t, fmt.Sprintf("symmetry of the Gram matrix of %v", s), got, got.Transpose(), 0)
	}
}

// TestTraits multiplies triangles, and matrices whose product is symmetric.
func TestTraits(t *testing.T) {
	for _, n := range []int{1, 9, 50, 400} {
		rng := newRand(uint64(n))
		s, l := symmetric(7, n), random(rng, n, n)
		for i := range n {
			clear(l.Row(i)[i+1:])
		}
		ls := product(l, s)
		sl := product(s, l)
		lsl := product(l.Transpose(), sl)
		linalg.WithEachWidth(t, func(t *testing.T) {
			const bound = 1e-11
			near(t, fmt.Sprintf("l·s of %d", n), linalg.Mul(l, s, linalg.LowerA), ls, bound)
			near(t, fmt.Sprintf("s·l of %d", n), linalg.Mul(s, l, linalg.LowerB), sl, bound)
			near(t, fmt.Sprintf("l·sᵀ of %d", n), linalg.MulT(l, s, linalg.LowerA), ls, bound)
			got := linalg.TMul(sl, l, linalg.LowerB, linalg.Symmetric)
			near(t, fmt.Sprintf("lᵀ·s·l of %d", n), got, lsl, bound)
			near(t, fmt.Sprintf("symmetry of lᵀ·s·l of %d", n), got, got.Transpose(), 0)
			// A triangle changes nothing but what is left out.
			near(t, fmt.Sprintf("s·l of %d in single precision", n), linalg.Mul(s, l, linalg.LowerB|linalg.Single), linalg.Mul(s, l, linalg.Single), 0)
			near(t, fmt.Sprintf("l·s of %d in single precision", n), linalg.Mul(l, s, linalg.LowerA|linalg.Single), linalg.Mul(l, s, linalg.Single), 0)
		})
	}
}

// TestSingleRange multiplies what float32 cannot hold, or whose products it cannot.
func TestSingleRange(t *testing.T) {
	a, b := random(newRand(1), 30, 40), random(newRand(2), 40, 50)
	want := product(a, b)
	for _, s := range [][2]float64{{1e30, 1e20}, {1e-30, 1e-20}, {1e60, 1e-60}, {1e-200, 1}, {1, 1e200}} {
		scaled := func(m linalg.Matrix, f float64) linalg.Matrix {
			c := linalg.New(m.Rows, m.Cols)
			for i, x := range m.Data {
				c.Data[i] = f * x
			}
			return c
		}
		got := linalg.Mul(scaled(a, s[0]), scaled(b, s[1]), linalg.Single)
		near(t, fmt.Sprintf("product of matrices times %g", s), scaled(scaled(got, 1/s[0]), 1/s[1]), want, 1e-12)
	}
	large := random(newRand(1), 30, 40)
	large.Row(3)[7] = 1e39
	near(t, "product with one large number", linalg.Mul(large, b, linalg.Single), linalg.Mul(large, b), 0)
	if zero := linalg.Mul(linalg.New(3, 4), linalg.New(4, 5), linalg.Single); largest(zero) != 0 {
		t.Errorf("the product of nothing is %v", zero.Data)
	}
}

func TestQuadraticSingle(t *testing.T) {
	linalg.WithEachWidth(t, func(t *testing.T) {
		for _, s := range [][2]int{{1, 2}, {7, 30}, {3, 1023}, {2, 1024}, {5, 1025}} {
			rows, n := s[0], s[1]
			e, c := random(newRand(5), rows, n), symmetric(6, n)
			want, whole := linalg.New(1, rows), linalg.New(1, rows)
			ec, magnitude := product(e, c), product(magnitudes(e), magnitudes(c))
			for i := range rows {
				for j, v := range e.Row(i) {
					want.Data[i] += v * ec.Row(i)[j]
					whole.Data[i] += math.Abs(v) * magnitude.Row(i)[j]
				}
			}
			linalg.WithSingle(true, func() {
				got := linalg.Matrix{Rows: 1, Cols: rows, Data: linalg.Quadratic(e, c)}
				nearly(t, fmt.Sprintf("Quadratic %v", s), got, want, whole, 3e-7)
			})
		}
	})
}

// outliers returns the Gram matrix (n, n) of inputs that depend on one another, of which a few are as much larger than the
// others as diagonal elements over 12 orders of magnitude are, and a hundredth of its mean diagonal.
func outliers(n int) (gram linalg.Matrix, ridge float64) {
	rng := newRand(11)
	x := linalg.Mul(random(rng, 2*n, n/4), random(rng, n/4, n))
	for i := range x.Data {
		j := i % n
		x.Data[i] = (x.Data[i] + rng.NormFloat64()) * math.Pow(10, 6*float64(j*37%n)/float64(n)-6)
	}
	gram = linalg.TMul(x, x)
	for i := range n {
		ridge += 0.01 * gram.Data[i*n+i] / float64(n)
	}
	return gram, ridge
}

// feedbackError returns what rounding with feedback by the factor f of one block leaves of independent errors of size 1, in the
// norm of c: an error in column j comes to row j of f over its diagonal element.
func feedbackError(f, c linalg.Matrix) (sum float64) {
	for i, e := range linalg.Quadratic(f, c) {
		sum += e / (f.Row(i)[i] * f.Row(i)[i])
	}
	return sum
}

// upper returns the transpose of the lower triangle of f.
func upper(f linalg.Matrix) linalg.Matrix {
	u := f.Transpose()
	for i := range u.Rows {
		clear(u.Row(i)[:i])
	}
	return u
}

// TestBlockFactorSingle holds the factor in single precision to that in float64, by what rounding with it leaves of errors.
func TestBlockFactorSingle(t *testing.T) {
	linalg.WithEachWidth(t, func(t *testing.T) {
		const n = 520
		gram, ridge := outliers(n)
		damped := linalg.Matrix{Rows: n, Cols: n, Data: slices.Clone(gram.Data)}
		for i := range n {
			damped.Data[i*n+i] += ridge
		}
		for _, block := range []int{n, 100} {
			var factors [2]linalg.Matrix
			for i := range factors {
				linalg.WithSingle(i > 0, func() {
					var err error
					if factors[i], err = linalg.BlockFactor(gram, linalg.Matrix{}, ridge, block); err != nil {
						t.Fatal(err)
					}
				})
			}
			exact, single := factors[0], factors[1]
			if slices.Equal(exact.Data, single.Data) {
				t.Errorf("blocks of %d: the same bits in single precision", block)
			}
			for i := range n {
				want, got := exact.Row(i)[i], single.Row(i)[i]
				if math.Abs(got-want) > 1e-3*want {
					t.Fatalf("blocks of %d: element %d of the diagonal is %g, want %g", block, i, got, want)
				}
			}
			if block == n {
				want, got := feedbackError(upper(exact), damped), feedbackError(upper(single), damped)
				if t.Logf("errors come to 1 + %.3g times the least", got/want-1); !(got < 1.00001*want) {
					t.Errorf("errors of %g are left, %g in float64", got, want)
				}
			}
		}
	})
}

// TestBlockFactorFallsBack has float64 decide where single precision cannot.
func TestBlockFactorFallsBack(t *testing.T) {
	const n = 100
	x := random(newRand(4), n, n)
	almost := product(x.Transpose(), x) // definite, but not as far as single precision can tell
	for i := range n {
		almost.Row(i)[0] = almost.Row(i)[1]
	}
	copy(almost.Row(0), almost.Row(1))
	almost.Data[0] = almost.Data[n+1] * (1 + 1e-9)
	indefinite := symmetric(5, n)
	singular := product(x.Transpose(), x)
	for i := range n {
		singular.Row(i)[n/2], singular.Row(n / 2)[i] = 0, 0
	}
	for name, a := range map[string]linalg.Matrix{"nearly singular": almost, "indefinite": indefinite, "singular": singular} {
		var want, got linalg.Matrix
		var wantErr, gotErr error
		linalg.WithSingle(false, func() { want, wantErr = linalg.BlockFactor(a, linalg.Matrix{}, 0, 30) })
		linalg.WithSingle(true, func() { got, gotErr = linalg.BlockFactor(a, linalg.Matrix{}, 0, 30) })
		if !slices.Equal(got.Data, want.Data) || (gotErr == nil) != (wantErr == nil) {
			t.Errorf("%s: not what float64 finds", name)
		}
		if name == "nearly singular" {
			if gotErr != nil {
				t.Errorf("%s: %v", name, gotErr)
			}
		} else if !errors.Is(gotErr, linalg.ErrNotDefinite) {
			t.Errorf("%s: got error %v", name, gotErr)
		}
	}
	for _, scale := range []float64{1e-60, 1e60} {
		a := product(x.Transpose(), x)
		for i := range a.Data {
			a.Data[i] *= scale
		}
		var want, got linalg.Matrix
		linalg.WithSingle(false, func() { want, _ = linalg.BlockFactor(a, linalg.Matrix{}, scale, 30) })
		linalg.WithSingle(true, func() { got, _ = linalg.BlockFactor(a, linalg.Matrix{}, scale, 30) })
		if want.Data == nil || !slices.Equal(got.Data, want.Data) {
			t.Errorf("elements of about %g: not what float64 finds", scale)
		}
	}
}
