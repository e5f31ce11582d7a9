//go:build !purego

package grid

import "golang.org/x/sys/cpu"

var hasVector = cpu.X86.HasAVX2

// runVector is run where the processor has the instructions.
func (t *Trial) runVector(x, hx, h []float32, top float32) bool {
	switch {
	case !hasVector:
		return false
	case h == nil:
		trialAVX2(&t.Inverse[0], &x[0], len(x), top)
	default:
		trialWeightedAVX2(&t.Inverse[0], &x[0], &hx[:len(x)][0], &h[:len(x)][0], len(x), top)
	}
	return true
}

// extremesVector does Extremes for the first n of the numbers.
func extremesVector(x []float32) (lo, hi float32, n int) {
	if n = len(x) &^ 7; n == 0 || !hasVector {
		return 0, 0, 0
	}
	lo, hi = extremesAVX2(&x[0], n)
	return lo, hi, n
}
