package packed

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"eckart/kernels"
	"eckart/layers"
	"eckart/layers/lowrank"
	"eckart/model/checkpoint"
)

// A kind is how matrices of one kind are laid out in tensors.
type kind struct {
	// parts are the names of the arrays and matrices that one may have; a tensor whose name has one of them after the
	// kind's is taken for a part of a compressed matrix.
	parts []string
	// layout returns the arrays and the matrices of a matrix (out, in) of the form, or what is wrong with the form.
	layout func(f Form, out, in int) ([]array, []term, error)
	// describe returns the form of a weight, but for its kind, and the matrices that it consists of.
	describe func(w layers.Weight) (Form, map[string]layers.Weight, error)
	// build makes the weight; see layout for what p has.
	build func(f Form, out, in int, p parts) (layers.Weight, error)
}

// kinds is the table of all kinds. It is filled in an init function since building a matrix of matrices looks them up.
var kinds map[string]kind

func init() {
	kinds = map[string]kind{
		"dense":   {nil, layoutDense, describeDense, buildDense},
		"grouped": {[]string{"codes", "scales", "zeros", "order"}, layoutGrouped, describeGrouped, buildGrouped},
		"lowrank": {[]string{"u", "v"}, layoutLowRank, describeLowRank, buildLowRank},
		"nested":  {[]string{"ut", "v", "energy"}, layoutNested, describeNested, buildNested},
		"pifa":    {[]string{"v", "k", "pivots"}, layoutPIFA, describePIFA, buildPIFA},
		"sum":     {[]string{"a", "b"}, layoutSum, describeSum, buildSum},
	}
}

// Kinds returns the names of the kinds, sorted.
func Kinds() []string { return slices.Sorted(maps.Keys(kinds)) }

// foreign returns an error where f has fields other than those of own, a copy of f with only those that its kind has.
func foreign(f, own Form) error {
	own.Kind, own.Of = f.Kind, f.Of
	if f.Type != own.Type || f.Bits != own.Bits || f.Group != own.Group || f.Zeros != own.Zeros || f.Order != own.Order || f.Rank != own.Rank {
		return errors.New("it has a field that is none of this kind")
	}
	return nil
}

// A dense matrix is one array, which has no name of its own.

func layoutDense(f Form, out, in int) ([]array, []term, error) {
	if !floating(f.Type) {
		return nil, nil, fmt.Errorf("type is %q, want F32, F16 or BF16", f.Type)
	}
	return []array{{typ: f.Type, rows: out, cols: in}}, nil, foreign(f, Form{Type: f.Type})
}

func describeDense(w layers.Weight) (Form, map[string]layers.Weight, error) {
	return Form{Type: typeName(w.Parts()[0].Type)}, nil, nil
}

func buildDense(_ Form, _, _ int, p parts) (layers.Weight, error) {
	a := p.array("")
	a.Name = "weight"
	return layers.NewDense(a), nil
}

// A grouped matrix is its codes, packed, its scales, and maybe zero points and an order of columns.

func layoutGrouped(f Form, out, in int) ([]array, []term, error) {
	if !floating(f.Type) {
		return nil, nil, fmt.Errorf("type of scales is %q, want F32, F16 or BF16", f.Type)
	}
	if f.Group > maxDim+kernels.GroupedBlock {
		return nil, nil, fmt.Errorf("group is %d, want at most %d", f.Group, maxDim)
	}
	g := f.grouped(out, in)
	if err := g.Check(); err != nil {
		return nil, nil, err
	}
	arrays := []array{
		{"codes", checkpoint.U8, out, (in*f.Bits + 7) / 8},
		{"scales", f.Type, out, g.Groups()},
	}
	if f.Zeros {
		arrays = append(arrays, array{"zeros", checkpoint.U8, out, g.Groups()})
	}
	if f.Order {
		arrays = append(arrays, array{"order", checkpoint.I32, 1, in})
	}
	return arrays, nil, foreign(f, Form{Type: f.Type, Bits: f.Bits, Group: f.Group, Zeros: f.Zeros, Order: f.Order})
}

// grouped returns the format of a grouped matrix.
func (f Form) grouped(out, in int) kernels.Grouped {
	return kernels.Grouped{Rows: out, Cols: in, Bits: f.Bits, Group: f.Group, ScaleType: types[f.Type], Zeros: f.Zeros}
}

func describeGrouped(w layers.Weight) (Form, map[string]layers.Weight, error) {
	g, ok := w.(*layers.Grouped)
	if !ok {
		return Form{}, nil, fmt.Errorf("BUG: a grouped matrix is a %T", w)
	}
	f := g.Format()
	return Form{Type: typeName(f.ScaleType), Bits: f.Bits, Group: f.Group, Zeros: f.Zeros, Order: g.Ordered()}, nil, nil
}

