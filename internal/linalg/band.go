package linalg

// bandWidth is how many elements a row of a band has left of its diagonal: many make the products that reduce a matrix to a band
// efficient, few make the band quick to reduce (BenchmarkEigenvalues).
const bandWidth = 48

// directRows is the number of rows up to which eigenvalues alone are found faster without a band (BenchmarkEigenvalues).
var directRows = 384

// tridiagonalizeByBand finds the diagonal d (n) and beside it e (n-1) of a tridiagonal matrix that has the eigenvalues of a
// symmetric a (n, n), of which it reads the lower triangle and spoils all.
//
// tridiagonalize multiplies a whole matrix with one vector after another, at the speed of memory. Here a becomes a band first,
// by products of matrices alone, and the band, which stays in the second cache, then loses what lies beyond its first diagonal
// (Bischof, Lang and Sun, "A framework for symmetric band reduction", 2000). Eigenvectors would have to be turned back twice.
// Besides a it takes 8·bandWidth rows.
func tridiagonalizeByBand(a view, d, e []float64) {
	band := newBand(a.rows)
	reduceToBand(a, band)
	reduceBand(band, d, e)
}

// newBand returns the lower triangle of a symmetric band matrix (n, n), with room in each row for another bandWidth elements
// left of the band and for 7 right of the diagonal. It is a view like others: rows overlap where nothing is kept of them.
func newBand(n int) view {
	const stride = 2*bandWidth + 8
	return view{make([]float64, n*(stride+1)+8), n, n, stride}
}

// reduceToBand sets band to qᵀ·a·q for an orthogonal q that leaves bandWidth elements left of the diagonal of each row.
//
// It works from the last row up in panels of bandWidth rows. Reflections of a panel, 1 - vᵀ·t·v together, leave their part of
// each row; with u = t·v, z = v·a and w = z - z·vᵀ·u/2 they make a - uᵀ·w - wᵀ·u of what lies above (Dongarra, Sorensen and
// Hammarling, 1989).
func reduceToBand(a, band view) {
	n := a.rows
	// u stands twice, so that (u, w) and (w, u) are both in one piece.
	stack, across := New(4*bandWidth, n), New(n, bandWidth)
	tau := make([]float64, bandWidth)
	for m := n; m > 0; {
		rows := min(bandWidth, m)
		m -= rows
		part := func(i, rows int) view { return stack.view().part(i*bandWidth, 0, rows, m) }
		h, t := reflectors{part(3, rows), tau}, New(rows, rows)
		for p := range rows {
			i := m + rows - 1 - p
			row := a.row(i)[:i+1]
			pivot := max(0, i-bandWidth)
			if m > 0 {
				row[pivot] = h.extend(t, p, row[:m], 0, pivot, pivot+1)
			}
			copy(band.row(i)[pivot:], row[pivot:])
		}
		if m == 0 {
			return
		}
		clear(stack.Data[:3*bandWidth*n])
		rest, u, w := a.part(0, 0, m, m), part(0, rows), part(1, rows)
		z := across.view().part(0, 0, m, rows)
		clear(across.Data)
		addProduct(z, 1, rest, false, h.v, true, symmetricA)
		transpose(w, z)
		addProduct(u, 1, t.view(), false, h.v, false, 0)
		zv := New(rows, rows)
		addProduct(zv.view(), -0.5, w, false, h.v, true, 0)
		addProduct(w, 1, zv.view(), false, u, false, 0)
		for p := range rows {
			copy(part(2, rows).row(p), u.row(p))
		}
		addProduct(rest, -1, part(0, 2*bandWidth), true, part(1, 2*bandWidth), false, lowerC)
	}
}

// reduceBand finds the tridiagonal qᵀ·a·q, with diagonal d (n) and beside it e (n-1), of the band a, which it spoils.
//
// A reflection from the right clears a row but for the last element left of its diagonal. From the left it fills a square
// further left, of which a reflection clears the last row, and so on up to the first column: that row is the next in turn, and
// the rest of the square stays until then (Lang, "A parallel algorithm for reducing symmetric banded matrices to tridiagonal
// form", 1993).
func reduceBand(a view, d, e []float64) {
	const most = 2 * bandWidth // columns of a step
	// Rows are changed by a sum of these: w, x and what the next reflection is made of. The last one stays 0.
	by := New(4, most+8)
	w, x, next := by.Row(0), by.Row(1), by.Row(2)
	products := make([]float64, bandWidth)
	for i := a.rows - 1; i > 0; i-- {
		d[i] = a.row(i)[i]
		first, last := max(0, i-bandWidth), i // what the reflection x changes
		clear(x)
		copy(x, a.row(i)[first:last])
		var tau float64
		e[i-1], tau = reflect(x[:last-first], last-1-first)
		for first < last {
			// Rows first to last, of columns before to last: x stands at the end of those.
			before := max(0, first-bandWidth)
			cols, left := last-before, first-before
			if left > 0 {
				copy(x[left:], x[:last-first])
				clear(x[:left])
			}
			rows := a.part(before, before, cols, cols)
			clear(w)
			addSymmetric(w[:cols], rows, x[:cols], left, cols)
			product := dot(w[left:cols], x[left:cols])
			for j := range w {
				w[j] = tau * (w[j] - tau/2*product*x[j])
			}
			var nextTau, beta float64
			clear(next)
			if left > 0 {
				copy(next, rows.row(cols - 1)[:left])
				axpy(next[:left], -1, w[:left])
				beta, nextTau = reflect(next[:left], left-1)
				multiplyRows(products[:last-first], rows.part(left, 0, last-first, left), next[:left])
				overlap := dot(w[:left], next[:left])
				for r := range last - first {
					products[r] = nextTau * (products[r] - x[left+r]*overlap)
				}
			}
			for r := left; r < cols; r++ {
				factors := [4]float64{-x[r], -w[r], 0, 0}
				if left > 0 {
					factors[2] = -products[r-left]
				}
				end := (r + 8) &^ 7 // what is right of the diagonal does not matter
				axpys4(by.Data, by.Cols, rows.data[r*rows.stride:][:end], &factors)
			}
			if left > 0 {
				row := rows.row(cols - 1)[:left]
				clear(row)
				row[left-1] = beta
			}
			clear(x)
			copy(x, next[:left])
			tau, first, last = nextTau, before, first
		}
	}
	d[0] = a.row(0)[0]
}
