package layers_test

import (
	"encoding/binary"
	"math"
	"testing"

	"eckart/kernels"
	"eckart/layers"
)

// TestNarrow rounds every number of 16 bits, the middle between it and the next one, and the numbers on both sides of
// the middle.
func TestNarrow(t *testing.T) {
	for _, c := range []struct {
		name     string
		typ      kernels.DType
		narrow   func(float32) uint16
		infinity uint16
	}{
		{"F16", kernels.F16, layers.F16Bits, 0x7c00},
		{"BF16", kernels.BF16, layers.BF16Bits, 0x7f80},
	} {
		value := func(h uint16) float32 {
			return layers.Float32s(binary.LittleEndian.AppendUint16(nil, h), c.typ)[0]
		}
		check := func(v float32, want uint16) {
			for _, sign := range []uint16{0, 0x8000} {
				signed := math.Float32frombits(math.Float32bits(v) | uint32(sign)<<16)
				if got := c.narrow(signed); got != want|sign {
					t.Fatalf("%s: %g becomes %#04x, want %#04x", c.name, signed, got, want|sign)
				}
			}
		}
		for h := range c.infinity {
			// The largest finite number is followed by what would be the next one, if there were a larger exponent.
			low, step := float64(value(h)), float64(value(h+1))-float64(value(h))
			if h+1 == c.infinity {
				step = float64(value(h)) - float64(value(h-1))
			}
			middle := float32(low + step/2) // exact
			check(value(h), h)
			check(middle, h+h&1)
			check(math.Nextafter32(middle, 0), h)
			check(math.Nextafter32(middle, math.MaxFloat32), h+1)
		}
		check(float32(math.Inf(1)), c.infinity)
		nan := value(c.narrow(math.Float32frombits(0x7f800001)))
		if nan == nan {
			t.Errorf("%s: what is not a number becomes %g", c.name, nan)
		}
	}
}
