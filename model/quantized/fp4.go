package quantized

import (
	"encoding/binary"
	"encoding/json"
	"fmt"

	"eckart/kernels"
	"eckart/layers"
	"eckart/model/checkpoint"
)

// mxfp4 is the layout of gpt-oss, for a matrix that stands by itself: blocks (out, groups, 16) U8, two codes of a group
// of 32 in a byte, the low nibble first, and scales (out, groups), exponents of two. Their names are that of the matrix,
// with or without ".weight", and "blocks" and "scales" after "_" or ".".
type mxfp4 struct{ wide kernels.DType }

func newMXFP4(text []byte, wide kernels.DType) (method, error) {
	return mxfp4{wide}, json.Unmarshal(text, &struct{}{})
}

func (mxfp4) layouts() []layout { return []layout{blockLayout} }

func (x mxfp4) read(m *module) (matrix, error) {
	before, _ := m.blocks()
	return m.mxfp4(before+"blocks", before+"scales", "mxfp4 in blocks", x.wide)
}

// mxfp4 returns the matrix of codes whose scales are powers of two for 32 columns each. Twice a code's value is an
// integer of no more than 12, so that the grouped kind has the same values, with codes of 8 bits.
func (m *module) mxfp4(codes, scales, text string, wide kernels.DType) (matrix, error) {
	c, err := m.take(codes, checkpoint.U8)
	if err != nil {
		return matrix{}, err
	}
	shape := c.Shape
	if len(shape) == 3 && shape[2] == 16 {
		shape = []int{shape[0], shape[1] * 16}
	}
	if len(shape) != 2 || shape[0] < 1 || shape[1] < 16 || shape[1]%16 != 0 || shape[0] > maxDim || shape[1] > maxDim {
		return matrix{}, fmt.Errorf("%s has shape %v, want (out, groups, 16) or (out, 16 for each group)", c.Name, c.Shape)
	}
	s, err := m.shaped(scales, []int{shape[0], shape[1] / 16}, checkpoint.U8, checkpoint.F8E8M0)
	if err != nil {
		return matrix{}, err
	}
	rows, cols := shape[0], shape[1]*2
	read := func(dst layers.GroupedRows, row int) error {
		n := len(dst.Codes) / cols
		exponents := make([]byte, n*s.Shape[1])
		if err := m.c.ReadAt(exponents, s, int64(row*s.Shape[1])); err != nil {
			return err
		}
		for i, e := range exponents {
			// Beyond 2¹²⁵ the largest code is no finite number; 0xff is not one itself.
			if e > 127+125 {
				return fmt.Errorf("read %s in %s: element %d is 2^%d, want at most 2^125", s.Name, s.Shard, row*s.Shape[1]+i, int(e)-127)
			}
			binary.NativeEndian.PutUint16(dst.Scales[2*i:], halfPower(e))
		}
		raw := make([]byte, n*cols/2)
		if err := m.c.ReadAt(raw, c, int64(row)*int64(cols/2)); err != nil {
			return err
		}
		for i, b := range raw {
			dst.Codes[2*i], dst.Codes[2*i+1] = 128+byte(e2m1[b&15]), 128+byte(e2m1[b>>4])
		}
		return nil
	}
	x := ints{rows: rows, cols: cols, bits: 8, group: 32, scaleType: kernels.BF16, read: read}
	w, _, err := x.weight(wide, m.name+".weight")
	if err != nil {
		return matrix{}, fmt.Errorf("read %s: %w", m.name, err)
	}
	return m.became(w, text, "the same values as integers of 8 bits"), nil
}

// halfPower returns half of the power of two that an exponent stands for, as BF16.
func halfPower(e byte) uint16 {
	if e < 2 {
		return 0x20 << e // 2⁻¹²⁸ and 2⁻¹²⁷ have no exponent of their own
	}
	return uint16(e-1) << 7
}

// nvfp4 returns the matrix of nvfp4-pack-quantized: scales for groups of 16, which are divided by one of the matrix.
func (m *module) nvfp4(text string, t kernels.DType) (matrix, error) {
	const group = 16
	c, err := m.matrixOf("weight_packed", checkpoint.U8)
	if err != nil {
		return matrix{}, err
	}
	rows, cols := c.Shape[0], c.Shape[1]*2
	if cols%group != 0 {
		return matrix{}, fmt.Errorf("%s has shape %v, want 8 bytes for each group", c.Name, c.Shape)
	}
	g, err := m.takeGrid("weight_scale", rows, cols, 1, group, checkpoint.F8E4M3)
	if err != nil {
		return matrix{}, err
	}
	global, err := m.take("weight_global_scale", checkpoint.F32)
	if err == nil && global.Elements() != 1 {
		err = fmt.Errorf("%s has shape %v, want [1]", global.Name, global.Shape)
	}
	if err != nil {
		return matrix{}, err
	}
	raw, err := m.all(global)
	if err != nil {
		return matrix{}, err
	}
	divisor := widen(raw, global.Type)
	if err := checkScales(divisor, global, 0); err != nil {
		return matrix{}, err
	}
	values := func(dst []float32, row int) error {
		n := len(dst) / cols
		scales, _, err := g.rows(row, n)
		if err != nil {
			return err
		}
		codes := make([]byte, n*cols/2)
		if err := m.c.ReadAt(codes, c, int64(row)*int64(cols/2)); err != nil {
			return err
		}
		for i, b := range codes {
			s := scales[2*i/group] / divisor[0] / 2
			dst[2*i], dst[2*i+1] = float32(e2m1[b&15])*s, float32(e2m1[b>>4])*s
		}
		return nil
	}
	w := dense(rows, cols, t, m.name+".weight", values)
	return m.widened(w, text), nil
}
