package cpu

import (
	"encoding/binary"
	"math"

	"eckart/kernels"
)

// A grouped matrix lies in panels of panelRows rows, padded with zeros. A panel holds its groups of columns in order,
// and a group
//
//	scales   panelRows of the scale's type
//	zeros    panelRows bytes, if the matrix has zero points
//	blocks   of GroupedBlock columns, the last one padded
//
// so that a product reads one stream of bytes from start to end. In a block the codes of columns 4j to 4j+3 of all rows
// are a quad j, ordered by row and then by column: what an instruction multiplies by four columns of x at once. Quads are
// folded into bytes by the width of a code:
//
//	8 bits   quads 0 to 7
//	4 bits   for t < 4: quad t in the low halves of the bytes, quad t+4 in the high halves
//	2 bits   for t < 2: quads t, t+2, t+4, t+6 in the bits of the bytes, from low to high
//	3 bits   the low two bits as above, then for every byte of a quad the third bits of quads 0 to 7, from low to high

// groupedPanel is the rows of a panel.
const groupedPanel = 8

const (
	quadCols   = 4
	blockQuads = kernels.GroupedBlock / quadCols
)

// groupedLayout is where things are in a grouped matrix.
type groupedLayout struct {
	bits                   int
	scaleBytes, zerosBytes int // of a group of a panel
	blockBytes             int // of a block of a panel
	groupBlocks            int // blocks of a group that is not the last
	blocks                 int // of a row
	panelBytes             int
}

func groupedLayoutOf(w kernels.Grouped) groupedLayout {
	l := groupedLayout{
		bits:        w.Bits,
		scaleBytes:  groupedPanel * w.ScaleType.Bytes(),
		blockBytes:  groupedPanel * kernels.GroupedBlock / 8 * w.Bits,
		groupBlocks: w.Group / kernels.GroupedBlock,
		blocks:      (w.Cols + kernels.GroupedBlock - 1) / kernels.GroupedBlock,
	}
	if w.Zeros {
		l.zerosBytes = groupedPanel
	}
	l.panelBytes = w.Groups()*(l.scaleBytes+l.zerosBytes) + l.blocks*l.blockBytes
	return l
}

// group returns the byte at which group g of a panel begins.
func (l *groupedLayout) group(g int) int {
	return g * (l.scaleBytes + l.zerosBytes + l.groupBlocks*l.blockBytes)
}

// put stores the code of row r and column c of a block whose bytes are zero there.
func (l *groupedLayout) put(block []byte, r, c int, code byte) {
	quad, at := c/quadCols, r*quadCols+c%quadCols
	const bytes = groupedPanel * quadCols // of a quad, one code in a byte
	switch l.bits {
	case 8:
		block[quad*bytes+at] = code
	case 4:
		block[quad%4*bytes+at] |= code << (quad / 4 * 4)
	default:
		block[quad%2*bytes+at] |= code & 3 << (quad / 2 * 2)
		if l.bits == 3 {
			block[2*bytes+at] |= code >> 2 << quad
		}
	}
}

// get returns the code of row r and column c of a block.
func (l *groupedLayout) get(block []byte, r, c int) byte {
	quad, at := c/quadCols, r*quadCols+c%quadCols
	const bytes = groupedPanel * quadCols
	switch l.bits {
	case 8:
		return block[quad*bytes+at]
	case 4:
		return block[quad%4*bytes+at] >> (quad / 4 * 4) & 15
	}
	code := block[quad%2*bytes+at] >> (quad / 2 * 2) & 3
	if l.bits == 3 {
		code |= block[2*bytes+at] >> quad & 1 << 2
	}
	return code
}

// groupedTask is the verbs of grouped matrices in pieces.
type groupedTask struct {
	pack  packTask
	embed groupedEmbedTask
	mul   groupedMatMulTask
}

// packTask is Pack, a panel a chunk.
type packTask struct {
	w                    kernels.Grouped
	row                  int
	codes, scales, zeros []byte
}

// Pack implements kernels.Stream.
func (s *Stream) Pack(w kernels.Grouped, row int, codes, scales, zeros []byte) {
	t := &s.grouped.pack
	*t = packTask{w, row, codes, scales, zeros}
	rows := len(codes) / w.Cols
	s.pool.run((rows+groupedPanel-1)/groupedPanel, t)
	*t = packTask{}
}

