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
type tileFunc func(y, x *float32, w *byte, yStride, xStride, wStride, k, groups int, add bool)

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

	// Where activations may be rounded: sets n elements of dst to those of src as BF16. The tiles for BF16 weights then
	// take x as BF16.
	round func(dst *uint16, src *float32, n int)
}

const (
	tileRows = 4 // weight rows of a tile
	wideRows = 8 // weight rows of a wide tile

	// A chunk covers a panel of weight rows and a block of tokens. Weights that meet several tiles of tokens come in
	// panels that stay in the second-level cache, others in panels that make long streams. Measured by BenchmarkMatMul.
	panelBytes  = 128 << 10
	streamBytes = 1 << 20
	blockTokens = 24
	// Chunks for each thread, when the matrix is large enough for that many: the last one to finish is waited for.
	chunksPerThread = 8
)

// matMulTask is MatMul in pieces: panels of weight rows by blocks of tokens.
type matMulTask struct {
	y, x, w   kernels.Mat
	add       bool
	tiles     tiles
	panelRows int
	blocks    int                     // blocks of tokens
	edges     [][tileRows * 8]float32 // for each worker: sums of a tile that reaches beyond the last row
	widened   [][]float32             // for each worker: one weight row in F32, for plain Go
}

func newMatMulTask(threads int) matMulTask {
	return matMulTask{edges: make([][tileRows * 8]float32, threads), widened: make([][]float32, threads)}
}

// MatMul implements kernels.Stream. The panels of one block of tokens and the blocks of one panel are computed in any
// order by any thread; no sum is ever split.
func (s *Stream) MatMul(y, x, w kernels.Mat, mode kernels.Mode) {
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
	if t.tiles.by == nil {
		for i := range t.widened {
			if cap(t.widened[i]) < w.Cols {
				t.widened[i] = make([]float32, w.Cols)
			}
		}
	}
	t.blocks = (x.Rows + blockTokens - 1) / blockTokens
	bytes := panelBytes
	if x.Rows <= len(t.tiles.by) {
		bytes = streamBytes
	}
	chunks := 1
	if s.pool.threads > 1 {
		chunks = s.pool.threads * chunksPerThread
	}
	t.panelRows = panelRows(w, bytes, chunks)
	s.pool.run((w.Rows+t.panelRows-1)/t.panelRows*t.blocks, t)
	t.y, t.x, t.w = kernels.Mat{}, kernels.Mat{}, kernels.Mat{}
}

// panelRows returns how many weight rows make a panel: at most bytes of them, few enough for chunks panels, and a
// multiple of wideRows.
func panelRows(w kernels.Mat, bytes, chunks int) int {
	rowBytes := max(1, w.Cols*w.Type.Bytes())
	rows := min(bytes/rowBytes, w.Rows/chunks)
	return max(wideRows, rows/wideRows*wideRows)
}

func (m *matMulTask) do(worker, chunk int) {
	panel, block := chunk/m.blocks, chunk%m.blocks
	row := panel * m.panelRows
	rows := min(m.panelRows, m.w.Rows-row)
	token := block * blockTokens
	tokens := min(blockTokens, m.x.Rows-token)
	if m.tiles.by == nil {
		matMulGeneric(m.y.Slice(token, tokens).Window(row, rows), m.x.Slice(token, tokens), m.w.Slice(row, rows), m.add,
			m.widened[worker])
		return
	}
	most := len(m.tiles.by)
	for tokens > 0 {
		// As many tiles as needed, and as even as possible.
		n := (tokens + most - 1) / most
		n = (tokens + n - 1) / n
		m.tile(worker, token, n, row, rows)
		token += n
		tokens -= n
	}
}

// tile computes n tokens of x, from token on, by rows rows of w, from row on.
func (m *matMulTask) tile(worker, token, n, row, rows int) {
	weightBytes := m.w.Type.Bytes()
	yStride, xStride, wStride := m.y.Stride*4, m.x.Stride*m.x.Type.Bytes(), m.w.Stride*weightBytes
	x := (*float32)(at(m.x, token*xStride))
	if n <= len(m.tiles.wide) && rows >= wideRows {
		groups := rows / wideRows
		m.tiles.wide[n-1]((*float32)(at(m.y, token*yStride+row*4)), x, (*byte)(at(m.w, row*wStride)), yStride, xStride,
			wStride, m.w.Cols, groups, m.add)
		row += groups * wideRows
		rows -= groups * wideRows
	}
	f := m.tiles.by[n-1]
	if groups := rows / tileRows; groups > 0 {
		f((*float32)(at(m.y, token*yStride+row*4)), x, (*byte)(at(m.w, row*wStride)), yStride, xStride, wStride,
			m.w.Cols, groups, m.add)
		row += groups * tileRows
		rows -= groups * tileRows
	}
	// The last rows, one by one: a stride of 0 makes a tile of the same row, and one of its sums is kept.
	edge := &m.edges[worker]
	for ; rows > 0; rows-- {
		f(&edge[0], x, (*byte)(at(m.w, row*wStride)), tileRows*4, xStride, 0, m.w.Cols, 1, false)
		for t := range n {
			to := (*float32)(at(m.y, (token+t)*yStride+row*4))
			if m.add {
				*to += edge[t*tileRows]
			} else {
				*to = edge[t*tileRows]
			}
		}
		row++
	}
}

// at returns the address of byte n of m. A matrix without columns has none, and nothing is read there.
func at(m kernels.Mat, n int) unsafe.Pointer {
	if n >= len(m.Host) {
		return nil
	}
	return unsafe.Pointer(&m.Host[n])
}
