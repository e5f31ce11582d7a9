package kernels

import "fmt"

// GroupedBlock is the number of columns that a group of a Grouped is a multiple of. Devices that round activations to
// integers give each such block of a row a scale of its own.
const GroupedBlock = 32

// GroupedPanel is the number of rows that devices pack together: the rows of a Grouped are padded to a multiple of it.
const GroupedPanel = 16

// A Grouped is a matrix of small integers with a scale for each group of columns of a row: element (o, i) is
//
//	s[o][g]·(q[o][i] - z[o][g])   with g = i/Group
//
// for a code q in [0, 2^Bits) and a scale s of either sign, finite and not 0. How codes, scales and zero points lie in
// Packed is the device's affair; Stream.Pack, GroupedMatMul and GroupedEmbed are the only verbs that look. Its size is
// the same on every device.
type Grouped struct {
	Rows, Cols int
	Bits       int   // of a code: 8, 4, 3 or 2
	Group      int   // columns of a group, a multiple of GroupedBlock; the last group of a row may be shorter
	ScaleType  DType // of s: F16, BF16 or F32
	Zeros      bool  // z is stored for each group, in [0, 255]; else it is 2^(Bits-1) everywhere
	Packed     Mat   // (1, PackedBytes) U8
	Order      Mat   // (1, Cols) I32: column i of the matrix multiplies column Order[i] of x; no columns for i itself
}

// Groups returns the groups of a row.
func (g Grouped) Groups() int { return (g.Cols + g.Group - 1) / g.Group }

// PackedBytes returns the bytes of codes, scales and zero points, with rows padded to GroupedPanel and columns to
// GroupedBlock.
func (g Grouped) PackedBytes() int {
	rows := (g.Rows + GroupedPanel - 1) / GroupedPanel * GroupedPanel
	cols := (g.Cols + GroupedBlock - 1) / GroupedBlock * GroupedBlock
	perGroup := g.ScaleType.Bytes()
	if g.Zeros {
		perGroup++
	}
	return rows * (g.Groups()*perGroup + cols/8*g.Bits)
}

// Check returns an error that names the field that no device takes.
func (g Grouped) Check() error {
	switch {
	case g.Rows < 1 || g.Cols < 1:
		return fmt.Errorf("grouped matrix of %d x %d", g.Rows, g.Cols)
	case g.Bits != 8 && (g.Bits < 2 || g.Bits > 4):
		return fmt.Errorf("grouped matrix of %d bits (8, 4, 3 and 2 are supported)", g.Bits)
	case g.Group < GroupedBlock || g.Group%GroupedBlock != 0:
		return fmt.Errorf("grouped matrix with groups of %d columns (multiples of %d are supported)", g.Group, GroupedBlock)
	case g.ScaleType != F16 && g.ScaleType != BF16 && g.ScaleType != F32:
		return fmt.Errorf("grouped matrix with scales of type %s (f16, bf16 and f32 are supported)", g.ScaleType)
	}
	return nil
}
