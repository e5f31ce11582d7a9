package cuda

import (
	"fmt"

	"eckart/kernels"
)

// groupedFunctions are the kernels of src/grouped.cu. Those of products stand at the bits of a code.
type groupedFunctions struct {
	pack, embed, round, roundNormed function
	one, normed, normedGated        [9]function // of a token that it rounds itself
	upTo8, upTo16                   [9]function // of so many tokens
	by32, by64                      [9]function // of any number, so many to a block
}

func (f *groupedFunctions) table() []kernelName {
	t := []kernelName{{&f.pack, "grouped_pack"}, {&f.embed, "grouped_embed"}, {&f.round, "grouped_round"}, {&f.roundNormed, "grouped_round_normed"}}
	for _, bits := range []int{8, 4, 3, 2} {
		for _, k := range []kernelName{
			{&f.one[bits], "one"},
			{&f.normed[bits], "normed"},
			{&f.normedGated[bits], "normed_gated"},
			{&f.upTo8[bits], "8"},
			{&f.upTo16[bits], "16"},
			{&f.by32[bits], "32"},
			{&f.by64[bits], "tiled"},
		} {
			t = append(t, kernelName{k.at, fmt.Sprintf("grouped_%s_w%d", k.name, bits)})
		}
	}
	return t
}

// groupedMatrix is a Grouped among the arguments of a kernel.
type groupedMatrix struct {
	codes, scales, zeros uint64
	rows, cols           uint32
	blocks, groups       uint32
	bits, scaleType      uint32
	perGroup             uint32
	_                    uint32
}

// groupedMatrixOf says where things lie in w: codes, scales and zero points, one after the other.
func groupedMatrixOf(w kernels.Grouped) groupedMatrix {
	rows := ceil(w.Rows, kernels.GroupedPanel) * kernels.GroupedPanel
	blocks := ceil(w.Cols, kernels.GroupedBlock)
	m := groupedMatrix{
		codes: w.Packed.Addr, perGroup: uint32(ceil(1<<31, w.Group/kernels.GroupedBlock)),
		rows: uint32(w.Rows), cols: uint32(w.Cols), blocks: uint32(blocks), groups: uint32(w.Groups()),
		bits: uint32(w.Bits), scaleType: uint32(w.ScaleType),
	}
	m.scales = m.codes + uint64(rows*blocks*kernels.GroupedBlock/8*w.Bits)
	if w.Zeros {
		m.zeros = m.scales + uint64(rows*w.Groups()*w.ScaleType.Bytes())
	}
	return m
}

type groupedPackArgs struct {
	w                    groupedMatrix
	codes, scales, zeros uint64
	panel, n             uint32
}

// Pack implements kernels.Stream. Rows go through the stream's workspace, as many at a time as it holds, and are laid out
// there by the device.
func (s *stream) Pack(w kernels.Grouped, row int, codes, scales, zeros []byte) {
	const panel = kernels.GroupedPanel
	args := groupedPackArgs{w: groupedMatrixOf(w), panel: uint32(row / panel)}
	groups := w.Groups()
	scaleBytes := groups * w.ScaleType.Bytes()
	most := int(s.work.bytes-2*kernels.Align) / (w.Cols + scaleBytes + groups) / panel * panel
	if most < panel {
		s.fail(fmt.Errorf("pack a grouped matrix of %d columns: %d rows do not fit into the stream's workspace of %d bytes", w.Cols, panel, s.work.bytes))
		return
	}
	for rows := len(codes) / w.Cols; rows > 0 && s.err == nil; {
		n := min(rows, most)
		args.codes, args.n = s.work.addr, uint32(n)
		args.scales = alignUp(args.codes + uint64(n*w.Cols))
		args.zeros = alignUp(args.scales + uint64(n*scaleBytes))
		s.upload(args.codes, codes[:n*w.Cols], "upload of codes")
		s.upload(args.scales, scales[:n*scaleBytes], "upload of scales")
		if w.Zeros {
			s.upload(args.zeros, zeros[:n*groups], "upload of zero points")
			zeros = zeros[n*groups:]
		}
		launch(s, s.f.grouped.pack, dim{ceil(n, panel), min(64, ceil(int(args.w.blocks), 8)), 1}, 256, 0, &args)
		codes, scales = codes[n*w.Cols:], scales[n*scaleBytes:]
		args.panel += uint32(n / panel)
		rows -= n
	}
}

// alignUp returns the next address that a matrix may begin at.
func alignUp(addr uint64) uint64 { return (addr + kernels.Align - 1) / kernels.Align * kernels.Align }

type groupedEmbedArgs struct {
	table              groupedMatrix
	y, ids             uint64
	yStride, idsStride uint32
}

