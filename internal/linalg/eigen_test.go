package linalg_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
)

// orthogonal returns a random orthogonal matrix (n, n).
func orthogonal(seed uint64, n int) linalg.Matrix {
	q := random(newRand(seed), n, n)
	if n == 0 {
		return q
	}
	var qr mat.QR
	qr.Factorize(mat.NewDense(n, n, q.Data))
	var d mat.Dense
	qr.QTo(&d)
	return linalg.Matrix{Rows: n, Cols: n, Data: d.RawMatrix().Data}
}

// withSpectrum returns the symmetric matrix with random eigenvectors and these eigenvalues.
func withSpectrum(seed uint64, values []float64) linalg.Matrix {
	n := len(values)
	q := orthogonal(seed, n)
	scaled := linalg.New(n, n)
	for i := range n {
		for j := range n {
			scaled.Row(i)[j] = q.Row(i)[j] * values[j]
		}
	}
	a := product(scaled, q.Transpose())
	for i := range n {
		for j := range i {
			a.Row(j)[i] = a.Row(i)[j]
		}
	}
	return a
}

func spectrum(n int, value func(i int) float64) []float64 {
	s := make([]float64, n)
	for i := range s {
		s[i] = value(i)
	}
	return s
}

// symmetric returns a random symmetric matrix (n, n).
func symmetric(seed uint64, n int) linalg.Matrix {
	a := random(newRand(seed), n, n)
	for i := range n {
		for j := range i {
			a.Row(j)[i] = a.Row(i)[j]
		}
	}
	return a
}

// eigenCases are matrices that eigenvalue solvers have been known to fail at.
func eigenCases(sizes []int) map[string]linalg.Matrix {
	cases := map[string]linalg.Matrix{}
	for _, n := range sizes {
		add := func(name string, a linalg.Matrix) { cases[fmt.Sprintf("%s/%d", name, n)] = a }
		seed := uint64(n)
		add("random", symmetric(seed, n))
		x := random(newRand(seed), n, n/2)
		add("rank deficient", product(x, x.Transpose()))
		add("graded", withSpectrum(seed, spectrum(n, func(i int) float64 { return math.Pow(float64(1+i)*1e6/float64(n), -2) })))
		add("twelve orders", withSpectrum(seed, spectrum(n, func(i int) float64 { return math.Pow(10, -12*float64(i)/float64(n)) })))
		add("clustered", withSpectrum(seed, spectrum(n, func(i int) float64 { return float64(i%3) + 1e-13*float64(i) })))
		add("equal", withSpectrum(seed, spectrum(n, func(int) float64 { return 2.5 })))
		add("zero", linalg.New(n, n))
		diagonal, tridiagonal, wilkinson := linalg.New(n, n), linalg.New(n, n), linalg.New(n, n)
		badlyScaled := symmetric(seed+1, n)
		for i := range n {
			diagonal.Row(i)[i] = float64((i*7)%n) - 3
			tridiagonal.Row(i)[i] = 2
			wilkinson.Row(i)[i] = math.Abs(float64(i) - float64(n-1)/2)
			if i > 0 {
				tridiagonal.Row(i)[i-1], tridiagonal.Row(i - 1)[i] = -1, -1
				wilkinson.Row(i)[i-1], wilkinson.Row(i - 1)[i] = 1, 1
			}
			for j := range n {
				badlyScaled.Row(i)[j] *= math.Pow(10, -8*float64(i)/float64(n)-8*float64(j)/float64(n))
			}
		}
		add("diagonal", diagonal)
		add("tridiagonal", tridiagonal)
		add("wilkinson", wilkinson)
		add("badly scaled", badlyScaled)
		huge, tiny := symmetric(seed+2, n), symmetric(seed+3, n)
		for i := range huge.Data {
			huge.Data[i] *= 1e300
			tiny.Data[i] *= 1e-300
		}
		add("huge", huge)
		add("tiny", tiny)
	}
	return cases
}

// normalized returns a at a size that cannot overflow, and how many times larger a is.
func normalized(a linalg.Matrix) (normal linalg.Matrix, scale float64) {
	if scale = largest(a); scale == 0 {
		scale = 1
	}
	normal = linalg.New(a.Rows, a.Cols)
	for i, x := range a.Data {
		normal.Data[i] = x / scale
	}
	return normal, scale
}

