//go:build !amd64 || purego

package linalg

// Everything is left to plain Go.

func (*packing[T]) tileShape() (rows, cols int) { return 2, 4 }

func tile(c []float64, stride int, a, b []float64, k int) { tileGeneric(c, stride, a, b, k) }

func tileSingle(c []float64, stride int, a, b []float32, k int) { tileGeneric(c, stride, a, b, k) }

func narrowVector([]float32, []float64, float64) (n int) { return 0 }

func narrowAcrossVector([]float32, int, []float64, int, int, float64) (n int) { return 0 }

func dotsVector([]float64, int, []float64, *[4]float64) (n int) { return 0 }

func axpysVector([]float64, int, []float64, *[4]float64) (n int) { return 0 }

func dotsAxpysVector([]float64, int, []float64, *[4]float64, []float64, *[4]float64) (n int) {
	return 0
}
