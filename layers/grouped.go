package layers

import (
	"encoding/binary"
	"fmt"
	"slices"

	"eckart/kernels"
)

// Grouped is a matrix of small integers with a scale, and maybe a zero point, for each group of columns of a row:
// s·(q - z), as kernels.Grouped says.
type Grouped struct {
	format kernels.Grouped // Packed and Order have no memory
	signed bool            // scales may be negative
	order  []int32         // column i of the codes multiplies column order[i] of x; nil for i itself
	read   func(dst GroupedRows, row int) error
}

var (
	_ Weight  = (*Grouped)(nil)
	_ Stacker = (*Grouped)(nil)
)

// GroupedRows is n rows of a grouped matrix in host memory, nothing packed.
type GroupedRows struct {
	Codes  []byte // (n, Cols), one code in a byte
	Scales []byte // (n, Groups) of the scale's type, in the host's order
	Zeros  []byte // (n, Groups); nil where the zero point is 2^(Bits-1) everywhere
}

// NewGrouped returns the matrix that format describes. read fills dst, whose lengths say how many rows are wanted, with
// the rows from row on; it may be called from several goroutines at once. What it fills in is checked: codes that are
// too wide, and scales that are not positive and finite, are a *ValueError.
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
	return &Grouped{format: format, order: order, read: read}, nil
}

// NewSignedGrouped is NewGrouped for scales that may be negative, as those of matrices that are rounded here are: see
// rounder. No format of another tool has such.
func NewSignedGrouped(format kernels.Grouped, order []int32, read func(dst GroupedRows, row int) error) (*Grouped, error) {
	g, err := NewGrouped(format, order, read)
	if err == nil {
		g.signed = true
	}
	return g, err
}

// NewStoredGrouped returns the matrix whose Parts are codes, scales and, where format has them, zeros.
func NewStoredGrouped(format kernels.Grouped, order []int32, codes, scales, zeros Part) (*Grouped, error) {
	rowBytes := (format.Cols*format.Bits + 7) / 8
	return NewSignedGrouped(format, order, func(dst GroupedRows, row int) error {
		packed := make([]byte, len(dst.Codes)/format.Cols*rowBytes)
		if err := codes.Read(packed, row); err != nil {
			return err
		}
		UnpackBits(dst.Codes, packed, format.Cols, format.Bits)
		if err := scales.Read(dst.Scales, row); err != nil || dst.Zeros == nil {
			return err
		}
		return zeros.Read(dst.Zeros, row)
	})
}

// Kind returns "grouped".
func (g *Grouped) Kind() string { return "grouped" }

// Dims returns the rows and columns of the matrix.
func (g *Grouped) Dims() (out, in int) { return g.format.Rows, g.format.Cols }

// Format returns what the codes are, without the memory of any device.
func (g *Grouped) Format() kernels.Grouped { return g.format }

// Ordered reports whether columns of the codes multiply columns of x in another order than their own.
func (g *Grouped) Ordered() bool { return g.order != nil }

// Parts returns what a checkpoint of ours holds: "codes", those of each row as a stream of bits, low bits first, padded to
// bytes; "scales"; and "zeros" and "order" where there are any. Beside the parts a reader needs the bits of a code and the
// columns of the matrix and of a group: codes of 3 bits, and a last group that is short, leave them open. ReadParts reads
// several parts at once.
func (g *Grouped) Parts() []Part {
	f := g.format
	parts := []Part{
		{Name: "codes", Type: kernels.U8, Rows: f.Rows, Cols: (f.Cols*f.Bits + 7) / 8},
		{Name: "scales", Type: f.ScaleType, Rows: f.Rows, Cols: f.Groups()},
	}
	if f.Zeros {
		parts = append(parts, Part{Name: "zeros", Type: kernels.U8, Rows: f.Rows, Cols: f.Groups()})
	}
	for i, p := range parts {
		parts[i].Read = func(dst []byte, row int) error {
			all := make([][]byte, len(parts))
			all[i] = dst
			return g.ReadParts(all, row, len(dst)/(p.Cols*p.Type.Bytes()))
		}
	}
	if g.order != nil {
		parts = append(parts, Part{Name: "order", Type: kernels.I32, Rows: 1, Cols: f.Cols, Read: func(dst []byte, _ int) error {
			copy(dst, kernels.Int32Bytes(g.order))
			return nil
		}})
	}
	return parts
}

