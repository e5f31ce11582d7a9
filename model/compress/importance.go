package compress

import (
	"fmt"
	"slices"

	"eckart/internal/linalg"
	"eckart/kernels"
	"eckart/layers"
	"eckart/model"
	"eckart/model/checkpoint"
)

// An Importance says what an error of each element of a model's matrices costs, such as the mean of its squared gradients
// (Fisher information): a file of tensors with the names of the weights, in safetensors. A tensor is shaped as the weight,
// (out, in), or has a number for each column, (in) or (1, in), such as the mean squares of inputs.
type Importance struct {
	file string
	c    *checkpoint.Checkpoint
}

// OpenImportance opens a file, or a folder of shards. Close closes it.
func OpenImportance(file string) (*Importance, error) {
	c, err := checkpoint.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read importance: %w", err)
	}
	return &Importance{file, c}, nil
}

// Close closes the file.
func (m *Importance) Close() error { return m.c.Close() }

// Check returns an error that names the first tensor that is missing, or has another shape than the matrix of a block of w's
// model that it is about.
func (m *Importance) Check(w *model.Walker) error {
	return eachWeight(w, func(s model.Site, sw model.SiteWeight) error {
		_, err := m.find(sw.Name, sw.Out, s.In)
		return err
	})
}

// find returns the tensor about the weight of that name, (out, in).
func (m *Importance) find(weight string, out, in int) (*checkpoint.Tensor, error) {
	t, ok := m.c.Tensor(weight)
	if !ok {
		return nil, fmt.Errorf("read importance: %s has no tensor %s", m.file, weight)
	}
	if !slices.Equal(t.Shape, []int{out, in}) && !slices.Equal(t.Shape, []int{1, in}) && !slices.Equal(t.Shape, []int{in}) {
		return nil, fmt.Errorf("read importance: %s has shape %v in %s, want [%d %d], or [%d] for its columns", weight, t.Shape, m.file, out, in, in)
	}
	if err := t.Unsupported(); err != nil {
		return nil, fmt.Errorf("read importance: %w", err)
	}
	return t, nil
}

// importanceTypes are the types that a tensor of an Importance may have.
var importanceTypes = map[checkpoint.DType]kernels.DType{checkpoint.F32: kernels.F32, checkpoint.F16: kernels.F16, checkpoint.BF16: kernels.BF16}

// Of returns what errors of a weight (out, in) cost: (out, in), or (1, in) where it depends on the column alone. Numbers are
// finite and not below 0.
func (m *Importance) Of(weight string, out, in int) (linalg.Matrix, error) {
	t, err := m.find(weight, out, in)
	if err != nil {
		return linalg.Matrix{}, err
	}
	raw := make([]byte, t.Bytes())
	if err := m.c.ReadFinite(raw, t, 0); err != nil {
		return linalg.Matrix{}, fmt.Errorf("read importance: %w", err)
	}
	values := layers.Float32s(raw, importanceTypes[t.Type])
	if i := slices.IndexFunc(values, func(v float32) bool { return v < 0 }); i >= 0 {
		return linalg.Matrix{}, fmt.Errorf("read importance: element %d of %s is %g in %s, want none below 0", i, weight, values[i], m.file)
	}
	return linalg.FromFloat32s(values, len(values)/in, in), nil
}
