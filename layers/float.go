package layers

import (
	"encoding/binary"
	"fmt"
	"math"

	"eckart/kernels"
)

// Float32s widens little-endian elements of type t, F32, F16 or BF16. So are those of files, and of every host that there
// are devices for.
func Float32s(raw []byte, t kernels.DType) []float32 {
	out := make([]float32, len(raw)/t.Bytes())
	widen(out, raw, t)
	return out
}

// widen sets dst to the little-endian elements of raw.
func widen(dst []float32, raw []byte, t kernels.DType) {
	raw = raw[:len(dst)*t.Bytes()]
	switch t {
	case kernels.F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
		}
	case kernels.BF16:
		for len(dst) >= 4 && len(raw) >= 8 {
			four := binary.LittleEndian.Uint64(raw)
			dst[0] = math.Float32frombits(uint32(four) << 16)
			dst[1] = math.Float32frombits(uint32(four) &^ 0xffff)
			dst[2] = math.Float32frombits(uint32(four>>32) << 16)
			dst[3] = math.Float32frombits(uint32(four>>32) &^ 0xffff)
			dst, raw = dst[4:], raw[8:]
		}
		for i := range dst {
			dst[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(raw[2*i:])) << 16)
		}
	case kernels.F16:
		for i := range dst {
			dst[i] = float32FromF16(binary.LittleEndian.Uint16(raw[2*i:]))
		}
	default:
		panic(fmt.Sprintf("BUG: widen %s", t))
	}
}

// F16Bits rounds v to the nearest F16, ties to even; what is too large becomes infinite.
func F16Bits(v float32) uint16 {
	u := math.Float32bits(v)
	sign, magnitude := uint16(u>>16&0x8000), u&0x7fffffff
	switch {
	case magnitude > 0x7f800000:
		return sign | 0x7e00
	case magnitude >= 0x47800000: // 2¹⁶
		return sign | 0x7c00
	case magnitude < 0x38800000: // 2⁻¹⁴: subnormal, in units of 2⁻²⁴
		return sign | uint16(math.RoundToEven(float64(math.Float32frombits(magnitude))*0x1p24))
	}
	magnitude += 0xfff + magnitude>>13&1 - 112<<23
	return sign | uint16(magnitude>>13)
}

// BF16Bits rounds v to the nearest BF16, ties to even; what is too large becomes infinite.
func BF16Bits(v float32) uint16 {
	u := math.Float32bits(v)
	if v != v {
		return uint16(u>>16 | 0x40) // rounded as the others, it could become infinite or zero
	}
	return uint16((u + 0x7fff + u>>16&1) >> 16)
}

// float32FromF16 is exact. Multiplying the shifted bits by 2¹¹² mends the exponent's bias, subnormals included.
func float32FromF16(b uint16) float32 {
	magnitude := uint32(b&0x7fff) << 13
	if magnitude >= 0x7c00<<13 {
		magnitude |= 0x7f800000
	} else {
		magnitude = math.Float32bits(math.Float32frombits(magnitude) * 0x1p112)
	}
	return math.Float32frombits(magnitude | uint32(b&0x8000)<<16)
}
