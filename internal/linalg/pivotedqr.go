package linalg

import (
	"fmt"
	"math"
)

// largestCoefficient bounds what a column that PivotedQR has not chosen takes of one that it has. Pivoting alone leaves
// less than that in most matrices, random ones among them, but promises nothing: in Kahan's matrices it grows without
// bound.
const largestCoefficient = 2

// PivotedQR returns r columns of a (rows, cols) that span what a spans, as far as r columns can, in the order in which the
// QR decomposition with column pivoting chooses them (Businger and Golub, 1965): each is the one that lies farthest from
// the span of those before. It returns fewer than r where the rank of a is lower, as far as float64 can tell. An element
// that is not finite is an error.
//
// Then, while a column left over would take more than twice some chosen column, the two change places: each exchange
// enlarges the volume of those chosen by that factor, so it ends (Gu and Eisenstat, "Efficient algorithms for computing a
// strong rank-revealing QR factorization", 1996, with their f = 2, for a matrix whose rank is r). A column that has come in
// this way stands where the other stood. The coefficients k of all others in those chosen, a[:, others] ≈ a[:, order]·kᵀ,
// are thus at most 2 in magnitude, which is what an encoding by pivots (PIFA) stores. It takes two matrices of the size of
// a.
func PivotedQR(a Matrix, r int) (order []int, err error) {
	if r < 0 || r > min(a.Rows, a.Cols) {
		panic(fmt.Sprintf("BUG: %d pivots of a matrix of %d x %d", r, a.Rows, a.Cols))
	}
	if err := checkFinite(a, false); err != nil {
		return nil, fmt.Errorf("choose %d columns: %w", r, err)
	}
	var top float64
	for _, x := range a.Data {
		top = max(top, math.Abs(x))
	}
	if top == 0 || r == 0 {
		return nil, nil
	}
	_, exponent := math.Frexp(top)
	columns := a.Transpose()
	scale(columns.Data, columns.Data, -exponent)
	order, rank := pivot(columns, r)
	exchange(columns, order, rank)
	return order[:rank], nil
}

// pivotRows is how many columns are chosen before the rest hears of it.
const pivotRows = 32

// pivot does the first r steps of the QR decomposition with pivoting of the matrix whose columns are the rows of c (n,
// length). It puts c in the order in which they were chosen, the rest after them, and leaves the columns of R in the first
// r elements of each. rank is the number of steps that found something.
//
// A step needs the products of its reflection with all columns left, and only those: the columns themselves follow in
// blocks (Quintana-Ortí, Sun and Bischof, 1998). The length that a column has left is computed by taking off what each step
// removes, and anew where so much was removed that the rest is uncertain (Drmač and Bujanović, 2008).
func pivot(c Matrix, r int) (order []int, rank int) {
	n, length := c.Rows, c.Cols
	order = make([]int, n)
	left, sure := make([]float64, n), make([]float64, n) // now, and when last computed
	for j := range n {
		order[j] = j
		left[j] = math.Sqrt(dot(c.Row(j), c.Row(j)))
		sure[j] = left[j]
	}
	var first float64
	for _, x := range left {
		first = max(first, x)
	}
	negligible := first * float64(max(n, length)) * 2 * epsilon
	v, f := New(pivotRows, length), New(n, pivotRows)
	products := make([]float64, n)
	for k0 := 0; k0 < r; {
		rows := min(pivotRows, r-k0)
		clear(v.Data)
		clear(f.Data)
		done, uncertain := 0, false
		for done < rows && !uncertain {
			k := k0 + done
			best := k
			for j := k + 1; j < n; j++ {
				if left[j] > left[best] {
					best = j
				}
			}
			if left[best] <= negligible {
				return order, k
			}
			if best != k {
				x, y := c.Row(k), c.Row(best)
				for i := range x {
					x[i], y[i] = y[i], x[i]
				}
				x, y = f.Row(k), f.Row(best)
				for i := range x {
					x[i], y[i] = y[i], x[i]
				}
				order[k], order[best] = order[best], order[k]
				left[best], sure[best] = left[k], sure[k]
			}
			// What the block's reflections so far do to this column.
			x := c.Row(k)[k:]
			for q := range done {
				axpy(x, -f.Row(k)[q], v.Row(q)[k:])
			}
			copy(v.Row(done)[k:], x)
			beta, tau := reflect(v.Row(done)[k:], 0)
			x[0] = beta
			clear(x[1:])

			rest := c.view().part(k+1, k, n-k-1, length-k)
			w := v.Row(done)[k:]
			const few = 64 // rows that a thread takes at a time
			parallel(ceil(rest.rows, few), func(i int) {
				some := rest.part(i*few, 0, min(few, rest.rows-i*few), rest.cols)
				multiplyRows(products[k+1+i*few:][:some.rows], some, w)
			})
			var overlap [pivotRows]float64
			for q := range done {
				overlap[q] = dot(v.Row(q)[k:], w)
			}
			for j := k + 1; j < n; j++ {
				row := f.Row(j)
				row[done] = tau * (products[j] - dot(row[:done], overlap[:done]))
				// The element of R in this row, and what the column has left below it.
				at := &c.Row(j)[k]
				for q := range done + 1 {
					*at -= row[q] * v.Row(q)[k]
				}
				if left[j] == 0 {
					continue
				}
				share := math.Abs(*at) / left[j]
				share = max(0, (1+share)*(1-share))
				ratio := left[j] / sure[j]
				if share*ratio*ratio <= 0x1p-26 {
					uncertain = true
					sure[j] = -1 // to be computed
				} else {
					left[j] *= math.Sqrt(share)
				}
			}
			done++
		}
		k0 += done
		addProduct(c.view().part(k0, k0, n-k0, length-k0), -1,
			f.view().part(k0, 0, n-k0, done), false, v.view().part(0, k0, done, length-k0), false, 0)
		for j := k0; j < n; j++ {
			if sure[j] < 0 {
				x := c.Row(j)[k0:]
				left[j] = math.Sqrt(dot(x, x))
				sure[j] = left[j]
			}
		}
	}
	return order, r
}

// exchange makes the rank columns that pivot has put first a choice whose coefficients are at most largestCoefficient.
func exchange(c Matrix, order []int, rank int) {
	others := c.Rows - rank
	if rank == 0 || others == 0 {
		return
	}
	// Column j of k holds the coefficients of other column j.
	l := c.view().part(0, 0, rank, rank)
	k := New(rank, others)
	transpose(k.view(), c.view().part(rank, 0, others, rank))
	solveLowerT(l, k.view(), 0)
	for {
		row, col, top := 0, 0, float64(largestCoefficient)
		for i := range rank {
			for j, x := range k.Row(i) {
				if math.Abs(x) > top {
					row, col, top = i, j, math.Abs(x)
				}
			}
		}
		if top == largestCoefficient {
			return
		}
		order[row], order[rank+col] = order[rank+col], order[row]
		// The column that came in is column col of k times those chosen, solved for the one that goes.
		by := k.Row(row)
		p := by[col]
		in := make([]float64, rank)
		for i := range in {
			in[i] = k.Row(i)[col]
		}
		parallel(rank, func(i int) {
			if i != row {
				x := k.Row(i)
				axpy(x, -in[i]/p, by)
				x[col] = -in[i] / p
			}
		})
		for j := range by {
			by[j] /= p
		}
		by[col] = 1 / p
	}
}
