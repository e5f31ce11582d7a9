package compress

import (
	"fmt"
	"maps"
	"slices"

	"eckart/kernels"
	"eckart/layers"
)

// A Form is a way to store a matrix: what the planner chooses from and what is made of the choice. It is the seam for new
// representations; each is a row of the table of forms.
type Form interface {
	// Options returns the choices worth considering for a matrix (out, in), without those that would take more than it
	// does in bf16. statistics says whether anything is known of the matrix's inputs.
	Options(out, in int, statistics bool) []Choice
	// Footprint returns what is stored of a matrix (out, in) as c says, or an error that names the field of c that no matrix
	// of this shape can have.
	Footprint(out, in int, c Choice) (Footprint, error)
	// Predict returns the relative squared error that Make will reach (see Target.Error), where possible for less than
	// making it.
	Predict(t *Target, c Choice) (float64, error)
	// Make returns the matrix, stored as c says.
	Make(t *Target, c Choice) (layers.Weight, error)
}

// FormKeep is the form of a matrix that stays as it is stored.
const FormKeep = "keep"

// The names of forms that others of this package speak of.
const (
	formRound    = "round"
	formJoint    = "joint"
	formLowRank  = "lowrank"
	formNested   = "nested"
	formPIFA     = "pifa"
	formResidual = "residual"
)

// forms is the table of all forms but keep, which leaves a matrix as it is stored.
var forms = map[string]Form{
	formJoint:    jointForm{},
	formLowRank:  lowRankForm{},
	formNested:   nestedForm{},
	formPIFA:     pifaForm{},
	formResidual: residualForm{},
	formRound:    roundForm{},
}

// formOf returns the form of c.
func formOf(c Choice) (Form, error) {
	if f, ok := forms[c.Form]; ok {
		return f, nil
	}
	return nil, fmt.Errorf("form %q is unknown (%v are known)", c.Form, slices.Sorted(maps.Keys(forms)))
}

// A Footprint is what a form stores of a matrix, from which follow what it takes and what is read to apply it.
type Footprint struct {
	Matrices []Stored
	Shared   []Stored // more of them, which neighbours that read the same input and have the same choice store once for all
	Indices  int      // of 4 bytes
	Derived  int      // more of them, which are made when the matrix is bound
	Kept     int64    // bytes of what stays as it is stored, in a kind of its own
}

// FootprintOf returns the footprint of a weight as it is stored.
func FootprintOf(w layers.Weight) Footprint {
	if out, in := w.Dims(); w.Kind() == "dense" && layers.StoredBytes(w) == 2*int64(out)*int64(in) {
		return Footprint{Matrices: []Stored{{out, in, nil}}}
	}
	return Footprint{Kept: layers.StoredBytes(w)}
}

// A Stored is a matrix of a Footprint, in bf16 or rounded.
type Stored struct {
	Rows, Cols int
	Rounding   *layers.Rounding // nil for bf16
}

// Bytes returns the bytes of the parts in a checkpoint.
func (f Footprint) Bytes() int64 {
	n := 4*int64(f.Indices) + f.Kept
	for _, s := range slices.Concat(f.Matrices, f.Shared) {
		n += s.Bytes()
	}
	return n
}

// Memory returns the bytes that the parts take in memory: more than Bytes where rows are filled up, as those of thin factors in
// codes are.
func (f Footprint) Memory() int64 {
	n := kernels.ArenaBytes(f.Indices, 1, kernels.I32) + kernels.ArenaBytes(f.Derived, 1, kernels.I32) + f.Kept
	for _, s := range slices.Concat(f.Matrices, f.Shared) {
		if s.Rounding == nil {
			n += kernels.ArenaBytes(s.Rows, s.Cols, kernels.BF16)
		} else {
			n += kernels.ArenaBytes(1, s.Rounding.Format(s.Rows, s.Cols).PackedBytes(), kernels.U8)
		}
	}
	return n
}

// Own returns f without what a neighbour already has.
func (f Footprint) Own() Footprint {
	f.Shared = nil
	return f
}

// Bytes returns the bytes of the parts of s in a checkpoint.
func (s Stored) Bytes() int64 {
	if s.Rounding == nil {
		return 2 * int64(s.Rows) * int64(s.Cols)
	}
	f := s.Rounding.Format(s.Rows, s.Cols)
	perGroup := f.ScaleType.Bytes()
	if f.Zeros {
		perGroup++
	}
	return int64(s.Rows) * int64((s.Cols*f.Bits+7)/8+f.Groups()*perGroup)
}

// factorTypes are the types in which factors are stored.
var factorTypes = map[string]*layers.Rounding{
	"bf16": nil,
	"int8": {Bits: 8, Group: 32, ScaleType: kernels.F16},
	"int4": {Bits: 4, Group: 32, ScaleType: kernels.F16},
}

// factorType returns how factors of a type are stored.
func factorType(kind string) (*layers.Rounding, error) {
	r, ok := factorTypes[kind]
	if !ok {
		return nil, fmt.Errorf("factors of type %q (%v are known)", kind, slices.Sorted(maps.Keys(factorTypes)))
	}
	return r, nil
}

// factors returns the footprint of factors of the given shapes in the type that c says.
func (c Choice) factors(shapes ...[2]int) (Footprint, error) {
	r, err := factorType(c.Factors)
	var f Footprint
	for _, s := range shapes {
		f.Matrices = append(f.Matrices, Stored{s[0], s[1], r})
	}
	return f, err
}
