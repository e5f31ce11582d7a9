package lowrank

import (
	"fmt"
	"math"

	"eckart/internal/linalg"
)

// A JointSpectrum is matrices that read one input, decomposed below one another: factors of any rank are cut from it, us[i]·v
// with one v (r, in) for all (the shared basis of arXiv 2410.03765, section 3.1, for matrices beside one another). Each matrix
// counts by its error relative to itself, so that a small one is not given up for the sake of a large one.
type JointSpectrum struct {
	all    *Spectrum
	rows   []int     // where each matrix begins, and where the last ends
	norms  []float64 // the root of tr(w·G·wᵀ) of each; 1 where that is 0
	shares [][]float64
}

// DecomposeJoint returns the whole spectrum of ws, at least one (out, in), in the norm of g, min(sum of outs, in) directions;
// nil for g is the plain singular value decomposition. Errors are those of Decompose.
func DecomposeJoint(ws []linalg.Matrix, g *Gram) (*JointSpectrum, error) {
	j := &JointSpectrum{rows: []int{0}}
	size := plain{}.size
	if g != nil {
		size = g.size
	}
	stack := linalg.Matrix{Cols: ws[0].Cols}
	for i, w := range ws {
		if w.Cols != stack.Cols || g != nil && w.Cols != g.Dim() {
			return nil, fmt.Errorf("joint factors: matrix %d has %d columns, which are not those of the others or of the inputs", i, w.Cols)
		}
		norm := math.Sqrt(quadratic(w, linalg.Matrix{}, size))
		if norm == 0 {
			norm = 1
		}
		for _, v := range w.Data {
			stack.Data = append(stack.Data, v/norm)
		}
		stack.Rows += w.Rows
		j.rows, j.norms = append(j.rows, stack.Rows), append(j.norms, norm)
	}
	var err error
	if j.all, err = Decompose(stack, g); err != nil {
		return nil, fmt.Errorf("joint factors: %w", err)
	}
	if err := j.share(); err != nil {
		return nil, fmt.Errorf("joint factors: %w", err)
	}
	return j, nil
}

// share finds what each direction is worth to each matrix: the squared norm of its rows of u·σ.
func (j *JointSpectrum) share() error {
	u, err := j.all.directions()
	if err != nil {
		return err
	}
	scale := j.all.energy
	if !j.all.output { // w·s·v is u·σ
		n := j.all.w.Cols
		u = j.all.norm.root(u, precision(n, n, u.Cols))
		u, scale = linalg.Mul(j.all.w, u, precision(j.all.w.Rows, n, u.Cols)), nil
	}
	for i := range j.norms {
		worth := make([]float64, j.Rank()+1)
		for row := j.rows[i]; row < j.rows[i+1]; row++ {
			for k, v := range u.Row(row)[:j.Rank()] {
				worth[k] += v * v
			}
		}
		for k := j.Rank() - 1; k >= 0; k-- { // from here on: of what is left beyond a rank
			if scale != nil {
				worth[k] *= scale[k]
			}
			worth[k] += worth[k+1]
		}
		j.shares = append(j.shares, worth)
	}
	return nil
}

// Rank returns the most directions that there are factors of.
func (j *JointSpectrum) Rank() int { return j.all.Rank() }

// Error returns the error of matrix i, relative to itself in the norm of the Gram matrix, that Factors(r) have.
func (j *JointSpectrum) Error(i, r int) float64 { return relative(j.shares[i][r], j.shares[i][0]) }

// Factors returns the factors of rank r: us[i] (out, r), and v (r, in) of all.
func (j *JointSpectrum) Factors(r int) (us []linalg.Matrix, v linalg.Matrix, err error) {
	f, err := j.all.Factors(r)
	if err != nil {
		return nil, v, fmt.Errorf("joint factors: %w", err)
	}
	for i, norm := range j.norms {
		u := rows(f.U, j.rows[i], j.rows[i+1])
		for k := range u.Data {
			u.Data[k] *= norm
		}
		us = append(us, u)
	}
	return us, f.V, nil
}
