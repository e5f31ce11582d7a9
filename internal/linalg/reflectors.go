package linalg

import "math"

// reflectors are Householder reflections h(i) = 1 - τ(i)·v(i)ᵀ·v(i) of rows: row i of v (count, length) is v(i). They are
// applied many at a time, as products (Schreiber and Van Loan, 1989).
type reflectors struct {
	v   view
	tau []float64
}

// reflect turns the row x into one that is 0 but at pivot, where it returns what is then: x·h = (0, …, beta, …, 0). It
// leaves v in x, with 1 at pivot. Elements below 1e-120 count as 0: callers have scaled the whole matrix to a largest of
// about 1.
func reflect(x []float64, pivot int) (beta, tau float64) {
	alpha := x[pivot]
	x[pivot] = 0
	var top float64
	for _, e := range x {
		top = max(top, math.Abs(e))
	}
	if top < 1e-120 {
		clear(x)
		x[pivot] = 1
		return alpha, 0
	}
	beta = -math.Copysign(math.Hypot(alpha, math.Sqrt(dot(x, x))), alpha)
	factor := 1 / (alpha - beta)
	for i := range x {
		x[i] *= factor
	}
	x[pivot] = 1
	return beta, (beta - alpha) / beta
}

// triangle returns the upper triangular t (count, count) with h(0)·h(1)·… = 1 - vᵀ·t·v.
func (h reflectors) triangle() Matrix {
	k := h.v.rows
	t, g := New(k, k), New(k, k)
	addProduct(g.view(), 1, h.v, false, h.v, true, lowerC)
	for j := range k {
		for i := range j {
			var s float64
			for p := i; p < j; p++ {
				s += t.Row(i)[p] * g.Row(j)[p]
			}
			t.Row(i)[j] = -h.tau[j] * s
		}
		t.Row(j)[j] = h.tau[j]
	}
	return t
}

// extend makes h(i) the reflection that leaves nothing but beta, at pivot, of elements from to to of x·h(0)·…·h(i-1), which
// it leaves in the row x; t becomes the triangle of h(0) to h(i), of which it holds that of those before.
func (h reflectors) extend(t Matrix, i int, x []float64, from, pivot, to int) (beta float64) {
	s, st := make([]float64, i), make([]float64, i)
	multiplyRows(s, h.v, x)
	for p, by := range s {
		axpy(st[p:], -by, t.Row(p)[p:i])
	}
	addRows(x, h.v, st)
	v := h.v.row(i)
	clear(v)
	copy(v[from:to], x[from:to])
	beta, h.tau[i] = reflect(v[from:to], pivot-from)
	multiplyRows(s, h.v, v)
	for p := range i {
		t.Row(p)[i] = -h.tau[i] * dot(t.Row(p)[p:i], s[p:])
	}
	t.Row(i)[i] = h.tau[i]
	return beta
}

// apply replaces the rows of z (n, length) by z·h(0)·h(1)·…, or with backward by z·…·h(1)·h(0).
func (h reflectors) apply(z view, backward bool) {
	k := h.v.rows
	if z.rows == 0 || k == 0 {
		return
	}
	tv, zv := New(k, h.v.cols), New(z.rows, k)
	addProduct(tv.view(), 1, h.triangle().view(), backward, h.v, false, 0)
	addProduct(zv.view(), 1, z, false, h.v, true, 0)
	addProduct(z, -1, zv.view(), false, tv.view(), false, 0)
}

// orthonormalize replaces the rows of q (m, n), m <= n, by orthonormal ones that span at least what they did: rows that
// depend on others become directions of their own. It is the decomposition q = l·(orthonormal rows) by reflections, which
// does not mind how nearly rows depend on each other.
func orthonormalize(q Matrix) {
	const width = 32
	m, n := q.Rows, q.Cols
	// The largest of each row becomes about 1: the span stays, and nothing is too small or too large to be squared.
	for i := range m {
		row := q.Row(i)
		var top float64
		for _, x := range row {
			top = max(top, math.Abs(x))
		}
		if top > 0 {
			_, exponent := math.Frexp(top)
			for j := range row {
				row[j] = math.Ldexp(row[j], -exponent)
			}
		}
	}
	v, tau := New(m, n), make([]float64, m)
	block := func(at int) reflectors {
		rows := min(width, m-at)
		return reflectors{v.view().part(at, at, rows, n-at), tau[at : at+rows]}
	}
	for at := 0; at < m; at += width {
		h := block(at)
		t := New(width, width)
		for i := range h.v.rows {
			h.extend(t, i, q.Row(at + i)[at:], i, i, n-at)
		}
		below := at + h.v.rows
		h.apply(q.view().part(below, at, m-below, n-at), false)
	}
	clear(q.Data)
	for i := range m {
		q.Row(i)[i] = 1
	}
	for at := (m - 1) / width * width; at >= 0; at -= width {
		// Rows above at have nothing yet in the columns that these reflections change.
		block(at).apply(q.view().part(at, at, m-at, n-at), true)
	}
}
