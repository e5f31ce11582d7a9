package lowrank

import (
	"cmp"
	"math"
	"slices"

	"eckart/internal/linalg"
)

// DCT returns factors of w (out, in) from a basis that no data has shaped, without any decomposition: with Q the
// orthonormal cosine transform of the inputs (DCT-II; row k of Q is the wave k), the r columns of w·Qᵀ that have the largest
// norm are U (out, r), and those rows of Q are V (r, in), orthonormal (Modoranu et al. 2025, arXiv 2505.17967, section 4, for
// gradients). columns lists the waves, ascending: V need not be stored. The norm is that of Frobenius, G = I. Energy is the
// squared norms of all columns of w·Qᵀ, descending.
//
// Inputs of a model stand in no order, so that a wave is as good as a random direction: it is here to be compared with.
func DCT(w linalg.Matrix, r int) (f Factors, columns []int, err error) {
	if err := checkRank("cosine transform", w, r); err != nil {
		return f, nil, err
	}
	n := w.Cols
	q := cosines(n)
	s := linalg.MulT(w, q)
	energy := make([]float64, n)
	for i := range s.Rows {
		for j, v := range s.Row(i) {
			energy[j] += v * v
		}
	}
	order := make([]int, n)
	for j := range order {
		order[j] = j
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(energy[j], energy[i]) })
	columns = slices.Clone(order[:r])
	slices.Sort(columns)
	f.U, f.V = linalg.New(w.Rows, r), linalg.New(r, n)
	for k, j := range columns {
		copy(f.V.Row(k), q.Row(j))
		for i := range w.Rows {
			f.U.Data[i*r+k] = s.Data[i*n+j]
		}
	}
	f.Energy = make([]float64, n)
	for k, j := range order {
		f.Energy[k] = energy[j]
	}
	all := Spectrum{w: w, norm: plain{}, whole: quadratic(w, linalg.Matrix{}, plain{}.size)}
	f.Error = all.measure(f)
	return f, columns, nil
}

// cosines returns the orthonormal DCT-II (n, n): element (k, j) is √(2/n)·cos(k·(2j+1)·π/2n), and row 0 √(1/n).
func cosines(n int) linalg.Matrix {
	q := linalg.New(n, n)
	// A quarter of a turn is n steps: all angles are multiples of one step, taken modulo the whole turn so that they are exact.
	table := make([]float64, 4*n)
	for i := range table {
		table[i] = math.Sqrt(2/float64(n)) * math.Cos(float64(i)*math.Pi/float64(2*n))
	}
	for k := range n {
		row := q.Row(k)
		for j := range row {
			row[j] = table[k*(2*j+1)%(4*n)]
		}
	}
	for j := range n {
		q.Data[j] = math.Sqrt(1 / float64(n))
	}
	return q
}