// GroupedEmbed implements kernels.Stream.
func (s *stream) GroupedEmbed(y kernels.Mat, table kernels.Grouped, ids kernels.Mat) {
	args := groupedEmbedArgs{groupedMatrixOf(table), y.Addr, ids.Addr, uint32(y.Stride), uint32(ids.Stride)}
	launch(s, s.f.grouped.embed, dim{y.Rows, 1, 1}, 128, 0, &args)
}

// What src/grouped.cu has as constants.
const (
	groupedTile   = 8 // tokens of a record
	groupedRecord = groupedTile*kernels.GroupedBlock + 64
	groupedBrief  = kernels.GroupedBlock + 8 // bytes of a block of the token that grouped_one rounds
	groupedWarps  = 8

	groupedGated = 64 // most tokens of a product that takes SwiGLU along
)

// groupedShared is the shared memory in bytes that every GPU of compute capability 8.0 and later gives a block of threads.
const groupedShared = 99 << 10

// groupedShape is how a product kernel takes its matrix: panels of rows and tiles of tokens of a stage, its blocks of columns,
// and how many stages there are in a ring.
type groupedShape struct{ panels, tiles, blocks, depth int }

// groupedShapes are the shapes of src/grouped.cu, by the bits of a code.
var groupedShapes = [9]struct{ one, upTo8, upTo16, by32, by64 groupedShape }{
	8: {groupedShape{1, 0, 2, 5}, groupedShape{2, 1, 2, 4}, groupedShape{2, 2, 2, 3}, groupedShape{2, 4, 2, 2}, groupedShape{8, 8, 2, 3}},
	4: {groupedShape{1, 0, 4, 5}, groupedShape{2, 1, 2, 4}, groupedShape{2, 2, 2, 4}, groupedShape{2, 4, 2, 3}, groupedShape{8, 8, 2, 3}},
	3: {groupedShape{1, 0, 4, 5}, groupedShape{2, 1, 2, 5}, groupedShape{2, 2, 2, 4}, groupedShape{2, 4, 2, 3}, groupedShape{8, 8, 2, 3}},
	2: {groupedShape{1, 0, 8, 5}, groupedShape{2, 1, 2, 6}, groupedShape{2, 2, 2, 4}, groupedShape{2, 4, 2, 3}, groupedShape{8, 8, 2, 3}},
}

// gated returns the shape of one token with SwiGLU, of one: half of the blocks of two panels.
func (g groupedShape) gated() groupedShape { return groupedShape{2, 0, g.blocks / 2, g.depth} }

// ring returns the bytes of a ring of stages: codes, scales and zero points of panels, and records of tiles.
func (g groupedShape) ring(bits int) int {
	const panel = kernels.GroupedPanel
	return g.depth * g.blocks * (g.panels*panel*(kernels.GroupedBlock/8*bits+4+1) + g.tiles*groupedRecord)
}

// warp returns the bytes of a warp: of its ring and, where it rounds its slice of the token itself, of that.
func (g groupedShape) warp(args *groupedMatMulArgs) int {
	bytes := g.ring(int(args.w.bits))
	if g.tiles == 0 {
		bytes += int(args.sliceBlocks) * groupedBrief
	}
	return bytes
}

// sums returns the bytes of the sums of panels and tiles, with four between the rows of tokens.
func (g groupedShape) sums() int {
	return max(1, g.tiles*groupedTile) * (g.panels*kernels.GroupedPanel + 4) * 4
}

// groupedSlices returns in how many slices the blocks of a row are summed, of 4 blocks at least, and the blocks of a slice.
// The order of a sum depends on nothing else.
func groupedSlices(blocks int) (slices, sliceBlocks int) {
	slices = 1
	for slices < groupedWarps && blocks >= 8*slices {
		slices *= 2
	}
	return slices, ceil(blocks, slices)
}

type groupedRoundArgs struct {
	records, x, order uint64
	tokens, cols      uint32
	blocks, xStride   uint32
	gain              uint64
	eps               float32
	_                 uint32
}

type groupedMatMulArgs struct {
	w                   groupedMatrix
	y, records          uint64
	x, order            uint64
	tokens, yStride     uint32
	add                 uint32
	slices, sliceBlocks uint32
	filled              uint32 // slices that have blocks
	u, z                uint64
	rank                uint32
	uStride, zStride    uint32
	parts, step, apart  uint32
	gain                uint64
	eps                 float32
	_                   uint32
}

// groupedFold is what is done along with a product by a grouped matrix, nothing by its zero value.
type groupedFold struct {
	norm  *rmsNorm    // of which the product is
	gated bool        // SwiGLU of the halves of the product
	z, u  kernels.Mat // z·uᵀ is added
}

// GroupedMatMul implements kernels.Stream. A single token is rounded by the kernel that multiplies it; more are rounded
// once, into the workspace, as many at a time as it holds. Which kernel runs changes no bit of a row.
func (s *stream) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode) {
	s.groupedMatMul(y, x, w, mode, groupedFold{})
}

