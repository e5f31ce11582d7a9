package cpu

import "eckart/kernels"

// matMulGeneric computes y = x·wᵀ (or adds it), one dot product at a time. It is the reference for the assembly, and
// what runs where there is none. row has room for a row of w.
func matMulGeneric(y, x, w kernels.Mat, add bool, row []float32) {
	row = row[:w.Cols]
	for o := range w.Rows {
		if w.Type == kernels.F32 {
			row = w.Float32s(o)
		} else {
			widen(row, w, o)
		}
		for t := range x.Rows {
			sum := dotGeneric(x.Float32s(t), row)
			if add {
				y.Float32s(t)[o] += sum
			} else {
				y.Float32s(t)[o] = sum
			}
		}
	}
}

// dotGeneric returns Σ a[i]·b[i] in four partial sums, so that an addition need not wait for the one before it.
func dotGeneric(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		p, q := a[i:i+4:i+4], b[i:i+4:i+4]
		s0 += p[0] * q[0]
		s1 += p[1] * q[1]
		s2 += p[2] * q[2]
		s3 += p[3] * q[3]
	}
	for ; i < len(a); i++ {
		s0 += a[i] * b[i]
	}
	return s0 + s2 + (s1 + s3)
}

// widen sets dst to row i of m as F32.
func widen(dst []float32, m kernels.Mat, i int) {
	switch m.Type {
	case kernels.F32:
		copy(dst, m.Float32s(i))
	case kernels.BF16:
		for j, b := range m.Uint16s(i) {
			dst[j] = float32FromBF16(b)
		}
	case kernels.F16:
		for j, b := range m.Uint16s(i) {
			dst[j] = float32FromF16(b)
		}
	default:
		panic("BUG: widen " + m.Type.String())
	}
}
