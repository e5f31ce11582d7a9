package quantized

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// compressed is the layouts of compressed-tensors (llm-compressor):
//
//	pack-quantized        weight_packed (out, in·bits/32) I32, codes along in as one stream, each 2^(bits-1) more
//	int-quantized         weight (out, in) I8
//	float-quantized       weight (out, in) F8_E4M3
//	mxfp4-pack-quantized  weight_packed (out, in/2) U8, the low nibble first
//	nvfp4-pack-quantized  the same, with weight_global_scale (1), by which scales are divided
//
// with weight_scale, one for the matrix, a row, a group of a row or a block; weight_zero_point where not symmetric,
// packed along out in pack-quantized; and weight_g_idx, the group of each column, where actorder is "group".
type compressed struct {
	schemes []scheme
	wide    kernels.DType
}

// A scheme says how the modules that match its targets are laid out.
type scheme struct {
	Targets []string `json:"targets"`
	Weights *struct {
		Bits       int             `json:"num_bits"`
		Type       string          `json:"type"`
		Symmetric  *bool           `json:"symmetric"`
		GroupSize  *int            `json:"group_size"`
		Strategy   string          `json:"strategy"`
		Block      []int           `json:"block_structure"`
		Dynamic    json.RawMessage `json:"dynamic"`
		ActOrder   json.RawMessage `json:"actorder"`
		ScaleDType string          `json:"scale_dtype"`
	} `json:"weights"`
	Format string `json:"format"`

	layout    layout
	symmetric bool
	patterns  []*regexp.Regexp // of the targets that begin with "re:"
}

// newCompressed reads what is beside the schemes.
func newCompressed(text []byte, wide kernels.DType) (method, error) {
	var raw struct {
		Format       string             `json:"format"`
		Status       string             `json:"quantization_status"`
		ConfigGroups map[string]*scheme `json:"config_groups"`
		KVCache      json.RawMessage    `json:"kv_cache_scheme"`
		Transform    json.RawMessage    `json:"transform_config"`
		Sparsity     struct {
			Format string `json:"format"`
		} `json:"sparsity_config"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	switch {
	case raw.Status != "" && raw.Status != "compressed":
		return nil, fmt.Errorf("quantization_status %q: %w (compressed is)", raw.Status, ErrUnsupported)
	case !neutral(raw.KVCache):
		return nil, fmt.Errorf("kv_cache_scheme %.40s: %w", raw.KVCache, ErrUnsupported)
	case !neutral(raw.Transform):
		return nil, fmt.Errorf("transform_config %.40s: %w", raw.Transform, ErrUnsupported)
	case raw.Sparsity.Format != "" && raw.Sparsity.Format != "dense":
		return nil, fmt.Errorf("sparsity_config.format %q: %w", raw.Sparsity.Format, ErrUnsupported)
	case len(raw.ConfigGroups) == 0:
		return nil, errors.New("config_groups is missing")
	}
	c := &compressed{wide: wide}
	for _, name := range slices.Sorted(maps.Keys(raw.ConfigGroups)) {
		s := raw.ConfigGroups[name]
		if s == nil || s.Weights == nil {
			continue // its modules are plain
		}
		if err := s.check(raw.Format); err != nil {
			return nil, fmt.Errorf("config_groups.%s: %w", name, err)
		}
		c.schemes = append(c.schemes, *s)
	}
	return c, nil
}

// check fills in what follows from the fields, and refuses what is not read.
func (s *scheme) check(format string) error {
	w := s.Weights
	if s.Format != "" {
		format = s.Format
	}
	s.symmetric = w.Symmetric == nil || *w.Symmetric
	s.layout = layout(format)
	kind, bits := "int", []int{8}
	switch s.layout {
	case packLayout:
		bits = []int{1, 2, 3, 4, 5, 6, 7, 8}
	case intLayout:
		bits = []int{2, 3, 4, 5, 6, 7, 8}
	case floatLayout:
		kind = "float"
	case mxfp4Layout, nvfp4Layout:
		kind, bits = "float", []int{4}
	default:
		return fmt.Errorf("format %q: %w (%s are)", format, ErrUnsupported, list(s.layouts()))
	}
	if w.Type != kind {
		return fmt.Errorf("weights.type %q: %w for %s", w.Type, ErrUnsupported, format)
	}
	if _, err := bitsOf(&w.Bits, bits...); err != nil {
		return fmt.Errorf("weights.num_%w for %s", err, format)
	}
	if !neutral(w.Dynamic) {
		return fmt.Errorf("weights.dynamic %.20s: %w", w.Dynamic, ErrUnsupported)
	}
	if kind == "float" && (!s.symmetric || s.grouped()) {
		return fmt.Errorf("weights: %w for %s unless symmetric and without actorder", ErrUnsupported, format)
	}
	switch order := strings.Trim(string(w.ActOrder), `"`); order {
	case "", "null", "false", "true", "weight", "static", "group", "dynamic":
	default:
		return fmt.Errorf("weights.actorder %.20q: %w", order, ErrUnsupported)
	}
	for _, t := range s.Targets {
		if expression, ok := strings.CutPrefix(t, "re:"); ok {
			// Python's re.match, which is anchored at the start.
			p, err := regexp.Compile("^(?:" + expression + ")")
			if err != nil {
				return fmt.Errorf("targets: %w: %w", err, ErrUnsupported)
			}
			s.patterns = append(s.patterns, p)
		}
	}
	return s.checkStrategy(format)
}