func (t *packTask) do(_, chunk int) {
	l := groupedLayoutOf(t.w)
	first := chunk * groupedPanel
	rows := min(groupedPanel, len(t.codes)/t.w.Cols-first)
	panel := t.w.Packed.Host[(t.row+first)/groupedPanel*l.panelBytes:][:l.panelBytes]
	clear(panel)
	groups, scaleBytes := t.w.Groups(), t.w.ScaleType.Bytes()
	for g := range groups {
		group := panel[l.group(g):]
		for r := range rows {
			at := (first+r)*groups + g
			copy(group[r*scaleBytes:], t.scales[at*scaleBytes:][:scaleBytes])
			if t.w.Zeros {
				group[l.scaleBytes+r] = t.zeros[at]
			}
			codes := t.codes[(first+r)*t.w.Cols:][:t.w.Cols]
			for c := g * t.w.Group; c < min((g+1)*t.w.Group, t.w.Cols); c++ {
				in := c - g*t.w.Group
				block := group[l.scaleBytes+l.zerosBytes+in/kernels.GroupedBlock*l.blockBytes:]
				l.put(block, r, in%kernels.GroupedBlock, codes[c])
			}
		}
	}
}

// unpackGroupedRow sets dst to row o of w as F32, in w's order of columns.
func unpackGroupedRow(dst []float32, w kernels.Grouped, o int) {
	l := groupedLayoutOf(w)
	panel, r := w.Packed.Host[o/groupedPanel*l.panelBytes:], o%groupedPanel
	for g := range w.Groups() {
		group := panel[l.group(g):]
		scale := groupedScale(group, w.ScaleType, r)
		zero := float32(int(1) << (w.Bits - 1))
		if w.Zeros {
			zero = float32(group[l.scaleBytes+r])
		}
		for c := g * w.Group; c < min((g+1)*w.Group, w.Cols); c++ {
			in := c - g*w.Group
			block := group[l.scaleBytes+l.zerosBytes+in/kernels.GroupedBlock*l.blockBytes:]
			dst[c] = scale * (float32(l.get(block, r, in%kernels.GroupedBlock)) - zero)
		}
	}
}

// groupedScale returns element i of scales.
func groupedScale(scales []byte, t kernels.DType, i int) float32 {
	switch t {
	case kernels.F16:
		return float32FromF16(binary.NativeEndian.Uint16(scales[2*i:]))
	case kernels.BF16:
		return float32FromBF16(binary.NativeEndian.Uint16(scales[2*i:]))
	}
	return math.Float32frombits(binary.NativeEndian.Uint32(scales[4*i:]))
}

// groupedEmbedTask is GroupedEmbed, a row a chunk.
type groupedEmbedTask struct {
	y     kernels.Mat
	table kernels.Grouped
	ids   kernels.Mat
}

// GroupedEmbed implements kernels.Stream.
func (s *Stream) GroupedEmbed(y kernels.Mat, table kernels.Grouped, ids kernels.Mat) {
	t := &s.grouped.embed
	*t = groupedEmbedTask{y, table, ids}
	s.pool.run(y.Rows, t)
	*t = groupedEmbedTask{}
}

func (t *groupedEmbedTask) do(_, chunk int) {
	unpackGroupedRow(t.y.Float32s(chunk), t.table, int(t.ids.Int32s(chunk)[0]))
}

// groupedMatMulTask is GroupedMatMul, a panel of weight rows a chunk.
type groupedMatMulTask struct {
	y, x kernels.Mat
	w    kernels.Grouped
	add  bool
	rows [][]float32 // for each worker: a row of w, and a row of x in w's order
}

// GroupedMatMul implements kernels.Stream.
func (s *Stream) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode) {
	t := &s.grouped.mul
	t.y, t.x, t.w, t.add = y, x, w, mode == kernels.Add
	if t.rows == nil {
		t.rows = make([][]float32, s.pool.threads)
	}
	for i := range t.rows {
		t.rows[i] = grow(t.rows[i], 2*w.Cols)
	}
	s.pool.run((w.Rows+groupedPanel-1)/groupedPanel, t)
	t.y, t.x, t.w = kernels.Mat{}, kernels.Mat{}, kernels.Grouped{}
}

func (t *groupedMatMulTask) do(worker, chunk int) {
	row, ordered := t.rows[worker][:t.w.Cols], t.rows[worker][t.w.Cols:2*t.w.Cols]
	for o := chunk * groupedPanel; o < min((chunk+1)*groupedPanel, t.w.Rows); o++ {
		unpackGroupedRow(row, t.w, o)
		for i := range t.x.Rows {
			x := t.x.Float32s(i)
			if t.w.Order.Cols > 0 {
				for j, from := range t.w.Order.Int32s(0) {
					ordered[j] = x[from]
				}
				x = ordered
			}
			sum := dotGeneric(x, row)
			if t.add {
				sum += t.y.Float32s(i)[o]
			}
			t.y.Float32s(i)[o] = sum
		}
	}
}
