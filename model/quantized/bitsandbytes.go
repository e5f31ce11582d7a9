package quantized

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// bitsAndBytes is the layouts of bitsandbytes. Of 8 bits: weight (out, in) I8 and SCB (out), the largest magnitude of
// each row, so that an element is weight·SCB/127. Of 4 bits, with the matrix as one sequence of codes in blocks:
//
//	weight (n/2, 1) U8                           two codes in a byte, the high nibble first
//	weight.quant_map (16)                        what a code stands for
//	weight.absmax (blocks)                       the largest magnitude of each block; or, nested, codes of it with
//	weight.nested_quant_map (256), .nested_absmax
//	weight.quant_state.bitsandbytes__nf4 U8      JSON: shape, blocksize, nested_offset, ...; or __fp4
type bitsAndBytes struct {
	eight bool
	kind  string // of codes of 4 bits; empty where config.json does not say
	wide  kernels.DType
}

func newBitsAndBytes(text []byte, wide kernels.DType) (method, error) {
	var raw struct {
		Four    *bool  `json:"load_in_4bit"`
		Eight   *bool  `json:"load_in_8bit"`
		Type    string `json:"bnb_4bit_quant_type"`
		Storage string `json:"bnb_4bit_quant_storage"`
	}
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, err
	}
	four, eight := raw.Four != nil && *raw.Four, raw.Eight != nil && *raw.Eight
	switch {
	case four == eight:
		return nil, errors.New("one of load_in_4bit and load_in_8bit must be true")
	case four && raw.Storage != "" && raw.Storage != "uint8":
		return nil, fmt.Errorf("bnb_4bit_quant_storage %q: %w (uint8 is)", raw.Storage, ErrUnsupported)
	case four && raw.Type != "" && raw.Type != "nf4" && raw.Type != "fp4":
		return nil, fmt.Errorf("bnb_4bit_quant_type %q: %w (nf4 and fp4 are)", raw.Type, ErrUnsupported)
	}
	return &bitsAndBytes{eight, raw.Type, wide}, nil
}

func (b *bitsAndBytes) layouts() []layout {
	if b.eight {
		return []layout{bnb8Layout}
	}
	return []layout{bnb4Layout}
}

func (b *bitsAndBytes) read(m *module) (matrix, error) {
	if b.eight {
		return b.read8(m)
	}
	return b.read4(m)
}

func (b *bitsAndBytes) read8(m *module) (matrix, error) {
	weight, err := m.matrixOf("weight", checkpoint.I8)
	if err != nil {
		return matrix{}, err
	}
	rows, cols := weight.Shape[0], weight.Shape[1]
	absmax, err := m.shaped("SCB", []int{rows}, checkpoint.F32)
	if err != nil {
		return matrix{}, err
	}
	if format := m.parts["weight_format"]; format != nil {
		// 0 is rows as they are; the others are tiles for one generation of GPU.
		if format, err = m.take("weight_format", checkpoint.U8); err != nil {
			return matrix{}, err
		}
		raw, err := m.all(format)
		if err != nil {
			return matrix{}, err
		}
		if len(raw) != 1 || raw[0] != 0 {
			return matrix{}, fmt.Errorf("%s is %v: %w (0, for rows, is)", format.Name, raw, ErrUnsupported)
		}
	}
	read := func(dst layers.GroupedRows, row int) error {
		n := len(dst.Codes) / cols
		raw := make([]byte, 4*n)
		if err := m.c.ReadAt(raw, absmax, int64(4*row)); err != nil {
			return err
		}
		if err := m.c.ReadAt(dst.Codes, weight, int64(row)*int64(cols)); err != nil {
			return err
		}
		for i, v := range widen(raw, checkpoint.F32) {
			line := dst.Codes[i*cols : (i+1)*cols]
			scale := v / 127
			if err := checkMagnitude(v, absmax, row+i); err != nil {
				return err
			}
			if scale == 0 { // a row of zeros
				scale = 1
				clear(line)
			}
			binary.NativeEndian.PutUint32(dst.Scales[4*i:], math.Float32bits(scale))
			for j := range line {
				line[j] ^= 0x80
			}
		}
		return nil
	}
	return m.integers(ints{rows: rows, cols: cols, bits: 8, group: cols, scaleType: kernels.F32, read: read},
		"bitsandbytes, int8, a scale a row", b.wide)
}

