package cuda

import "eckart/kernels"

// Products with dense weights (src/matmul_few.cu for few tokens, src/matmul.cu for many).
//
// A row of a product with BF16 weights has the same bits in any call of up to skinnyTokens rows, and the same in any call
// of more; the order of its sum depends on the number of columns alone, within each of the two. With F16 and F32 weights
// it has the same bits in every call.

// What the sources of the kernels fix.
const (
	stepCols   = 32
	sliceSteps = 4
	tileRows   = 16
	warps      = blockThreads / 32
	mostSplits = 16

	skinnyTokens = 64
	skinnyCols   = 64 << 10 // beyond, there are more slices than the splits and the levels of every variant have room for

	tiledStages = 4
)

// matMulFunctions are the kernels of matmul_few.cu and matmul.cu.
type matMulFunctions struct {
	skinny, gatedSkinny                                     [len(skinnyVariants)]function
	oddSkinny, tiled128, tiled64, oddTiled, round, f32, f16 function
	gatedTiled128, gatedTiled64                             function
	diagonal, diagonalGated                                 [len(skinnyVariants)]function
	normed, normedGated                                     function // of the first variant
}

func (f *matMulFunctions) table() []kernelName {
	return []kernelName{
		{&f.skinny[0], "matmul_8"},
		{&f.skinny[1], "matmul_16"},
		{&f.skinny[2], "matmul_32"},
		{&f.skinny[3], "matmul_64"},
		{&f.gatedSkinny[0], "gated_8"},
		{&f.gatedSkinny[1], "gated_16"},
		{&f.gatedSkinny[2], "gated_32"},
		{&f.gatedSkinny[3], "gated_64"},
		{&f.diagonal[0], "diagonal_8"},
		{&f.diagonal[1], "diagonal_16"},
		{&f.diagonal[2], "diagonal_32"},
		{&f.diagonal[3], "diagonal_64"},
		{&f.diagonalGated[0], "diagonal_gated_8"},
		{&f.diagonalGated[1], "diagonal_gated_16"},
		{&f.diagonalGated[2], "diagonal_gated_32"},
		{&f.diagonalGated[3], "diagonal_gated_64"},
		{&f.normed, "normed_8"},
		{&f.normedGated, "normed_gated_8"},
		{&f.oddSkinny, "matmul_odd_16"},
		{&f.tiled128, "matmul_tiled_128"},
		{&f.tiled64, "matmul_tiled_64"},
		{&f.gatedTiled128, "gated_tiled_128"},
		{&f.gatedTiled64, "gated_tiled_64"},
		{&f.oddTiled, "matmul_odd_tiled"},
		{&f.round, "round_rows"},
		{&f.f32, "matmul_f32"},
		{&f.f16, "matmul_f16"},
	}
}

// skinnyVariant is a kernel for few tokens.
type skinnyVariant struct {
	tokens  int // it has room for
	levels  int // of the tree in a warp: it adds up to 2^levels slices
	buffers int // for the sums of a block's warps
}

// The variants of skinny, and which of them there is for rows that are not aligned.
var skinnyVariants = [...]skinnyVariant{{8, 4, 2}, {16, 2, 2}, {32, 1, 1}, {64, 0, 1}}

const oddVariant = 1

// shared returns the bytes of shared memory beside the activations: the sums of each warp, padded, and the answer of a
// ticket.
func (v skinnyVariant) shared() int { return v.buffers*warps*v.tokens*(tileRows+4)*4 + 16 }

// MatMul implements kernels.Stream.
func (s *stream) MatMul(y, x, w kernels.Mat, m kernels.Mode) {
	switch {
	case y.Rows == 0 || y.Cols == 0:
	case w.Type != kernels.BF16:
		s.matMulPlain(y, x, w, m)
	default:
		s.matMul(y, x, w, m, false)
	}
}

// GatedMatMul computes y = silu(x·gateᵀ) ⊙ (x·upᵀ) for y (tokens, out), x (tokens, in) and w (2·out, in), gate's rows above
// up's, with the bits of MatMul and SwiGLU one after the other. It reports whether it did: there are kernels for BF16
// weights whose rows are aligned to 16 bytes.
func (s *stream) GatedMatMul(y, x, w kernels.Mat) bool {
	if w.Type != kernels.BF16 || !aligned(w) {
		return false
	}
	if y.Rows > 0 && y.Cols > 0 {
		s.matMul(y, x, w, kernels.Set, true)
	}
	return true
}

func (s *stream) matMul(y, x, w kernels.Mat, m kernels.Mode, gated bool) {
	if x.Rows > skinnyTokens || x.Cols > skinnyCols {
		s.matMulTiled(y, x, w, m, gated)
		return
	}
	for first := 0; first < x.Rows; {
		first += s.matMulSkinny(y.Slice(first, x.Rows-first), x.Slice(first, x.Rows-first), w, m, gated, nil)
	}
}

// normedTokens is how many tokens products take RMSNorm along for: what their kernels have room for.
const normedTokens = 4

