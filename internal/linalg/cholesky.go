package linalg

import (
	"errors"
	"fmt"
	"math"
)

// ErrNotDefinite says that a matrix is not positive definite, as far as float64 can tell.
var ErrNotDefinite = errors.New("matrix is not positive definite")

// Cholesky returns the lower triangular l (n, n) with l·lᵀ = a for a symmetric positive definite a (n, n), of which it
// reads the lower triangle. Above its diagonal l is 0. A matrix that is not positive definite, one with a NaN among them,
// is ErrNotDefinite, with the pivot at which that showed. Beside l it takes 1 KiB for each row of a, and what the product
// does.
func Cholesky(a Matrix) (l Matrix, err error) {
	mustBeSquare("Cholesky factor", a)
	n := a.Rows
	l = New(n, n)
	for i := range n {
		copy(l.Row(i)[:i+1], a.Row(i)[:i+1])
	}
	if err := factorize(l.view(), 0); err != nil {
		return Matrix{}, err
	}
	EachRow(n, n, func(i int) { clear(l.Row(i)[i+1:]) }) // which products have written to
	return l, nil
}

// factorize replaces the lower triangle of a, which begins at row first of the whole matrix, by its Cholesky factor: blocks
// of columns from left to right, and after each the product that takes its part from all that is right of it. What lies
// above the diagonal has any value afterwards.
func factorize(a view, first int) error {
	n, width := a.rows, panelWidth(a.rows, 0)
	if width == n {
		return factorizeSmall(a, first)
	}
	panel := make([]float64, width*n)
	for at := 0; at < n; at += width {
		cols := min(width, n-at)
		block := a.part(at, at, cols, cols)
		if err := factorize(block, first+at); err != nil {
			return err
		}
		below := n - at - cols
		if below == 0 {
			return nil
		}
		// The columns below become rows, which solves are faster with.
		under := a.part(at+cols, at, below, cols)
		rows := view{panel[:cols*below], cols, below, below}
		transpose(rows, under)
		solveLower(block, rows, 0)
		transpose(under, rows)
		addProduct(a.part(at+cols, at+cols, below, below), -1, rows, true, rows, false, lowerC)
	}
	return nil
}

// panelWidth returns how many columns of a matrix of n are factorized before the rest hears of it: all of them where they are few.
func panelWidth(n int, t Trait) int {
	const small = 32
	switch {
	case n <= small:
		return n
	case t&Single != 0 && n >= 16*small: // where the product is less of the work
		return 8 * small
	case n > 8*small:
		return 4 * small
	}
	return small
}

// factorizeSmall is factorize row by row.
func factorizeSmall(a view, first int) error {
	for i := range a.rows {
		row := a.row(i)
		for j := range i {
			row[j] = (row[j] - dot(row[:j], a.row(j)[:j])) / a.row(j)[j]
		}
		pivot := row[i] - dot(row[:i], row[:i])
		if !(pivot > 0) || math.IsInf(pivot, 1) {
			return fmt.Errorf("%w: pivot %d of its Cholesky factor is %g", ErrNotDefinite, first+i, pivot)
		}
		row[i] = math.Sqrt(pivot)
	}
	return nil
}

// transpose sets dst to the transpose of src.
func transpose(dst, src view) {
	parallel(ceil(src.rows, squareSide), func(block int) {
		var s square
		i := block * squareSide
		for j := 0; j < src.cols; j += squareSide {
			part := src.part(i, j, min(squareSide, src.rows-i), min(squareSide, src.cols-j))
			s.turn(part)
			for c := range part.cols {
				copy(dst.row(j + c)[i:], s[c][:part.rows])
			}
		}
	})
}

// A square is a part of a matrix with columns as rows, on its way to where it is written so. Rows of a large matrix fall on the
// same lines of the first cache: read and written element by element, they would drive each other out.
type square [squareSide][squareSide]float64

const squareSide = 32

func (s *square) turn(part view) {
	for i := range part.rows {
		for j, v := range part.row(i) {
			s[j][i] = v
		}
	}
}

// SolveLower sets b (n, cols) to l⁻¹·b for a lower triangular l (n, n) without zeros on its diagonal, of which it reads the
// lower triangle. With t Single its products are: numbers must be well within the range of float32.
func SolveLower(l, b Matrix, t Trait) {
	mustFit(l, b)
	solveLower(l.view(), b.view(), t)
}

// SolveLowerT sets b (n, cols) to l⁻ᵀ·b for a lower triangular l (n, n) without zeros on its diagonal, of which it reads
// the lower triangle. t is as in SolveLower.
func SolveLowerT(l, b Matrix, t Trait) {
	mustFit(l, b)
	solveLowerT(l.view(), b.view(), t)
}

