package linalg

import "math"

// panelRows is how many rows of a matrix are made tridiagonal before the rest hears of it, appliedRows how many reflections
// are applied at a time to eigenvectors (BenchmarkEigen).
const (
	panelRows   = 32
	appliedRows = 96
)

// tridiagonalize finds the tridiagonal t = qᵀ·a·q, with diagonal d (n) and beside it e (n-1), of a symmetric a (n, n) whose
// lower triangle it reads and spoils. q = h(n-1)·…·h(2)·h(1), where the reflection h(i) with tau[i] and the vector in row i
// of a, up to its diagonal, leaves nothing in that row but e[i-1] and d[i].
//
// It works from the last row up, so that all it reads are pieces of rows, and in panels (Dongarra, Sorensen and Hammarling,
// 1989): half of the work is the product of the matrix with one vector after another, which memory bounds and for which
// only the lower triangle is read; the other half are products of matrices. Besides a it takes 3·panelRows+16 rows.
func tridiagonalize(a view, d, e, tau []float64) {
	n := a.rows
	if n == 0 {
		return
	}
	// Row p of v and w belongs to the p-th row of the panel: a less vᵀ·w + wᵀ·v is what a would be by now. v stands twice,
	// so that (v, w) and (w, v) are both in one piece.
	stack := New(3*panelRows, n)
	partial := New(maxPieces, n)
	for m := n; m > 0; {
		rows := min(panelRows, m)
		v := stack.view().part(0, 0, rows, m)
		w := stack.view().part(rows, 0, rows, m)
		again := stack.view().part(2*rows, 0, rows, m)
		clear(stack.Data)
		for p := range rows {
			i := m - 1 - p
			row := a.row(i)[:i+1]
			var ofW, ofV [panelRows]float64
			for q := range p {
				ofW[q], ofV[q] = -v.row(q)[i], -w.row(q)[i]
			}
			addRows(row, w, ofW[:p])
			addRows(row, v, ofV[:p])
			d[i] = row[i]
			if i == 0 {
				break
			}
			x := row[:i]
			e[i-1], tau[i] = reflect(x, i-1)
			if tau[i] == 0 {
				continue
			}
			copy(v.row(p), x)
			copy(again.row(p), x)
			y := w.row(p)[:i]
			multiplySymmetric(y, a, x, partial)
			multiplyRows(ofW[:p], v, x)
			multiplyRows(ofV[:p], w, x)
			for q := range p {
				ofW[q], ofV[q] = -ofW[q], -ofV[q]
			}
			addRows(y, w, ofW[:p])
			addRows(y, v, ofV[:p])
			for j := range y {
				y[j] *= tau[i]
			}
			axpy(y, -tau[i]/2*dot(y, x), x)
		}
		m -= rows
		both, exchanged := stack.view().part(0, 0, 2*rows, m), stack.view().part(rows, 0, 2*rows, m)
		addProduct(a.part(0, 0, m, m), -1, both, true, exchanged, false, lowerC)
	}
}

const (
	maxPieces = 16  // of a triangle, which threads share
	pieceRows = 128 // of a triangle in one piece, at least
)

// multiplySymmetric sets y to the product of the leading rows and columns of a, whose lower triangle it reads, with x,
// which is as long. The triangle is cut into pieces of equal area, as many as its size says, each with a row of partial
// (maxPieces, n) for its sums, and these are added in order.
func multiplySymmetric(y []float64, a view, x []float64, partial Matrix) {
	n := len(x)
	pieces := max(1, min(n/pieceRows, maxPieces))
	bound := func(piece int) int {
		if piece == pieces {
			return n
		}
		return int(float64(n)*math.Sqrt(float64(piece)/float64(pieces))) &^ 3
	}
	parallel(pieces, func(piece int) {
		first, last := bound(piece), bound(piece+1)
		sums := partial.Row(piece)[:last]
		clear(sums)
		addSymmetric(sums, a, x, first, last)
	})
	clear(y)
	for piece := range pieces {
		last := bound(piece + 1)
		axpy(y[:last], 1, partial.Row(piece)[:last])
	}
}

// addSymmetric adds to sums (last) the product with x (last) of what rows first to last of a, of which it reads the lower
// triangle, hold of a symmetric matrix: those rows, and the same elements as columns.
func addSymmetric(sums []float64, a view, x []float64, first, last int) {
	i := first
	for ; i+4 <= last; i += 4 {
		var s [4]float64
		dotsAxpys4(a.data[i*a.stride:], a.stride, x[:i], &s, sums[:i], (*[4]float64)(x[i:]))
		for r := range 4 {
			row := a.row(i + r)[i:]
			for c := range r {
				s[r] += row[c] * x[i+c]
				s[c] += row[c] * x[i+r]
			}
			s[r] += row[r] * x[i+r]
		}
		for r := range s {
			sums[i+r] += s[r]
		}
	}
	for ; i < last; i++ {
		row := a.row(i)
		s := row[i] * x[i]
		for c := range i {
			s += row[c] * x[c]
			sums[c] += row[c] * x[i]
		}
		sums[i] += s
	}
}

// applyTridiagonal turns the rows of z, eigenvectors of t, into eigenvectors of the matrix that tridiagonalize has left in
// a and tau.
func applyTridiagonal(z, a view, tau []float64) {
	n := a.rows
	v := New(appliedRows, n)
	for first := 1; first < n; first += appliedRows {
		count := min(appliedRows, n-first)
		length := first + count - 1
		h := reflectors{v.view().part(0, 0, count, length), tau[first : first+count]}
		for i := range count {
			row := h.v.row(i)
			clear(row[copy(row, a.row(first + i)[:first+i]):])
		}
		h.apply(z.part(0, 0, z.rows, length), false)
	}
}