// checkStrategy holds what a scale is for against the fields that give its width.
func (s *scheme) checkStrategy(format string) error {
	w := s.Weights
	if w.Strategy == "" {
		switch {
		case w.GroupSize == nil:
			w.Strategy = "tensor"
		case *w.GroupSize == -1:
			w.Strategy = "channel"
		default:
			w.Strategy = "group"
		}
	}
	want := map[layout]int{mxfp4Layout: 32, nvfp4Layout: 16}[s.layout]
	switch w.Strategy {
	case "tensor", "channel":
		if want == 0 && (s.symmetric || s.layout == intLayout || w.Strategy == "channel") {
			return nil
		}
	case "group", "tensor_group":
		size, err := groupOf(w.GroupSize)
		switch {
		case err != nil:
			return fmt.Errorf("weights.%w", err)
		case size == 0:
			return fmt.Errorf("weights.group_size is -1 with strategy %q", w.Strategy)
		case want != 0 && size != want:
			return fmt.Errorf("weights.group_size %d: %w for %s (%d is)", size, ErrUnsupported, format, want)
		case (w.Strategy == "tensor_group") == (s.layout == nvfp4Layout):
			return nil
		}
	case "block":
		if len(w.Block) != 2 || min(w.Block[0], w.Block[1]) < 1 || max(w.Block[0], w.Block[1]) > maxDim {
			return fmt.Errorf("weights.block_structure must be two numbers between 1 and %d, got %v", maxDim, w.Block)
		}
		if want == 0 && s.symmetric && s.layout != packLayout {
			return nil
		}
	}
	symmetry := "symmetric"
	if !s.symmetric {
		symmetry = "asymmetric"
	}
	return fmt.Errorf("weights.strategy %q: %w for %s %s", w.Strategy, ErrUnsupported, symmetry, format)
}

// grouped reports whether columns were sorted before they were grouped.
func (s *scheme) grouped() bool {
	switch strings.Trim(string(s.Weights.ActOrder), `"`) {
	case "true", "group", "dynamic":
		return true
	}
	return false
}

// block returns the rows and columns that a scale is for, in a matrix of out by in.
func (s *scheme) block(out, in int) (high, wide int) {
	switch s.Weights.Strategy {
	case "tensor":
		return out, in
	case "channel":
		return 1, in
	case "block":
		return s.Weights.Block[0], s.Weights.Block[1]
	}
	return 1, *s.Weights.GroupSize
}

// text describes the scheme.
func (s *scheme) text() string {
	t := fmt.Sprintf("%s, %d bits, ", s.layout, s.Weights.Bits)
	switch s.Weights.Strategy {
	case "tensor":
		t += "a scale a matrix"
	case "channel":
		t += "a scale a row"
	case "block":
		t += fmt.Sprintf("blocks of %dx%d", s.Weights.Block[0], s.Weights.Block[1])
	default:
		t += groupText(*s.Weights.GroupSize)
	}
	if s.grouped() {
		t += ", act-order"
	}
	return t
}

func (*scheme) layouts() []layout {
	return []layout{packLayout, intLayout, floatLayout, mxfp4Layout, nvfp4Layout}
}

func (c *compressed) layouts() []layout { return (*scheme)(nil).layouts() }

// find returns the scheme of a module: by its name, then by an expression, then by its class, which "Linear" is taken
// for every matrix.
func (c *compressed) find(m *module) *scheme {
	matches := []func(s *scheme) bool{
		func(s *scheme) bool { return slices.Contains(s.Targets, m.name) },
		func(s *scheme) bool {
			return slices.ContainsFunc(s.patterns, func(p *regexp.Regexp) bool { return p.MatchString(m.name) })
		},
		func(s *scheme) bool {
			return slices.ContainsFunc(s.Targets, func(t string) bool { return !strings.Contains(t, ".") && !strings.HasPrefix(t, "re:") })
		},
	}
	for _, match := range matches {
		for i := range c.schemes {
			if match(&c.schemes[i]) {
				return &c.schemes[i]
			}
		}
	}
	return nil
}

