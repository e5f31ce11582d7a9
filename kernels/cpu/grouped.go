package cpu

import (
	"encoding/binary"
	"math"

	"eckart/kernels"
)

// A grouped matrix lies in panels of 8 or 16 rows (groupedCode.panel), padded with zeros. A panel holds its groups of
// columns in order, and a group
//
//	scales   one for each row of the panel, of the scale's type
//	zeros    a byte for each row, if the matrix has zero points
//	blocks   of GroupedBlock columns, the last one padded
//
// so that a product reads one stream of bytes from start to end. In a block the codes of columns 4j to 4j+3 of all rows
// are a quad j, ordered by row and then by column: what an instruction multiplies by four columns of x at once. Quads are
// folded into bytes by the width of a code:
//
//	8 bits   quads 0 to 7, less 128: signed bytes
//	4 bits   for t < 4: quad t in the low halves of the bytes, quad t+4 in the high halves
//	2 bits   for t < 2: quads t, t+2, t+4, t+6 in the bits of the bytes, from low to high
//	3 bits   the low two bits as above, then for every byte of a quad the third bits of quads 0 to 7, from low to high

const (
	quadCols   = 4
	blockQuads = kernels.GroupedBlock / quadCols
)

// groupedLayout is where things are in a grouped matrix.
type groupedLayout struct {
	bits                   int
	rows                   int // of a panel
	scaleBytes, zerosBytes int // of a group of a panel
	blockBytes             int // of a block of a panel
	groupBlocks            int // blocks of a group that is not the last
	blocks                 int // of a row
	panelBytes             int
}

// groupedLayoutOf returns where things are in w with panels of rows.
func groupedLayoutOf(w kernels.Grouped, rows int) groupedLayout {
	l := groupedLayout{
		bits:        w.Bits,
		rows:        rows,
		scaleBytes:  rows * w.ScaleType.Bytes(),
		blockBytes:  rows * kernels.GroupedBlock / 8 * w.Bits,
		groupBlocks: w.Group / kernels.GroupedBlock,
		blocks:      (w.Cols + kernels.GroupedBlock - 1) / kernels.GroupedBlock,
	}
	if w.Zeros {
		l.zerosBytes = rows
	}
	l.panelBytes = w.Groups()*(l.scaleBytes+l.zerosBytes) + l.blocks*l.blockBytes
	return l
}

// panels returns the panels of w.
func (l *groupedLayout) panels(w kernels.Grouped) int { return (w.Rows + l.rows - 1) / l.rows }

// group returns the byte at which group g of a panel begins.
func (l *groupedLayout) group(g int) int {
	return g * (l.scaleBytes + l.zerosBytes + l.groupBlocks*l.blockBytes)
}

// fold stores the codes of row r of a block, two quads at a time.
func (l *groupedLayout) fold(block []byte, r int, codes []byte) {
	quad, at := l.rows*quadCols, r*quadCols // bytes of a quad, and where the row is in it
	var pairs [blockQuads / 2]uint64        // of quads: the even one in the low half
	for i := range pairs {
		pairs[i] = binary.LittleEndian.Uint64(codes[8*i:])
	}
	store := func(t int, four uint64) { binary.LittleEndian.PutUint32(block[t*quad+at:], uint32(four)) }
	switch l.bits {
	case 8:
		for i, p := range pairs {
			p ^= 0x8080808080808080
			store(2*i, p)
			store(2*i+1, p>>32)
		}
	case 4:
		for i := range 2 {
			p := pairs[i] | pairs[i+2]<<4
			store(2*i, p)
			store(2*i+1, p>>32)
		}
	default:
		var low, third uint64
		for i, p := range pairs {
			low |= p & 0x0303030303030303 << (2 * i)
			p = p >> 2 & 0x0101010101010101
			third |= (p | p>>32<<1) << (2 * i)
		}
		store(0, low)
		store(1, low>>32)
		if l.bits == 3 {
			store(2, third)
		}
	}
}

