package cuda

import (
	"fmt"

	"eckart/kernels"
)

// groupedFunctions are the kernels of src/grouped.cu. Those of products stand at the bits of a code.
type groupedFunctions struct {
	pack, embed, round function
	one                [9]function // of a token that it rounds itself
	upTo8, upTo16      [9]function // of so many tokens
	by32, by64         [9]function // of any number, so many to a block
}

func (f *groupedFunctions) table() []kernelName {
	t := []kernelName{{&f.pack, "grouped_pack"}, {&f.embed, "grouped_embed"}, {&f.round, "grouped_round"}}
	for _, bits := range []int{8, 4, 3, 2} {
		for _, k := range []kernelName{
			{&f.one[bits], "one"}, {&f.upTo8[bits], "8"}, {&f.upTo16[bits], "16"}, {&f.by32[bits], "32"}, {&f.by64[bits], "tiled"},
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

// ring returns the bytes of a ring of stages: codes, scales and zero points of panels, and records of tiles.
func (g groupedShape) ring(bits int) int {
	const panel = kernels.GroupedPanel
	return g.depth * g.blocks * (g.panels*panel*(kernels.GroupedBlock/8*bits+4+1) + g.tiles*groupedRecord)
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
	_                   uint32
}

// GroupedMatMul implements kernels.Stream. A single token is rounded by the kernel that multiplies it; more are rounded
// once, into the workspace, as many at a time as it holds. Which kernel runs changes no bit of a row.
func (s *stream) GroupedMatMul(y, x kernels.Mat, w kernels.Grouped, mode kernels.Mode) {
	s.groupedMatMul(y, x, w, kernels.Mat{}, kernels.Mat{}, mode)
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
	s.groupedMatMul(y, x, w, z, u, mode)
}

// groupedMatMul computes y = x·wᵀ, plus z·uᵀ if u has columns.
func (s *stream) groupedMatMul(y, x kernels.Mat, w kernels.Grouped, z, u kernels.Mat, mode kernels.Mode) {
	f := &s.f.grouped
	args := groupedMatMulArgs{w: groupedMatrixOf(w), yStride: uint32(y.Stride)}
	if mode == kernels.Add {
		args.add = 1
	}
	if w.Order.Cols > 0 {
		args.order = w.Order.Addr
	}
	if u.Cols > 0 {
		args.u, args.z, args.rank, args.uStride, args.zStride = u.Addr, z.Addr, uint32(u.Cols), uint32(u.Stride), uint32(z.Stride)
	}
	blocks := int(args.w.blocks)
	slices, sliceBlocks := groupedSlices(blocks)
	args.slices, args.sliceBlocks, args.filled = uint32(slices), uint32(sliceBlocks), uint32(ceil(blocks, sliceBlocks))

	shapes, brief := &groupedShapes[w.Bits], sliceBlocks*groupedBrief
	if x.Rows == 1 && groupedWarps*(shapes.one.ring(w.Bits)+brief)+shapes.one.sums() <= groupedShared {
		args.y, args.x, args.tokens = y.Addr, x.Addr, 1
		s.groupedSkinny(f.one[w.Bits], shapes.one, brief, &args)
		return
	}
	const most = 8192 // tokens of a launch, which counts them in blocks
	tiles := min(most/groupedTile, int(s.work.bytes)/(blocks*groupedRecord))
	if tiles == 0 {
		s.fail(fmt.Errorf("multiply by a grouped matrix of %d columns: %d rounded tokens do not fit into the stream's workspace of %d bytes",
			w.Cols, groupedTile, s.work.bytes))
		return
	}
	for from := 0; from < x.Rows; from += tiles * groupedTile {
		n := min(tiles*groupedTile, x.Rows-from)
		args.y, args.tokens, args.records = y.Addr+uint64(4*from*y.Stride), uint32(n), s.work.addr
		if u.Cols > 0 {
			args.z = z.Addr + uint64(4*from*z.Stride)
		}
		round := groupedRoundArgs{
			records: args.records, x: x.Addr + uint64(4*from*x.Stride), order: args.order,
			tokens: args.tokens, cols: args.w.cols, blocks: args.w.blocks, xStride: uint32(x.Stride),
		}
		launch(s, f.round, dim{ceil(blocks, 16), ceil(n, groupedTile) * groupedTile, 1}, 128, 0, &round)
		switch {
		case n <= 8:
			s.groupedSkinny(f.upTo8[w.Bits], shapes.upTo8, 0, &args)
		case n <= 16:
			s.groupedSkinny(f.upTo16[w.Bits], shapes.upTo16, 0, &args)
		case n <= 64:
			s.groupedSkinny(f.by32[w.Bits], shapes.by32, 0, &args)
		default:
			grid := dim{ceil(w.Rows, shapes.by64.panels*kernels.GroupedPanel), ceil(n, shapes.by64.tiles*groupedTile), 1}
			launch(s, f.by64[w.Bits], grid, groupedWarps*32, shapes.by64.ring(w.Bits), &args)
		}
	}
}

// groupedSkinny launches a kernel of few tokens: warps have rings of their own and brief more bytes each. Where the panels are
// too few for all multiprocessors, blocks of threads are smaller.
func (s *stream) groupedSkinny(f function, g groupedShape, brief int, args *groupedMatMulArgs) {
	panels := ceil(ceil(int(args.w.rows), kernels.GroupedPanel), g.panels)
	warps := groupedWarps
	for warps > int(args.slices) && ceil(panels*int(args.slices), warps) < 2*s.device.info.Multiprocessors {
		warps /= 2
	}
	grid := dim{ceil(panels*int(args.slices), warps), ceil(int(args.tokens), max(1, g.tiles)*groupedTile), 1}
	shared := warps * (g.ring(int(args.w.bits)) + brief)
	if args.u != 0 {
		shared += warps / int(args.slices) * g.sums()
	}
	launch(s, f, grid, warps*32, shared, args)
}
