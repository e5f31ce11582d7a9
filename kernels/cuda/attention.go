package cuda

import (
	"math"

	"eckart/kernels"
)

// storeArgs are StoreArgs of src/attention.cuh.
type storeArgs struct {
	k, v, slots, keys, values                              uint64
	kStride, vStride, slotStride, keysStride, valuesStride uint32
	heads, keyDim, valueDim, blockTokens                   uint32
	_                                                      uint32
}

// rotateStoreArgs are RotateStoreArgs there.
type rotateStoreArgs struct {
	store                                storeArgs
	q, angles                            uint64
	qStride, anglesStride, heads, halves uint32
}

// attendArgs are AttendArgs there.
type attendArgs struct {
	y, q, keys, values, rows, from, blocks, partials, tickets                        uint64
	yStride, qStride, keysStride, valuesStride, rowsStride, fromStride, blocksStride uint32
	count, keyHeads, group, keyDim, valueDim, blockTokens, window                    uint32
	decodeRows, slots, chunks                                                        uint32
	scale                                                                            float32
}

// What the kernels of attention are written for; the same numbers stand in src/attention*.
const (
	attendThreads = 128
	attendWarps   = attendThreads / 32
	decodeRows    = 16  // rows of a sequence in a call, up to which it is decoding
	decodeColumns = 8   // queries that a block of decoding takes at once
	leastChunk    = 128 // tokens of a chunk, which a block of decoding takes at once
	mostChunks    = 66  // of a row: 64, and two that its window begins and ends in
	prefillRows   = 64  // queries of a block of a prompt
	stripTokens   = 16  // a tile of the cache is so many tokens of so many features
	tileBytes     = 512
)

// decodeBlocks is how many blocks of decoding there are for each multiprocessor, if there is work for them: as many as
// have room there at a time.
const decodeBlocks = 4

// attentionFunctions are the kernels of Store and Attend by the type of the cache; decode and prompt also by the
// width of heads (attendTiles).
type attentionFunctions struct {
	store, storeTiles, rotateStore, rotateStoreTiles, attend [kernels.BF16 + 1]function
	decode, prompt                                           [kernels.BF16 + 1][len(attendTiles)]function
}

// attendTiles are the most tiles of 16 features of keys, and of values, that the kernels on tiles have room for.
var attendTiles = [...]int{4, 8, 16}

func (f *attentionFunctions) table() []kernelName {
	return []kernelName{
		{&f.store[kernels.F32], "store_f32"},
		{&f.store[kernels.F16], "store_f16"},
		{&f.store[kernels.BF16], "store_bf16"},
		{&f.storeTiles[kernels.F16], "store_f16_tiles"},
		{&f.storeTiles[kernels.BF16], "store_bf16_tiles"},
		{&f.rotateStore[kernels.F32], "rotate_store_f32"},
		{&f.rotateStore[kernels.F16], "rotate_store_f16"},
		{&f.rotateStore[kernels.BF16], "rotate_store_bf16"},
		{&f.rotateStoreTiles[kernels.F16], "rotate_store_f16_tiles"},
		{&f.rotateStoreTiles[kernels.BF16], "rotate_store_bf16_tiles"},
		{&f.attend[kernels.F32], "attend_f32"},
		{&f.attend[kernels.F16], "attend_f16"},
		{&f.attend[kernels.BF16], "attend_bf16"},
		{&f.decode[kernels.F16][0], "decode_f16_64"},
		{&f.decode[kernels.F16][1], "decode_f16_128"},
		{&f.decode[kernels.F16][2], "decode_f16_256"},
		{&f.decode[kernels.BF16][0], "decode_bf16_64"},
		{&f.decode[kernels.BF16][1], "decode_bf16_128"},
		{&f.decode[kernels.BF16][2], "decode_bf16_256"},
		{&f.prompt[kernels.F16][0], "prefill_f16_64"},
		{&f.prompt[kernels.F16][1], "prefill_f16_128"},
		{&f.prompt[kernels.F16][2], "prefill_f16_256"},
		{&f.prompt[kernels.BF16][0], "prefill_bf16_64"},
		{&f.prompt[kernels.BF16][1], "prefill_bf16_128"},
		{&f.prompt[kernels.BF16][2], "prefill_bf16_256"},
	}
}

// tiled reports whether a layer's cache lies in tiles (src/attention.cuh).
func tiled(kv *kernels.Pages) bool {
	fits := func(dim int, m kernels.Mat) bool {
		const lane = 16 // bytes that a lane reads at once
		return dim%stripTokens == 0 && dim <= attendTiles[len(attendTiles)-1]*stripTokens && m.Addr%lane == 0 && m.Stride*m.Type.Bytes()%lane == 0
	}
	return kv.K.Type != kernels.F32 && kv.BlockTokens%stripTokens == 0 && fits(kv.KeyDim, kv.K) && fits(kv.ValueDim, kv.V)
}

// Store implements kernels.Stream, in one launch.
func (s *stream) Store(kv kernels.Pages, k, v, slots kernels.Mat) {
	f := s.f.attention.store[kv.K.Type]
	if tiled(&kv) {
		f = s.f.attention.storeTiles[kv.K.Type]
	}
	args := newStoreArgs(kv, k, v, slots)
	launch(s, f, dim{k.Rows, s.headBlocks(k.Rows, kv.Heads), 1}, attendThreads, 0, &args)
}