func mustFit(l, b Matrix) {
	mustBeSquare("triangular solve", l)
	if l.Rows != b.Rows {
		panic(fmt.Sprintf("BUG: triangular solve of %d x %d with %d x %d", l.Rows, l.Cols, b.Rows, b.Cols))
	}
}

const (
	solveRows = 32  // of a triangle that is solved row by row
	solveCols = 512 // of b that a thread works on meanwhile: 128 KiB
)

// half returns where a triangle of n rows is divided: near its middle, at a multiple of solveRows.
func half(n int) int { return ceil(n/2, solveRows) * solveRows }

// solveLower does SolveLower: the upper half of b, a product that takes its part from the lower half and may be Single, and the
// lower half.
func solveLower(l, b view, t Trait) {
	n := l.rows
	if n > solveRows {
		h := half(n)
		upper, lower := b.part(0, 0, h, b.cols), b.part(h, 0, n-h, b.cols)
		solveLower(l.part(0, 0, h, h), upper, t)
		addProduct(lower, -1, l.part(h, 0, n-h, h), false, upper, false, t)
		solveLower(l.part(h, h, n-h, n-h), lower, t)
		return
	}
	parallel(ceil(b.cols, solveCols), func(i int) {
		some := b.part(0, i*solveCols, n, min(solveCols, b.cols-i*solveCols))
		var factors [solveRows]float64
		for i := range n {
			row, diagonal := l.row(i), l.row(i)[i]
			for j := range i {
				factors[j] = -row[j]
			}
			x := some.row(i)
			addRows(x, some, factors[:i])
			for j := range x {
				x[j] /= diagonal
			}
		}
	})
}

// solveLowerT does SolveLowerT, from the lower half of b to the upper. Products may be Single.
func solveLowerT(l, b view, t Trait) {
	n := l.rows
	if n > solveRows {
		h := half(n)
		upper, lower := b.part(0, 0, h, b.cols), b.part(h, 0, n-h, b.cols)
		solveLowerT(l.part(h, h, n-h, n-h), lower, t)
		addProduct(upper, -1, l.part(h, 0, n-h, h), true, lower, false, t)
		solveLowerT(l.part(0, 0, h, h), upper, t)
		return
	}
	parallel(ceil(b.cols, solveCols), func(i int) {
		some := b.part(0, i*solveCols, n, min(solveCols, b.cols-i*solveCols))
		var factors [solveRows]float64
		for i := n - 1; i >= 0; i-- {
			for j := i + 1; j < n; j++ {
				factors[j] = -l.row(j)[i]
			}
			x, diagonal := some.row(i), l.row(i)[i]
			addRows(x, some.part(i+1, 0, n-i-1, some.cols), factors[i+1:n])
			for j := range x {
				x[j] /= diagonal
			}
		}
	})
}

// BlockFactor returns the lower triangular f (n, n) that takes errors from columns of a matrix to those before them, or with its
// transpose to those after them, for the symmetric c = a - taken·takenᵀ + ridge·I: it reads the lower triangle of a (n, n), taken
// (n, r) may have no columns, and what is left of the diagonal before the ridge counts as 0 where rounding takes it below. With
// the lower triangular l of lᵀ·l = c and blocks b of so many columns, f has l(b, b)⁻¹ on its diagonal and -l(b, b)⁻¹·l(b, j) left
// of it. Of a single block it is l⁻¹, and f·fᵀ is c⁻¹. What lies above its diagonal has any value. A c that is not positive
// definite is ErrNotDefinite.
//
// Of 1024 rows or more products are Single, which of 8192 takes two thirds of the time (BenchmarkBlockFactor): a pivot, the
// square of an element of l's diagonal, is off by about 1e-7 of the diagonal element of c that it is left of. Where it turns out
// to be less than 2⁻¹⁷ of that, so that it would not be known to a few percent, or where it is not positive or out of the range
// of float32, all is computed in float64.
//
// Beside its result it takes 2 KiB for each row, or a block of it if that is more.
func BlockFactor(a, taken Matrix, ridge float64, block int) (Matrix, error) {
	mustBeSquare("factor between blocks", a)
	if a.Rows >= singleFactor {
		if f, err := blockFactor(a, taken, ridge, block, Single); !errors.Is(err, ErrNotDefinite) {
			return f, err
		}
	}
	return blockFactor(a, taken, ridge, block, 0)
}

// singleFactor is the number of rows from which on products of BlockFactor are Single.
var singleFactor = 1024

