package quantized

import (
	"fmt"
	"slices"
	"strings"

	"eckart/model/checkpoint"
)

// A layout is a way to lay the tensors of one matrix out, by the name that its writers use.
type layout string

const (
	gptqLayout  layout = "gptq"
	awqLayout   layout = "awq"
	packLayout  layout = "pack-quantized"
	intLayout   layout = "int-quantized"
	floatLayout layout = "float-quantized"
	fp8Layout   layout = "fp8 with weight_scale_inv"
	mxfp4Layout layout = "mxfp4-pack-quantized"
	nvfp4Layout layout = "nvfp4-pack-quantized"
	blockLayout layout = "mxfp4 in blocks"
	bnb4Layout  layout = "bitsandbytes 4 bit"
	bnb8Layout  layout = "bitsandbytes 8 bit"
	noLayout    layout = "no layout that is known"
)

// A module is the tensors whose names begin with that of a quantized module.
type module struct {
	name   string
	layout layout
	c      *checkpoint.Checkpoint
	mark   *checkpoint.Tensor            // by which it was found
	parts  map[string]*checkpoint.Tensor // by what follows the module's name, without a dot before it
	taken  []string                      // names of those that its matrix consists of
}

// marks lists what the name of a tensor of a quantized module ends in, such as no other has.
var marks = []string{".qweight", ".weight_packed", ".weight_blocks", ".weight.blocks", ".blocks", "_blocks"}

// marked returns the name of the module that the tensor makes a quantized one.
func marked(t *checkpoint.Tensor) (string, bool) {
	for _, mark := range marks {
		if name, ok := strings.CutSuffix(t.Name, mark); ok {
			return name, t.Type == checkpoint.U8 || t.Type == checkpoint.I32
		}
	}
	name, ok := strings.CutSuffix(t.Name, ".weight")
	switch t.Type {
	case checkpoint.U8, checkpoint.I8, checkpoint.F8E4M3, checkpoint.F8E5M2, checkpoint.F8E4M3FNUZ, checkpoint.F8E5M2FNUZ:
		return name, ok
	}
	return "", false
}

// find returns the quantized modules of a checkpoint, sorted by name.
func find(c *checkpoint.Checkpoint) []*module {
	var all []*module
	seen := map[string]bool{}
	names := c.Names()
	for _, name := range names {
		t, _ := c.Tensor(name)
		base, ok := marked(t)
		if !ok || seen[base] {
			continue
		}
		seen[base] = true
		m := &module{name: base, c: c, mark: t, parts: map[string]*checkpoint.Tensor{}}
		at, _ := slices.BinarySearch(names, base)
		for _, n := range names[at:] { // names that begin alike are neighbours
			rest, ok := strings.CutPrefix(n, base)
			if !ok {
				break
			}
			if part, dotted := strings.CutPrefix(rest, "."); dotted || strings.HasPrefix(rest, "_") {
				m.parts[part], _ = c.Tensor(n)
			}
		}
		m.layout = m.recognise()
		all = append(all, m)
	}
	return all
}

// what names the tensor by which the module was found, for messages.
func (m *module) what() string {
	return fmt.Sprintf("%s (%s %v)", m.mark.Name, m.mark.Type, m.mark.Shape)
}

// recognise says how the module is laid out, by names, types and, where two layouts share those, a shape.
func (m *module) recognise() layout {
	has := func(names ...string) bool {
		return !slices.ContainsFunc(names, func(n string) bool { return m.parts[n] == nil })
	}
	is := func(name string, t checkpoint.DType) bool { return has(name) && m.parts[name].Type == t }
	switch {
	case has("qweight", "scales") && eighth(m.parts["qweight"].Shape, m.parts["scales"].Shape):
		return awqLayout
	case has("qweight"):
		return gptqLayout
	case is("weight_packed", checkpoint.I32):
		return packLayout
	case is("weight_packed", checkpoint.U8) && has("weight_global_scale"):
		return nvfp4Layout
	case is("weight_packed", checkpoint.U8):
		return mxfp4Layout
	case m.hasBlocks():
		return blockLayout
	case has("weight.absmax"):
		return bnb4Layout
	case has("SCB"):
		return bnb8Layout
	case is("weight", checkpoint.I8):
		return intLayout
	case is("weight", checkpoint.F8E4M3) && has("weight_scale_inv"):
		return fp8Layout
	case is("weight", checkpoint.F8E4M3):
		return floatLayout
	}
	return noLayout
}

