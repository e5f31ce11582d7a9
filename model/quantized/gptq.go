package quantized

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/model/checkpoint"
)

// gptq is the layout of GPTQModel, AutoGPTQ and their forerunners:
//
//	qweight (in·bits/32, out) I32   codes along in, as one stream of bits, low bits first
//	qzeros  (groups, out·bits/32)   zero points along out, likewise; "gptq" stores one less, "gptq_v2" does not
//	scales  (groups, out)
//	g_idx   (in)                    the group of each row of codes; absent where groups follow one another
//
// In "gptq" one was subtracted from every field of a word in a single subtraction, so that it is a single addition that
// gives them back: a zero point of 0 borrowed from its neighbour. Fields of 3 bits straddle words and wrap by
// themselves.
type gptq struct {
	bits, group int // group 0 for a whole row
	v1          bool
	wide        kernels.DType
}

func newGPTQ(text []byte, wide kernels.DType) (method, error) {
	var raw struct {
		Bits             *int            `json:"bits"`
		GroupSize        *int            `json:"group_size"`
		CheckpointFormat string          `json:"checkpoint_format"`
		Format           string          `json:"format"` // its newer name
		Method           string          `json:"method"`
		Marlin           bool            `json:"is_marlin_format"`
		PackDType        string          `json:"pack_dtype"`
		Dynamic          json.RawMessage `json:"dynamic"`
		Adapter          json.RawMessage `json:"adapter"`
		Rotation         json.RawMessage `json:"rotation"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	g := &gptq{wide: wide}
	var err error
	if g.bits, err = bitsOf(raw.Bits, 8, 4, 3, 2); err != nil {
		return nil, err
	}
	if g.group, err = groupOf(raw.GroupSize); err != nil {
		return nil, err
	}
	if raw.CheckpointFormat != "" && raw.Format != "" && raw.CheckpointFormat != raw.Format {
		return nil, fmt.Errorf("checkpoint_format %q and format %q differ", raw.CheckpointFormat, raw.Format)
	}
	switch format := cmp.Or(raw.CheckpointFormat, raw.Format, "gptq"); strings.ToLower(format) {
	case "gptq":
		g.v1 = true
	case "gptq_v2":
	default:
		return nil, fmt.Errorf("checkpoint_format %q: %w (gptq and gptq_v2 are)", format, ErrUnsupported)
	}
	switch {
	case raw.Marlin:
		return nil, fmt.Errorf("is_marlin_format true: %w", ErrUnsupported)
	case raw.PackDType != "" && raw.PackDType != "int32":
		return nil, fmt.Errorf("pack_dtype %q: %w (int32 is)", raw.PackDType, ErrUnsupported)
	case raw.Method != "" && raw.Method != "gptq":
		return nil, fmt.Errorf("method %q under quant_method gptq: %w", raw.Method, ErrUnsupported)
	case !neutral(raw.Adapter):
		return nil, fmt.Errorf("adapter %.40s: %w", raw.Adapter, ErrUnsupported)
	case !neutral(raw.Rotation):
		return nil, fmt.Errorf("rotation %.40s: %w", raw.Rotation, ErrUnsupported)
	}
	return g, onlyExclusions(raw.Dynamic)
}

// onlyExclusions returns an error for the settings of single modules other than "-:", which says that a module is plain:
// its tensors show that.
func onlyExclusions(text json.RawMessage) error {
	if neutral(text) {
		return nil
	}
	var rules map[string]json.RawMessage
	if err := json.Unmarshal(text, &rules); err != nil {
		return fmt.Errorf("dynamic: %w", err)
	}
	for rule := range rules {
		if !strings.HasPrefix(rule, "-:") {
			return fmt.Errorf("dynamic %.60q, settings of single modules: %w", rule, ErrUnsupported)
		}
	}
	return nil
}

// bitsOf returns the bits of a code if they are among those that a format has.
func bitsOf(bits *int, known ...int) (int, error) {
	if bits == nil {
		return 0, fmt.Errorf("bits is missing")
	}
	for _, b := range known {
		if *bits == b {
			return b, nil
		}
	}
	return 0, fmt.Errorf("bits %d: %w (%s are)", *bits, ErrUnsupported, strings.Trim(fmt.Sprint(known), "[]"))
}

// groupOf returns the columns of a group, 0 for a whole row.
func groupOf(size *int) (int, error) {
	switch {
	case size == nil:
		return 0, fmt.Errorf("group_size is missing")
	case *size == -1:
		return 0, nil
	case *size < 1 || *size > maxDim:
		return 0, fmt.Errorf("group_size must be -1 or between 1 and %d, got %d", maxDim, *size)
	}
	return *size, nil
}

func (g *gptq) layouts() []layout { return []layout{gptqLayout} }

func (g *gptq) read(m *module) (matrix, error) {
	qweight, err := m.matrixOf("qweight", checkpoint.I32)
	if err != nil {
		return matrix{}, err
	}
	out, words := qweight.Shape[1], qweight.Shape[0]
	in := words * 32 / g.bits
	if in*g.bits != words*32 || out*g.bits%32 != 0 {
		return matrix{}, fmt.Errorf("%s has shape %v, which codes of %d bits do not fill", qweight.Name, qweight.Shape, g.bits)
	}
	w := &columnwise{c: m.c, rows: out, cols: in, bits: g.bits, group: g.group, oneLess: g.v1}
	if w.group == 0 {
		w.group = in
	}
	groups := (in + w.group - 1) / w.group
	text := fmt.Sprintf("gptq, %d bits, %s", g.bits, groupText(g.group))
	if m.parts["g_idx"] != nil {
		index, err := m.groupIndex("g_idx", in)
		if err != nil {
			return matrix{}, err
		}
		if w.order, err = sortedColumns(index, m.nameOf("g_idx"), w.group, groups); err != nil {
			return matrix{}, err
		}
		if w.order != nil {
			text += ", act-order"
		}
	}
	if err := m.skipZeroBias(out); err != nil {
		return matrix{}, err
	}
	return w.matrix(m, qweight, streamWords(out, g.bits), text, g.wide)
}

// skipZeroBias takes a bias of zeros: AutoGPTQ gave one to every module, also where the architecture has none.
func (m *module) skipZeroBias(out int) error {
	t := m.parts["bias"]
	if t == nil || t.Elements() != out || t.Type.BitSize()%8 != 0 {
		return nil
	}
	raw, err := m.all(t)
	if err == nil && !slices.ContainsFunc(raw, func(b byte) bool { return b != 0 }) {
		m.skip("bias")
	}
	return err
}

// groupText describes groups of the given width.
func groupText(group int) string {
	if group == 0 {
		return "a group a row"
	}
	return fmt.Sprintf("groups of %d", group)
}

// matrix returns the matrix once the other tensors have the shapes that follow from qweight: zero points fill words
// along out.
func (w *columnwise) matrix(m *module, qweight *checkpoint.Tensor, words int, text string, wide kernels.DType) (matrix, error) {
	groups := (w.cols + w.group - 1) / w.group
	scales, err := m.shaped("scales", []int{groups, w.rows}, floatTypes...)
	if err != nil {
		return matrix{}, err
	}
	qzeros, err := m.shaped("qzeros", []int{groups, words}, checkpoint.I32)
	if err != nil {
		return matrix{}, err
	}
	w.qweight, w.qzeros, w.scales = &columns{c: m.c, t: qweight}, &columns{c: m.c, t: qzeros}, &columns{c: m.c, t: scales}
	middle, err := w.allMiddle()
	if err != nil {
		return matrix{}, err
	}
	return m.integers(ints{
		rows: w.rows, cols: w.cols, bits: w.bits, group: w.group, scaleType: kernelType(scales.Type), zeros: !middle,
		order: w.order, read: w.read,
	}, text, wide)
}

// integers returns the matrix x as what it becomes.
func (m *module) integers(x ints, text string, wide kernels.DType) (matrix, error) {
	w, exact, err := x.weight(wide, m.name+".weight")
	if err != nil {
		return matrix{}, fmt.Errorf("read %s: %w", m.name, err)
	}
	if exact {
		return m.became(w, text, "computed as stored"), nil
	}
	return m.widened(w, text), nil
}
