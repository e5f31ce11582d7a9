package packed

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
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
	// Shared is set for a matrix that several others consist of, and is its name: it lies below "shared" once.
	Shared string `json:"shared,omitempty"`
}

// A Stored is a matrix (out, in) as the plan of a checkpoint describes it.
type Stored struct {
	Shape Shape `json:"shape"`
	Form
}

// A Shape is the rows and columns of a matrix: out, in.
type Shape [2]int

// UnmarshalJSON reads two numbers, neither fewer nor more.
func (s *Shape) UnmarshalJSON(text []byte) error {
	var all []int
	if err := json.Unmarshal(text, &all); err != nil {
		return err
	}
	if len(all) != 2 {
		return fmt.Errorf("shape has %d numbers, want out and in", len(all))
	}
	*s = Shape(all)
	return nil
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
	of      []string // the kinds that it may be of; nil for all
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
	return Stored{Shape: Shape{out, in}, Form: f}, err
}

// DescribeAll is Describe for the weights of several modules. Matrices that two of them consist of, the same pointers, are
// shared: they are written once, and are the same pointers again when they are read.
func DescribeAll(weights map[string]layers.Weight) (map[string]Stored, error) {
	all := map[string]Stored{}
	users := map[layers.Weight]int{}
	for _, module := range slices.Sorted(maps.Keys(weights)) {
		s, err := Describe(weights[module])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", module, err)
		}
		all[module] = s
		count(weights[module], users)
	}
	named := map[layers.Weight]string{}
	for _, module := range slices.SortedFunc(maps.Keys(weights), naturally) {
		s := all[module]
		s.Form = share(s.Form, module, weights[module], users, named)
		all[module] = s
	}
	return all, nil
}

// termsOf returns the matrices that w consists of, none for one that cannot be described.
func termsOf(w layers.Weight) map[string]layers.Weight {
	_, terms, err := kinds[w.Kind()].describe(w)
	if err != nil {
		return nil
	}
	return terms
}

// count counts how many matrices consist of each.
func count(w layers.Weight, users map[layers.Weight]int) {
	for _, t := range termsOf(w) {
		users[t]++
		count(t, users)
	}
}

// share returns f, the form of the matrix w called name, with names for the matrices that have several users.
func share(f Form, name string, w layers.Weight, users map[layers.Weight]int, named map[layers.Weight]string) Form {
	terms := termsOf(w)
	f.Of = maps.Clone(f.Of)
	for _, part := range slices.Sorted(maps.Keys(terms)) {
		t := terms[part]
		of := share(f.Of[part], f.below(name, part), t, users, named)
		if users[t] > 1 {
			if named[t] == "" {
				named[t] = f.below(name, part)
			}
			of.Shared = named[t]
		}
		f.Of[part] = of
	}
	return f
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
	if out < 0 || in < 1 || out > maxDim || in > maxDim {
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
		case t.of != nil && !slices.Contains(t.of, of.Kind):
			return nil, nil, fmt.Errorf("kind %s: its matrix %s is of kind %q, want %s", f.Kind, t.name, of.Kind, strings.Join(t.of, " or "))
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
		if err := f.Of[t.name].walk(f.root(name, t.name), t.out, t.in, depth+1, visit); err != nil {
			return err
		}
	}
	return nil
}

// root returns the name of a matrix that the one called name consists of.
func (f Form) root(name, part string) string {
	if shared := f.Of[part].Shared; shared != "" {
		return sharedPrefix + shared
	}
	return f.below(name, part)
}

// sharedPrefix stands before the names of matrices that several others consist of (docs/format.md, section 2).
const sharedPrefix = "shared."

// checkShared returns an error where matrices share one by name and describe it differently.
func checkShared(stored map[string]Stored) error {
	seen := map[string]string{} // the matrix as its first user describes it
	var check func(f Form, out, in int) error
	check = func(f Form, out, in int) error {
		_, terms, err := f.layout(out, in)
		if err != nil {
			return err // walk says where
		}
		for _, t := range terms {
			of := f.Of[t.name]
			if of.Shared != "" {
				text := Stored{Shape{t.out, t.in}, of}.String()
				if other, ok := seen[of.Shared]; ok && other != text {
					return fmt.Errorf("%s%s is described as %s and as %s", sharedPrefix, of.Shared, other, text)
				}
				seen[of.Shared] = text
			}
			if err := check(of, t.out, t.in); err != nil {
				return err
			}
		}
		return nil
	}
	for _, module := range slices.Sorted(maps.Keys(stored)) {
		s := stored[module]
		if err := check(s.Form, s.Shape[0], s.Shape[1]); err != nil {
			return fmt.Errorf("%s: %w", module, err)
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
	switch {
	case module == "":
		return errors.New("a module without a name")
	case s.Shape[0] < 1:
		return fmt.Errorf("%s: shape is %v, want two numbers between 1 and %d", module, s.Shape, maxDim)
	case s.Shared != "":
		return fmt.Errorf("%s: a whole matrix is shared, want one that others consist of", module)
	}
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

// String describes the matrix as its plan does.
func (s Stored) String() string {
	text, err := json.Marshal(s)
	if err != nil {
		panic(fmt.Sprintf("BUG: a form does not marshal: %v", err))
	}
	return string(text)
}
