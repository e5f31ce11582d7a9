package cpu

import "eckart/kernels"

// put sets an element of a row, rounded to the matrix's type.
func put(m kernels.Mat, row, col int, f float32) {
	switch m.Type {
	case kernels.F32:
		m.Float32s(row)[col] = f
	case kernels.F16:
		m.Uint16s(row)[col] = f16FromFloat32(f)
	case kernels.BF16:
		m.Uint16s(row)[col] = bf16FromFloat32(f)
	}
}

// get returns an element of a row.
func get(m kernels.Mat, row, col int) float32 {
	switch m.Type {
	case kernels.F16:
		return float32FromF16(m.Uint16s(row)[col])
	case kernels.BF16:
		return float32FromBF16(m.Uint16s(row)[col])
	default:
		return m.Float32s(row)[col]
	}
}
