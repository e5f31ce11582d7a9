package packed

import (
	"fmt"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// A Form says how a matrix is stored: its kind, and what of it the shapes of its arrays leave open (docs/format.md,
// section 4). Fields that the kind does not have are zero.
type Form struct {
	Kind  string           `json:"kind"`
	Type  checkpoint.DType `json:"type,omitempty"`  // dense: of the elements; grouped: of the scales. F32, F16 or BF16
	Bits  int              `json:"bits,omitempty"`  // grouped: of a code
	Group int              `json:"group,omitempty"` // grouped: columns that share a scale
	Zeros bool             `json:"zeros,omitempty"` // grouped: there is a zero point for each group
	Order bool             `json:"order,omitempty"` // grouped: the codes' columns have an order of their own
	Rank  int              `json:"rank,omitempty"`  // columns of the left factor
	Of    map[string]Form  `json:"of,omitempty"`    // the matrices that it consists of, by the names of its parts
}

// A Stored is a matrix (out, in) as the plan of a checkpoint describes it.
type Stored struct {
	Shape [2]int `json:"shape"` // out, in
	Form
}

// An array is a plain tensor of two dimensions that belongs to a matrix.
type array struct {
	name       string // what follows module and kind
	typ        checkpoint.DType
	rows, cols int
}

// A term is a matrix that belongs to another, with a form of its own.
type term struct {
	name    string
	out, in int
	plain   bool // only dense or grouped
}

// Bounds on what a plan may ask for. A dimension is bounded as config.json's are, so that no product overflows; sums of
// sums are not needed, and four levels hold the sum of a quantized matrix and a product of quantized factors.
const (
	maxDim   = 1 << 24
	maxDepth = 4
)

// Describe returns the form of w.
func Describe(w layers.Weight) (Stored, error) {
	f, err := describe(w)
	out, in := w.Dims()
	return Stored{Shape: [2]int{out, in}, Form: f}, err
}

func describe(w layers.Weight) (Form, error) {
	k, ok := kinds[w.Kind()]
	if !ok {
		return Form{}, fmt.Errorf("a matrix of kind %s cannot be stored (%s can)", w.Kind(), strings.Join(Kinds(), ", "))
	}
	f, terms, err := k.describe(w)
	if err != nil {
		return Form{}, err
	}
	f.Kind = w.Kind()
	for name, t := range terms {
		of, err := describe(t)
		if err != nil {
			return Form{}, err
		}
		if f.Of == nil {
			f.Of = map[string]Form{}
		}
		f.Of[name] = of
	}
	return f, nil
}

// layout returns the arrays and the terms of a matrix (out, in) of the form, each of which has been checked but for the
// forms of its terms.
func (f Form) layout(out, in int) ([]array, []term, error) {
	k, ok := kinds[f.Kind]
	if !ok {
		return nil, nil, fmt.Errorf("kind %q is not known (%s are)", f.Kind, strings.Join(Kinds(), ", "))
	}
	if out < 1 || in < 1 || out > maxDim || in > maxDim {
		return nil, nil, fmt.Errorf("shape is [%d %d], want two numbers between 1 and %d", out, in, maxDim)
	}
	arrays, terms, err := k.layout(f, out, in)
	if err != nil {
		return nil, nil, fmt.Errorf("kind %s: %w", f.Kind, err)
	}
	for name := range f.Of {
		if !slices.ContainsFunc(terms, func(t term) bool { return t.name == name }) {
			return nil, nil, fmt.Errorf("kind %s: it has no matrix %q", f.Kind, name)
		}
	}
	for _, t := range terms {
		of, ok := f.Of[t.name]
		switch {
		case !ok:
			return nil, nil, fmt.Errorf("kind %s: the form of its matrix %s is missing", f.Kind, t.name)
		case t.plain && of.Kind != "dense" && of.Kind != "grouped":
			return nil, nil, fmt.Errorf("kind %s: its matrix %s is of kind %q, want dense or grouped", f.Kind, t.name, of.Kind)
		}
	}
	return arrays, terms, nil
}

// walk calls visit for each array of a matrix (out, in) of the form, with its full name. A dense matrix is the tensor
// name itself; another kind has its arrays below name.kind (docs/format.md, section 2).
func (f Form) walk(name string, out, in, depth int, visit func(name string, a array) error) error {
	if depth == maxDepth {
		return fmt.Errorf("%s: matrices of matrices lie more than %d deep", name, maxDepth)
	}
	arrays, terms, err := f.layout(out, in)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for _, a := range arrays {
		if err := visit(f.below(name, a.name), a); err != nil {
			return err
		}
	}
	for _, t := range terms {
		if err := f.Of[t.name].walk(f.below(name, t.name), t.out, t.in, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// below returns the name of a part of the matrix called name.
func (f Form) below(name, part string) string {
	if f.Kind == "dense" {
		return name
	}
	return name + "." + f.Kind + "." + part
}

// walk is Form.walk for the weight of a module.
func (s Stored) walk(module string, visit func(name string, a array) error) error {
	return s.Form.walk(s.root(module), s.Shape[0], s.Shape[1], 0, visit)
}

// root returns the name to walk from: a dense matrix keeps the one that it has in a checkpoint with nothing compressed.
func (s Stored) root(module string) string {
	if s.Kind == "dense" {
		return module + weightSuffix
	}
	return module
}

// weightSuffix follows the name of a module in that of its matrix.
const weightSuffix = ".weight"

// types relates the types of a matrix's arrays to those of kernels.
var types = map[checkpoint.DType]kernels.DType{
	checkpoint.F32: kernels.F32, checkpoint.F16: kernels.F16, checkpoint.BF16: kernels.BF16,
	checkpoint.I32: kernels.I32, checkpoint.U8: kernels.U8,
}

// typeName returns the name that a checkpoint has for t.
func typeName(t kernels.DType) checkpoint.DType {
	for name, of := range types {
		if of == t {
			return name
		}
	}
	panic(fmt.Sprintf("BUG: type %s has no name in a checkpoint", t))
}

// floating reports whether t is a type of weights and scales.
func floating(t checkpoint.DType) bool { return t.Supported() }
