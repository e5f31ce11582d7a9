package cuda

import "eckart/kernels"

var _ kernels.Chooser = (*stream)(nil)

// chooseFunctions are the kernels of choose.cu.
type chooseFunctions struct {
	top, weigh, draw, follow function
}

func (f *chooseFunctions) table() []kernelName {
	return []kernelName{
		{&f.top, "choose_top"},
		{&f.weigh, "choose_weigh"},
		{&f.draw, "choose_draw"},
		{&f.follow, "choose_follow"},
	}
}

// What choose.cu fixes.
const (
	choosePart    = 512   // logits of a part, the work of a warp
	chooseThreads = 512   // of the block that chooses
	chooseShared  = 33296 // bytes of Shared
)

// chooseArgs are the arguments of choose_top, choose_weigh and choose_draw.
type chooseArgs struct {
	ids, logits, how mat
	tops, sums       uint64 // of each part of each row
	parts            uint32
	_                uint32
}

// Choose implements kernels.Chooser.
func (s *stream) Choose(ids, logits, how kernels.Mat) {
	if logits.Rows == 0 {
		return
	}
	parts := ceil(logits.Cols, choosePart)
	room := int(s.work.bytes / int64(16*parts)) // a key, an id and a sum
	if room == 0 {
		panic("BUG: the stream's workspace does not hold a row of Choose")
	}
	for first := 0; first < logits.Rows; first += room {
		n := min(room, logits.Rows-first)
		a := chooseArgs{
			ids: argument(ids.Slice(first, n)), logits: argument(logits.Slice(first, n)), how: argument(how.Slice(first, n)),
			tops: s.work.addr, sums: s.work.addr + uint64(8*parts*n), parts: uint32(parts),
		}
		pieces := dim{n, ceil(parts, blockThreads/32), 1}
		launch(s, s.f.choose.top, pieces, blockThreads, 0, &a)
		launch(s, s.f.choose.weigh, pieces, blockThreads, blockThreads/32*8, &a)
		launch(s, s.f.choose.draw, dim{n, 1, 1}, chooseThreads, chooseShared, &a)
	}
}

// Follow implements kernels.Chooser.
func (s *stream) Follow(ids, chosen kernels.Mat) {
	launch(s, s.f.choose.follow, dim{ceil(ids.Rows, blockThreads), 1, 1}, blockThreads, 0, &struct{ ids, chosen mat }{argument(ids), argument(chosen)})
}