// GatedGroupedMatMul computes y = silu(x·gateᵀ) ⊙ (x·upᵀ) for y (tokens, out), x (tokens, in) and w (2·out, in), gate's rows
// above up's, with the bits of GroupedMatMul and SwiGLU one after the other. It reports whether it did: it does for up to 64
// tokens and out that is a multiple of kernels.GroupedPanel.
func (s *stream) GatedGroupedMatMul(y, x kernels.Mat, w kernels.Grouped) bool {
	return s.groupedFolded(y, x, w, groupedFold{gated: true})
}

// NormedGroupedMatMul computes y = RMSNorm(x)·wᵀ for y (tokens, out), x (tokens, in), gain (1, in) and w (out, in), with the
// bits of RMSNorm and GroupedMatMul one after the other. It reports whether it did: it does unless the norm is that of heads.
func (s *stream) NormedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool {
	return s.groupedFolded(y, x, w, groupedFold{norm: &rmsNorm{gain, eps}})
}

// NormedGatedGroupedMatMul is NormedGroupedMatMul with GatedGroupedMatMul in the place of GroupedMatMul.
func (s *stream) NormedGatedGroupedMatMul(y, x, gain kernels.Mat, eps float32, w kernels.Grouped) bool {
	return s.groupedFolded(y, x, w, groupedFold{norm: &rmsNorm{gain, eps}, gated: true})
}

// groupedFolded sets y, and reports whether there are kernels for it.
func (s *stream) groupedFolded(y, x kernels.Mat, w kernels.Grouped, fold groupedFold) bool {
	if fold.gated && (x.Rows > groupedGated || w.Rows%(2*kernels.GroupedPanel) != 0) || fold.norm != nil && fold.norm.gain.Cols != x.Cols {
		return false
	}
	s.groupedMatMul(y, x, w, kernels.Set, fold)
	return true
}

// GroupedMatMulPlus computes y = x·wᵀ + z·uᵀ, as layers.Sum asks for it: GroupedMatMul for y (tokens, out), x (tokens, in) and
// w (out, in), and in the same pass the product of z (tokens, rank) and u (out, rank), which is BF16; z is rounded to that.
func (s *stream) GroupedMatMulPlus(y, x kernels.Mat, w kernels.Grouped, z, u kernels.Mat, mode kernels.Mode) {
	// One pass or two is a matter of the shapes alone, as the bits are not the same.
	slices, _ := groupedSlices(ceil(w.Cols, kernels.GroupedBlock))
	if u.Type != kernels.BF16 || u.Cols%16 != 0 || u.Stride%2 != 0 || u.Addr%4 != 0 || slices < groupedWarps {
		s.GroupedMatMul(y, x, w, mode)
		s.MatMul(y, z, u, kernels.Add)
		return
	}
	s.groupedMatMul(y, x, w, mode, groupedFold{z: z, u: u})
}

func (s *stream) groupedMatMul(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode, fold groupedFold) {
	args := groupedMatMulArgs{w: groupedMatrixOf(w), yStride: uint32(y.Stride), add: flag(mode)}
	if w.Order.Cols > 0 {
		args.order = w.Order.Addr
	}
	if n := fold.norm; n != nil {
		args.gain, args.eps = n.gain.Addr, n.eps
	}
	if u, z := fold.u, fold.z; u.Cols > 0 {
		args.u, args.z, args.rank, args.uStride, args.zStride = u.Addr, z.Addr, uint32(u.Cols), uint32(u.Stride), uint32(z.Stride)
	}
	blocks := int(args.w.blocks)
	slices, sliceBlocks := groupedSlices(blocks)
	args.slices, args.sliceBlocks, args.filled = uint32(slices), uint32(sliceBlocks), uint32(ceil(blocks, sliceBlocks))
	if x.Rows == 1 && s.groupedOne(y, x, w, fold, &args) {
		return
	}

	const most = 8192 // tokens of a launch, which counts them in blocks
	tiles := min(most/groupedTile, int(s.work.bytes)/(blocks*groupedRecord))
	if tiles == 0 {
		s.fail(fmt.Errorf("multiply by a grouped matrix of %d columns: %d rounded tokens do not fit into the stream's workspace of %d bytes",
			w.Cols, groupedTile, s.work.bytes))
		return
	}
	f, shapes := &s.f.grouped, &groupedShapes[w.Bits]
	for from := 0; from < x.Rows; from += tiles * groupedTile {
		n := min(tiles*groupedTile, x.Rows-from)
		args.y, args.tokens, args.records = y.Addr+uint64(4*from*y.Stride), uint32(n), s.work.addr
		if args.u != 0 {
			args.z = fold.z.Addr + uint64(4*from*fold.z.Stride)
		}
		s.groupedRound(x.Slice(from, n), &args)
		switch {
		case n <= 8:
			s.groupedSkinny(f.upTo8[w.Bits], shapes.upTo8, fold.gated, &args)
		case n <= 16:
			s.groupedSkinny(f.upTo16[w.Bits], shapes.upTo16, fold.gated, &args)
		case n <= groupedGated:
			s.groupedSkinny(f.by32[w.Bits], shapes.by32, fold.gated, &args)
		default:
			grid := dim{ceil(w.Rows, shapes.by64.panels*kernels.GroupedPanel), ceil(n, shapes.by64.tiles*groupedTile), 1}
			launch(s, f.by64[w.Bits], grid, groupedWarps*32, shapes.by64.ring(w.Bits), &args)
		}
	}
}

