//go:build !purego

package grid

import "golang.org/x/sys/cpu"

var hasVector = cpu.X86.HasAVX2

// runVector is run where the processor has the instructions.
func (t *Trial) runVector(x, hx, h []float32, unit, top float32) (best int, ok bool) {
	switch {
	case !hasVector:
		return 0, false
	case h == nil:
		return trialAVX2(&t.Factor[0], &x[0], len(x), unit, top), true
	default:
		return trialWeightedAVX2(&t.Factor[0], &x[0], &hx[:len(x)][0], &h[:len(x)][0], len(x), unit, top), true
	}
}

// encodeVector does encode for the first n of the numbers.
func encodeVector(dst []byte, x []float32, inverse, zero, top float32) (n int) {
	if n = len(x) &^ 31; n == 0 || !hasVector {
		return 0
	}
	encodeAVX2(&dst[0], &x[0], n, inverse, zero, top)
	return n
}

// extremesVector does Extremes for the first n of the numbers.
func extremesVector(x []float32) (lo, hi float32, n int) {
	if n = len(x) &^ 7; n == 0 || !hasVector {
		return 0, 0, 0
	}
	lo, hi = extremesAVX2(&x[0], n)
	return lo, hi, n
}
