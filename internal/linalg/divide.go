package linalg

import (
	"cmp"
	"errors"
	"math"
	"slices"

	"gonum.org/v1/gonum/lapack"
	"gonum.org/v1/gonum/lapack/gonum"
)

const (
	epsilon  = 0x1p-53 // relative rounding error
	leafRows = 32      // of a tridiagonal matrix that is not divided
)

var errNotConverged = errors.New("QL iterations did not converge")

// eigenTridiagonal replaces the diagonal d (n) of a tridiagonal matrix, which has e (n-1) beside it, by its eigenvalues, in
// no particular order, and the rows of z (n, n), which are 0, by its eigenvectors. It spoils e.
//
// It divides the matrix in two and a correction of rank 1 (Cuppen, 1981), and finds the eigenvalues of the whole from those
// of the halves as the roots of a rational function; eigenvectors are products of matrices. They are orthogonal, however
// close eigenvalues lie, because they are computed from that correction for which the roots found are exact (Gu and
// Eisenstat, 1995). It takes up to two further matrices (n, n).
func eigenTridiagonal(d, e []float64, z view) error {
	n := len(d)
	if n <= leafRows {
		return eigenLeaf(d, e, z)
	}
	// |e| comes off both of its neighbours, and what is left in the middle is |e|·uᵀ·u with u = (…, 0, 1, sign of e, 0, …).
	h := n / 2
	between := e[h-1]
	d[h-1] -= math.Abs(between)
	d[h] -= math.Abs(between)
	var errs [2]error
	parallel(2, func(i int) {
		if i == 0 {
			errs[0] = eigenTridiagonal(d[:h], e[:h-1], z.part(0, 0, h, h))
		} else {
			errs[1] = eigenTridiagonal(d[h:], e[h:], z.part(h, h, n-h, n-h))
		}
	})
	if err := cmp.Or(errs[0], errs[1]); err != nil {
		return err
	}
	merge(d, z, h, between)
	return nil
}

// eigenLeaf is eigenTridiagonal by QL iterations.
func eigenLeaf(d, e []float64, z view) error {
	n := len(d)
	q := New(n, n)
	if n > 0 && !(gonum.Implementation{}).Dsteqr(lapack.EVTridiag, n, d, e, q.Data, n, make([]float64, max(1, 2*n-2))) {
		return errNotConverged
	}
	transpose(z, q.view())
	return nil
}

// Where the rows of the two halves have elements that are not 0.
const (
	left = iota // of column h
	both
	right
)

// merge turns the eigenvalues d and eigenvectors, the rows of z, of two halves, of which the first has h rows, into those
// of the whole, which has between off its diagonal there.
func merge(d []float64, z view, h int, between float64) {
	n := len(d)
	// The correction in the basis of the eigenvectors: rho·uᵀ·u with |u| = 1.
	rho := 2 * math.Abs(between)
	u, place := make([]float64, n), make([]int, n)
	var topD, topU float64
	for i := range n {
		if i < h {
			u[i] = z.row(i)[h-1] * math.Sqrt2 / 2
		} else {
			if between < 0 {
				u[i] = -z.row(i)[h] * math.Sqrt2 / 2
			} else {
				u[i] = z.row(i)[h] * math.Sqrt2 / 2
			}
			place[i] = right
		}
		topD, topU = max(topD, math.Abs(d[i])), max(topU, math.Abs(u[i]))
	}
	tolerance := 8 * epsilon * max(topD, topU)
	if rho*topU <= tolerance {
		return
	}
	kept, settled := deflate(d, u, place, z, rho, tolerance)
	k := len(kept)
	poles, weights := make([]float64, k), make([]float64, k)
	for i, j := range kept {
		poles[i], weights[i] = d[j], u[j]
	}

	// Columns of the new vectors in the basis of the old: those of the left half first, those of the right half last.
	var count [3]int
	for _, j := range kept {
		count[place[j]]++
	}
	next := [3]int{0, count[left], count[left] + count[both]}
	column := make([]int, k)
	inLeft, inRight := New(count[left]+count[both], h), New(count[both]+count[right], n-h)
	for i, j := range kept {
		at := next[place[j]]
		next[place[j]]++
		column[i] = at
		if place[j] != right {
			copy(inLeft.Row(at), z.row(j)[:h])
		}
		if place[j] != left {
			copy(inRight.Row(at-count[left]), z.row(j)[h:])
		}
	}
	rest, restD := New(len(settled), n), make([]float64, len(settled))
	for i, j := range settled {
		copy(rest.Row(i), z.row(j))
		restD[i] = d[j]
	}

	s := New(k, k)
	solveSecular(d[:k], s, poles, weights, rho, column)
	copy(d[k:], restD)
	for i := range k {
		clear(z.row(i))
	}
	sLeft, sRight := s.view().part(0, 0, k, inLeft.Rows), s.view().part(0, count[left], k, inRight.Rows)
	addProduct(z.part(0, 0, k, h), 1, sLeft, false, inLeft.view(), false, 0)
	addProduct(z.part(0, h, k, n-h), 1, sRight, false, inRight.view(), false, 0)
	for i := range settled {
		copy(z.row(k+i), rest.Row(i))
	}
}

// deflate returns the eigenvalues that the correction changes, ascending, and those that it leaves as they are to within
// tolerance: because the correction has nothing in their direction, or because they are so close to another that a rotation
// makes it so. It rotates rows of z, and says in place where rows are then not 0 (LAPACK's dlaed2 has these rules).
func deflate(d, u []float64, place []int, z view, rho, tolerance float64) (kept, settled []int) {
	order := make([]int, len(d))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(i, j int) int { return cmp.Compare(d[i], d[j]) })
	before := -1
	for _, j := range order {
		if rho*math.Abs(u[j]) <= tolerance {
			settled = append(settled, j)
			continue
		}
		if before < 0 {
			before = j
			continue
		}
		length := math.Hypot(u[j], u[before])
		c, s := u[j]/length, -u[before]/length
		if math.Abs((d[j]-d[before])*c*s) > tolerance {
			kept = append(kept, before)
			before = j
			continue
		}
		u[j], u[before] = length, 0
		if place[j] != place[before] {
			place[j] = both
		}
		x, y := z.row(before), z.row(j)
		for i := range x {
			x[i], y[i] = c*x[i]+s*y[i], c*y[i]-s*x[i]
		}
		d[before], d[j] = d[before]*c*c+d[j]*s*s, d[before]*s*s+d[j]*c*c
		settled = append(settled, before)
		before = j
	}
	if before >= 0 {
		kept = append(kept, before)
	}
	return kept, settled
}
