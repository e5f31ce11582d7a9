package layers

import (
	"encoding/binary"
	"fmt"
	"math"

	"eckart/kernels"
)

// Grouped is a matrix of small integers with a scale, and maybe a zero point, for each group of columns of a row:
// s·(q - z), as kernels.Grouped says.
type Grouped struct {
	format kernels.Grouped // Packed and Order have no memory
	order  []int32         // column i of the codes multiplies column order[i] of x; nil for i itself
	read   func(dst GroupedRows, row int) error
}

var _ Weight = (*Grouped)(nil)

// GroupedRows is n rows of a grouped matrix in host memory, nothing packed.
type GroupedRows struct {
	Codes  []byte // (n, Cols), one code in a byte
	Scales []byte // (n, Groups) of the scale's type, in the host's order
	Zeros  []byte // (n, Groups); nil where the zero point is 2^(Bits-1) everywhere
}

// NewGrouped returns the matrix that format describes. read fills dst, whose lengths say how many rows are wanted, with
// the rows from row on; it may be called from several goroutines at once.
// order, which may be nil, lists for each column of the codes the column of x that it multiplies, each once.
func NewGrouped(format kernels.Grouped, order []int32, read func(dst GroupedRows, row int) error) (*Grouped, error) {
	if err := format.Check(); err != nil {
		return nil, err
	}
	if order != nil {
		if len(order) != format.Cols {
			return nil, fmt.Errorf("order of %d columns for a matrix of %d", len(order), format.Cols)
		}
		seen := make([]bool, format.Cols)
		for i, from := range order {
			if from < 0 || int(from) >= format.Cols || seen[from] {
				return nil, fmt.Errorf("order of columns has %d at %d, out of range or twice", from, i)
			}
			seen[from] = true
		}
	}
	return &Grouped{format, order, read}, nil
}

// Kind returns "grouped".
func (g *Grouped) Kind() string { return "grouped" }

// Dims returns the rows and columns of the matrix.
func (g *Grouped) Dims() (out, in int) { return g.format.Rows, g.format.Cols }

// Parts returns what a checkpoint of ours holds: the codes of each row as a stream of bits, low bits first, padded to
// bytes; the scales; the zero points and the order where there are any.
func (g *Grouped) Parts() []Part {
	f := g.format
	part := func(name string, t kernels.DType, cols int, fill func(dst []byte, r GroupedRows)) Part {
		return Part{Name: name, Type: t, Rows: f.Rows, Cols: cols, Read: func(dst []byte, row int) error {
			r := g.rows(len(dst) / (cols * t.Bytes()))
			if err := g.read(r, row); err != nil {
				return err
			}
			fill(dst, r)
			return nil
		}}
	}
	parts := []Part{
		part("codes", kernels.U8, (f.Cols*f.Bits+7)/8, func(dst []byte, r GroupedRows) { packBits(dst, r.Codes, f.Cols, f.Bits) }),
		part("scales", f.ScaleType, f.Groups(), func(dst []byte, r GroupedRows) { copy(dst, r.Scales) }),
	}
	if f.Zeros {
		parts = append(parts, part("zeros", kernels.U8, f.Groups(), func(dst []byte, r GroupedRows) { copy(dst, r.Zeros) }))
	}
	if g.order != nil {
		parts = append(parts, Part{Name: "order", Type: kernels.I32, Rows: 1, Cols: f.Cols, Read: func(dst []byte, _ int) error {
			copy(dst, kernels.Int32Bytes(g.order))
			return nil
		}})
	}
	return parts
}

// packBits sets dst to the codes, bits of each, low bits first; every run of cols begins at a byte.
func packBits(dst, codes []byte, cols, bits int) {
	clear(dst)
	rowBytes := (cols*bits + 7) / 8
	for i, q := range codes {
		at := i%cols*bits + i/cols*rowBytes*8
		wide := uint16(q) << (at % 8)
		dst[at/8] |= byte(wide)
		if wide>>8 != 0 {
			dst[at/8+1] |= byte(wide >> 8)
		}
	}
}