// checkValues holds eigenvalues of a against gonum, and returns the largest in magnitude, of a normalized. The bound is in
// units of the rounding error of that.
func checkValues(t *testing.T, a linalg.Matrix, values []float64) (norm float64) {
	t.Helper()
	n := a.Rows
	if len(values) != n {
		t.Fatalf("%d values of a matrix of %d rows", len(values), n)
	}
	if n == 0 {
		return 0
	}
	normal, scale := normalized(a)
	if !slices.IsSortedFunc(values, func(x, y float64) int { return int(math.Copysign(1, y-x)) * btoi(x != y) }) {
		t.Errorf("values are not in descending order")
	}
	var oracle mat.EigenSym
	if !oracle.Factorize(mat.NewSymDense(n, slices.Clone(normal.Data)), false) {
		t.Fatal("the oracle fails")
	}
	want := oracle.Values(nil)
	norm = max(math.Abs(want[0]), math.Abs(want[n-1]), 1e-300)
	for i, x := range values {
		if d := math.Abs(x/scale-want[n-1-i]) / norm; !(d <= 20*unit*math.Sqrt(float64(n))) {
			t.Errorf("value %d is %g, off by %.3g", i, x, d)
			break
		}
	}
	return norm
}

const unit = 0x1p-52

// checkEigen holds a decomposition of a against what defines it too: residuals relative to the largest eigenvalue.
func checkEigen(t *testing.T, a linalg.Matrix, values []float64, vectors linalg.Matrix) {
	t.Helper()
	norm := checkValues(t, a, values)
	n := a.Rows
	normal, scale := normalized(a)
	scaled := linalg.New(n, n)
	for i := range n {
		for j := range n {
			scaled.Row(i)[j] = vectors.Row(i)[j] * (values[j] / scale / norm)
		}
	}
	for i := range normal.Data {
		normal.Data[i] /= norm
	}
	bound := 10 * unit * math.Sqrt(float64(n))
	near(t, "residual", product(normal, vectors), scaled, bound)
	near(t, "orthogonality", product(vectors.Transpose(), vectors), identity(n), bound)
	for j := range n {
		var top float64
		for i := range n {
			if x := vectors.Row(i)[j]; math.Abs(x) > math.Abs(top) {
				top = x
			}
		}
		if top < 0 {
			t.Errorf("the entry of largest magnitude of vector %d is %g", j, top)
			break
		}
	}
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func TestEigen(t *testing.T) {
	sizes := []int{0, 1, 2, 3, 5, 17, 33, 70}
	if !testing.Short() {
		sizes = append(sizes, 150, 300)
	}
	linalg.WithEachWidth(t, func(t *testing.T) { testEigen(t, sizes) })
}

func testEigen(t *testing.T, sizes []int) {
	for name, a := range eigenCases(sizes) {
		t.Run(name, func(t *testing.T) {
			read := linalg.New(a.Rows, a.Rows)
			for i := range a.Rows {
				for j := range a.Rows {
					read.Row(i)[j] = a.Row(i)[j]
					if j > i {
						read.Row(i)[j] = math.NaN() // not read
					}
				}
			}
			values, vectors, err := linalg.Eigen(read)
			if err != nil {
				t.Fatal(err)
			}
			checkEigen(t, a, values, vectors)
			for _, band := range []bool{false, true} {
				linalg.WithBand(band, func() {
					alone, err := linalg.Eigenvalues(read)
					if err != nil {
						t.Fatal(err)
					}
					checkValues(t, a, alone)
				})
			}
		})
	}
}

func TestEigenRefuses(t *testing.T) {
	for _, x := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		a := symmetric(1, 40)
		a.Row(30)[7] = x
		_, _, err := linalg.Eigen(a)
		wantError(t, err, "element (30, 7)")
		_, err = linalg.Eigenvalues(a)
		wantError(t, err, "element (30, 7)")
		_, _, err = linalg.Leading(a, 3, linalg.Iteration{})
		wantError(t, err, "element (30, 7)")
		_, err = linalg.PivotedQR(a, 3)
		wantError(t, err, "element (30, 7)")
	}
}