// eighth reports whether a tensor has an eighth of the columns of another.
func eighth(a, b []int) bool { return len(a) == 2 && len(b) == 2 && a[1] == b[1]/8 }

// blockNames are what stands before "blocks" and "scales" in the names of their tensors.
var blockNames = []string{"weight_", "weight.", "_", ""}

// hasBlocks reports whether the module has tensors of that name.
func (m *module) hasBlocks() bool {
	_, ok := m.blocks()
	return ok
}

// blocks returns which of blockNames the module's tensors have.
func (m *module) blocks() (before string, ok bool) {
	i := slices.IndexFunc(blockNames, func(n string) bool { return m.parts[n+"blocks"] != nil && m.parts[n+"scales"] != nil })
	if i < 0 {
		return "", false
	}
	return blockNames[i], true
}

// maxDim bounds the rows and columns of a matrix, as the limits on config.json do.
const maxDim = 1 << 24

// take returns a tensor of the matrix, of one of the types and of any shape.
func (m *module) take(part string, types ...checkpoint.DType) (*checkpoint.Tensor, error) {
	t := m.parts[part]
	switch {
	case t == nil:
		return nil, fmt.Errorf("%s is laid out as %s, and %s is missing", m.what(), m.layout, m.nameOf(part))
	case !slices.Contains(types, t.Type):
		return nil, fmt.Errorf("%s has type %s, want %s for %s", t.Name, t.Type, join(types), m.layout)
	}
	m.taken = append(m.taken, t.Name)
	return t, nil
}

// shaped is take for a tensor whose shape is known.
func (m *module) shaped(part string, shape []int, types ...checkpoint.DType) (*checkpoint.Tensor, error) {
	t, err := m.take(part, types...)
	if err == nil && !slices.Equal(t.Shape, shape) {
		err = fmt.Errorf("%s has shape %v, want %v for %s", t.Name, t.Shape, shape, m.what())
	}
	return t, err
}

// matrixOf is take for a tensor of two dimensions that hold something.
func (m *module) matrixOf(part string, types ...checkpoint.DType) (*checkpoint.Tensor, error) {
	t, err := m.take(part, types...)
	if err == nil && (len(t.Shape) != 2 || t.Shape[0] < 1 || t.Shape[1] < 1 || t.Shape[0] > maxDim || t.Shape[1] > maxDim) {
		err = fmt.Errorf("%s has shape %v, want two dimensions between 1 and %d", t.Name, t.Shape, maxDim)
	}
	return t, err
}

// nameOf returns the name of a tensor of the module, whether it is there or not.
func (m *module) nameOf(part string) string {
	if strings.HasPrefix(part, "_") {
		return m.name + part
	}
	return m.name + "." + part
}

// skip takes tensors that no value of the matrix depends on, such as the scales of rounded activations: ours stay
// floating point.
func (m *module) skip(parts ...string) {
	for _, p := range parts {
		if t := m.parts[p]; t != nil {
			m.taken = append(m.taken, t.Name)
		}
	}
}

// bytes returns the sum of the tensors taken.
func (m *module) bytes() int64 {
	var n int64
	for _, name := range m.taken {
		t, _ := m.c.Tensor(name)
		n += t.Bytes()
	}
	return n
}

// all returns the bytes of a tensor that is small beside its matrix.
func (m *module) all(t *checkpoint.Tensor) ([]byte, error) {
	raw := make([]byte, t.Bytes())
	return raw, m.c.ReadAt(raw, t, 0)
}

func join(types []checkpoint.DType) string {
	var names []string
	for _, t := range types {
		names = append(names, string(t))
	}
	return strings.Join(names, " or ")
}