// ReadParts sets dst, a slice for each of Parts that has Rows rows, to n rows from row on, and skips those that are nil.
// The matrix is read once for all of them, which is less work where it is rounded as it is read.
func (g *Grouped) ReadParts(dst [][]byte, row, n int) error {
	r := newGroupedRows(g.format, n)
	if err := g.fill(r, row); err != nil {
		return err
	}
	if dst[0] != nil {
		packBits(dst[0], r.Codes, g.format.Cols, g.format.Bits)
	}
	copy(dst[1], r.Scales)
	if r.Zeros != nil {
		copy(dst[2], r.Zeros)
	}
	return nil
}

// packBits sets dst to the codes, at most 8 bits of each, low bits first; every run of cols begins at a byte.
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

// UnpackBits sets codes (rows, cols) to those that are packed as a part holds them: at most 8 bits of each, low bits first, a row
// beginning at a byte.
func UnpackBits(codes, packed []byte, cols, bits int) {
	mask := byte(1<<bits - 1)
	rowBytes := (cols*bits + 7) / 8
	for ; len(codes) > 0; codes, packed = codes[cols:], packed[rowBytes:] {
		row, from := codes[:cols], packed[:rowBytes]
		for len(row) >= 8 && len(from) >= 8 { // eight codes are as many bytes as a code has bits
			eight := binary.LittleEndian.Uint64(from)
			for i := range row[:8] {
				row[i] = byte(eight>>(i*bits)) & mask
			}
			row, from = row[8:], from[bits:]
		}
		for i := range row {
			at := i * bits
			q := uint16(from[at/8])
			if at/8+1 < len(from) {
				q |= uint16(from[at/8+1]) << 8
			}
			row[i] = byte(q>>(at%8)) & mask
		}
	}
}

// fill sets r to the rows from row on and refuses what no matrix has: codes that are wider than Bits, and scales that are
// zero or not finite, or negative where no format has such.
func (g *Grouped) fill(r GroupedRows, row int) error {
	if err := g.read(r, row); err != nil {
		return err
	}
	if i := firstWide(r.Codes, g.format.Bits); i >= 0 {
		return &ValueError{
			Row:  row + i/g.format.Cols,
			What: fmt.Sprintf("the code of column %d is %d, which %d bits do not hold", i%g.format.Cols, r.Codes[i], g.format.Bits),
		}
	}
	if i := firstBadScale(r.Scales, g.format.ScaleType, g.signed); i >= 0 {
		want := "positive finite number"
		if g.signed {
			want = "finite number other than 0"
		}
		bytes := g.format.ScaleType.Bytes()
		return &ValueError{
			Row: row + i/g.format.Groups(),
			What: fmt.Sprintf("the scale of group %d is %g, want a %s",
				i%g.format.Groups(), Float32s(r.Scales[i*bytes:][:bytes], g.format.ScaleType)[0], want),
		}
	}
	return nil
}

// firstWide returns the first of codes that bits do not hold, or -1.
func firstWide(codes []byte, bits int) int {
	if bits == 8 {
		return -1
	}
	above := byte(0xff << bits)
	mask := 0x0101010101010101 * uint64(above)
	i := 0
	for ; i+32 <= len(codes); i += 32 {
		c := codes[i : i+32 : i+32]
		if (binary.NativeEndian.Uint64(c)|binary.NativeEndian.Uint64(c[8:])|
			binary.NativeEndian.Uint64(c[16:])|binary.NativeEndian.Uint64(c[24:]))&mask != 0 {
			break
		}
	}
	for ; i < len(codes); i++ {
		if codes[i]&above != 0 {
			return i
		}
	}
	return -1
}

