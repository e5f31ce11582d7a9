package linalg

import (
	"fmt"

	"gonum.org/v1/gonum/blas"
	"gonum.org/v1/gonum/blas/blas64"
)

// Mul returns a·b, (a.Rows, b.Cols).
func Mul(a, b Matrix) Matrix {
	if a.Cols != b.Rows {
		panic(fmt.Sprintf("BUG: product of %d x %d and %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	c := New(a.Rows, b.Cols)
	multiply(c, a, blas.NoTrans, b, blas.NoTrans)
	return c
}

// MulT returns a·bᵀ, (a.Rows, b.Rows).
func MulT(a, b Matrix) Matrix {
	if a.Cols != b.Cols {
		panic(fmt.Sprintf("BUG: product of %d x %d and the transpose of %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	c := New(a.Rows, b.Rows)
	multiply(c, a, blas.NoTrans, b, blas.Trans)
	return c
}

// TMul returns aᵀ·b, (a.Cols, b.Cols).
func TMul(a, b Matrix) Matrix {
	if a.Rows != b.Rows {
		panic(fmt.Sprintf("BUG: product of the transpose of %d x %d and %d x %d", a.Rows, a.Cols, b.Rows, b.Cols))
	}
	c := New(a.Cols, b.Cols)
	multiply(c, a, blas.Trans, b, blas.NoTrans)
	return c
}

func multiply(c, a Matrix, aTrans blas.Transpose, b Matrix, bTrans blas.Transpose) {
	if len(c.Data) == 0 || len(a.Data) == 0 {
		return
	}
	blas64.Gemm(aTrans, bTrans, 1, general(a), general(b), 0, general(c))
}

func general(m Matrix) blas64.General {
	return blas64.General{Rows: m.Rows, Cols: m.Cols, Stride: max(m.Cols, 1), Data: m.Data}
}
