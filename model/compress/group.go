package compress

import (
	"eckart/internal/linalg"
	"eckart/layers"
	"eckart/layers/lowrank"
)

// A group is the matrices that read one input, for forms that store a part of them once for all. Those of one choice that
// are neighbours have that part in common, the same weight, which is then run once (layers.Group) and written once
// (packed.DescribeAll).
type group struct {
	size int
	load func(i int) (*Target, error) // of a matrix anew, as it is to be made

	spectrum *lowrank.JointSpectrum // once it was asked for
	rank     int                    // of the factors that were cut from it last
	us       []linalg.Matrix
	v        linalg.Matrix

	made   Choice // of the matrix that was made last
	index  int
	common layers.Weight
}

// in puts t into g as matrix i.
func (t *Target) in(g *group, i int) *Target {
	t.group, t.index = g, i
	return t
}

// joint returns the spectrum of all matrices of the target's group.
func (t *Target) joint() (*lowrank.JointSpectrum, error) {
	g := t.group
	if g.spectrum != nil {
		return g.spectrum, nil
	}
	ws := make([]linalg.Matrix, g.size)
	for i := range ws {
		if i == t.index {
			ws[i] = t.W
			continue
		}
		other, err := g.load(i)
		if err != nil {
			return nil, err
		}
		ws[i] = other.W
	}
	var err error
	g.spectrum, err = lowrank.DecomposeJoint(ws, t.Gram)
	return g.spectrum, err
}

// jointFactors returns the target's own factor (out, r) and that of its whole group (r, in).
func (t *Target) jointFactors(r int) (u, v linalg.Matrix, err error) {
	s, err := t.joint()
	if err != nil {
		return u, v, err
	}
	g := t.group
	if g.rank != r {
		if g.us, g.v, err = s.Factors(r); err != nil {
			return u, v, err
		}
		g.rank = r
	}
	return g.us[t.index], g.v, nil
}

// common returns the part that matrices of the choice c have in common: that of the matrix before the target, where it was
// made as c says too, and else what store makes. Matrices are made in order.
func (t *Target) common(c Choice, store func() (layers.Weight, error)) (layers.Weight, error) {
	g := t.group
	if g.common == nil || g.made != c || g.index != t.index-1 {
		w, err := store()
		if err != nil {
			return nil, err
		}
		g.common = w
	}
	g.made, g.index = c, t.index
	return g.common, nil
}

// shares reports whether matrix i of a group has what it can have in common with its neighbours from the one before it.
// choice returns the choice for a matrix.
func shares(i int, choice func(i int) Choice) bool { return i > 0 && choice(i) == choice(i-1) }