// normedBytes is how much of x the blocks of a product that takes RMSNorm along may read together where that is more than 0.3
// of the weights' bytes: what the second-level cache gives in about the time of the launch that is saved.
const normedBytes = 8 << 20

// rmsNorm is RMSNorm of whole rows.
type rmsNorm struct {
	gain kernels.Mat
	eps  float32
}

// pays reports whether so many blocks of a product, each of which reads x whole, may take the norm along.
func (n *rmsNorm) pays(blocks int, x kernels.Mat, weights int64) bool {
	read := int64(blocks) * int64(x.Rows*x.Cols*4)
	return read <= normedBytes || read*10 <= weights*3
}

// NormedMatMul computes y = RMSNorm(x)·wᵀ for y (tokens, out), x (tokens, in), gain (1, in) and w (out, in), with the bits of
// RMSNorm and MatMul one after the other. It reports whether it did: it does for few tokens and BF16 weights whose rows are
// aligned to 16 bytes.
func (s *stream) NormedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool {
	return s.matMulNormed(y, x, w, rmsNorm{gain, eps}, false)
}

// NormedGatedMatMul is NormedMatMul with GatedMatMul in the place of MatMul.
func (s *stream) NormedGatedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Mat) bool {
	return s.matMulNormed(y, x, w, rmsNorm{gain, eps}, true)
}

func (s *stream) matMulNormed(y, x, w kernels.Mat, n rmsNorm, gated bool) bool {
	if w.Type != kernels.BF16 || !aligned(w) || x.Rows > normedTokens || x.Cols > skinnyCols || n.gain.Cols != x.Cols {
		return false
	}
	p := planSkinny(x.Rows, w.Rows, w.Cols, s.device.info.Multiprocessors, s.device.info.sharedPerBlock, false)
	if !n.pays(p.blocks*p.splits, x, w.Bytes()) {
		return false
	}
	for first := 0; y.Cols > 0 && first < x.Rows; {
		first += s.matMulSkinny(y.Slice(first, x.Rows-first), x.Slice(first, x.Rows-first), w, kernels.Set, gated, &n)
	}
	return true
}

func (s *stream) matMulPlain(y, x, w kernels.Mat, m kernels.Mode) {
	const tokens = 4
	f := s.f.matMul.f32
	if w.Type == kernels.F16 {
		f = s.f.matMul.f16
	}
	launch(s, f, dim{ceil(x.Rows, tokens), ceil(w.Rows, warps), 1}, blockThreads, 0, &struct {
		y, x, w mat
		add     uint32
	}{argument(y), argument(x), argument(w), flag(m)})
}

// aligned reports whether kernels may read rows of BF16 weights 16 bytes at once.
func aligned(w kernels.Mat) bool { return w.Addr%16 == 0 && w.Stride%8 == 0 && w.Cols%8 == 0 }

// skinnyPlan is how a product with few tokens is cut.
type skinnyPlan struct {
	variant   int // of skinnyVariants
	tokens    int // of this call
	logSlices int
	splits    int // blocks that share the columns of a tile
	pitch     int // bytes of a token in shared memory
	shared    int // bytes of a block
	blocks    int // side by side in a split, each of which goes through tiles
}

// planSkinny cuts a product of tokens with (out, in) weights, for a GPU of so many multiprocessors and bytes of shared
// memory; odd says that the weights are not aligned. It takes the smallest variant that has room for the tokens, or the
// next smaller one where they are too wide for its shared memory. No cut changes a bit: sums run over slices in the order
// of one tree.
//
// Splits, blocks that share the columns of a tile, are for small out, and for activations that are too many to be staged by
// every block: those are read from the second-level cache, blocks·tokens·in/splits·4 bytes, and so are 8·splits·tokens·out
// bytes of partial sums. In shared memory are tokens·in/splits·2 bytes of activations and 10, 20, 20 or 40 KB of sums, by
// variant: two blocks have room at once on an H100 up to 1408 columns a split with 32 tokens, 512 with 64.
func planSkinny(tokens, out, in, multiprocessors, shared int, odd bool) skinnyPlan {
	variant := len(skinnyVariants) - 1
	for variant > 0 && skinnyVariants[variant-1].tokens >= tokens {
		variant--
	}
	if odd {
		variant = oddVariant
	}
	p := skinnyPlan{logSlices: 3}
	steps := ceil(in, stepCols)
	for sliceSteps<<p.logSlices < steps {
		p.logSlices++
	}
	for ; ; variant-- {
		v := skinnyVariants[variant]
		p.variant, p.tokens = variant, min(tokens, v.tokens)
		fits := p.split(v, out, steps, multiprocessors, shared)
		if !fits && (odd || variant == 0) { // with fewer tokens than it has room for
			p.tokens = min(p.tokens, (shared-v.shared())/p.pitch)
			fits = p.split(v, out, steps, multiprocessors, shared)
		}
		if fits {
			return p
		}
	}
}

