// Package grid rounds numbers to grids of few levels, s·(q - z) for whole q from 0 to a top, tells how well each of several
// grids fits, and spreads the errors of columns over those still to come. Its results have the same bits on every
// processor, so that a matrix is rounded to the same codes everywhere.
package grid

import "math"

//go:generate go -C ../gen run ./grid -out ../../internal/grid/grid_avx2_amd64.s -stubs ../../internal/grid/grid_avx2_amd64.go -pkg grid

// Lanes is the number of grids that are tried at once.
const Lanes = 16

// whole is added to a float32 of up to 2²² to round it to a whole number, ties to even: the last bit of the sum is worth 1.
// Generated code has it too.
const whole = 3 << 22

// A Trial is grids and what came of trying them.
type Trial struct {
	Factor [Lanes]float32 // of the inverse steps 1/s; negative ones turn the grid around
	Zero   [Lanes]float32 // z, a whole number from 0 to 255

	// For the codes q of the numbers x with importance h on a grid, and with c = q - z:
	Scale [Lanes]float32 // Σh·x·c / Σh·c², the s with which these codes are nearest to the numbers
	Gain  [Lanes]float32 // how much nearer than zeros: Σh·x² - Σh·(x - s·c)²
}

// Run rounds the numbers x to the grids of inverse steps unit·Factor and codes up to top, and returns the lane of the
// largest gain. h holds the importance of each number and hx its product with the number; both are nil where all are 1.
// Numbers may reach 2²² steps of a grid.
func (t *Trial) Run(x, hx, h []float32, unit float32, top int) int {
	if len(x) > 0 {
		if best, ok := t.runVector(x, hx, h, unit, float32(top)); ok {
			return best
		}
	}
	return t.run(x, hx, h, unit, float32(top))
}

// run is Run in plain Go. The conversions keep the compiler from fusing products into sums, which would round otherwise.
func (t *Trial) run(x, hx, h []float32, unit, top float32) int {
	const low = whole
	high := low + top
	best := 0
	for k := range Lanes {
		inverse, shift := unit*t.Factor[k], low+t.Zero[k]
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
		t.Scale[k] = xc / max(cc, 0x1p-126)
		t.Gain[k] = xc * t.Scale[k]
		if t.Gain[k] > t.Gain[best] {
			best = k
		}
	}
	return best
}

// Encode sets dst to the codes of the numbers x on the grid of step 1/inverse with zero point zero and codes up to top.
func Encode(dst []byte, x []float32, inverse float32, zero, top int) {
	dst = dst[:len(x)]
	n := encodeVector(dst, x, inverse, float32(zero), float32(top))
	encode(dst[n:], x[n:], inverse, float32(zero), float32(top))
}

// encode is Encode in plain Go.
func encode(dst []byte, x []float32, inverse, zero, top float32) {
	const low = whole
	shift, high := low+zero, low+top
	for i, v := range x {
		// The lowest bits of the sum are the code.
		dst[i] = byte(math.Float32bits(min(max(float32(v*inverse)+shift, low), high)))
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