// groupedRound makes the records of the tokens x, or of their norm.
func (s *stream) groupedRound(x kernels.Mat, args *groupedMatMulArgs) {
	blocks, tokens := int(args.w.blocks), ceil(x.Rows, groupedTile)*groupedTile
	round := groupedRoundArgs{
		records: args.records, x: x.Addr, order: args.order,
		tokens: args.tokens, cols: args.w.cols, blocks: args.w.blocks, xStride: uint32(x.Stride),
		gain: args.gain, eps: args.eps,
	}
	if args.gain == 0 {
		launch(s, s.f.grouped.round, dim{ceil(blocks, 16), tokens, 1}, 128, 0, &round)
		return
	}
	// Each block of threads reads its token whole: there are more than one to a token where tokens are few.
	perToken := min(ceil(blocks, 4*groupedWarps), max(1, 2*s.device.info.Multiprocessors/tokens))
	launch(s, s.f.grouped.roundNormed, dim{perToken, tokens, 1}, groupedWarps*32, groupedWarps*4, &round)
}

// groupedOne multiplies a single token, which the kernel rounds itself, and reports whether there is one for it. Those that take
// a norm along read rows four columns at once, in their own order; SwiGLU alone has none.
func (s *stream) groupedOne(y, x kernels.Mat, w kernels.Grouped, fold groupedFold, args *groupedMatMulArgs) bool {
	f, shapes := &s.f.grouped, &groupedShapes[w.Bits]
	kernel, g := f.one[w.Bits], shapes.one
	switch n := fold.norm; {
	case n == nil && fold.gated:
		return false
	case n == nil:
	case args.order != 0 || x.Cols%4 != 0 || (x.Addr|n.gain.Addr)%16 != 0:
		return false
	case fold.gated:
		kernel, g = f.normedGated[w.Bits], shapes.one.gated()
	default:
		kernel = f.normed[w.Bits]
	}
	args.y, args.x, args.tokens = y.Addr, x.Addr, 1
	grid, _ := s.groupedGrid(g, args)
	if groupedWarps*g.warp(args)+g.sums() > groupedShared || fold.norm != nil && !fold.norm.pays(grid.x, x, int64(w.PackedBytes())) {
		return false
	}
	s.groupedSkinny(kernel, g, fold.gated, args)
	return true
}

// groupedGrid returns the blocks of threads of a kernel of few tokens, and the warps of each. Where the panels are too few for
// all multiprocessors blocks are smaller, unless they sum squares up, which all threads of a norm's do.
func (s *stream) groupedGrid(g groupedShape, args *groupedMatMulArgs) (grid dim, warps int) {
	slices, panels := int(args.slices), ceil(ceil(int(args.w.rows), kernels.GroupedPanel), g.panels)
	warps = groupedWarps
	normed := g.tiles == 0 && args.gain != 0
	for !normed && warps > slices && ceil(panels*slices, warps) < 2*s.device.info.Multiprocessors {
		warps /= 2
	}
	return dim{ceil(panels*slices, warps), ceil(int(args.tokens), max(1, g.tiles)*groupedTile), 1}, warps
}

// groupedSkinny launches a kernel of few tokens. Its warps have rings of their own and either neighbouring panels or, with
// SwiGLU, one of gate and one of up.
func (s *stream) groupedSkinny(f function, g groupedShape, gated bool, args *groupedMatMulArgs) {
	grid, warps := s.groupedGrid(g, args)
	args.parts, args.step, args.apart = uint32(warps)/args.slices, uint32(g.panels), 1
	if gated {
		args.step, args.apart = 1, args.w.rows/(2*kernels.GroupedPanel)
	}
	shared := warps * g.warp(args)
	switch {
	case g.tiles == 0 && args.gain != 0:
		shared += groupedWarps * 4 // the sums of squares
	case args.u != 0:
		shared += int(args.parts) * g.sums()
	}
	launch(s, f, grid, warps*32, shared, args)
}
