//go:build !amd64 || purego

package grid

// runVector leaves it to run.
func (t *Trial) runVector(_, _, _ []float32, _ float32) bool { return false }

// extremesVector leaves it to Extremes.
func extremesVector([]float32) (lo, hi float32, n int) { return 0, 0, 0 }
