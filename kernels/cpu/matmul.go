package cpu

import (
	"unsafe"

	"eckart/kernels"
)

// tileFunc computes the products of a few rows of x with groups of weight rows:
//
//	y[t][o] (+)= Σ x[t][j]·w[o][j] over j < k
//
// for a function's fixed number of tokens t and, for each of groups, its fixed number of weight rows o, a multiple of
// 4. Group g has the rows g, g+groups, g+2·groups and so on: the function reads as many stretches of memory side by
// side, each from end to end, which is what the processor's prefetching likes best. Strides are in bytes; the columns of y
// lie side by side. The sum of a product runs in one vector of partial sums, lane j%lanes taking element j, and ends by
// adding halves (lanes i and i+8, i and i+4, i and i+2, i and i+1). So it is the same in every tile, and a row's result is
// independent of the company it is in.
//
// A long product may be cut along j: with carryOut a call leaves its partial sums in carry, and with carryIn the call for the
// next elements goes on from there, to the same bits. But for the last, k is a multiple of 32 then.
type tileFunc func(y, x *float32, w *byte, carry *float32, yStride, xStride, wStride, k, groups, flags int)

// Flags of a tileFunc.
const (
	add      = 1 << iota // to what y holds
	carryIn              // begin with the partial sums in carry
	carryOut             // leave the partial sums in carry, and y as it is
	fetch                // meanwhile fetch the rows of x that follow
)

// tiles holds the functions for one type of weights. Eight streams of weights hide the latency of memory better than
// four, but leave registers for few tokens.
type tiles struct {
	wide []tileFunc // 8 weight rows by n+1 tokens
	by   []tileFunc // 4 weight rows by n+1 tokens; empty without assembly
}

// matMulCode is the part of code that MatMul needs. Its zero value means plain Go.
type matMulCode struct {
	tiles   [kernels.BF16 + 1]tiles // by the type of the weights
	minCols int                     // the narrowest operands that tiles take

	// Set n elements of dst, a multiple of 16 and not 0, to the weights at src; nil where there is nothing to widen.
	widen [kernels.BF16 + 1]func(dst *float32, src *byte, n int)

	// Where activations may be rounded: sets n elements of dst to those of src as BF16. The tiles for BF16 weights then
	// take x as BF16.
	round func(dst *uint16, src *float32, n int)
}

const (
	tileRows = 4 // weight rows of a tile
	wideRows = 8 // weight rows of a wide tile

	// A chunk covers a panel of weight rows and a block of tokens. With up to fewTokens tokens weights are read where they
	// are: in panels that make long streams when one tile has room for the tokens, else in panels that the second-level
	// cache keeps for the next tile. Measured by BenchmarkMatMul.
	fewTokens   = 24
	streamBytes = 1 << 20
	panelBytes  = 128 << 10

	// With more tokens a panel is copied first, depth columns at a time and widened to F32: the copy stays in the
	// second-level cache, a tile's part of x in the first, and neither depends on how far apart the rows lie.
	blockTokens = 128
	packedRows  = 64
	depth       = 1024

	accLanes = 16 // partial sums of a product at most
	// The last columns are not cut off when they are this few, so that a tail can be loaded with what stands before it.
	fewCols      = 32
	packedStride = depth + fewCols + 16 // not a power of two, so that rows do not compete for places of the cache

	// Chunks for each thread, when the matrix is large enough for that many: the last one to finish is waited for. Where
	// weights are read where they are, chunks of less than chunkBytes would have streams too short, and there are fewer,
	// down to one for each thread. Measured by BenchmarkRatio of package lowrank.
	chunksPerThread = 8
	chunkBytes      = 128 << 10
)

