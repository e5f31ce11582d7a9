package compress

import (
	"cmp"
	"slices"
	"testing"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
)

// This file shows what a new representation takes (docs/decisions/0013): a kind of weight, a form, and a row of the table.
// The kind keeps some columns of a matrix in BF16 and drops the rest.

// columns is a matrix (out, in) of which the given columns, ascending, are not 0.
type columns struct {
	kept  *layers.Dense // (out, len(which))
	which []int32
	in    int
}

func (c *columns) Kind() string { return "columns" }

func (c *columns) Dims() (out, in int) {
	out, _ = c.kept.Dims()
	return out, c.in
}

func (c *columns) Parts() []layers.Part {
	which := layers.Part{Name: "which", Type: kernels.I32, Rows: 1, Cols: len(c.which), Read: func(dst []byte, _ int) error {
		copy(dst, kernels.Int32Bytes(c.which))
		return nil
	}}
	return append(layers.Nested("kept", c.kept), which)
}

func (c *columns) Dense() ([]float32, error) {
	kept, err := c.kept.Dense()
	if err != nil {
		return nil, err
	}
	out, _ := c.Dims()
	dense := make([]float32, out*c.in)
	for i, v := range kept {
		dense[i/len(c.which)*c.in+int(c.which[i%len(c.which)])] = v
	}
	return dense, nil
}

// Bind runs the matrix as a dense one: it saves space in a file, and no time.
func (c *columns) Bind(a kernels.Arena, s kernels.Stream) (layers.Linear, error) {
	dense, err := c.Dense()
	if err != nil {
		return nil, err
	}
	out, in := c.Dims()
	w, err := layers.NewMatrix(linalg.FromFloat32s(dense, out, in).Data, out, in, kernels.BF16)
	if err != nil {
		return nil, err
	}
	return w.Bind(a, s)
}

// columnsForm keeps the columns with the largest inputs. Rank is their number.
type columnsForm struct{}

func (columnsForm) Options(out, in int, statistics bool) []Choice {
	return []Choice{{Form: "columns", Rank: in / 2}, {Form: "columns", Rank: 3 * in / 4}}
}

func (columnsForm) Footprint(out, in int, c Choice) (Footprint, error) {
	return Footprint{Matrices: []Stored{{out, c.Rank, nil}}, Indices: c.Rank}, c.checkRank(in, in)
}

func (f columnsForm) Predict(t *Target, c Choice) (float64, error) {
	w, err := f.Make(t, c)
	if err != nil {
		return 0, err
	}
	return t.Error(w)
}

func (columnsForm) Make(t *Target, c Choice) (layers.Weight, error) {
	size := t.Gram.Diagonal()
	which := make([]int32, t.W.Cols)
	for i := range which {
		which[i] = int32(i)
	}
	slices.SortStableFunc(which, func(i, j int32) int { return cmp.Compare(size[j], size[i]) })
	which = slices.Sorted(slices.Values(which[:c.Rank]))
	kept := linalg.New(t.W.Rows, c.Rank)
	for i := range kept.Data {
		kept.Data[i] = t.W.Row(i / c.Rank)[which[i%c.Rank]]
	}
	w, err := layers.NewMatrix(kept.Data, kept.Rows, kept.Cols, kernels.BF16)
	return &columns{w, which, t.W.Cols}, err
}

// TestNewForm has the planner choose between the new form and what is stored, and carries the plan out.
func TestNewForm(t *testing.T) {
	if testing.Short() {
		t.Skip("surveys and compresses a model")
	}
	forms["columns"] = columnsForm{}
	defer delete(forms, "columns")
	w := demoWalker(t, 64)
	window := make([]int32, 64)
	for i := range window {
		window[i] = int32(37 * i % 4096)
	}
	known, err := Survey(t.Context(), w, [][]int32{window}, nil)
	if err != nil {
		t.Fatal(err)
	}
	quiet := func(int, int) {}
	p, err := NewPlanner(t.Context(), w, known, nil, Space{Forms: []string{"columns"}}, quiet)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := Matrices(w)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := p.Plan(Policy{Bytes: sum.Bytes * 7 / 10})
	if err != nil {
		t.Fatal(err)
	}
	r, err := Run(t.Context(), w, plan, known, Options{Verify: [][]int32{window}, Progress: func(string, int, int) {}})
	if err != nil {
		t.Fatal(err)
	}
	if r.Report.After.LinearBytes != plan.Bytes || plan.Bytes > sum.Bytes*7/10 {
		t.Errorf("%d bytes, planned %d of at most %d", r.Report.After.LinearBytes, plan.Bytes, sum.Bytes*7/10)
	}
	for i, m := range r.Report.Modules {
		if m.Reached != plan.Modules[i].Error {
			t.Errorf("%s: error %g, predicted %g", m.Name, m.Reached, plan.Modules[i].Error)
		}
	}
	if r.Report.Verified.KLMean <= 0 {
		t.Error("half of the columns are gone and nothing has changed")
	}
}