func buildGrouped(f Form, out, in int, p parts) (layers.Weight, error) {
	var order []int32
	var zeros layers.Part
	if f.Order {
		var err error
		if order, err = p.int32s("order"); err != nil {
			return nil, err
		}
	}
	if f.Zeros {
		zeros = p.array("zeros")
	}
	return layers.NewStoredGrouped(f.grouped(out, in), order, p.array("codes"), p.array("scales"), zeros)
}

// factors are the kinds that a factor may be of.
var factors = []string{"dense", "grouped"}

// checkRank returns an error where a matrix (out, in) cannot be of the form's rank, or the form has fields of other kinds.
func checkRank(f Form, most int) error {
	if f.Rank < 1 || f.Rank > most {
		return fmt.Errorf("rank is %d, want 1 to %d", f.Rank, most)
	}
	return foreign(f, Form{Rank: f.Rank})
}

// A low-rank matrix is a product of two factors.

func layoutLowRank(f Form, out, in int) ([]array, []term, error) {
	return nil, []term{{"u", out, f.Rank, factors}, {"v", f.Rank, in, factors}}, checkRank(f, maxDim)
}

func describeLowRank(w layers.Weight) (Form, map[string]layers.Weight, error) {
	m, ok := w.(*lowrank.Weight)
	if !ok {
		return Form{}, nil, fmt.Errorf("BUG: a low-rank matrix is a %T", w)
	}
	u, v := m.Factors()
	return Form{Rank: m.Rank()}, map[string]layers.Weight{"u": u, "v": v}, nil
}

func buildLowRank(_ Form, _, _ int, p parts) (layers.Weight, error) {
	u, err := p.matrix("u")
	if err != nil {
		return nil, err
	}
	v, err := p.matrix("v")
	if err != nil {
		return nil, err
	}
	return lowrank.New(u, v)
}

// A nested matrix is a product of dense factors of which a lower rank is a prefix, and what each direction stands for.

func layoutNested(f Form, out, in int) ([]array, []term, error) {
	dense := []string{"dense"}
	return []array{{"energy", checkpoint.F32, 1, f.Rank}},
		[]term{{"ut", f.Rank, out, dense}, {"v", f.Rank, in, dense}}, checkRank(f, maxDim)
}

func describeNested(w layers.Weight) (Form, map[string]layers.Weight, error) {
	m, ok := w.(*lowrank.Nested)
	if !ok {
		return Form{}, nil, fmt.Errorf("BUG: a nested matrix is a %T", w)
	}
	terms := map[string]layers.Weight{}
	for _, p := range m.Parts() {
		if p.Name != "energy" {
			terms[p.Name] = layers.NewDense(p)
		}
	}
	return Form{Rank: m.Rank()}, terms, nil
}

func buildNested(_ Form, _, _ int, p parts) (layers.Weight, error) {
	energy, err := p.float32s("energy")
	if err != nil {
		return nil, err
	}
	return lowrank.NewNested(p.array("ut"), p.array("v"), energy)
}

// A matrix in pivoted form is some of its rows, how the others are made of them, and which rows they are.

func layoutPIFA(f Form, out, in int) ([]array, []term, error) {
	return []array{{"pivots", checkpoint.I32, 1, f.Rank}},
		[]term{{"v", f.Rank, in, factors}, {"k", out - f.Rank, f.Rank, factors}}, checkRank(f, out)
}

func describePIFA(w layers.Weight) (Form, map[string]layers.Weight, error) {
	m, ok := w.(*lowrank.PIFA)
	if !ok {
		return Form{}, nil, fmt.Errorf("BUG: a matrix in pivoted form is a %T", w)
	}
	_, v, k := m.Factors()
	return Form{Rank: m.Rank()}, map[string]layers.Weight{"v": v, "k": k}, nil
}

func buildPIFA(_ Form, _, _ int, p parts) (layers.Weight, error) {
	pivots, err := p.int32s("pivots")
	if err != nil {
		return nil, err
	}
	v, err := p.matrix("v")
	if err != nil {
		return nil, err
	}
	k, err := p.matrix("k")
	if err != nil {
		return nil, err
	}
	return lowrank.NewPIFA(pivots, v, k)
}

// A sum is two matrices of any kinds.

func layoutSum(f Form, out, in int) ([]array, []term, error) {
	return nil, []term{{"a", out, in, nil}, {"b", out, in, nil}}, foreign(f, Form{})
}

func describeSum(w layers.Weight) (Form, map[string]layers.Weight, error) {
	m, ok := w.(*layers.Sum)
	if !ok {
		return Form{}, nil, fmt.Errorf("BUG: a sum is a %T", w)
	}
	a, b := m.Terms()
	return Form{}, map[string]layers.Weight{"a": a, "b": b}, nil
}

func buildSum(_ Form, _, _ int, p parts) (layers.Weight, error) {
	a, err := p.matrix("a")
	if err != nil {
		return nil, err
	}
	b, err := p.matrix("b")
	if err != nil {
		return nil, err
	}
	return layers.NewSum(a, b)
}