func (c *compressed) read(m *module) (matrix, error) {
	s := c.find(m)
	if s == nil {
		return matrix{}, fmt.Errorf("%s is laid out as %s, and no target of config_groups matches %s", m.what(), m.layout, m.name)
	}
	if s.layout != m.layout {
		return matrix{}, fmt.Errorf("config.json says format %q for %s, and %s is laid out as %s", s.layout, m.name, m.what(), m.layout)
	}
	m.skip("input_scale", "input_zero_point", "input_global_scale", "output_scale", "output_zero_point")
	switch s.layout {
	case packLayout, intLayout:
		return c.integers(m, s)
	case floatLayout:
		weight, err := m.matrixOf("weight", checkpoint.F8E4M3)
		if err != nil {
			return matrix{}, err
		}
		high, wide := s.block(weight.Shape[0], weight.Shape[1])
		if err := s.divides(weight, weight.Shape[1]); err != nil {
			return matrix{}, err
		}
		g, err := m.takeGrid("weight_scale", weight.Shape[0], weight.Shape[1], high, wide, floatTypes...)
		if err != nil {
			return matrix{}, err
		}
		return m.float8(weight, g, false, s.text(), c.wide)
	case mxfp4Layout:
		return m.mxfp4("weight_packed", "weight_scale", s.text(), c.wide)
	}
	return m.nvfp4(s.text(), c.wide)
}

// divides returns an error where groups do not divide the columns: compressed-tensors has no shorter ones.
func (s *scheme) divides(weight *checkpoint.Tensor, in int) error {
	switch s.Weights.Strategy {
	case "group", "tensor_group":
		if size := *s.Weights.GroupSize; in%size != 0 {
			return fmt.Errorf("%s has %d columns, which groups of %d do not divide", weight.Name, in, size)
		}
	}
	return nil
}

// integers reads pack-quantized and int-quantized.
func (c *compressed) integers(m *module, s *scheme) (matrix, error) {
	p := &packed{c: m.c, bits: s.Weights.Bits, stream: s.layout == packLayout}
	var err error
	if p.stream {
		err = p.takeStream(m)
	} else if p.weight, err = m.matrixOf("weight", checkpoint.I8); err == nil {
		p.rows, p.cols, p.bits = p.weight.Shape[0], p.weight.Shape[1], 8
	}
	if err == nil {
		err = s.divides(p.weight, p.cols)
	}
	if err != nil {
		return matrix{}, err
	}
	high, wide := s.block(p.rows, p.cols)
	if p.scales, err = m.takeGrid("weight_scale", p.rows, p.cols, high, wide, floatTypes...); err != nil {
		return matrix{}, err
	}
	if !s.symmetric {
		if err := p.takeZeros(m, high, wide); err != nil {
			return matrix{}, err
		}
	}
	if s.grouped() {
		if err := p.takeOrder(m, wide); err != nil {
			return matrix{}, err
		}
	}
	x := ints{
		rows: p.rows, cols: p.cols, bits: p.codeBits(), group: min(wide, p.cols), scaleType: kernelType(p.scales.t.Type),
		zeros: !s.symmetric, order: p.order, read: p.read,
	}
	return m.integers(x, s.text(), c.wide)
}

// packed is a matrix of integers laid out row by row.
type packed struct {
	c          *checkpoint.Checkpoint
	rows, cols int
	bits       int
	stream     bool // codes are a stream of bits in words; else bytes with a sign
	weight     *checkpoint.Tensor
	scales     *grid
	zeros      *checkpoint.Tensor // nil for none: packed along out in a stream, else as scales
	order      []int32
}

// codeBits returns the bits of the codes that are handed on: the least that hold those of the file.
func (p *packed) codeBits() int {
	switch p.bits {
	case 1:
		return 2
	case 5, 6, 7:
		return 8
	}
	return p.bits
}

