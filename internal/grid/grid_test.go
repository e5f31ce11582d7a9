package grid

import (
	"math"
	"math/rand/v2"
	"testing"
)

// numbers returns n numbers, some of them far out.
func numbers(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
		if rng.IntN(20) == 0 {
			x[i] *= 10
		}
	}
	return x
}

// code returns the code of v on a grid, by the definition.
func code(v, inverse float32, zero, top int) int {
	return min(max(int(math.RoundToEven(float64(v*inverse)))+zero, 0), top)
}

// TestTrial holds sums against the definition in float64, and the processor's own code against plain Go, bit for bit.
func TestTrial(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, top := range []int{255, 15, 7, 3} {
		for n := range 70 {
			x, h, hx := numbers(rng, n), numbers(rng, n), make([]float32, n)
			for i := range h {
				h[i] *= h[i]
				hx[i] = h[i] * x[i]
			}
			var in Trial
			for k := range Lanes {
				in.Factor[k] = (0.5 + rng.Float32()) * float32(1-2*rng.IntN(2))
				in.Zero[k] = float32(rng.IntN(top + 1))
			}
			for _, weighted := range []bool{false, true} {
				hx, h := hx, h
				if !weighted {
					hx, h = nil, nil
				}
				got, plain := in, in
				unit := float32(top) / 4
				best, want := got.Run(x, hx, h, unit, top), plain.run(x, hx, h, unit, float32(top))
				if got != plain || best != want {
					t.Fatalf("%d numbers, top %d: lane %d of %v %v, in plain Go %d of %v %v",
						n, top, best, got.Scale, got.Gain, want, plain.Scale, plain.Gain)
				}
				for k := range Lanes {
					var xc, cc, size float64
					for i, v := range x {
						c := float64(code(v, unit*in.Factor[k], int(in.Zero[k]), top) - int(in.Zero[k]))
						w := 1.0
						if weighted {
							w = float64(h[i])
						}
						xc += w * float64(v) * c
						cc += w * c * c
						size += w * math.Abs(float64(v)*c)
					}
					scale := xc / max(cc, 1e-30)
					bound := 1e-5 * size / max(cc, 1e-30)
					if math.Abs(scale-float64(got.Scale[k])) > bound {
						t.Fatalf("%d numbers, top %d: scale %g, want %g", n, top, got.Scale[k], scale)
					}
					if gain := xc * scale; math.Abs(gain-float64(got.Gain[k])) > 2e-5*size*size/max(cc, 1e-30) || got.Gain[k] > got.Gain[best] {
						t.Fatalf("%d numbers, top %d: gain %g, want %g, the best %g", n, top, got.Gain[k], gain, got.Gain[best])
					}
				}
			}
		}
	}
}

func TestEncode(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for _, top := range []int{255, 15, 7, 3} {
		for n := range 100 {
			x := append(numbers(rng, n), 0, 0.5, -0.5, 1.5, 1e5, -1e5)
			zero := rng.IntN(top + 1)
			inverse := float32(top) / 8
			dst := make([]byte, len(x))
			Encode(dst, x, inverse, zero, top)
			for i, v := range x {
				if want := code(v, inverse, zero, top); int(dst[i]) != want {
					t.Fatalf("top %d, zero %d: code %d of %d, of %g, is %d, want %d", top, zero, i, len(x), v, dst[i], want)
				}
			}
		}
	}
}

func TestExtremes(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	for n := range 70 {
		for range 4 {
			x := numbers(rng, n)
			if rng.IntN(2) == 0 {
				for i := range x {
					x[i] = float32(math.Abs(float64(x[i])))
				}
			}
			var wantLo, wantHi float32
			for _, v := range x {
				wantLo, wantHi = min(wantLo, v), max(wantHi, v)
			}
			if lo, hi := Extremes(x); lo != wantLo || hi != wantHi {
				t.Errorf("%d numbers: from %g to %g, want %g to %g", n, lo, hi, wantLo, wantHi)
			}
		}
	}
}