// matMulTask is MatMul in pieces: panels of weight rows by blocks of tokens.
type matMulTask struct {
	y, x, w   kernels.Mat
	cols      kernels.Mat // where the columns of the result go; no columns for where they are
	xCols     kernels.Mat // where those of from, before they are rounded, go then
	from      kernels.Mat // x
	rowsCode  *rowsCode   // which takes them there
	add       bool
	tiles     tiles
	pack      bool                                 // copy panels
	widen     func(dst *float32, src *byte, n int) // into the copy; nil for F32
	panelRows int
	tokens    int // of a block
	blocks    int // of tokens
	workers   []matMulScratch
}

// matMulScratch is what one worker needs.
type matMulScratch struct {
	edge    [tileRows * 8]float32 // sums of a tile that reaches beyond the last row
	widened []float32             // one weight row in F32, for plain Go
	packed  []float32             // (packedRows, packedStride)
	carry   []float32             // partial sums of a panel and a block
	placed  []float32             // results of a panel and a block whose columns go elsewhere
}

// MatMul implements kernels.Stream. The panels of one block of tokens and the blocks of one panel are computed in any
// order by any thread; no sum is ever split.
func (s *Stream) MatMul(y, x, w kernels.Mat, mode kernels.Mode) {
	s.multiply(y, x, w, mode)
}

// ScatterMatMul implements layers.Scatterer. What a chunk computes is put in its places at once, from the nearest cache and
// by the thread that has it there, with a share of the columns of x: where places ascend, it lies beside them.
func (s *Stream) ScatterMatMul(y, x, w, xCols, cols kernels.Mat, mode kernels.Mode) {
	if w.Rows == 0 {
		s.Scatter(y, x, xCols, mode)
		return
	}
	s.matMul.from, s.matMul.xCols, s.matMul.cols = x, xCols, cols
	s.multiply(y, x, w, mode)
	s.matMul.from, s.matMul.xCols, s.matMul.cols = kernels.Mat{}, kernels.Mat{}, kernels.Mat{}
}

func (s *Stream) multiply(y, x, w kernels.Mat, mode kernels.Mode) {
	if x.Rows == 0 || w.Rows == 0 {
		return
	}
	t := &s.matMul
	if w.Type == kernels.BF16 && s.code.matMul.round != nil {
		x = s.round(x)
	}
	t.y, t.x, t.w, t.add, t.tiles = y, x, w, mode == kernels.Add, tiles{}
	if w.Cols >= s.code.matMul.minCols {
		t.tiles = s.code.matMul.tiles[w.Type]
	}
	t.rowsCode = &s.code.rows
	t.reserve(s.pool.threads, &s.code.matMul)
	s.pool.run((w.Rows+t.panelRows-1)/t.panelRows*t.blocks, t)
	t.y, t.x, t.w = kernels.Mat{}, kernels.Mat{}, kernels.Mat{}
}

// reserve decides how the product is cut, and sees to the workers' scratch; it allocates when a call is wider than all
// before.
func (m *matMulTask) reserve(threads int, code *matMulCode) {
	if m.workers == nil {
		m.workers = make([]matMulScratch, threads)
	}
	m.widen = code.widen[m.w.Type]
	m.pack = m.tiles.by != nil && m.x.Rows > fewTokens && (m.widen != nil || m.w.Type == kernels.F32)
	rows := packedRows
	m.tokens = blockTokens
	if !m.pack {
		bytes := panelBytes
		if m.x.Rows <= len(m.tiles.by) {
			bytes = streamBytes
		}
		rows = bytes / max(1, m.w.Cols*m.w.Type.Bytes())
		m.tokens = fewTokens
	} else {
		m.tiles = code.tiles[kernels.F32]
	}
	m.blocks = (m.x.Rows + m.tokens - 1) / m.tokens
	if threads > 1 {
		most := m.w.Rows * m.blocks / (threads * chunksPerThread)
		if !m.pack {
			share := (m.w.Rows/threads + wideRows - 1) / wideRows * wideRows
			most = max(most, min(share, chunkBytes/max(1, m.w.Cols*m.w.Type.Bytes())))
		}
		rows = min(rows, most)
	}
	rows = max(wideRows, rows/wideRows*wideRows)
	panels := (m.w.Rows + rows - 1) / rows
	if !m.pack && panels > threads && panels < threads*chunksPerThread {
		panels -= panels % threads // each thread has as many where there are few
	}
	rows = (m.w.Rows + panels - 1) / panels
	m.panelRows = (rows + wideRows - 1) / wideRows * wideRows
	for i := range m.workers {
		w := &m.workers[i]
		switch {
		case m.tiles.by == nil:
			w.widened = grow(w.widened, m.w.Cols)
		case m.pack:
			w.packed = grow(w.packed, packedRows*packedStride)
			w.carry = grow(w.carry, (packedRows+tileRows*tileRows)*blockTokens*accLanes)
		}
		if m.cols.Cols > 0 {
			w.placed = grow(w.placed, min(m.tokens, m.x.Rows)*placedStride(m.panelRows))
		}
	}
}