// blockFactor is BlockFactor with products that may be Single, for which ErrNotDefinite says no more than that c is too far
// from definite for them.
func blockFactor(a, taken Matrix, ridge float64, block int, t Trait) (Matrix, error) {
	n := a.Rows
	l := New(n, n)
	EachRow(n, n, func(i int) { copy(l.Row(i), a.Row(i)[:i+1]) })
	if taken.Cols > 0 {
		addProduct(l.view(), -1, taken.view(), false, taken.view(), true, lowerC)
	}
	diagonal := make([]float64, n)
	for i := range n {
		diagonal[i] = max(0, l.Row(i)[i]) + ridge
		l.Row(i)[i] = diagonal[i]
	}
	if err := factorizeUp(l.view(), 0, t); err != nil {
		return Matrix{}, err
	}
	if t&Single != 0 {
		for i, from := range diagonal {
			pivot := l.Row(i)[i] * l.Row(i)[i]
			if pivot < 0x1p-17*from || pivot < 1e-20 || from > 1e30 {
				return Matrix{}, fmt.Errorf("%w in single precision: pivot %d of its factor is %g, of %g", ErrNotDefinite, i, pivot, from)
			}
		}
	}
	product := make([]float64, n*min(n, block))
	for start := 0; start < n; start += block {
		cols := min(block, n-start)
		diagonal, left := l.view().part(start, start, cols, cols), l.view().part(start, 0, cols, start)
		invertLower(diagonal)
		if start == 0 {
			continue
		}
		p := view{product[:cols*start], cols, start, start}
		clear(p.data)
		addProduct(p, -1, diagonal, false, left, false, LowerA|t)
		EachRow(cols, start, func(i int) { copy(left.row(i), p.row(i)) })
	}
	return l, nil
}

// factorizeUp replaces the lower triangle of a, which begins at row first of the whole matrix, by the l of lᵀ·l = a: blocks of
// rows from the last up, and after each the product that takes its part from all that is above it. So all that is solved and
// multiplied are rows as they lie. Products may be Single. What lies above the diagonal has any value afterwards.
func factorizeUp(a view, first int, t Trait) error {
	width := panelWidth(a.rows, t)
	if width == a.rows {
		return factorizeUpSmall(a, first)
	}
	for end := a.rows; end > 0; end -= width {
		rows := min(width, end)
		at := end - rows
		block, left := a.part(at, at, rows, rows), a.part(at, 0, rows, at)
		if err := factorizeUp(block, first+at, 0); err != nil {
			return err
		}
		solveLowerT(block, left, t)
		addProduct(a.part(0, 0, at, at), -1, left, true, left, false, lowerC|t)
	}
	return nil
}

// factorizeUpSmall is factorizeUp row by row.
func factorizeUpSmall(a view, first int) error {
	for i := a.rows - 1; i >= 0; i-- {
		row := a.row(i)[:i+1]
		pivot := row[i]
		if !(pivot > 0) || math.IsInf(pivot, 1) {
			return fmt.Errorf("%w: pivot %d of its factor is %g", ErrNotDefinite, first+i, pivot)
		}
		root := math.Sqrt(pivot)
		for j := range row {
			row[j] /= root
		}
		for j := range i {
			axpy(a.row(j)[:j+1], -row[j], row[:j+1])
		}
	}
	return nil
}

// invertLower replaces the lower triangle of l by that of l⁻¹, and what lies above by 0. The lower left quarter of the
// inverse is -l22⁻¹·l21·l11⁻¹.
func invertLower(l view) {
	n := l.rows
	if n > solveRows {
		h := half(n)
		left, right, lower := l.part(0, 0, h, h), l.part(h, h, n-h, n-h), l.part(h, 0, n-h, h)
		invertLower(left)
		invertLower(right)
		half := New(n-h, h).view()
		addProduct(half, 1, lower, false, left, false, LowerB)
		for i := range n - h {
			clear(lower.row(i))
		}
		addProduct(lower, -1, right, false, half, false, LowerA)
		for i := range h {
			clear(l.row(i)[h:])
		}
		return
	}
	// Column j of the inverse, from the columns right of it.
	for j := n - 1; j >= 0; j-- {
		inverse := 1 / l.row(j)[j]
		for i := n - 1; i > j; i-- {
			var s float64
			for k := j + 1; k <= i; k++ {
				s += l.row(i)[k] * l.row(k)[j]
			}
			l.row(i)[j] = -s * inverse
		}
		l.row(j)[j] = inverse
		for i := range j {
			l.row(i)[j] = 0
		}
	}
}
