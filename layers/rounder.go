package layers

import (
	"encoding/binary"
	"math"

	"eckart/internal/grid"
	"eckart/kernels"
)

// A rounder rounds groups of numbers to codes with a scale and a zero point. It holds scratch: one goroutine at a time may
// use it.
//
// The scale of a group is searched: grid.Lanes grids, from one that is coarser than the group's largest number needs to
// one that cuts it off, are tried on the numbers; for the codes of each there is a scale that fits best (least squares,
// weighted by importance); the best of those is rounded to what is stored, and the codes are taken anew on that grid.
//
// Codes reach one step further to one side than to the other. Without zero points a scale may be negative, so that the
// longer side is where the group needs it; it is as good as a bit more, and free.
type rounder struct {
	bits  int
	zeros bool
	store kernels.DType // of scales

	trial grid.Trial          // its factors are of the steps that would hold the extremes exactly
	aside [grid.Lanes]float32 // how far zero points are moved before they are rounded
	hx    []float32
}

// searched is the first and the last factor for a group of 32. With few bits it pays to cut extremes off, and with a zero
// point less so. Beyond these figures the mean error over the matrices of a small trained model did not fall.
var searched = map[bool]map[int][2]float32{ // by zeros and bits
	false: {8: {0.94, 1}, 4: {0.8, 1.15}, 3: {0.8, 1.4}, 2: {0.7, 1.9}},
	true:  {8: {0.95, 1}, 4: {0.8, 1.15}, 3: {0.8, 1.3}, 2: {0.9, 1.7}},
}

func newRounder(f kernels.Grouped) *rounder {
	r := &rounder{bits: f.Bits, zeros: f.Zeros, store: f.ScaleType}
	s := searched[f.Zeros][f.Bits]
	for k := range grid.Lanes {
		r.trial.Factor[k] = s[0] + (s[1]-s[0])*float32(k)/(grid.Lanes-1)
		if !f.Zeros {
			r.trial.Factor[k] = (s[0] + (s[1]-s[0])*float32(k/2)/(grid.Lanes/2-1)) * float32(1-2*(k%2))
		}
		// Both neighbours of where the middle of the numbers comes to lie get their turn.
		r.aside[k] = 0.25 - 0.5*float32(k%2)
		r.trial.Zero[k] = float32(r.middle())
	}
	return r
}

// top returns the largest code, middle the zero point of a matrix that stores none.
func (r *rounder) top() int    { return 1<<r.bits - 1 }
func (r *rounder) middle() int { return 1 << (r.bits - 1) }

// negligible is where a group counts as zeros, whose scale is emptyScale: a scale is never 0.
const (
	negligible = 0x1p-100
	emptyScale = 0x1p-14 // the smallest normal number of F16
)

// fit returns the scale, as it is stored, and the zero point for a group x with importance h, nil for equal. A scale that
// its type does not hold is infinite, and where a number is not a number the scale is none either.
func (r *rounder) fit(x, h []float32) (scale float32, zero int) {
	lo, hi := grid.Extremes(x)
	most := max(-lo, hi)
	if most < negligible {
		return emptyScale, r.middle()
	}
	step := most / float32(r.middle())
	if r.zeros {
		step = (hi - lo) / float32(r.top())
	}
	unit := 1 / step
	t := &r.trial
	if r.zeros {
		middle, half, top := (hi+lo)/2, float32(r.top())/2, float32(r.top())
		for k, f := range t.Factor {
			const whole = 3 << 22 // rounds, as in package grid
			z := half - float32(middle*float32(unit*f)) + r.aside[k] + whole - whole
			t.Zero[k] = min(max(z, 0), top)
		}
	}
	best := t.Run(x, r.weigh(x, h), h, unit, r.top())
	if t.Gain[best] <= 0 { // nothing in the group is of importance
		return storedScale(step, r.store), r.middle()
	}
	return storedScale(t.Scale[best], r.store), int(t.Zero[best])
}

// weigh returns the products of x and h in scratch, nil without h.
func (r *rounder) weigh(x, h []float32) []float32 {
	if h == nil {
		return nil
	}
	r.hx = append(r.hx[:0], x...)
	for i := range r.hx {
		r.hx[i] *= h[i]
	}
	return r.hx
}

// encode sets codes to those of x for a scale and a zero point of fit.
func (r *rounder) encode(codes []byte, x []float32, scale float32, zero int) {
	grid.Encode(codes, x, 1/scale, zero, r.top())
}

// storedScale returns the number of type t that is nearest to the scale s, and is not 0.
func storedScale(s float32, t kernels.DType) float32 {
	if s < 0 {
		return -storedScale(-s, t)
	}
	switch t {
	case kernels.F16:
		return max(float32FromF16(F16Bits(s)), 0x1p-24)
	case kernels.BF16:
		return max(math.Float32frombits(uint32(BF16Bits(s))<<16), 0x1p-126)
	}
	return max(s, 0x1p-126)
}

// putScale stores what storedScale returned, in the host's order.
func putScale(dst []byte, s float32, t kernels.DType) {
	switch t {
	case kernels.F16:
		binary.NativeEndian.PutUint16(dst, F16Bits(s))
	case kernels.BF16:
		binary.NativeEndian.PutUint16(dst, BF16Bits(s))
	default:
		binary.NativeEndian.PutUint32(dst, math.Float32bits(s))
	}
}
