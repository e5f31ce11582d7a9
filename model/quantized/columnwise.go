package quantized

import (
	"encoding/binary"
	"fmt"

	"eckart/layers"
	"eckart/model/checkpoint"
)

// columnwise is a matrix as GPTQ and AWQ lay it out: everything as (in, out), so that a row of the matrix is a column of
// each tensor.
type columnwise struct {
	c                       *checkpoint.Checkpoint
	rows, cols, group, bits int
	order                   []int32 // nil for none
	awq                     bool    // codes are packed along out, in AWQ's order; else along in
	oneLess                 bool    // one was subtracted from the zero points
	qweight, qzeros, scales *columns
}

// awqOrder is the column of eight that each nibble of a word holds.
var awqOrder = [8]int{0, 2, 4, 6, 1, 3, 5, 7}

// awqNibble is the nibble that holds each column of eight.
var awqNibble = [8]int{0, 4, 1, 5, 2, 6, 3, 7}

// read fills dst with the rows from row on.
func (w *columnwise) read(dst layers.GroupedRows, row int) error {
	n := len(dst.Codes) / w.cols
	if err := w.readScales(dst.Scales, row, n); err != nil {
		return err
	}
	if dst.Zeros != nil {
		if err := w.readZeros(dst.Zeros, row, n); err != nil {
			return err
		}
	}
	if w.awq {
		return w.readAWQ(dst.Codes, row, n)
	}
	raw, stride, err := w.qweight.span(row, row+n)
	if err != nil {
		return err
	}
	var sorted []byte
	if w.order != nil {
		sorted = make([]byte, w.cols)
	}
	for at := 0; at < n; at += columnTile {
		tile := dst.Codes[at*w.cols : min(at+columnTile, n)*w.cols]
		w.unpackTile(tile, raw[4*at:], stride)
		for ; sorted != nil && len(tile) > 0; tile = tile[w.cols:] {
			for i, from := range w.order {
				sorted[i] = tile[from]
			}
			copy(tile, sorted)
		}
	}
	return nil
}

// columnTile is how many columns are unpacked together: as many as have their words in one line of the cache.
const columnTile = 16

// unpackTile sets the rows of tile to the codes in as many columns of words.
func (w *columnwise) unpackTile(tile, words []byte, stride int) {
	var block [32]byte
	for col := 0; col < w.cols; col += 32 {
		codes := min(32, w.cols-col)
		n := streamWords(codes, w.bits)
		from := words[col*w.bits/32*stride:]
		for j := range len(tile) / w.cols {
			for k := range n {
				copy(block[4*k:4*k+4], from[k*stride+4*j:])
			}
			unpack(tile[j*w.cols+col:][:codes], block[:4*n], w.bits)
		}
	}
}

// readAWQ unpacks codes that lie eight to a word along out.
func (w *columnwise) readAWQ(codes []byte, row, n int) error {
	first := row / 8
	raw, stride, err := w.qweight.span(first, (row+n+7)/8)
	if err != nil {
		return err
	}
	for c := first; c*8 < row+n; c++ {
		for i := range w.cols {
			spread := nibbles(binary.LittleEndian.Uint32(raw[i*stride+4*(c-first):]))
			for k, o := range awqOrder {
				if r := c*8 + o; r >= row && r < row+n {
					codes[(r-row)*w.cols+i] = byte(spread >> (8 * k))
				}
			}
		}
	}
	return nil
}

// readScales transposes scales (groups, out) into dst (n, groups).
func (w *columnwise) readScales(dst []byte, row, n int) error {
	raw, stride, err := w.scales.span(row, row+n)
	if err != nil {
		return err
	}
	t := w.scales.t
	size, groups := t.Type.BitSize()/8, t.Shape[0]
	for g := range groups {
		line := raw[g*stride:][:n*size]
		if err := checkScales(widen(line, t.Type), t, g*w.rows+row); err != nil {
			return err
		}
		for i := range n {
			copy(dst[(i*groups+g)*size:][:size], line[i*size:])
		}
	}
	return nil
}

// readZeros unpacks and transposes zero points (groups, out) into dst (n, groups).
func (w *columnwise) readZeros(dst []byte, row, n int) error {
	first := row * w.bits / 32
	raw, stride, err := w.qzeros.span(first, streamWords(row+n, w.bits))
	if err != nil {
		return err
	}
	groups := w.qzeros.t.Shape[0]
	for g := range groups {
		line := raw[g*stride:]
		for i := range n {
			dst[i*groups+g] = w.zero(line, row+i, first)
		}
	}
	return nil
}

// zero returns the zero point of a row, from words that begin with the one called first.
func (w *columnwise) zero(words []byte, row, first int) byte {
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(words[4*i:]) }
	mask := uint32(1)<<w.bits - 1
	if w.awq {
		return byte(word(row/8-first) >> (4 * awqNibble[row%8]) & mask)
	}
	at := row*w.bits - first*32
	if w.bits == 3 {
		field := word(at/32) >> (at % 32)
		if at%32 > 29 {
			field |= word(at/32+1) << (32 - at%32)
		}
		if w.oneLess {
			field++
		}
		return byte(field & mask)
	}
	all := word(at / 32)
	if w.oneLess {
		all += ^uint32(0) / mask // a one in each field
	}
	return byte(all >> (at % 32) & mask)
}

// allMiddle reports whether every zero point is 2^(bits-1), as in a symmetric matrix.
func (w *columnwise) allMiddle() (bool, error) {
	raw := make([]byte, w.qzeros.t.Bytes())
	if err := w.c.ReadAt(raw, w.qzeros.t, 0); err != nil {
		return false, err
	}
	stride := w.qzeros.t.Shape[1] * 4
	for g := range w.qzeros.t.Shape[0] {
		for row := range w.rows {
			if w.zero(raw[g*stride:], row, 0) != 1<<(w.bits-1) {
				return false, nil
			}
		}
	}
	return true, nil
}

// sortedColumns returns the columns sorted by group, each group's in their own order, or nil where they are so already.
// Groups must be of the given width, but for the last one.
func sortedColumns(index []int32, name string, group, groups int) ([]int32, error) {
	next := make([]int, groups) // where the next column of a group goes
	for g := range next {
		next[g] = g * group
	}
	order := make([]int32, len(index))
	sorted := true
	for i, g := range index {
		if g < 0 || int(g) >= groups {
			return nil, fmt.Errorf("%s: column %d is of group %d, there are %d", name, i, g, groups)
		}
		at := next[g]
		if at == min((int(g)+1)*group, len(index)) {
			return nil, fmt.Errorf("%s: group %d has more than its %d columns", name, g, at-int(g)*group)
		}
		order[at] = int32(i)
		next[g]++
		sorted = sorted && at == i
	}
	if sorted {
		return nil, nil
	}
	return order, nil
}

// groupIndex reads a tensor that gives the group of each column.
func (m *module) groupIndex(part string, cols int) ([]int32, error) {
	t, err := m.shaped(part, []int{cols}, checkpoint.I32, checkpoint.I64)
	if err != nil {
		return nil, err
	}
	raw, err := m.all(t)
	if err != nil {
		return nil, err
	}
	index := make([]int32, cols)
	for i := range index {
		if t.Type == checkpoint.I32 {
			index[i] = int32(binary.LittleEndian.Uint32(raw[4*i:]))
			continue
		}
		v := int64(binary.LittleEndian.Uint64(raw[8*i:]))
		if index[i] = int32(v); int64(index[i]) != v {
			return nil, fmt.Errorf("%s: column %d is of group %d", t.Name, i, v)
		}
	}
	return index, nil
}
