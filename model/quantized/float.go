package quantized

import (
	"encoding/binary"
	"fmt"
	"math"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// e4m3 holds the values of an F8_E4M3: sign, four bits of exponent with bias 7, three of mantissa; no infinity, and one
// NaN of each sign (arXiv 2209.05433, table 1).
var e4m3 = func() (values [256]float32) {
	for b := range values {
		exponent, mantissa := b>>3&15, float64(b&7)/8
		v := math.Ldexp(1+mantissa, exponent-7)
		switch {
		case exponent == 0:
			v = math.Ldexp(mantissa, -6)
		case b&0x7f == 0x7f:
			v = math.NaN()
		}
		if b >= 0x80 {
			v = -v
		}
		values[b] = float32(v)
	}
	return values
}()

// e2m1 holds the values of an F4, twice as large so that they are integers: sign, two bits of exponent with bias 1, one
// of mantissa (OCP Microscaling Formats, 5.3.3).
var e2m1 = [16]int8{0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12}

// e8m0 returns the power of two that an F8_E8M0 stands for; 0xff is its NaN.
func e8m0(b byte) float32 {
	if b == 0xff {
		return float32(math.NaN())
	}
	return float32(math.Ldexp(1, int(b)-127))
}

// floatTypes are the types of a tensor of scales.
var floatTypes = []checkpoint.DType{checkpoint.F32, checkpoint.F16, checkpoint.BF16}

// kernelType returns the device's name for one of floatTypes.
func kernelType(t checkpoint.DType) kernels.DType {
	switch t {
	case checkpoint.F16:
		return kernels.F16
	case checkpoint.BF16:
		return kernels.BF16
	}
	return kernels.F32
}

// widen returns the elements of a small tensor. U8 is taken for F8_E8M0, which torch stores as bytes.
func widen(raw []byte, t checkpoint.DType) []float32 {
	switch t {
	case checkpoint.F8E4M3, checkpoint.F8E8M0, checkpoint.U8:
		out := make([]float32, len(raw))
		for i, b := range raw {
			if t == checkpoint.F8E4M3 {
				out[i] = e4m3[b]
			} else {
				out[i] = e8m0(b)
			}
		}
		return out
	}
	return layers.Float32s(raw, kernelType(t))
}

// checkScales returns an error that names the first of n scales that is not a positive finite number. element is the
// index of the first one in t.
func checkScales(scales []float32, t *checkpoint.Tensor, element int) error {
	for i, s := range scales {
		if !(s > 0) || s > math.MaxFloat32 {
			return fmt.Errorf("read %s in %s: element %d is %g, want a positive finite scale", t.Name, t.Shard, element+i, s)
		}
	}
	return nil
}

// narrow writes values as little-endian elements of type t, rounded to the nearest, and returns the index of the first
// that has become infinite or was not a number, or -1.
func narrow(dst []byte, values []float32, t kernels.DType) int {
	bad := -1
	note := func(i int, is bool) {
		if is && bad < 0 {
			bad = i
		}
	}
	switch t {
	case kernels.BF16:
		for i, v := range values {
			b := layers.BF16Bits(v)
			note(i, b&0x7f80 == 0x7f80)
			binary.LittleEndian.PutUint16(dst[2*i:], b)
		}
	case kernels.F16:
		for i, v := range values {
			h := layers.F16Bits(v)
			note(i, h&0x7c00 == 0x7c00)
			binary.LittleEndian.PutUint16(dst[2*i:], h)
		}
	default:
		for i, v := range values {
			u := math.Float32bits(v)
			note(i, u&0x7f800000 == 0x7f800000)
			binary.LittleEndian.PutUint32(dst[4*i:], u)
		}
	}
	return bad
}
