package cpu

import (
	"math"
)

func float32FromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// bf16FromFloat32 rounds to nearest, ties to even; a NaN stays a NaN.
func bf16FromFloat32(f float32) uint16 {
	u := math.Float32bits(f)
	if f != f {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + (u>>16)&1) >> 16)
}

func float32FromF16(b uint16) float32 {
	sign := uint32(b&0x8000) << 16
	exp := uint32(b>>10) & 0x1f
	frac := uint32(b & 0x3ff)
	switch {
	case exp == 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	case exp != 0:
		return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
	}
	f := float32(frac) * (1.0 / (1 << 24)) // subnormal: exact in F32
	return math.Float32frombits(math.Float32bits(f) | sign)
}

// f16FromFloat32 rounds to nearest, ties to even; what is too large becomes infinite, a NaN stays a NaN.
func f16FromFloat32(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u>>16) & 0x8000
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000:
		return sign | 0x7e00
	case u >= 0x477ff000: // rounds to 65536 or more
		return sign | 0x7c00
	case u < 0x38800000: // below the smallest normal: adding a half ulp's power of two rounds to its grid
		return sign | uint16(math.Float32bits(math.Float32frombits(u)+0.5)-0x3f000000)
	}
	u += 0xfff + (u>>13)&1
	return sign | uint16((u-0x38000000)>>13)
}