func (m *matMulTask) do(worker, chunk int) {
	panel, block := chunk/m.blocks, chunk%m.blocks
	row := panel * m.panelRows
	rows := min(m.panelRows, m.w.Rows-row)
	token := block * m.tokens
	tokens := min(m.tokens, m.x.Rows-token)
	s := &m.workers[worker]
	y, x, w := m.y.Slice(token, tokens), m.x.Slice(token, tokens), m.w.Slice(row, rows)
	if m.cols.Cols == 0 {
		m.chunk(s, y.Window(row, rows), x, w, m.add)
		return
	}
	z := kernels.Mat{
		Span: kernels.Span{Host: kernels.Float32Bytes(s.placed)},
		Rows: tokens, Cols: rows, Stride: placedStride(m.panelRows), Type: kernels.F32,
	}
	m.chunk(s, z, x, w, false)
	m.rowsCode.placeColumns(y, z, m.cols.Int32s(0)[row:][:rows], m.add)
	first, last := m.xCols.Cols*row/m.w.Rows, m.xCols.Cols*(row+rows)/m.w.Rows
	m.rowsCode.placeColumns(y, m.from.Slice(token, tokens).Window(first, last-first), m.xCols.Window(first, last-first).Int32s(0), m.add)
}

// placedStride returns the stride of results of so many weight rows on the way to their places: an odd number of cache lines.
func placedStride(rows int) int {
	const line = kernels.Align / 4
	return ((rows+line-1)/line | 1) * line
}

// chunk computes y = x·wᵀ, or adds it, for a panel and a block.
func (m *matMulTask) chunk(s *matMulScratch, y, x, w kernels.Mat, onto bool) {
	flags := 0
	if onto {
		flags = add
	}
	switch {
	case m.tiles.by == nil:
		matMulGeneric(y, x, w, onto, s.widened)
	case m.pack:
		m.packed(s, y, x, w, flags|fetch)
	default:
		m.multiply(s, y, x, w, flags) // by weights where they are
	}
}

// packed multiplies by a copy of the weights, some columns at a time.
func (m *matMulTask) packed(s *matMulScratch, y, x, w kernels.Mat, flags int) {
	for col := 0; col < w.Cols; {
		cols := w.Cols - col
		flags &^= carryOut
		if cols > depth+fewCols {
			cols = depth
			flags |= carryOut
		}
		m.multiply(s, y, x.Window(col, cols), m.copied(s, w.Window(col, cols)), flags)
		flags |= carryIn
		col += cols
	}
}

