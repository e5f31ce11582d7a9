package cpu

import "eckart/kernels"

// matMulGeneric computes y = x·wᵀ (or adds it), one dot product at a time. It is the reference for the assembly.
func matMulGeneric(y, x, w kernels.Mat, m kernels.Mode) {
	row := make([]float32, w.Cols)
	for o := range w.Rows {
		widen(row, w, o)
		for t := range x.Rows {
			sum := dotGeneric(x.Float32s(t), row)
			if m == kernels.Add {
				y.Float32s(t)[o] += sum
			} else {
				y.Float32s(t)[o] = sum
			}
		}
	}
}

func dotGeneric(a, b []float32) float32 {
	var sum float32
	for i, v := range a {
		sum += v * b[i]
	}
	return sum
}

// embedGeneric copies row ids[i] of table to y[i], widened to F32.
func embedGeneric(y, table, ids kernels.Mat) {
	for i := range y.Rows {
		widen(y.Float32s(i), table, int(ids.Int32s(i)[0]))
	}
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
