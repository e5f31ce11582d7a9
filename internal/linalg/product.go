package linalg

import (
	"fmt"
	"math"
	"runtime"
)

// A Trait is something that is known of a product, or granted to it, and makes it faster.
type Trait uint8

const (
	// Single has the product computed in single precision, in half of the time: elements of a and b are rounded to float32, and so
	// are sums of up to 384 of their products, which are then added up in float64. An element is off by at most 2.4e-5 of the sum
	// of magnitudes |a|·|b| that makes it, and by about 1e-7 of that where signs are mixed.
	//
	// It is for numbers well within the range of float32. Where the norm of the result shows that they were not, because it is below
	// 1e-20 or not finite, the product is computed again in float64.
	Single Trait = 1 << iota
	// LowerA says that a, which is not to be transposed, is 0 above its diagonal.
	LowerA
	// LowerB says that b, which is not to be transposed, is 0 above its diagonal.
	LowerB
	// Symmetric says that the product is symmetric. One half of it is computed, and the result is exactly symmetric.
	Symmetric

	lowerC     // what lies above the diagonal of c has any value afterwards
	symmetricA // a, not transposed, is symmetric, and only its lower triangle is read
)

// Mul returns a·b, (a.Rows, b.Cols).
func Mul(a, b Matrix, traits ...Trait) Matrix {
	if a.Cols != b.Rows {
		panic(fmt.Sprintf("BUG: product of %d x %d and %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	return multiply(New(a.Rows, b.Cols), a, false, b, false, traits)
}

// MulT returns a·bᵀ, (a.Rows, b.Rows). Where b is a itself, it is Symmetric without being told.
func MulT(a, b Matrix, traits ...Trait) Matrix {
	if a.Cols != b.Cols {
		panic(fmt.Sprintf("BUG: product of %d x %d and the transpose of %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	return multiply(New(a.Rows, b.Rows), a, false, b, true, traits)
}

// TMul returns aᵀ·b, (a.Cols, b.Cols). Where b is a itself, it is Symmetric without being told.
func TMul(a, b Matrix, traits ...Trait) Matrix {
	if a.Rows != b.Rows {
		panic(fmt.Sprintf("BUG: product of the transpose of %d x %d and %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	return multiply(New(a.Cols, b.Cols), a, true, b, false, traits)
}

// multiply sets c, which is 0, to the product of a and b, and returns it.
func multiply(c, a Matrix, aT bool, b Matrix, bT bool, traits []Trait) Matrix {
	var t Trait
	for _, trait := range traits {
		t |= trait
	}
	if aT && t&LowerA != 0 || bT && t&LowerB != 0 {
		panic("BUG: the transpose of a lower triangle is none")
	}
	if aT != bT && sameMatrix(a, b) {
		t |= Symmetric
	}
	if t&Symmetric != 0 {
		mustBeSquare("symmetric product", c)
		t |= lowerC
	}
	addProduct(c.view(), 1, a.view(), aT, b.view(), bT, t)
	if t&Single != 0 && !singleHolds(c.Data) {
		clear(c.Data)
		addProduct(c.view(), 1, a.view(), aT, b.view(), bT, t&^Single)
	}
	if t&Symmetric != 0 {
		Mirror(c)
	}
	return c
}

// singleHolds reports whether results of single precision have stayed clear of the ends of its range, 1e-38 and 3e38. What
// overflows there makes results that are not finite; where all are below 1e-20, much may have become 0.
func singleHolds(results []float64) bool {
	const some = 1 << 16 // numbers that a thread looks through at a time
	squares := make([]float64, ceil(len(results), some))
	parallel(len(squares), func(i int) {
		piece := results[i*some : min((i+1)*some, len(results))]
		squares[i] = dot(piece, piece)
	})
	var sum float64
	for _, s := range squares {
		sum += s
	}
	return sum > 1e-40 && sum <= math.MaxFloat64
}

// manyProducts is the bound of Large: half of the products of 2048 x 2048 by itself. A variable for the sake of tests.
var manyProducts int64 = 1 << 32

// Large reports whether to multiply (m, k) by (k, n) takes more than 2³² products of two numbers: so many that it is worth
// giving up accuracy that nothing stands on.
func Large(m, k, n int) bool { return int64(m)*int64(k)*int64(n) > manyProducts }

// Precision returns what is granted to a product of (m, k) by (k, n) that serves a spectrum, a correction or an error: Single
// where it is Large.
func Precision(m, k, n int) Trait {
	if Large(m, k, n) {
		return Single
	}
	return 0
}

// Quadratic returns e·c·eᵀ for each row of e (rows, n) and a symmetric c (n, n). It takes little more than half of the
// operations of e·c, and (rows, 512) beside its result. Where e·c is Large, it is Single, of twice as many columns at once: a
// result is off by about 1e-7 of the sum of magnitudes |e|·|c|·|e|ᵀ.
func Quadratic(e, c Matrix) []float64 {
	mustBeSquare("quadratic form", c)
	if e.Cols != c.Rows {
		panic(fmt.Sprintf("BUG: quadratic form of %d x %d with %d x %d", e.Rows, e.Cols, c.Rows, c.Cols))
	}
	if Large(e.Rows, c.Rows, c.Cols) {
		if norms := quadratic(e, c, 1024, Single); singleHolds(norms) {
			return norms
		}
	}
	return quadratic(e, c, 512, 0)
}

// quadratic multiplies so many columns of c at once: few, so that little is computed twice, and enough to share what is packed
// (BenchmarkQuadratic).
func quadratic(e, c Matrix, most int, t Trait) []float64 {
	n := c.Rows
	norms, product := make([]float64, e.Rows), New(e.Rows, min(n, most))
	for at := 0; at < n; at += most {
		cols := min(most, n-at)
		clear(product.Data)
		p, some, below := product.view().part(0, 0, e.Rows, cols), e.view().part(0, at, e.Rows, cols), n-at-cols
		addProduct(p, 1, some, false, c.view().part(at, at, cols, cols), false, t)
		addProduct(p, 2, e.view().part(0, at+cols, e.Rows, below), false, c.view().part(at+cols, at, below, cols), false, t)
		for i := range norms {
			norms[i] += dot(p.row(i), some.row(i))
		}
	}
	return norms
}

func sameMatrix(a, b Matrix) bool {
	return a.Rows == b.Rows && a.Cols == b.Cols && len(a.Data) > 0 && len(b.Data) > 0 && &a.Data[0] == &b.Data[0]
}

// Mirror copies the lower triangle of a (n, n) to the upper one.
func Mirror(a Matrix) {
	mustBeSquare("mirror", a)
	n := a.Rows
	parallel(ceil(n, squareSide), func(block int) {
		var s square
		i := block * squareSide
		for j := 0; j <= i; j += squareSide {
			part := a.view().part(i, j, min(squareSide, n-i), min(squareSide, n-j))
			s.turn(part)
			for c := range part.cols {
				above := max(0, j+c-i)
				copy(a.Row(j + c)[i+above:], s[c][above:part.rows])
			}
		}
	})
}

// A view is a part of a matrix: rows that lie stride apart in data.
type view struct {
	data               []float64
	rows, cols, stride int
}

func (m Matrix) view() view { return view{m.Data, m.Rows, m.Cols, m.Cols} }

func (v view) row(i int) []float64 { return v.data[i*v.stride:][:v.cols] }

// part returns rows i to i+rows and columns j to j+cols of v.
func (v view) part(i, j, rows, cols int) view {
	if rows == 0 || cols == 0 {
		return view{nil, rows, cols, v.stride}
	}
	return view{v.data[i*v.stride+j : (i+rows-1)*v.stride+j+cols], rows, cols, v.stride}
}

// Extents of what is packed at once (BenchmarkMul; Goto and van de Geijn, "Anatomy of high-performance matrix
// multiplication", 2008). A block of a (packedRows, packedDepth), 576 KiB, stays in the second cache while panels of b
// (packedDepth, tile columns) pass through the first; the slab of b (packedDepth, packedCols) stays in the third.
const (
	packedDepth = 384
	packedRows  = 192
	packedCols  = 4080
)

// A number is the type of packed panels.
type number interface{ float32 | float64 }

// A packing is panels of one type, with what multiplies them.
type packing[T number] struct {
	tile  func(c []float64, stride int, a, b []T, k int)
	scale func(dst []T, src []float64, factor float64) // dst is factor times src
	// eight does packAcross for eight rows of m, the first n of their columns.
	eight         func(dst []T, width int, m []float64, stride, depth int, factor float64) (n int)
	slabs, blocks buffers[T]
}

var (
	doubles = packing[float64]{tile: tile, scale: scaleDouble, eight: func([]float64, int, []float64, int, int, float64) int { return 0 }}
	singles = packing[float32]{tile: tileSingle, scale: scaleSingle, eight: narrowAcrossVector}
	edges   buffers[float64] // tiles
)

// addProduct adds factor times the product of a and b to c, each of a and b transposed where it says so.
//
// An element of c grows by one sum for each packedDepth of the products that make it, each in the order of the columns of
// a: neither threads nor the extent of c change its bits. Beside c it takes 8·packedDepth·min(cols, packedCols) bytes and
// 576 KiB a thread, half of that with Single.
func addProduct(c view, factor float64, a view, aT bool, b view, bT bool, t Trait) {
	if t&Single != 0 {
		singles.addProduct(c, factor, a, aT, b, bT, t)
	} else {
		doubles.addProduct(c, factor, a, aT, b, bT, t)
	}
}

// addProduct does addProduct with panels of one type.
func (p *packing[T]) addProduct(c view, factor float64, a view, aT bool, b view, bT bool, t Trait) {
	m, n, k := c.rows, c.cols, a.cols
	if aT {
		k = a.rows
	}
	if m == 0 || n == 0 || k == 0 {
		return
	}
	tileRows, tileCols := p.tileShape()
	each := parallel
	threads := runtime.GOMAXPROCS(0)
	if m*n*k < 1<<17 { // a thread takes longer to start
		threads = 1
		each = func(n int, f func(int)) {
			for i := range n {
				f(i)
			}
		}
	}
	slab := p.slabs.borrow(min(k, packedDepth) * ceil(min(n, packedCols), tileCols) * tileCols)
	defer p.slabs.give(slab)
	for j0 := 0; j0 < n; j0 += packedCols {
		cols := min(packedCols, n-j0)
		panels := ceil(cols, tileCols)
		for k0 := 0; k0 < k; k0 += packedDepth {
			depth := min(packedDepth, k-k0)
			few := min(8, ceil(panels, threads)) // panels that a thread packs at a time
			filled := cols
			if t&LowerB != 0 {
				filled = min(cols, max(0, k0+depth-j0))
			}
			each(ceil(filled, few*tileCols), func(i int) {
				j := i * few * tileCols
				p.pack((*slab)[j*depth:], tileCols, 1, b, bT, j0+j, min(few*tileCols, filled-j), k0, depth)
			})
			// Blocks of rows, and where those are few, of panels too.
			rowBlocks := ceil(m, packedRows)
			groups := min(ceil(3*threads, rowBlocks), ceil(panels, 4))
			if threads == 1 {
				groups = 1
			}
			inGroup := ceil(panels, groups)
			each(rowBlocks*groups, func(task int) {
				i0 := task / groups * packedRows
				first := task % groups * inGroup
				last := min(first+inGroup, ceil(filled, tileCols))
				rows := min(packedRows, m-i0)
				if first >= last || t&lowerC != 0 && j0+first*tileCols > i0+rows-1 || t&LowerA != 0 && k0 > i0+rows-1 {
					return
				}
				block := p.blocks.borrow(ceil(rows, tileRows) * tileRows * depth)
				defer p.blocks.give(block)
				edge := edges.borrow(tileRows * tileCols)
				defer edges.give(edge)
				switch {
				case t&symmetricA == 0:
					p.pack(*block, tileRows, factor, a, !aT, i0, rows, k0, depth)
				case k0 < i0+rows && k0+depth > i0:
					p.packDiagonal(*block, tileRows, factor, a, i0, rows, k0, depth)
				default:
					p.pack(*block, tileRows, factor, a, k0 < i0, i0, rows, k0, depth)
				}
				for j := first * tileCols; j < last*tileCols; j += tileCols {
					panel := (*slab)[j*depth:][:tileCols*depth]
					for i := 0; i < rows; i += tileRows {
						if t&lowerC != 0 && j0+j > i0+min(i+tileRows, rows)-1 {
							continue
						}
						at := c.part(i0+i, j0+j, min(tileRows, rows-i), min(tileCols, cols-j))
						rows := (*block)[i*depth:][:tileRows*depth]
						if at.rows == tileRows && at.cols == tileCols {
							p.tile(at.data, at.stride, rows, panel, depth)
							continue
						}
						clear(*edge)
						p.tile(*edge, tileCols, rows, panel, depth)
						for r := range at.rows {
							axpy(at.row(r), 1, (*edge)[r*tileCols:][:at.cols])
						}
					}
				}
			})
		}
	}
}

func ceil(n, by int) int { return (n + by - 1) / by }

// pack lays panels of width numbers a step out, each (depth, width), one after another in dst: factor times columns j to j+cols
// of rows k to k+depth of m, or with across, rows j to j+cols of columns k to k+depth. What is missing of the last panel's
// width is 0.
func (p *packing[T]) pack(dst []T, width int, factor float64, m view, across bool, j, cols, k, depth int) {
	if last := cols % width; last > 0 {
		clear(dst[(cols-last)*depth:][:width*depth])
	}
	if across {
		for at := 0; at < cols; at += width {
			p.packAcross(dst[at*depth:][:width*depth], width, factor, m, j+at, min(width, cols-at), k, depth)
		}
		return
	}
	// Row by row through all panels, so that what is read lies together.
	for i := range depth {
		src := m.data[(k+i)*m.stride+j:][:cols]
		for at := 0; at < cols; at += width {
			some := src[at:min(at+width, cols)]
			p.scale(dst[at*depth+i*width:][:len(some)], some, factor)
		}
	}
}

// packDiagonal is pack of rows of a symmetric m, of which it reads the lower triangle: a row is the one there up to its diagonal,
// and a column from there on.
func (p *packing[T]) packDiagonal(dst []T, width int, factor float64, m view, j, cols, k, depth int) {
	for at := 0; at < cols; at += width {
		panel, i, some := dst[at*depth:][:width*depth], j+at, min(width, cols-at)
		above, below := min(max(i-k, 0), depth), min(max(i+some-k, 0), depth)
		if above > 0 {
			p.pack(panel[:above*width], width, factor, m, true, i, some, k, above)
		}
		corner := panel[above*width : below*width]
		clear(corner)
		for c := range below - above {
			for r := range some {
				row, col := i+r, k+above+c
				corner[c*width+r] = T(factor * m.row(max(row, col))[min(row, col)])
			}
		}
		p.pack(panel[below*width:], width, factor, m, false, i, some, k+below, depth-below)
	}
}

// packAcross lays out one panel of rows j to j+cols of columns k to k+depth of m.
func (p *packing[T]) packAcross(dst []T, width int, factor float64, m view, j, cols, k, depth int) {
	c := 0
	for ; c+8 <= cols; c += 8 {
		at := (j+c)*m.stride + k
		n := p.eight(dst[c:], width, m.data[at:], m.stride, depth, factor)
		if n == 0 {
			break
		}
		for i := n; i < depth; i++ {
			for r := range 8 {
				dst[i*width+c+r] = T(factor * m.data[at+r*m.stride+i])
			}
		}
	}
	for ; c+4 <= cols; c += 4 {
		at := (j+c)*m.stride + k
		r0, r1 := m.data[at:][:depth], m.data[at+m.stride:][:depth]
		r2, r3 := m.data[at+2*m.stride:][:depth], m.data[at+3*m.stride:][:depth]
		to := dst[c:]
		for i := range depth {
			four := to[i*width:][:4]
			four[0], four[1], four[2], four[3] = T(factor*r0[i]), T(factor*r1[i]), T(factor*r2[i]), T(factor*r3[i])
		}
	}
	for ; c < cols; c++ {
		for i, x := range m.data[(j+c)*m.stride+k:][:depth] {
			dst[i*width+c] = T(factor * x)
		}
	}
}