// firstBadScale returns the first of scales, of type t in the host's order, that is zero, infinite, not a number or,
// unless they are signed, negative; or -1.
func firstBadScale(scales []byte, t kernels.DType, signed bool) int {
	if t == kernels.F32 {
		mask := ^uint32(0)
		if signed {
			mask = 1<<31 - 1
		}
		for i := 0; i < len(scales); i += 4 {
			// Zero wraps around, and what has a sign is above the infinities.
			if bits := binary.NativeEndian.Uint32(scales[i:]) & mask; bits-1 >= 0x7f800000-1 {
				return i / 4
			}
		}
		return -1
	}
	mask, infinite := ^uint16(0), uint16(0x7c00)
	if signed {
		mask = 1<<15 - 1
	}
	if t == kernels.BF16 {
		infinite = 0x7f80
	}
	for i := 0; i < len(scales); i += 2 {
		if bits := binary.NativeEndian.Uint16(scales[i:]) & mask; bits-1 >= infinite-1 {
			return i / 2
		}
	}
	return -1
}

// Dense returns the matrix in F32, with its columns in the order of x.
func (g *Grouped) Dense() ([]float32, error) {
	f := g.format
	r := newGroupedRows(f, f.Rows)
	if err := g.fill(r, 0); err != nil {
		return nil, err
	}
	out := make([]float32, f.Rows*f.Cols)
	r.Values(out, f, g.order)
	return out, nil
}

// Values sets dst (n, Cols) to the elements that r stands for, whose columns go to the places that order gives them; nil
// leaves them where they are. Of format only the sizes count; its groups may have any width.
func (r GroupedRows) Values(dst []float32, format kernels.Grouped, order []int32) {
	f, groups := format, format.Groups()
	scales := Float32s(r.Scales, f.ScaleType)
	zero := float32(int(1) << (f.Bits - 1))
	for i := range len(dst) / f.Cols {
		row := dst[i*f.Cols:][:f.Cols]
		for j, q := range r.Codes[i*f.Cols:][:f.Cols] {
			g := i*groups + j/f.Group
			if f.Zeros {
				zero = float32(r.Zeros[g])
			}
			col := j
			if order != nil {
				col = int(order[j])
			}
			row[col] = scales[g] * (float32(q) - zero)
		}
	}
}

// Stack implements Stacker: matrices of one format and order lie below one another as they are.
func (g *Grouped) Stack(members []Member) Weight {
	f := g.format
	f.Rows = 0
	all := make([]*Grouped, len(members))
	for i, m := range members {
		o, ok := m.Weight.(*Grouped)
		if !ok || !o.like(g) {
			return nil
		}
		f.Rows += o.format.Rows
		all[i] = o
	}
	perRow := f.Groups()
	scaleBytes := perRow * f.ScaleType.Bytes()
	// Each member checks its own scales.
	return &Grouped{format: f, signed: true, order: g.order, read: func(dst GroupedRows, row int) error {
		return spread(members, row, len(dst.Codes)/f.Cols, func(i, from, n, at int) error {
			r := GroupedRows{Codes: dst.Codes[at*f.Cols:][:n*f.Cols], Scales: dst.Scales[at*scaleBytes:][:n*scaleBytes]}
			if f.Zeros {
				r.Zeros = dst.Zeros[at*perRow:][:n*perRow]
			}
			return all[i].fill(r, from)
		})
	}}
}

// like reports whether rows of g and o can be rows of one matrix.
func (g *Grouped) like(o *Grouped) bool {
	a, b := g.format, o.format
	return a.Cols == b.Cols && a.Bits == b.Bits && a.Group == b.Group && a.ScaleType == b.ScaleType && a.Zeros == b.Zeros &&
		slices.Equal(g.order, o.order)
}
