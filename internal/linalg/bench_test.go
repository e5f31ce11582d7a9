package linalg_test

import (
	"fmt"
	"math"
	"testing"

	"gonum.org/v1/gonum/mat"

	"eckart/internal/linalg"
)

// benchSizes returns the sizes to measure; with -short one, to see that all runs.
func benchSizes() []int {
	if testing.Short() {
		return []int{256}
	}
	return []int{256, 512, 1024, 2048}
}

func BenchmarkMul(b *testing.B) {
	for _, n := range benchSizes() {
		x, y := random(newRand(1), n, n), random(newRand(2), n, n)
		gflops := func(b *testing.B, multiply func()) {
			for b.Loop() {
				multiply()
			}
			b.ReportMetric(2*float64(n)*float64(n)*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		}
		b.Run(fmt.Sprintf("own/%d", n), func(b *testing.B) { gflops(b, func() { linalg.Mul(x, y) }) })
		b.Run(fmt.Sprintf("gonum/%d", n), func(b *testing.B) {
			var c mat.Dense
			gflops(b, func() { c.Mul(dense(x), dense(y)) })
		})
	}
}

// BenchmarkMulSingle is products of a weight's shape in both precisions.
func BenchmarkMulSingle(b *testing.B) {
	rows, depth := 2048, 8192
	if testing.Short() {
		rows, depth = 64, 256
	}
	x, y := random(newRand(1), rows, depth), random(newRand(2), depth, rows)
	for _, c := range []struct {
		name   string
		traits linalg.Trait
	}{{"double", 0}, {"single", linalg.Single}} {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", c.name, rows, depth, rows), func(b *testing.B) {
			for b.Loop() {
				linalg.Mul(x, y, c.traits)
			}
			b.ReportMetric(2*float64(rows)*float64(rows)*float64(depth)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

// bothPrecisions runs f with what depends on a size in double and in single precision.
func bothPrecisions(b *testing.B, name string, f func(b *testing.B)) {
	for _, single := range []bool{false, true} {
		linalg.WithSingle(single, func() { b.Run(map[bool]string{false: "double/", true: "single/"}[single]+name, f) })
	}
}

func BenchmarkQuadratic(b *testing.B) {
	rows, n := 192, 8192
	if testing.Short() {
		rows, n = 16, 256
	}
	e, c := random(newRand(1), rows, n), symmetric(2, n)
	bothPrecisions(b, fmt.Sprintf("%dx%d", rows, n), func(b *testing.B) {
		for b.Loop() {
			linalg.Quadratic(e, c)
		}
	})
}

func dense(m linalg.Matrix) *mat.Dense { return mat.NewDense(m.Rows, m.Cols, m.Data) }

func BenchmarkCholesky(b *testing.B) {
	for _, n := range benchSizes() {
		a := definite(n)
		b.Run(fmt.Sprintf("own/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, err := linalg.Cholesky(a); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("gonum/%d", n), func(b *testing.B) {
			for b.Loop() {
				var c mat.Cholesky
				c.Factorize(mat.NewSymDense(n, a.Data))
			}
		})
	}
}

func BenchmarkBlockFactor(b *testing.B) {
	sizes := benchSizes()
	if !testing.Short() {
		sizes = append(sizes, 4096, 8192) // inputs of large layers
	}
	for _, n := range sizes {
		a := symmetric(3, n)
		for i := range n { // beyond all eigenvalues
			a.Data[i*n+i] += 4 * math.Sqrt(float64(n))
		}
		bothPrecisions(b, fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				if _, err := linalg.BlockFactor(a, linalg.Matrix{}, 0, 256); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// definite returns a positive definite matrix (n, n).
func definite(n int) linalg.Matrix {
	x := random(newRand(3), n+n/2, n)
	return linalg.TMul(x, x)
}

// gonumEigen measures how gonum finds the eigenvalues of a symmetric a, with or without eigenvectors.
func gonumEigen(b *testing.B, a linalg.Matrix, vectors bool) {
	b.Run(fmt.Sprintf("gonum/%d", a.Rows), func(b *testing.B) {
		for b.Loop() {
			var e mat.EigenSym
			e.Factorize(mat.NewSymDense(a.Rows, a.Data), vectors)
		}
	})
}

func BenchmarkEigen(b *testing.B) {
	const most = 2048 // for gonum, which takes minutes beyond
	sizes := append([]int{8, 16, 32, 64, 128}, benchSizes()...)
	if !testing.Short() {
		sizes = append(sizes, 2*most)
	}
	for _, n := range sizes {
		a := symmetric(1, n)
		b.Run(fmt.Sprintf("own/%d", n), func(b *testing.B) {
			for b.Loop() {
				if _, _, err := linalg.Eigen(a); err != nil {
					b.Fatal(err)
				}
			}
		})
		if n <= most {
			gonumEigen(b, a, true)
		}
	}
}

func BenchmarkEigenvalues(b *testing.B) {
	const most = 1024 // for gonum
	sizes := benchSizes()
	if !testing.Short() {
		sizes = append(sizes, 768, 1536, 4096)
	}
	for _, n := range sizes {
		a := symmetric(1, n)
		for _, band := range []bool{false, true} {
			name := map[bool]string{false: "direct", true: "band"}[band]
			linalg.WithBand(band, func() {
				b.Run(fmt.Sprintf("%s/%d", name, n), func(b *testing.B) {
					for b.Loop() {
						if _, err := linalg.Eigenvalues(a); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
		}
		if n <= most {
			gonumEigen(b, a, false)
		}
	}
}

func BenchmarkLeading(b *testing.B) {
	for _, n := range []int{512, 1024, 2048} {
		a := definite(n)
		for _, share := range []int{16, 8, 4} {
			b.Run(fmt.Sprintf("%d/%d", n, n/share), func(b *testing.B) {
				for b.Loop() {
					if _, _, err := linalg.Leading(a, n/share, linalg.Iteration{}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func BenchmarkPivotedQR(b *testing.B) {
	for _, n := range []int{512, 1024, 2048} {
		a := random(newRand(1), n/2, n)
		b.Run(fmt.Sprintf("%dx%d", n/2, n), func(b *testing.B) {
			for b.Loop() {
				if _, err := linalg.PivotedQR(a, n/2); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