// checkMagnitude returns an error unless v is a finite number of at least 0, as a largest magnitude is.
func checkMagnitude(v float32, t *checkpoint.Tensor, element int) error {
	if !(v >= 0) || v > math.MaxFloat32 {
		return fmt.Errorf("read %s in %s: element %d is %g, want a finite magnitude", t.Name, t.Shard, element, v)
	}
	return nil
}

// tables holds what the codes of each type stand for.
var tables = map[string][16]float32{
	// arXiv 2305.14314, appendix E
	"nf4": {
		-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
		-0.09105003625154495, 0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
		0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1,
	},
	// sign, then three bits that are numbered as no other format numbers them; in units of 12
	"fp4": {
		0, 0.0625 / 12, 8. / 12, 12. / 12, 4. / 12, 6. / 12, 2. / 12, 3. / 12,
		0, -0.0625 / 12, -8. / 12, -12. / 12, -4. / 12, -6. / 12, -2. / 12, -3. / 12,
	},
}

// maxStateBytes bounds quant_state, which has a few hundred.
const maxStateBytes = 1 << 16

// A quantState is what weight.quant_state holds.
type quantState struct {
	Type        string  `json:"quant_type"`
	BlockSize   int     `json:"blocksize"`
	Shape       []int   `json:"shape"`
	NestedBlock int     `json:"nested_blocksize"`
	NestedType  string  `json:"nested_dtype"`
	Offset      float64 `json:"nested_offset"`
}

// parseQuantState reads a quant_state. nested says that there are nested tensors.
func parseQuantState(text []byte, nested bool) (quantState, error) {
	var s quantState
	if err := json.Unmarshal(text, &s); err != nil {
		return s, err
	}
	sizes := []int{32, 64, 128, 256, 512, 1024, 2048, 4096}
	_, known := tables[s.Type]
	switch {
	case !known:
		return s, fmt.Errorf("quant_type %q: %w (nf4 and fp4 are)", s.Type, ErrUnsupported)
	case !slices.Contains(sizes, s.BlockSize):
		return s, fmt.Errorf("blocksize %d: %w (%v are)", s.BlockSize, ErrUnsupported, sizes)
	case len(s.Shape) != 2 || min(s.Shape[0], s.Shape[1]) < 1 || max(s.Shape[0], s.Shape[1]) > maxDim:
		return s, fmt.Errorf("shape must be two numbers between 1 and %d, got %v", maxDim, s.Shape)
	case nested && !slices.Contains(sizes, s.NestedBlock):
		return s, fmt.Errorf("nested_blocksize %d: %w (%v are)", s.NestedBlock, ErrUnsupported, sizes)
	case nested && s.NestedType != "float32":
		return s, fmt.Errorf("nested_dtype %q: %w (float32 is)", s.NestedType, ErrUnsupported)
	case math.Abs(s.Offset) > math.MaxFloat32:
		return s, fmt.Errorf("nested_offset %g is out of range", s.Offset)
	}
	return s, nil
}

// nibbleBlocks is a matrix of 4 bits.
type nibbleBlocks struct {
	c              *checkpoint.Checkpoint
	state          quantState
	table          []float32
	weight, absmax *checkpoint.Tensor
	nestedTable    []float32 // nil where absmax is stored as itself
	nestedAbsmax   []float32
}

func (b *bitsAndBytes) read4(m *module) (matrix, error) {
	x := &nibbleBlocks{c: m.c}
	if err := x.takeState(m); err != nil {
		return matrix{}, err
	}
	if b.kind != "" && b.kind != x.state.Type {
		return matrix{}, fmt.Errorf("config.json says bnb_4bit_quant_type %q, and %s is %s", b.kind, m.what(), x.state.Type)
	}
	rows, cols := x.state.Shape[0], x.state.Shape[1]
	var err error
	if x.weight, err = m.shaped("weight", []int{(rows*cols + 1) / 2, 1}, checkpoint.U8); err != nil {
		return matrix{}, err
	}
	blocks := (rows*cols + x.state.BlockSize - 1) / x.state.BlockSize
	text := fmt.Sprintf("bitsandbytes, %s, blocks of %d", x.state.Type, x.state.BlockSize)
	if m.parts["weight.nested_absmax"] == nil {
		x.absmax, err = m.shaped("weight.absmax", []int{blocks}, checkpoint.F32)
	} else {
		text += ", nested"
		err = x.takeNested(m, blocks)
	}
	if err == nil {
		x.table, err = m.floats("weight.quant_map", 16)
	}
	if err != nil {
		return matrix{}, err
	}
	for i, want := range tables[x.state.Type] {
		if !(math.Abs(float64(x.table[i]-want)) <= 1e-6) {
			return matrix{}, fmt.Errorf("%s: code %d stands for %g, want %g for %s", m.nameOf("weight.quant_map"), i, x.table[i], want, x.state.Type)
		}
	}
	w := dense(rows, cols, b.wide, m.name+".weight", x.values)
	return m.widened(w, text), nil
}