// split chooses the splits of a variant, and reports whether a block finds room.
func (p *skinnyPlan) split(v skinnyVariant, out, steps, multiprocessors, shared int) bool {
	tiles, share := ceil(out, tileRows), 1<<p.logSlices/warps // slices of a warp, without splits
	most := min(mostSplits, share)
	for p.splits = 1; ; p.splits *= 2 {
		p.pitch = (ceil(steps, p.splits) + 1 | 1) * stepCols * 2
		p.shared = v.shared() + p.tokens*p.pitch
		resident := multiprocessors * max(1, min(2, shared/p.shared))
		p.blocks = min(tiles, max(1, resident/p.splits))
		holds := share/p.splits <= 1<<v.levels
		if p.splits == most {
			return holds && p.shared <= shared
		}
		if holds &&
			tiles*p.splits >= multiprocessors*3/4 && // else some would have nothing to do
			p.shared <= shared/2-1024 && // else one block would fill a multiprocessor
			p.blocks*p.tokens*20 <= out*3 { // else staging would read more than 0.3 of the weights' bytes
			return true
		}
	}
}

type skinnyArgs struct {
	y, x, w                                     mat
	partials, tickets                           uint64
	add, steps, logSlices, splits, pitch, apart uint32
	first, blocks                               uint32
}

type normedArgs struct {
	product skinnyArgs
	gain    mat
	eps     float32
}

// arguments returns a product that is cut by p; its matrices and what it shares with others are for the caller.
func (p skinnyPlan) arguments(w kernels.Mat, m kernels.Mode) skinnyArgs {
	return skinnyArgs{
		add: flag(m), steps: uint32(ceil(w.Cols, stepCols)), logSlices: uint32(p.logSlices), splits: uint32(p.splits), pitch: uint32(p.pitch),
	}
}

// matMulSkinny multiplies the first rows of x, or of its norm n if there is one, and returns how many.
func (s *stream) matMulSkinny(y, x, w kernels.Mat, m kernels.Mode, gated bool, n *rmsNorm) int {
	odd := !aligned(w)
	p := planSkinny(x.Rows, w.Rows, w.Cols, s.device.info.Multiprocessors, s.device.info.sharedPerBlock, odd)
	f, results := s.f.matMul.skinny[p.variant], tileRows // of a tile
	switch {
	case gated && n != nil:
		f, results = s.f.matMul.normedGated, tileRows/2
	case gated:
		f, results = s.f.matMul.gatedSkinny[p.variant], tileRows/2
	case n != nil:
		f = s.f.matMul.normed
	case odd:
		f = s.f.matMul.oddSkinny
	}
	y, x = y.Slice(0, p.tokens), x.Slice(0, p.tokens)
	a := p.arguments(w, m)
	a.x, a.partials, a.tickets, a.apart = argument(x), s.work.addr, s.tickets.addr, uint32(y.Cols)
	// Where blocks share tiles, as many results at a time as there is room for their sums.
	most := y.Cols
	if p.splits > 1 {
		tiles := min(s.work.bytes/int64(p.splits*p.tokens*tileRows*4), s.tickets.bytes/4)
		most = min(most, int(tiles)*results)
	}
	for first := 0; first < y.Cols; first += most {
		cols := min(most, y.Cols-first)
		a.y, a.w = argument(y.Window(first, cols)), argument(w.Slice(first, cols))
		grid := dim{min(p.blocks, ceil(cols, results)), p.splits, 1}
		a.blocks = uint32(grid.x)
		if n == nil {
			launch(s, f, grid, blockThreads, p.shared, &a)
		} else {
			launch(s, f, grid, blockThreads, p.shared, &normedArgs{a, argument(n.gain), n.eps})
		}
	}
	return p.tokens
}

// matMulTiled rounds as many rows of x as the workspace holds, and multiplies them.
func (s *stream) matMulTiled(y, x, w kernels.Mat, m kernels.Mode, gated bool) {
	cols := ceil(x.Cols, stepCols) * stepCols
	most := max(1, int(s.work.bytes)/max(1, cols*2))
	if most < x.Rows && most > 128 {
		most = most / 128 * 128
	}
	for first := 0; first < x.Rows; first += most {
		n := min(most, x.Rows-first)
		rounded := mat{addr: s.work.addr, rows: uint32(n), cols: uint32(cols), stride: uint32(cols)}
		launch(s, s.f.matMul.round, dim{n, ceil(cols, 8*blockThreads), 1}, blockThreads, 0, &struct{ y, x mat }{rounded, argument(x.Slice(first, n))})
		// Large tiles where they give every multiprocessor something to do. Both sum in the same order.
		large := ceil(n, 128)*ceil(w.Rows, 128) >= s.device.info.Multiprocessors
		f, edge := s.f.matMul.tiled64, 64
		switch {
		case gated && large:
			f, edge = s.f.matMul.gatedTiled128, 128
		case gated:
			f = s.f.matMul.gatedTiled64
		case !aligned(w):
			f = s.f.matMul.oddTiled
		case large:
			f, edge = s.f.matMul.tiled128, 128
		}
		launch(s, f, dim{ceil(n, edge), ceil(w.Rows, edge), 1}, blockThreads, tiledStages*2*edge*stepCols*2, &struct {
			y, x, w mat
			add     uint32
		}{argument(y.Slice(first, n)), rounded, argument(w), flag(m)})
	}
}
