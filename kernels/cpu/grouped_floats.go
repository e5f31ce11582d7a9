package cpu

import (
	"unsafe"

	"eckart/kernels"
)

// unpackFunc sets dst to the numbers of a panel, by column and then by row, its last block in full. The arguments are
// those of a groupedFunc.
type unpackFunc func(dst *float32, w *byte, blocks, groupBlocks, scaleType int, zeros bool)

// floatsFunc computes the products of an unpacked panel with rows of activations:
//
//	sums[t][r] = Σ x[t][j]·w[j][r] over j < cols
//
// for every token t below tokens, whose rows lie xStride bytes apart. Columns j, j+4 and so on make one of four partial
// sums s, the columns that are left over the first one; they end as (s0+s2)+(s1+s3). sums is packed.
type floatsFunc func(sums, x, w *float32, tokens, xStride, cols int)

// groupedFloatsTask is GroupedMatMul by activations as they are, in pieces: panels of weight rows by blocks of tokens.
// It unpacks a panel for each block.
type groupedFloatsTask struct {
	y, x    kernels.Mat
	w       kernels.Grouped
	layout  groupedLayout
	add     bool
	unpack  unpackFunc
	floats  floatsFunc
	tokens  int // of a block
	panels  int // of a chunk
	chunks  int // of a block of tokens
	scratch [][]float32
	sums    [][groupedTokens * maxPanel]float32
	order   orderTask
}

// groupedFloats multiplies without rounding.
func (s *Stream) groupedFloats(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode) {
	t := &s.grouped.floats
	code := &s.code.grouped
	t.layout = groupedLayoutOf(w, code.panel)
	if t.scratch == nil {
		t.scratch = make([][]float32, s.pool.threads)
		t.sums = make([][groupedTokens * maxPanel]float32, s.pool.threads)
	}
	for i := range t.scratch {
		t.scratch[i] = grow(t.scratch[i], t.layout.blocks*kernels.GroupedBlock*t.layout.rows)
	}
	if w.Order.Cols > 0 {
		x = s.ordered(x, w.Order)
	}
	t.y, t.x, t.w, t.add = y, x, w, mode == kernels.Add
	t.unpack, t.floats = code.unpack[w.Bits], code.floats
	// As many bytes of a row as records of four times its columns have.
	t.tokens = blockTokensOf(x.Rows, 4*t.layout.blocks)
	panels := t.layout.panels(w)
	t.panels = max(1, panels/(s.pool.threads*chunksPerThread))
	t.chunks = (panels + t.panels - 1) / t.panels
	s.pool.run(t.chunks*((x.Rows+t.tokens-1)/t.tokens), t)
	t.y, t.x, t.w = kernels.Mat{}, kernels.Mat{}, kernels.Grouped{}
}

func (t *groupedFloatsTask) do(worker, chunk int) {
	l := &t.layout
	token := chunk / t.chunks * t.tokens
	tokens := min(t.tokens, t.y.Rows-token)
	first := chunk % t.chunks * t.panels
	for p := first; p < min(first+t.panels, l.panels(t.w)); p++ {
		sums, w := &t.sums[worker], &t.scratch[worker][0]
		t.unpack(w, &t.w.Packed.Host[p*l.panelBytes], l.blocks, l.groupBlocks, int(t.w.ScaleType), t.w.Zeros)
		t.floats(&sums[0], (*float32)(at(t.x, token*t.x.Stride*4)), w, tokens, t.x.Stride*4, t.w.Cols)
		storeSums(t.y, token, tokens, p*l.rows, l.rows, sums[:], t.add)
	}
}

// storeSums sets or adds sums (tokens, rows), packed, to a window of y that starts at column from and is as wide as y has
// room.
func storeSums(y kernels.Mat, token, tokens, from, rows int, sums []float32, add bool) {
	width := min(rows, y.Cols-from)
	for i := range tokens {
		to := unsafe.Slice((*float32)(at(y, ((token+i)*y.Stride+from)*4)), width)
		row := sums[i*rows:][:width]
		switch {
		case add:
			for r, v := range row {
				to[r] += v
			}
		case width == 8: // a copy without a call
			*(*[8]float32)(to) = [8]float32(row)
		default:
			copy(to, row)
		}
	}
}

// orderTask gathers the columns of activations.
type orderTask struct {
	y, x, order kernels.Mat
	rows        int // of a chunk
	mem         []float32
}

// ordered returns x with its columns in order, in memory of the stream that the next call reuses.
func (s *Stream) ordered(x, order kernels.Mat) kernels.Mat {
	t := &s.grouped.floats.order
	t.mem = grow(t.mem, x.Rows*order.Cols)
	t.y = kernels.Mat{Span: kernels.Span{Host: kernels.Float32Bytes(t.mem)}, Rows: x.Rows, Cols: order.Cols, Stride: order.Cols}
	t.x, t.order, t.rows = x, order, 1+lookupElements/order.Cols
	s.pool.run((x.Rows+t.rows-1)/t.rows, t)
	t.x, t.order = kernels.Mat{}, kernels.Mat{}
	return t.y
}

func (t *orderTask) do(_, chunk int) {
	for i := chunk * t.rows; i < min((chunk+1)*t.rows, t.x.Rows); i++ {
		x, y := t.x.Float32s(i), t.y.Float32s(i)
		for j, from := range t.order.Int32s(0) {
			y[j] = x[from]
		}
	}
}
