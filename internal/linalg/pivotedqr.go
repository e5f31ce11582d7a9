package linalg

import (
	"fmt"
	"math"
	"slices"
)

// PivotedQR returns r columns of a (rows, cols) that span what a spans, as far as r columns can, in the order in which the
// QR decomposition with column pivoting chooses them (Businger and Golub, 1965): each is the one that lies farthest from
// the span of those before. It returns fewer than r where the rank of a is lower, as far as float64 can tell. An element
// that is not finite is an error.
func PivotedQR(a Matrix, r int) (order []int, err error) {
	if r < 0 || r > min(a.Rows, a.Cols) {
		panic(fmt.Sprintf("BUG: %d pivots of a matrix of %d x %d", r, a.Rows, a.Cols))
	}
	if err := checkFinite(a, false); err != nil {
		return nil, fmt.Errorf("choose %d columns: %w", r, err)
	}
	// Each row of v is a column of a, less its part in the span of the columns chosen.
	v := a.Transpose()
	var first float64
	for range r {
		best, largest := -1, 0.0
		for j := range v.Rows {
			if slices.Contains(order, j) {
				continue
			}
			var norm float64
			for _, x := range v.Row(j) {
				norm = math.Hypot(norm, x)
			}
			if norm > largest {
				best, largest = j, norm
			}
		}
		first = max(first, largest)
		if largest <= first*float64(max(a.Rows, a.Cols))*0x1p-52 {
			break
		}
		order = append(order, best)
		q := slices.Clone(v.Row(best))
		for i := range q {
			q[i] /= largest
		}
		for j := range v.Rows {
			var dot float64
			row := v.Row(j)
			for i, x := range row {
				dot += x * q[i]
			}
			for i := range row {
				row[i] -= dot * q[i]
			}
		}
	}
	return order, nil
}
