// Package linalg holds the dense linear algebra that compression stands on: products, factorizations and eigenvalues of
// float64 matrices. Products are made in float64 but where a caller grants them single precision, or a function says so.
//
// A result has the same bits whatever GOMAXPROCS is: threads divide the elements of a result among them, never the sum
// that makes an element. Shapes that do not fit are the caller's mistake and panic; values that cannot be worked with, such
// as a NaN, are errors that say where they stand.
package linalg

import (
	"fmt"
	"math"
)

// Matrix is a matrix (Rows, Cols) in one piece: element (i, j) is Data[i*Cols+j].
type Matrix struct {
	Rows, Cols int
	Data       []float64
}

// New returns a matrix of zeros.
func New(rows, cols int) Matrix {
	if rows < 0 || cols < 0 {
		panic(fmt.Sprintf("BUG: a matrix of %d x %d", rows, cols))
	}
	return Matrix{Rows: rows, Cols: cols, Data: make([]float64, rows*cols)}
}

// FromFloat32s returns the matrix (rows, cols) of values, row-major.
func FromFloat32s(values []float32, rows, cols int) Matrix {
	m := New(rows, cols)
	if len(values) != len(m.Data) {
		panic(fmt.Sprintf("BUG: %d values for a matrix of %d x %d", len(values), rows, cols))
	}
	for i, v := range values {
		m.Data[i] = float64(v)
	}
	return m
}

// Float32s returns the elements of m, row-major, rounded to nearest.
func (m Matrix) Float32s() []float32 {
	s := make([]float32, len(m.Data))
	for i, v := range m.Data {
		s[i] = float32(v)
	}
	return s
}

// Row returns row i, (Cols): the matrix's own elements, not a copy.
func (m Matrix) Row(i int) []float64 {
	return m.Data[i*m.Cols : (i+1)*m.Cols : (i+1)*m.Cols]
}

// Transpose returns a copy of m with rows and columns exchanged, (Cols, Rows).
func (m Matrix) Transpose() Matrix {
	t := New(m.Cols, m.Rows)
	transpose(t.view(), m.view())
	return t
}

// mustBeSquare panics where a is not square.
func mustBeSquare(what string, a Matrix) {
	if a.Rows != a.Cols {
		panic(fmt.Sprintf("BUG: %s of a matrix of %d x %d", what, a.Rows, a.Cols))
	}
}

// checkFinite returns an error that names the first element of a, or of its lower triangle alone, that is not finite.
func checkFinite(a Matrix, lower bool) error {
	for i := range a.Rows {
		row := a.Row(i)
		if lower {
			row = row[:i+1]
		}
		for j, x := range row {
			if math.IsNaN(x) || math.IsInf(x, 0) {
				return fmt.Errorf("element (%d, %d) of the matrix is %g", i, j, x)
			}
		}
	}
	return nil
}