// takeStream takes the packed codes and the shape that says how many there are.
func (p *packed) takeStream(m *module) error {
	var err error
	if p.weight, err = m.matrixOf("weight_packed", checkpoint.I32); err != nil {
		return err
	}
	shape, err := m.shaped("weight_shape", []int{2}, checkpoint.I64, checkpoint.I32)
	if err != nil {
		return err
	}
	raw, err := m.all(shape)
	if err != nil {
		return err
	}
	dims := [2]int64{}
	for i := range dims {
		if shape.Type == checkpoint.I64 {
			dims[i] = int64(binary.LittleEndian.Uint64(raw[8*i:]))
		} else {
			dims[i] = int64(int32(binary.LittleEndian.Uint32(raw[4*i:])))
		}
	}
	if min(dims[0], dims[1]) < 1 || max(dims[0], dims[1]) > maxDim {
		return fmt.Errorf("%s is %v, want two dimensions between 1 and %d", shape.Name, dims, maxDim)
	}
	p.rows, p.cols = int(dims[0]), int(dims[1])
	if want := []int{p.rows, streamWords(p.cols, p.bits)}; !slices.Equal(p.weight.Shape, want) {
		return fmt.Errorf("%s has shape %v, want %v for %d x %d codes of %d bits", p.weight.Name, p.weight.Shape, want, p.rows, p.cols, p.bits)
	}
	return nil
}

// takeZeros takes the zero points, which there is one of for each scale.
func (p *packed) takeZeros(m *module, high, wide int) error {
	var err error
	if p.stream {
		p.zeros, err = m.shaped("weight_zero_point", []int{streamWords(p.rows, p.bits), p.scales.blocks}, checkpoint.I32)
		return err
	}
	g, err := m.takeGrid("weight_zero_point", p.rows, p.cols, high, wide, checkpoint.I8)
	if err == nil {
		p.zeros = g.t
	}
	return err
}

// takeOrder takes the group of each column; -1 in all of them stands for groups that follow one another.
func (p *packed) takeOrder(m *module, group int) error {
	index, err := m.groupIndex("weight_g_idx", p.cols)
	if err != nil || !slices.ContainsFunc(index, func(g int32) bool { return g != -1 }) {
		return err
	}
	p.order, err = sortedColumns(index, m.nameOf("weight_g_idx"), group, p.scales.blocks)
	return err
}

// read fills dst with the rows from row on.
func (p *packed) read(dst layers.GroupedRows, row int) error {
	n := len(dst.Codes) / p.cols
	if err := p.scales.spread(dst.Scales, row, n); err != nil {
		return err
	}
	if p.zeros != nil {
		if err := p.readZeros(dst.Zeros, row, n); err != nil {
			return err
		}
	}
	rowBytes := int(p.weight.Bytes()) / p.rows
	raw := make([]byte, n*rowBytes)
	if err := p.c.ReadAt(raw, p.weight, int64(row)*int64(rowBytes)); err != nil {
		return err
	}
	p.unpack(dst.Codes, raw, rowBytes)
	return nil
}

// unpack sets codes (n, cols) to what rows of rowBytes hold.
func (p *packed) unpack(codes, raw []byte, rowBytes int) {
	// Codes of a width that kernels do not have become wider; without zero points of their own the middle moves.
	var shift byte
	if p.zeros == nil {
		shift = 1<<(p.codeBits()-1) - 1<<(p.bits-1)
	}
	var line []byte
	if p.order != nil {
		line = make([]byte, p.cols)
	}
	for ; len(codes) > 0; codes, raw = codes[p.cols:], raw[rowBytes:] {
		row := codes[:p.cols]
		if p.stream {
			unpack(row, raw[:rowBytes], p.bits)
		} else {
			for i, b := range raw[:p.cols] {
				row[i] = b ^ 0x80
			}
		}
		if shift != 0 {
			for i := range row {
				row[i] += shift
			}
		}
		if line != nil {
			for i, from := range p.order {
				line[i] = row[from]
			}
			copy(row, line)
		}
	}
}

// readZeros sets dst (n, groups) to the zero points of rows from row on, as codes are counted.
func (p *packed) readZeros(dst []byte, row, n int) error {
	if !p.stream {
		g := *p.scales
		g.t = p.zeros
		raw, first, err := g.read(row, n)
		if err != nil {
			return err
		}
		g.copyRows(dst, raw, row, n, first)
		for i := range dst {
			dst[i] ^= 0x80
		}
		return nil
	}
	groups := p.scales.blocks
	first := row * p.bits / 32
	words := make([]byte, (streamWords(row+n, p.bits)-first)*groups*4)
	if err := p.c.ReadAt(words, p.zeros, int64(first*groups*4)); err != nil {
		return err
	}
	for i := range n {
		at := (row+i)*p.bits - first*32
		for g := range groups {
			word := func(k int) uint32 { return binary.LittleEndian.Uint32(words[(k*groups+g)*4:]) }
			field := word(at/32) >> (at % 32)
			if at%32+p.bits > 32 {
				field |= word(at/32+1) << (32 - at%32)
			}
			dst[i*groups+g] = byte(field & (1<<p.bits - 1))
		}
	}
	return nil
}
