//go:build !purego

package linalg

import (
	"unsafe"

	"golang.org/x/sys/cpu"
)

// vectors is how wide the vectors are that the kernels use, in float64: 8 (AVX-512), 4 (AVX2 and FMA) or 1 (plain Go).
var vectors = widest()

func widest() int {
	switch {
	case cpu.X86.HasAVX512F && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL:
		return 8
	case cpu.X86.HasAVX2 && cpu.X86.HasFMA:
		return 4
	default:
		return 1
	}
}

// tileShape returns the extent of what the tile function computes: three vectors of panels in each row.
func (*packing[T]) tileShape() (rows, cols int) {
	if vectors == 1 {
		return 2, 4
	}
	var one T
	return vectors, 3 * vectors * 8 / int(unsafe.Sizeof(one))
}

// tile is tileGeneric with the extents of doubles.tileShape.
func tile(c []float64, stride int, a, b []float64, k int) {
	if k == 0 {
		return
	}
	switch vectors {
	case 8:
		_, _, _ = c[7*stride+23], a[8*k-1], b[24*k-1]
		tileAVX512(&c[0], stride, &a[0], &b[0], k)
	case 4:
		_, _, _ = c[3*stride+11], a[4*k-1], b[12*k-1]
		tileAVX2(&c[0], stride, &a[0], &b[0], k)
	default:
		tileGeneric(c, stride, a, b, k)
	}
}

// tileSingle is tileGeneric with the extents of singles.tileShape.
func tileSingle(c []float64, stride int, a, b []float32, k int) {
	if k == 0 {
		return
	}
	switch vectors {
	case 8:
		_, _, _ = c[7*stride+47], a[8*k-1], b[48*k-1]
		tileSingleAVX512(&c[0], stride, &a[0], &b[0], k)
	case 4:
		_, _, _ = c[3*stride+23], a[4*k-1], b[24*k-1]
		tileSingleAVX2(&c[0], stride, &a[0], &b[0], k)
	default:
		tileGeneric(c, stride, a, b, k)
	}
}

// narrowVector does scaleSingle for the first n numbers.
func narrowVector(dst []float32, src []float64, factor float64) (n int) {
	if n = len(src) &^ 7; n == 0 || vectors == 1 {
		return 0
	}
	_ = dst[n-1]
	if vectors == 8 {
		narrowAVX512(&dst[0], &src[0], n, factor)
	} else {
		narrowAVX2(&dst[0], &src[0], n, factor)
	}
	return n
}

// narrowAcrossVector does packAcross in single precision for eight rows of m, the first n of their columns.
func narrowAcrossVector(dst []float32, width int, m []float64, stride, depth int, factor float64) (n int) {
	if n = depth &^ 7; n == 0 || vectors == 1 {
		return 0
	}
	_, _ = dst[(n-1)*width+7], m[7*stride+n-1]
	if vectors == 8 {
		narrowAcrossAVX512(&dst[0], width, &m[0], stride, n, factor)
	} else {
		narrowAcrossAVX2(&dst[0], width, &m[0], stride, n, factor)
	}
	return n
}

// whole returns how many of n numbers the vector kernels do, and makes sure that four rows have them.
func whole(a []float64, stride, n int) int {
	if n &^= 7; n == 0 || vectors == 1 {
		return 0
	}
	_ = a[3*stride+n-1]
	return n
}

// dotsVector does dots4 for the first n columns.
func dotsVector(a []float64, stride int, x []float64, sums *[4]float64) (n int) {
	if n = whole(a, stride, len(x)); n == 0 {
		return 0
	}
	if vectors == 8 {
		dotsAVX512(&a[0], stride, n, &x[0], sums)
	} else {
		dotsAVX2(&a[0], stride, n, &x[0], sums)
	}
	return n
}

// axpysVector does axpys4 for the first n columns.
func axpysVector(a []float64, stride int, y []float64, factors *[4]float64) (n int) {
	if n = whole(a, stride, len(y)); n == 0 {
		return 0
	}
	if vectors == 8 {
		axpysAVX512(&a[0], stride, n, &y[0], factors)
	} else {
		axpysAVX2(&a[0], stride, n, &y[0], factors)
	}
	return n
}

// dotsAxpysVector does dotsAxpys4 for the first n columns.
func dotsAxpysVector(a []float64, stride int, x []float64, sums *[4]float64, y []float64, factors *[4]float64) (n int) {
	if n = whole(a, stride, len(x)); n == 0 {
		return 0
	}
	_ = y[n-1]
	if vectors == 8 {
		dotsAxpysAVX512(&a[0], stride, n, &x[0], sums, &y[0], factors)
	} else {
		dotsAxpysAVX2(&a[0], stride, n, &x[0], sums, &y[0], factors)
	}
	return n
}
