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
	"slices"
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
	EachRow(rows, cols, func(i int) {
		row := m.Row(i)
		for j, v := range values[i*cols:][:cols] {
			row[j] = float64(v)
		}
	})
	return m
}

// Float32s returns the elements of m, row-major, rounded to nearest.
func (m Matrix) Float32s() []float32 {
	s := make([]float32, len(m.Data))
	EachRow(m.Rows, m.Cols, func(i int) {
		row := s[i*m.Cols:][:m.Cols]
		for j, v := range m.Row(i) {
			row[j] = float32(v)
		}
	})
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

// CheckFinite returns an error that names the first element of a that is not finite.
func CheckFinite(a Matrix) error { return checkFinite(a, false) }

// CheckFiniteBelow is CheckFinite of the lower triangle alone.
func CheckFiniteBelow(a Matrix) error { return checkFinite(a, true) }

func checkFinite(a Matrix, lower bool) error {
	bad := FirstRow(a.Rows, a.Cols, func(i int) bool {
		row := a.Row(i)
		if lower {
			row = row[:i+1]
		}
		return slices.ContainsFunc(row, notFinite)
	})
	if bad < 0 {
		return nil
	}
	j := slices.IndexFunc(a.Row(bad), notFinite)
	return fmt.Errorf("element (%d, %d) of the matrix is %g", bad, j, a.Row(bad)[j])
}

func notFinite(x float64) bool { return x-x != 0 }

// largestBelow returns the largest magnitude in the lower triangle of a.
func largestBelow(a Matrix) float64 {
	tops := make([]float64, a.Rows)
	EachRow(a.Rows, a.Cols, func(i int) {
		var top float64
		for _, x := range a.Row(i)[:i+1] {
			top = max(top, math.Abs(x))
		}
		tops[i] = top
	})
	return slices.Max(append(tops, 0))
}
