package cpu

import "eckart/kernels"

// groupedFunc computes the products of a panel of weight rows with rounded activations:
//
//	sums[t][r] = Σ float(dot)·(scale of w · scale of x) over the blocks
//
// for every token t below tokens and row r of the panel; dot is Σ (code - zero point)·x over a block, in integers. The
// sum over the blocks is in F32 and in their order, a fused product and addition each where the processor has it, in
// every function of an instruction set, so that a row's result is independent of the company it is in. x is records of
// tokens (recordTask), w a panel, groupBlocks the blocks of a group and
// scaleType a kernels.DType; sums is packed.
type groupedFunc func(sums *float32, x, w *byte, tokens, blocks, groupBlocks, scaleType int, zeros bool)

// streamsFunc computes the products of some panels, which lie apart bytes apart, with one token: group by group of every
// panel, so that as many streams come from memory at once. sums is (panels, rows of a panel), packed. The rest is as in
// groupedFunc.
type streamsFunc func(sums *float32, x, w *byte, panels, apart, blocks, groupBlocks, scaleType int, zeros bool)

// groupedCode is the part of code that grouped matrices need.
type groupedCode struct {
	panel   int // rows of a panel: 8 or 16
	integer bool
	record  func(dst *byte, x *float32, blocks, stride int) // see recordTask
	one     [9]groupedFunc                                  // by the bits of a code, for one token
	streams [9]streamsFunc                                  // the same, for some panels at once; nil where one is as fast
	some    [9]groupedFunc                                  // for any number of tokens

	unpack [9]unpackFunc // by the bits of a code; plain Go where nil
	floats floatsFunc    // for panels as unpack leaves them
}

const (
	// groupedTokens is the most tokens of a block, a panel's products with which are one call.
	groupedTokens = 64
	// groupedRecords is the bytes of records of a block of tokens that stay in the second-level cache.
	groupedRecords = 256 << 10
	// groupedChunk is the bytes of weights of a chunk, at most.
	groupedChunk = 256 << 10
	// streamsChunk is the bytes of a chunk in streams, if there are chunks for all threads: streams must not be short.
	// Measured by BenchmarkGroupedMatMul.
	streamsChunk = 128 << 10

	// groupedStreams is the panels that a streamsFunc takes at once.
	groupedStreams = 4

	maxPanel = 16
)

// blockTokensOf returns how many tokens of rows make a block, for rows of blocks of columns: as few blocks as possible,
// and as even as possible.
func blockTokensOf(rows, blocks int) int {
	most := min(groupedTokens, max(8, groupedRecords/(blocks*recordBytes)))
	n := (rows + most - 1) / most
	return (rows + n - 1) / n
}

// groupedMatMulTask is GroupedMatMul by rounded activations in pieces: panels of weight rows by blocks of tokens.
type groupedMatMulTask struct {
	y       kernels.Mat
	w       kernels.Grouped
	layout  groupedLayout
	add     bool
	one     groupedFunc
	streams streamsFunc
	some    groupedFunc
	records []byte
	tokens  int // of a block
	panels  int // of a chunk
	chunks  int // of a block of tokens
	sums    [][groupedTokens * maxPanel]float32
}

// GroupedMatMul implements kernels.Stream. Chunks are computed in any order by any thread; no sum is ever split.
func (s *Stream) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode) {
	if x.Rows == 0 {
		return
	}
	code := &s.code.grouped
	if !code.integer {
		s.groupedFloats(y, x, w, mode)
		return
	}
	t := &s.grouped.mul
	if t.sums == nil {
		t.sums = make([][groupedTokens * maxPanel]float32, s.pool.threads)
	}
	t.layout = groupedLayoutOf(w, code.panel)
	t.tokens = blockTokensOf(x.Rows, t.layout.blocks)
	t.records = s.records(x, w.Order, t.layout.blocks, t.tokens)
	t.y, t.w, t.add = y, w, mode == kernels.Add
	t.one, t.streams, t.some = code.one[w.Bits], code.streams[w.Bits], code.some[w.Bits]
	panels := t.layout.panels(w)
	t.panels = min(groupedChunk/t.layout.panelBytes, panels/(s.pool.threads*chunksPerThread))
	if t.streams != nil && t.tokens == 1 {
		t.panels = max(t.panels, min(streamsChunk/t.layout.panelBytes, panels/s.pool.threads))
		t.panels = (t.panels + groupedStreams - 1) / groupedStreams * groupedStreams
	}
	t.panels = max(1, t.panels)
	t.chunks = (panels + t.panels - 1) / t.panels
	s.pool.run(t.chunks*((x.Rows+t.tokens-1)/t.tokens), t)
	t.y, t.w, t.records = kernels.Mat{}, kernels.Grouped{}, nil
}