// copied returns w in F32, in the worker's memory.
func (m *matMulTask) copied(s *matMulScratch, w kernels.Mat) kernels.Mat {
	p := kernels.Mat{
		Span: kernels.Span{Host: kernels.Float32Bytes(s.packed)},
		Rows: w.Rows, Cols: w.Cols, Stride: packedStride, Type: kernels.F32,
	}
	for i := range w.Rows {
		to := p.Float32s(i)
		if m.widen == nil {
			copy(to, w.Float32s(i))
			continue
		}
		whole := w.Cols / 16 * 16
		if whole > 0 {
			m.widen(&to[0], (*byte)(at(w, i*w.Stride*w.Type.Bytes())), whole)
		}
		if rest := w.Window(whole, w.Cols-whole); rest.Cols > 0 {
			widen(to[whole:], rest, i)
		}
	}
	return p
}

// multiply computes the tiles of a panel and a block, as even as possible.
func (m *matMulTask) multiply(s *matMulScratch, y, x, w kernels.Mat, flags int) {
	t := tile{
		s: s, tiles: &m.tiles, flags: flags, carry: s.carry,
		y: at(y, 0), x: at(x, 0), w: at(w, 0),
		yStride: y.Stride * 4, xStride: x.Stride * x.Type.Bytes(), wStride: w.Stride * w.Type.Bytes(),
		rows: w.Rows, cols: w.Cols,
	}
	if w.Cols == 0 { // nothing is read, and a row may begin where the memory ends
		t.xStride, t.wStride = 0, 0
	}
	most := len(m.tiles.by)
	for left := x.Rows; left > 0; {
		n := (left + most - 1) / most
		t.tokens = (left + n - 1) / n
		t.multiply()
		left -= t.tokens
		if left > 0 {
			t.y, t.x = unsafe.Add(t.y, t.tokens*t.yStride), unsafe.Add(t.x, t.tokens*t.xStride)
		}
	}
}

// tile is the products of some tokens with all rows of a panel.
type tile struct {
	s                         *matMulScratch
	tiles                     *tiles
	flags                     int
	carry                     []float32 // what is left of it
	y, x, w                   unsafe.Pointer
	yStride, xStride, wStride int
	tokens, rows, cols        int
}

func (t *tile) multiply() {
	row := 0
	if t.tokens <= len(t.tiles.wide) {
		row = t.run(t.tiles.wide[t.tokens-1], row, wideRows)
	}
	f := t.tiles.by[t.tokens-1]
	row = t.run(f, row, tileRows)
	// The last rows, one by one: a stride of 0 makes a tile of the same row, and one of its sums is kept.
	for ; row < t.rows; row++ {
		f(&t.s.edge[0], (*float32)(t.x), (*byte)(unsafe.Add(t.w, row*t.wStride)), t.carried(tileRows), tileRows*4, t.xStride, 0,
			t.cols, 1, t.flags&^add)
		if t.flags&carryOut != 0 {
			continue
		}
		for i := range t.tokens {
			if to := (*float32)(unsafe.Add(t.y, i*t.yStride+row*4)); t.flags&add != 0 {
				*to += t.s.edge[i*tileRows]
			} else {
				*to = t.s.edge[i*tileRows]
			}
		}
	}
}

// run computes the groups of height rows that there are from row on, and returns the row behind them.
func (t *tile) run(f tileFunc, row, height int) int {
	groups := (t.rows - row) / height
	if groups == 0 {
		return row
	}
	f((*float32)(unsafe.Add(t.y, row*4)), (*float32)(t.x), (*byte)(unsafe.Add(t.w, row*t.wStride)), t.carried(groups*height),
		t.yStride, t.xStride, t.wStride, t.cols, groups, t.flags)
	return row + groups*height
}

// carried returns the partial sums of the next rows, where the call has any.
func (t *tile) carried(rows int) *float32 {
	if t.flags&(carryIn|carryOut) == 0 {
		return nil
	}
	c := &t.carry[0]
	t.carry = t.carry[rows*t.tokens*accLanes:]
	return c
}

// at returns the address of byte n of m. A matrix without columns has none, and nothing is read there.
func at(m kernels.Mat, n int) unsafe.Pointer {
	if n >= len(m.Host) {
		return nil
	}
	return unsafe.Pointer(&m.Host[n])
}
