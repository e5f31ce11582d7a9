// Package residual finds a matrix as the sum of a quantized base and a low-rank residual, and the targets that make up for
// inputs that have drifted. All is float64 until a base is rounded.
package residual

import (
	"fmt"

	"eckart/internal/linalg"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// EoRA returns the residual of rank r that brings the results of base + U·V closest to those of w (out, in) for the inputs of
// g: the whitened decomposition of w - base (EoRA, Liu et al. 2024, arXiv 2410.21271, section 3; QERA-exact, Zhang et al. 2024,
// arXiv 2410.06040, theorem 1). The norm is that of g. Error is that of base + U·V relative to w; Energy is that of w - base.
func EoRA(w, base linalg.Matrix, g *lowrank.Gram, r int) (lowrank.Factors, error) {
	if err := sameShape("residual of a base", w, base); err != nil {
		return lowrank.Factors{}, err
	}
	f, err := lowrank.Whitened(subtract(w, base), g, r)
	if err != nil {
		return lowrank.Factors{}, fmt.Errorf("residual of a base: %w", err)
	}
	f.Error = relativeError(w, base, f, g)
	return f, nil
}

// relativeError returns the error of base + U·V relative to w in the norm of g.
func relativeError(w, base linalg.Matrix, f lowrank.Factors, g *lowrank.Gram) float64 {
	e := g.Norm(subtract(subtract(w, base), f.Product()))
	if e == 0 {
		return 0
	}
	return e / g.Norm(w)
}

// matrixOf returns the numbers that a weight stands for.
func matrixOf(w layers.Weight) (linalg.Matrix, error) {
	values, err := w.Dense()
	if err != nil {
		return linalg.Matrix{}, err
	}
	rows, cols := w.Dims()
	return linalg.FromFloat32s(values, rows, cols), nil
}

func subtract(a, b linalg.Matrix) linalg.Matrix {
	c := linalg.New(a.Rows, a.Cols)
	for i, v := range a.Data {
		c.Data[i] = v - b.Data[i]
	}
	return c
}

func sameShape(what string, a, b linalg.Matrix) error {
	if a.Rows != b.Rows || a.Cols != b.Cols {
		return fmt.Errorf("%s: matrices of %d x %d and %d x %d", what, a.Rows, a.Cols, b.Rows, b.Cols)
	}
	return nil
}