// rows returns memory for n rows.
func (g *Grouped) rows(n int) GroupedRows {
	f := g.format
	r := GroupedRows{Codes: make([]byte, n*f.Cols), Scales: make([]byte, n*f.Groups()*f.ScaleType.Bytes())}
	if f.Zeros {
		r.Zeros = make([]byte, n*f.Groups())
	}
	return r
}

// Dense returns the matrix in F32, with its columns in the order of x.
func (g *Grouped) Dense() ([]float32, error) {
	f := g.format
	r := g.rows(f.Rows)
	if err := g.read(r, 0); err != nil {
		return nil, err
	}
	scales := decode(r.Scales, f.ScaleType)
	out := make([]float32, f.Rows*f.Cols)
	for i, q := range r.Codes {
		row, col := i/f.Cols, i%f.Cols
		group := row*f.Groups() + col/f.Group
		zero := float32(int(1) << (f.Bits - 1))
		if f.Zeros {
			zero = float32(r.Zeros[group])
		}
		if g.order != nil {
			col = int(g.order[col])
		}
		out[row*f.Cols+col] = scales[group] * (float32(q) - zero)
	}
	return out, nil
}

// decode widens elements in the host's order.
func decode(raw []byte, t kernels.DType) []float32 {
	out := make([]float32, len(raw)/t.Bytes())
	for i := range out {
		switch t {
		case kernels.F16:
			out[i] = float32FromF16(binary.NativeEndian.Uint16(raw[2*i:]))
		case kernels.BF16:
			out[i] = math.Float32frombits(uint32(binary.NativeEndian.Uint16(raw[2*i:])) << 16)
		default:
			out[i] = math.Float32frombits(binary.NativeEndian.Uint32(raw[4*i:]))
		}
	}
	return out
}

// groupedBindElements bounds the elements that are in host memory while a matrix is bound.
const groupedBindElements = 4 << 20

// Bind packs the matrix into the arena.
func (g *Grouped) Bind(a kernels.Arena, s kernels.Stream) (Linear, error) {
	w := g.format
	var err error
	if w.Packed, err = a.Alloc(1, w.PackedBytes(), kernels.U8); err != nil {
		return nil, err
	}
	if g.order != nil {
		if w.Order, err = a.Alloc(1, w.Cols, kernels.I32); err != nil {
			return nil, err
		}
	}
	l := &groupedLinear{w}
	if w.Packed.Host == nil && w.Packed.Addr == 0 {
		return l, nil // a kernels.Counter has no memory
	}
	if g.order != nil {
		s.Upload(w.Order, kernels.Int32Bytes(g.order))
	}
	const panel = kernels.GroupedPanel
	n := max(panel, groupedBindElements/w.Cols/panel*panel)
	for row := 0; row < w.Rows; row += n {
		r := g.rows(min(n, w.Rows-row))
		if err := g.read(r, row); err != nil {
			return nil, err
		}
		s.Pack(w, row, r.Codes, r.Scales, r.Zeros)
		if err := s.Sync(); err != nil {
			return nil, fmt.Errorf("pack rows: %w", err)
		}
	}
	return l, nil
}

// groupedLinear multiplies by a packed grouped matrix.
type groupedLinear struct{ w kernels.Grouped }

func (l *groupedLinear) Dims() (out, in int) { return l.w.Rows, l.w.Cols }
func (l *groupedLinear) Bytes() int64        { return int64(l.w.PackedBytes()) }

func (l *groupedLinear) Apply(p *Pass, y, x kernels.Mat, m kernels.Mode) {
	p.GroupedMatMul(y, x, l.w, m)
}

// Embed implements Rows.
func (l *groupedLinear) Embed(p *Pass, y, ids kernels.Mat) { p.GroupedEmbed(y, l.w, ids) }