func newStoreArgs(kv kernels.Pages, k, v, slots kernels.Mat) storeArgs {
	return storeArgs{
		k: k.Addr, v: v.Addr, slots: slots.Addr, keys: kv.K.Addr, values: kv.V.Addr,
		kStride: uint32(k.Stride), vStride: uint32(v.Stride), slotStride: uint32(slots.Stride),
		keysStride: uint32(kv.K.Stride), valuesStride: uint32(kv.V.Stride),
		heads: uint32(kv.Heads), keyDim: uint32(kv.KeyDim), valueDim: uint32(kv.ValueDim), blockTokens: uint32(kv.BlockTokens),
	}
}

// headBlocks returns for how many blocks a token's heads are work: several where there are few tokens.
func (s *stream) headBlocks(rows, heads int) int {
	return min(heads, max(1, 2*s.device.info.Multiprocessors/max(1, rows)))
}

// RotateStore implements layers.RotaryStore: Rotate of q and k, and Store, in one launch. k stays as it is.
func (s *stream) RotateStore(kv kernels.Pages, q, k, v, angles, slots kernels.Mat, heads int) {
	f := s.f.attention.rotateStore[kv.K.Type]
	if tiled(&kv) {
		f = s.f.attention.rotateStoreTiles[kv.K.Type]
	}
	launch(s, f, dim{q.Rows, s.headBlocks(q.Rows, heads+kv.Heads), 1}, attendThreads, 0, &rotateStoreArgs{
		store: newStoreArgs(kv, k, v, slots), q: q.Addr, angles: angles.Addr,
		qStride: uint32(q.Stride), anglesStride: uint32(angles.Stride), heads: uint32(heads), halves: uint32(angles.Cols / 2),
	})
}

// Attend implements kernels.Stream: one launch for sequences that are decoding, and one for prompts if the call has rows
// enough for one. Which sequence is which, the device sees.
func (s *stream) Attend(y, q kernels.Mat, kv kernels.Pages, seqs kernels.Seqs, a kernels.Attention) {
	if q.Rows == 0 || seqs.Count == 0 {
		return
	}
	args := attendArgs{
		y: y.Addr, q: q.Addr, keys: kv.K.Addr, values: kv.V.Addr, rows: seqs.Rows.Addr, from: seqs.From.Addr, blocks: seqs.Blocks.Addr,
		partials: s.work.addr, tickets: s.tickets.addr,
		yStride: uint32(y.Stride), qStride: uint32(q.Stride), keysStride: uint32(kv.K.Stride), valuesStride: uint32(kv.V.Stride),
		rowsStride: uint32(seqs.Rows.Stride), fromStride: uint32(seqs.From.Stride), blocksStride: uint32(seqs.Blocks.Stride),
		count: uint32(seqs.Count), keyHeads: uint32(kv.Heads), group: uint32(a.Heads / kv.Heads),
		keyDim: uint32(kv.KeyDim), valueDim: uint32(kv.ValueDim), blockTokens: uint32(kv.BlockTokens), window: uint32(a.Window),
		decodeRows: decodeRows, scale: float32(float64(a.Scale) * math.Log2E),
	}
	if !tiled(&kv) {
		floats := kv.KeyDim + kv.ValueDim + 2*attendThreads + 2*attendWarps
		launch(s, s.f.attention.attend[kv.K.Type], dim{q.Rows, a.Heads, 1}, attendThreads, 4*floats, &args)
		return
	}
	keyTiles, valueTiles := kv.KeyDim/stripTokens, kv.ValueDim/stripTokens
	width := 0
	for attendTiles[width] < max(keyTiles, valueTiles) {
		width++
	}
	// If every sequence has a row, or none can have many, there is no prompt. Should one be there for all that, because
	// others have no row, it is decoding of many rows.
	prompts := q.Rows > decodeRows && q.Rows != seqs.Count
	if !prompts {
		args.decodeRows = math.MaxInt32
	}
	s.decode(&args, width, q.Rows, seqs, kv)
	if prompts {
		blocks := q.Rows*int(args.group)/prefillRows + min(seqs.Count, q.Rows/(decodeRows+1))
		strips := 2
		if width == 0 {
			strips = 4
		}
		shared := (attendWarps*keyTiles*2+strips*(keyTiles+valueTiles))*tileBytes + 4*(attendWarps+strips*stripTokens)
		launch(s, s.f.attention.prompt[kv.K.Type][width], dim{blocks, kv.Heads, 1}, attendThreads, shared, &args)
	}
}

// decode enqueues the kernel for sequences that are decoding.
func (s *stream) decode(args *attendArgs, width, rows int, seqs kernels.Seqs, kv kernels.Pages) {
	terms := 2
	if kv.K.Type == kernels.BF16 {
		terms = 3
	}
	keyTiles, row := kv.KeyDim/stripTokens, kv.ValueDim+4
	shared := keyTiles*terms*32*8 + (attendWarps+1)*decodeColumns*row*4 + attendWarps*decodeColumns*8 + 16
	// Blocks for a sequence and key head: as many as keep the device busy, if there are chunks for them, and room for
	// what they leave.
	chunks := min(mostChunks, (seqs.Blocks.Cols*kv.BlockTokens+leastChunk-1)/leastChunk)
	pairs := seqs.Count * kv.Heads
	blocks := min(chunks, (decodeBlocks*s.device.info.Multiprocessors+pairs-1)/pairs)
	heads := int(args.keyHeads * args.group)
	slots := min(rows, int(s.work.bytes)/(4*heads*chunks*row), int(s.tickets.bytes)/(4*heads))
	args.slots, args.chunks = uint32(slots), uint32(chunks)
	launch(s, s.f.attention.decode[kv.K.Type][width], dim{max(1, blocks), kv.Heads, seqs.Count}, attendThreads, shared, args)
}
