// Package grid rounds numbers to grids of few levels, s·(q - z) for whole q from 0 to a top, and tells how well each of
// several grids fits. Its results have the same bits on every processor, so that a matrix is rounded to the same codes
// everywhere.
package grid

import "math"

//go:generate go -C ../gen run ./grid -out ../../internal/grid/grid_avx2_amd64.s -stubs ../../internal/grid/grid_avx2_amd64.go -pkg grid

// Lanes is the number of grids that are tried at once.
const Lanes = 16

// whole is added to a float32 of up to 2²² and taken off again to round it to a whole number, ties to even: the sum's
// last bit is worth 1. Generated code has it too.
const whole = 3 << 22

// A Trial is grids and what came of trying them.
type Trial struct {
	Inverse [Lanes]float32 // 1/s
	Zero    [Lanes]float32 // z, a whole number from 0 to 255

	// With c = q - z for the code q of each number x, and its importance h:
	XC [Lanes]float32 // sum of h·x·c
	CC [Lanes]float32 // sum of h·c²
}

// Run rounds the numbers x to each grid of codes up to top, and sums. h holds the importance of each number and hx its
// product with the number; both are nil where all are 1. Numbers may reach 2²² steps of a grid.
//
// The error of a grid is Σh·x² - 2s·XC + s²·CC, which for these codes is least for s = XC/CC.
func (t *Trial) Run(x, hx, h []float32, top int) {
	if len(x) == 0 || !t.runVector(x, hx, h, float32(top)) {
		t.run(x, hx, h, float32(top))
	}
}

// run is Run in plain Go. The conversions keep the compiler from fusing products into sums, which would round otherwise.
func (t *Trial) run(x, hx, h []float32, top float32) {
	const low = whole
	high := low + top
	for k := range Lanes {
		inverse, shift := t.Inverse[k], low+t.Zero[k]
		var xc, cc float32
		if h == nil {
			for _, v := range x {
				c := min(max(float32(v*inverse)+shift, low), high) - shift
				xc += float32(v * c)
				cc += float32(c * c)
			}
		} else {
			hx, h := hx[:len(x)], h[:len(x)]
			for i, v := range x {
				c := min(max(float32(v*inverse)+shift, low), high) - shift
				xc += float32(hx[i] * c)
				cc += float32(float32(h[i]*c) * c)
			}
		}
		t.XC[k], t.CC[k] = xc, cc
	}
}

// Encode sets dst to the codes of the numbers x on the grid of step 1/inverse with zero point zero and codes up to top.
func Encode(dst []byte, x []float32, inverse float32, zero, top int) {
	dst = dst[:len(x)]
	offset := int32(zero) - int32(math.Float32bits(whole))
	for i, v := range x {
		// The sum's bits count up with the number.
		q := int32(math.Float32bits(float32(v*inverse)+whole)) + offset
		dst[i] = byte(min(max(q, 0), int32(top)))
	}
}

// Extremes returns the least and the greatest of the numbers x and 0.
func Extremes(x []float32) (lo, hi float32) {
	lo, hi, n := extremesVector(x)
	for _, v := range x[n:] {
		lo, hi = min(lo, v), max(hi, v)
	}
	return lo, hi
}