// takeState takes the quant_state, whose name has its type in it.
func (x *nibbleBlocks) takeState(m *module) error {
	const prefix = "weight.quant_state.bitsandbytes__"
	for part, t := range m.parts {
		kind, ok := strings.CutPrefix(part, prefix)
		if !ok {
			continue
		}
		if t.Bytes() > maxStateBytes {
			return fmt.Errorf("%s has %d bytes, want at most %d", t.Name, t.Bytes(), maxStateBytes)
		}
		t, err := m.take(part, checkpoint.U8)
		if err != nil {
			return err
		}
		text, err := m.all(t)
		if err != nil {
			return err
		}
		if x.state, err = parseQuantState(text, m.parts["weight.nested_absmax"] != nil); err != nil {
			return fmt.Errorf("read %s: %w", t.Name, err)
		}
		if x.state.Type != kind {
			return fmt.Errorf("%s has quant_type %q", t.Name, x.state.Type)
		}
		return nil
	}
	return fmt.Errorf("%s is laid out as %s, and %snf4 or __fp4 is missing", m.what(), m.layout, m.nameOf(prefix))
}

// takeNested takes magnitudes that are codes themselves.
func (x *nibbleBlocks) takeNested(m *module, blocks int) error {
	var err error
	if x.absmax, err = m.shaped("weight.absmax", []int{blocks}, checkpoint.U8); err != nil {
		return err
	}
	if x.nestedAbsmax, err = m.floats("weight.nested_absmax", (blocks+x.state.NestedBlock-1)/x.state.NestedBlock); err != nil {
		return err
	}
	for i, v := range x.nestedAbsmax {
		if err := checkMagnitude(v, m.parts["weight.nested_absmax"], i); err != nil {
			return err
		}
	}
	if x.nestedTable, err = m.floats("weight.nested_quant_map", 256); err != nil {
		return err
	}
	for i, v := range x.nestedTable {
		if !(math.Abs(float64(v)) <= 1) {
			return fmt.Errorf("%s: code %d stands for %g, want at most 1", m.nameOf("weight.nested_quant_map"), i, v)
		}
	}
	return nil
}

// floats takes and reads n elements of F32.
func (m *module) floats(part string, n int) ([]float32, error) {
	t, err := m.shaped(part, []int{n}, checkpoint.F32)
	if err != nil {
		return nil, err
	}
	raw, err := m.all(t)
	if err != nil {
		return nil, err
	}
	return widen(raw, t.Type), nil
}

// values sets dst to the elements of rows from row on.
func (x *nibbleBlocks) values(dst []float32, row int) error {
	from := row * x.state.Shape[1]
	codes := make([]byte, (from+len(dst)+1)/2-from/2)
	if err := x.c.ReadAt(codes, x.weight, int64(from/2)); err != nil {
		return err
	}
	size := x.state.BlockSize
	first := from / size
	magnitudes, err := x.magnitudes(first, (from+len(dst)+size-1)/size-first)
	if err != nil {
		return err
	}
	for i := range dst {
		b := codes[(from+i)/2-from/2]
		if (from+i)%2 == 0 {
			b >>= 4
		}
		dst[i] = x.table[b&15] * magnitudes[(from+i)/size-first]
	}
	return nil
}

// magnitudes returns those of n blocks from first on. A zero is that of a block of zeros.
func (x *nibbleBlocks) magnitudes(first, n int) ([]float32, error) {
	raw := make([]byte, n*x.absmax.Type.BitSize()/8)
	if err := x.c.ReadAt(raw, x.absmax, int64(first*x.absmax.Type.BitSize()/8)); err != nil {
		return nil, err
	}
	if x.nestedTable != nil {
		out := make([]float32, n)
		for i, code := range raw {
			out[i] = float32(x.nestedTable[code]*x.nestedAbsmax[(first+i)/x.state.NestedBlock]) + float32(x.state.Offset)
		}
		return out, nil
	}
	out := widen(raw, checkpoint.F32)
	for i, v := range out {
		if err := checkMagnitude(v, x.absmax, first+i); err != nil {
			return nil, err
		}
	}
	return out, nil
}
