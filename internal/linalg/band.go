package linalg

// bandWidth is how many elements a row of a band has left of its diagonal: many make the products that reduce a matrix to a band
// efficient, few make the band quick to reduce (BenchmarkEigenvalues). It is a multiple of 8.
const bandWidth = 48

// directRows is the number of rows up to which a matrix is made tridiagonal faster without a band (BenchmarkEigenvalues).
var directRows = 896

// tridiagonalizeByBand finds the diagonal d (n) and beside it e (n-1) of a tridiagonal matrix that has the eigenvalues of a
// symmetric a (n, n), whose lower triangle it reads and spoils.
//
// tridiagonalize multiplies a whole matrix with one vector after another, at the speed of memory. Here a becomes a band first,
// by products of matrices alone, and the band, which stays in the second cache, then loses what lies beyond its first diagonal
// (Bischof, Lang and Sun, "A framework for symmetric band reduction", 2000). It is no way to eigenvectors, which would have to be
// turned back twice. Besides a it takes 7·bandWidth rows.
func tridiagonalizeByBand(a view, d, e []float64) {
	band := newBand(a.rows)
	reduceToBand(a, band)
	reduceBand(band, d, e)
}

// newBand returns the lower triangle of a symmetric band matrix (n, n), with room in each row for another bandWidth elements
// left of the band and for 7 right of the diagonal. It is a view like others: its rows overlap where nothing is kept of them.
func newBand(n int) view {
	const stride = 2*bandWidth + 8
	return view{make([]float64, n*(stride+1)+8), n, n, stride}
}

// reduceToBand sets band to qᵀ·a·q for an orthogonal q that leaves bandWidth elements left of the diagonal of each row.
//
// It works from the last row up in panels of bandWidth rows. Reflections of a panel, 1 - vᵀ·t·v together, leave only the band of
// it; with u = t·v, z = v·a and w = z - z·vᵀ·u/2 they make a - uᵀ·w - wᵀ·u of what lies above (Dongarra, Sorensen and Hammarling,
// 1989).
func reduceToBand(a, band view) {
	// u stands twice, so that (u, w) and (w, u) are both in one piece.
	stack, across := New(4*bandWidth, a.rows), New(a.rows, bandWidth)
	t, zv := New(bandWidth, bandWidth), New(bandWidth, bandWidth)
	tau := make([]float64, bandWidth)
	for m := a.rows; m > 0; {
		end := m
		m = max(0, m-bandWidth)
		part := func(i, count int) view { return stack.view().part(i*bandWidth, 0, count*bandWidth, m) }
		h := reflectors{part(3, 1), tau}
		for i := end - 1; i >= m; i-- {
			row := a.row(i)[:i+1]
			first := max(0, i-bandWidth)
			if m > 0 {
				row[first] = h.extend(t, end-1-i, row[:m], 0, first, first+1)
			}
			copy(band.row(i)[first:], row[first:])
		}
		if m == 0 {
			return
		}
		rest, u, w, again, z := a.part(0, 0, m, m), part(0, 1), part(1, 1), part(2, 1), across.view().part(0, 0, m, bandWidth)
		clear(z.data)
		addProduct(z, 1, rest, false, h.v, true, symmetricA)
		transpose(w, z)
		for i := range bandWidth {
			clear(u.row(i))
		}
		addProduct(u, 1, t.view(), false, h.v, false, 0)
		for i := range bandWidth {
			copy(again.row(i), u.row(i))
		}
		clear(zv.Data)
		addProduct(zv.view(), -0.5, w, false, h.v, true, 0)
		addProduct(w, 1, zv.view(), false, u, false, 0)
		addProduct(rest, -1, part(0, 2), true, part(1, 2), false, lowerC)
	}
}

// reduceBand finds the tridiagonal qᵀ·a·q, with diagonal d (n) and beside it e (n-1), of the band a, which it spoils.
//
// A reflection from the right clears a row but for the last element left of its diagonal. From the left it fills a square
// further left, of which a reflection clears the last row, and so on up to the first column: that row is the next in turn, and
// the rest of the square stays until then (Lang, "A parallel algorithm for reducing symmetric banded matrices to tridiagonal
// form", 1993). One thread does it: more would spend as much time on passing the band to and fro.
func reduceBand(a view, d, e []float64) {
	c := newChase()
	for i := a.rows - 1; i > 0; i-- {
		d[i] = a.row(i)[i]
		c.last, c.first = i, max(0, i-bandWidth)
		x := c.x[:c.last-c.first]
		copy(x, a.row(i)[c.first:])
		e[i-1], c.tau = reflect(x, len(x)-1)
		for c.last > 0 {
			c.step(a)
		}
	}
	d[0] = a.row(0)[0]
}

// A chase is the reflections that follow from one that has cleared a row of a band.
type chase struct {
	first, last int // of rows and columns that the reflection tau, x changes; both 0 at the end
	tau         float64
	// Rows change by these, in the columns of a step, each (2·bandWidth): w·xᵀ + x·wᵀ, which are the reflection x from both sides, and
	// next, the reflection after it. A row of 0 follows, for axpys4.
	by         Matrix
	w, x, next []float64
	factors    []float64 // of next in rows
}

func newChase() *chase {
	by := New(4, 2*bandWidth)
	return &chase{by: by, w: by.Row(0), x: by.Row(1), next: by.Row(2), factors: make([]float64, bandWidth)}
}

// step applies the reflection x to rows first to last, from the left and in their columns first to last from the right, and the
// next one, which clears what it has filled in the last of them, from the right.
func (c *chase) step(a view) {
	// The next reflection is of columns before to first, as many as left.
	before := max(0, c.first-bandWidth)
	rows, cols, left := c.last-c.first, c.last-before, c.first-before
	square := a.part(before, before, cols, cols)
	w, x, next, factors := c.w[:cols], c.x[:cols], c.next[:left], c.factors[:rows]
	copy(x[left:], x[:rows])
	clear(x[:left])
	clear(w)
	addSymmetric(w, square, x, left, cols)
	half := c.tau / 2 * dot(w[left:], x[left:])
	for j := range w {
		w[j] = c.tau * (w[j] - half*x[j])
	}

	var beta, tau float64
	bottom := square.row(cols - 1)[:left]
	clear(factors)
	if left > 0 {
		copy(next, bottom)
		axpy(next, -x[cols-1], w[:left])
		beta, tau = reflect(next, left-1)
		multiplyRows(factors, square.part(left, 0, rows, left), next)
		overlap := dot(next, w[:left])
		for r := range factors {
			factors[r] = tau * (factors[r] - x[left+r]*overlap)
		}
	}
	for r := left; r < cols; r++ {
		end := (r + 8) &^ 7 // what is right of the diagonal does not matter
		axpys4(c.by.Data, c.by.Cols, square.data[r*square.stride:][:end], &[4]float64{-x[r], -w[r], -factors[r-left]})
	}
	if left > 0 {
		clear(bottom)
		bottom[left-1] = beta
	}
	clear(c.x)
	copy(c.x, next)
	clear(c.next)
	c.first, c.last, c.tau = before, c.first, tau
}
