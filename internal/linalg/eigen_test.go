package linalg_test

import (
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
)

// bases holds what orthogonal returned, by seed and size: a test has many matrices with the same eigenvectors.
var bases sync.Map

// orthogonal returns a random orthogonal matrix (n, n), which nobody may change.
func orthogonal(seed uint64, n int) linalg.Matrix {
	key := [2]uint64{seed, uint64(n)}
	if q, ok := bases.Load(key); ok {
		return q.(linalg.Matrix)
	}
	q := random(newRand(seed), n, n)
	if n > 0 {
		var qr mat.QR
		qr.Factorize(mat.NewDense(n, n, q.Data))
		var d mat.Dense
		qr.QTo(&d)
		q.Data = d.RawMatrix().Data
	}
	bases.Store(key, q)
	return q
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

// checkValues holds eigenvalues of a, by their names, against gonum, and returns the largest in magnitude, of a normalized. The
// bound is in units of the rounding error of that.
func checkValues(t *testing.T, a linalg.Matrix, found map[string][]float64) (norm float64) {
	t.Helper()
	n := a.Rows
	for name, values := range found {
		if len(values) != n {
			t.Fatalf("%s: %d values of a matrix of %d rows", name, len(values), n)
		}
		if !slices.IsSortedFunc(values, func(x, y float64) int { return int(math.Copysign(1, y-x)) * btoi(x != y) }) {
			t.Errorf("%s: values are not in descending order", name)
		}
	}
	if n == 0 {
		return 0
	}
	normal, scale := normalized(a)
	var oracle mat.EigenSym
	if !oracle.Factorize(mat.NewSymDense(n, slices.Clone(normal.Data)), false) {
		t.Fatal("the oracle fails")
	}
	want := oracle.Values(nil)
	norm = max(math.Abs(want[0]), math.Abs(want[n-1]), 1e-300)
	for name, values := range found {
		for i, x := range values {
			if d := math.Abs(x/scale-want[n-1-i]) / norm; !(d <= 20*unit*math.Sqrt(float64(n))) {
				t.Errorf("%s: value %d is %g, off by %.3g", name, i, x, d)
				break
			}
		}
	}
	return norm
}

const unit = 0x1p-52

// checkVectors holds a decomposition of a against what defines it: residuals relative to the largest eigenvalue, norm.
func checkVectors(t *testing.T, a linalg.Matrix, norm float64, values []float64, vectors linalg.Matrix) {
	t.Helper()
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
	sizes := []int{0, 1, 2, 3, 5, 17, 33, 49, 70, 96}
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
			found := map[string][]float64{"Eigen": values}
			for name, band := range map[string]bool{"direct": false, "by way of a band": true} {
				linalg.WithBand(band, func() {
					if found[name], err = linalg.Eigenvalues(read); err != nil {
						t.Fatal(err)
					}
				})
			}
			norm := checkValues(t, a, found)
			checkVectors(t, a, norm, values, vectors)
		})
	}
}

// TestEigenvaluesLarge finds known eigenvalues of a matrix that goes by way of a band, and the same ones without.
func TestEigenvaluesLarge(t *testing.T) {
	n := 1003
	want := spectrum(n, func(i int) float64 {
		if i%3 == 0 {
			return 1 // many times
		}
		return math.Pow(10, -9*float64(i)/float64(n)) * float64(1-i%2*2)
	})
	a := linalg.New(n, n)
	for i, x := range want {
		a.Row(i)[i] = x
	}
	for seed := range uint64(3) {
		reflectBoth(a, random(newRand(seed), 1, n).Data)
	}
	slices.Sort(want)
	slices.Reverse(want)
	for name, find := range map[string]func(f func()){
		"chosen": func(f func()) { f() },
		"direct": func(f func()) { linalg.WithBand(false, f) },
		"band":   func(f func()) { linalg.WithBand(true, f) },
	} {
		find(func() {
			values, err := linalg.Eigenvalues(a)
			if err != nil {
				t.Fatal(err)
			}
			near(t, name, linalg.Matrix{Rows: 1, Cols: n, Data: values}, linalg.Matrix{Rows: 1, Cols: n, Data: want}, 20*unit*math.Sqrt(float64(n)))
		})
	}
}

// reflectBoth makes a symmetric a h·a·h, with the reflection h along v.
func reflectBoth(a linalg.Matrix, v []float64) {
	var length, product float64
	for _, x := range v {
		length += x * x
	}
	y := make([]float64, len(v)) // 2·a·v/|v|²
	for i := range y {
		for j, x := range a.Row(i) {
			y[i] += 2 * x * v[j] / length
		}
		product += y[i] * v[i]
	}
	for i := range y {
		for j := range a.Row(i) {
			a.Row(i)[j] -= v[i]*y[j] + y[i]*v[j] - 2*product/length*v[i]*v[j]
		}
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