func (t *groupedMatMulTask) do(worker, chunk int) {
	l := &t.layout
	token := chunk / t.chunks * t.tokens
	tokens := min(t.tokens, t.y.Rows-token)
	x := &t.records[token*l.blocks*recordBytes]
	first := chunk % t.chunks * t.panels
	panels := min(t.panels, l.panels(t.w)-first)
	if tokens == 1 && t.streams != nil {
		t.stream(worker, token, x, first, panels)
		return
	}
	f := t.some
	if tokens == 1 {
		f = t.one
	}
	sums := &t.sums[worker]
	for p := first; p < first+panels; p++ {
		f(&sums[0], x, &t.w.Packed.Host[p*l.panelBytes], tokens, l.blocks, l.groupBlocks, int(t.w.ScaleType), t.w.Zeros)
		storeSums(t.y, token, tokens, p*l.rows, l.rows, sums[:], t.add)
	}
}

// stream multiplies the token with the records x by panels from first on: as many parts of them as there are streams,
// side by side, and then what is left over.
func (t *groupedMatMulTask) stream(worker, token int, x *byte, first, panels int) {
	l, sums := &t.layout, &t.sums[worker]
	for n := groupedStreams; panels > 0; n = 1 {
		part := panels / n // panels of a stream
		for p := first; p < first+part; p++ {
			t.streams(&sums[0], x, &t.w.Packed.Host[p*l.panelBytes], n, part*l.panelBytes, l.blocks, l.groupBlocks, int(t.w.ScaleType), t.w.Zeros)
			for i := range n {
				storeSums(t.y, token, 1, (p+i*part)*l.rows, l.rows, sums[i*l.rows:], t.add)
			}
		}
		first += part * n
		panels -= part * n
	}
}

// recordBytes is the bytes of a record: a block of a row of activations, rounded. It is GroupedBlock signed bytes q, the
// scale (F32) and Σq (32 bits), in the host's order.
const recordBytes = kernels.GroupedBlock + 4 + 4

// recordTask rounds activations to records. Records are ordered by block of tokens, block of columns and token: what a
// panel meets lies side by side.
//
// The largest magnitude m of a block gives the scale m/127, and q = x·(127/m), rounded to nearest, ties to even. If m
// is below tiniest all is zero; if it is not finite, q is zero and the scale NaN, which makes the row's results NaN.
type recordTask struct {
	x, order kernels.Mat
	blocks   int // of a row
	tokens   int // of a block of tokens
	part     int // blocks of columns of a chunk
	parts    int // chunks of a block of tokens
	code     func(dst *byte, x *float32, blocks, stride int)
	mem      []byte // of the stream; grows to the largest product and stays
	workers  []recordScratch
}

// recordScratch is what one worker needs.
type recordScratch struct {
	ordered []float32
	padded  [kernels.GroupedBlock]float32 // the last columns, with zeros
}

// tiniest is where the quotients of a block would lose bits or overflow: its magnitudes are below what any sum keeps.
const tiniest = 0x1p-100

// recordElements is what a chunk rounds at least: some microseconds of work.
const recordElements = 16 << 10

// records returns the rows of x as records, in memory of the stream that the next call reuses.
func (s *Stream) records(x, order kernels.Mat, blocks, tokens int) []byte {
	t := &s.grouped.record
	if need := x.Rows * blocks * recordBytes; len(t.mem) < need {
		t.mem = make([]byte, need)
	}
	if t.workers == nil {
		t.workers = make([]recordScratch, s.pool.threads)
	}
	t.part = min(blocks, 1+recordElements/(tokens*kernels.GroupedBlock))
	for i := range t.workers {
		t.workers[i].ordered = grow(t.workers[i].ordered, t.part*kernels.GroupedBlock)
	}
	t.x, t.order, t.blocks, t.tokens, t.code = x, order, blocks, tokens, s.code.grouped.record
	t.parts = (blocks + t.part - 1) / t.part
	s.pool.run(t.parts*((x.Rows+tokens-1)/tokens), t)
	t.x, t.order = kernels.Mat{}, kernels.Mat{}
	return t.mem
}

func (t *recordTask) do(worker, chunk int) {
	token, first := chunk/t.parts*t.tokens, chunk%t.parts*t.part
	tokens, blocks := min(t.tokens, t.x.Rows-token), min(t.part, t.blocks-first)
	from := first * kernels.GroupedBlock
	cols := min(blocks*kernels.GroupedBlock, t.x.Cols-from)
	s := &t.workers[worker]
	for i := range tokens {
		dst := t.mem[((token*t.blocks)+first*tokens+i)*recordBytes:]
		x := t.x.Float32s(token + i)
		whole := cols / kernels.GroupedBlock
		if t.order.Cols > 0 {
			row := s.ordered
			for j, c := range t.order.Int32s(0)[from : from+cols] {
				row[j] = x[c]
			}
			x = row[:cols]
		} else {
			x = x[from : from+cols]
		}
		if whole > 0 {
			t.code(&dst[0], &x[0], whole, tokens*recordBytes)
		}
		if rest := x[whole*kernels.GroupedBlock:]; len(rest) > 0 {
			clear(s.padded[copy(s.padded[:], rest):])
			t.code(&dst[whole*tokens*recordBytes], &s.padded[0], 1, 0)
		}
	}
}