// unfold sets codes to those of row r of a block: the inverse of fold.
func (l *groupedLayout) unfold(codes *[kernels.GroupedBlock]byte, block []byte, r int) {
	quad, at := l.rows*quadCols, r*quadCols
	load := func(t int) uint64 { return uint64(binary.LittleEndian.Uint32(block[t*quad+at:])) }
	store := func(i int, pair uint64) { binary.LittleEndian.PutUint64(codes[8*i:], pair) }
	switch l.bits {
	case 8:
		for i := range blockQuads / 2 {
			store(i, (load(2*i)|load(2*i+1)<<32)^0x8080808080808080)
		}
	case 4:
		for i := range 2 {
			p := load(2*i) | load(2*i+1)<<32
			store(i, p&0x0f0f0f0f0f0f0f0f)
			store(i+2, p>>4&0x0f0f0f0f0f0f0f0f)
		}
	default:
		low, third := load(0)|load(1)<<32, uint64(0)
		if l.bits == 3 {
			third = load(2)
			third |= third >> 1 << 32
		}
		for i := range blockQuads / 2 {
			store(i, low>>(2*i)&0x0303030303030303|third>>(2*i)&0x0101010101010101<<2)
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

// groupedTask is the verbs of grouped matrices in pieces.
type groupedTask struct {
	pack   packTask
	embed  groupedEmbedTask
	record recordTask
	mul    groupedMatMulTask
	floats groupedFloatsTask
}

// packTask is Pack, a panel a chunk.
type packTask struct {
	w                    kernels.Grouped
	layout               groupedLayout
	row                  int
	codes, scales, zeros []byte
}

// Pack implements kernels.Stream.
func (s *Stream) Pack(w kernels.Grouped, row int, codes, scales, zeros []byte) {
	t := &s.grouped.pack
	*t = packTask{w, groupedLayoutOf(w, s.code.grouped.panel), row, codes, scales, zeros}
	rows := len(codes) / w.Cols
	s.pool.run((rows+t.layout.rows-1)/t.layout.rows, t)
	*t = packTask{}
}

func (t *packTask) do(_, chunk int) {
	l := &t.layout
	first := chunk * l.rows
	rows := min(l.rows, len(t.codes)/t.w.Cols-first)
	panel := t.w.Packed.Host[(t.row+first)/l.rows*l.panelBytes:][:l.panelBytes]
	if rows < l.rows {
		clear(panel)
	}
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
			codes = codes[g*t.w.Group : min((g+1)*t.w.Group, t.w.Cols)]
			blocks := group[l.scaleBytes+l.zerosBytes:]
			for len(codes) >= kernels.GroupedBlock {
				l.fold(blocks, r, codes)
				codes, blocks = codes[kernels.GroupedBlock:], blocks[l.blockBytes:]
			}
			if len(codes) > 0 {
				var padded [kernels.GroupedBlock]byte
				copy(padded[:], codes)
				l.fold(blocks, r, padded[:])
			}
		}
	}
}

// unpackGroupedRow sets elements of dst, stride apart, to row o of w as F32, in w's order of columns.
func unpackGroupedRow(dst []float32, stride int, w kernels.Grouped, l *groupedLayout, o int) {
	panel, r := w.Packed.Host[o/l.rows*l.panelBytes:][:l.panelBytes], o%l.rows
	var codes [kernels.GroupedBlock]byte
	for g := range w.Groups() {
		group := panel[l.group(g):]
		scale := groupedScale(group, w.ScaleType, r)
		zero := int32(1) << (w.Bits - 1)
		if w.Zeros {
			zero = int32(group[l.scaleBytes+r])
		}
		blocks := group[l.scaleBytes+l.zerosBytes:]
		for from, to := g*w.Group, min((g+1)*w.Group, w.Cols); from < to; from += kernels.GroupedBlock {
			l.unfold(&codes, blocks, r)
			at := from * stride
			for _, code := range codes[:min(to-from, kernels.GroupedBlock)] {
				dst[at] = scale * float32(int32(code)-zero)
				at += stride
			}
			blocks = blocks[l.blockBytes:]
		}
	}
}

// groupedEmbedTask is GroupedEmbed in pieces of some rows.
type groupedEmbedTask struct {
	y      kernels.Mat
	table  kernels.Grouped
	layout groupedLayout
	ids    kernels.Mat
	rows   int // rows of a chunk
}

// GroupedEmbed implements kernels.Stream.
func (s *Stream) GroupedEmbed(y kernels.Mat, table kernels.Grouped, ids kernels.Mat) {
	t := &s.grouped.embed
	*t = groupedEmbedTask{y, table, groupedLayoutOf(table, s.code.grouped.panel), ids, 1 + lookupElements/y.Cols}
	s.pool.run((y.Rows+t.rows-1)/t.rows, t)
	*t = groupedEmbedTask{}
}

func (t *groupedEmbedTask) do(_, chunk int) {
	for i := chunk * t.rows; i < min((chunk+1)*t.rows, t.y.Rows); i++ {
		unpackGroupedRow(t.y.Float32s(i), 1, t.table, &t.layout, int(t.ids.Int32s(i)[0]))
	}
}
