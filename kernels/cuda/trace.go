package cuda

import "unsafe"

// A Launch is a kernel that is about to be enqueued, as Options.Trace sees it.
type Launch struct {
	Kernel    string // its name in the PTX
	Grid      [3]int // blocks
	Threads   int    // of a block
	Shared    int    // bytes of shared memory of a block
	Arguments []byte // the block of arguments, valid until Trace returns
}

// trace shows a launch with the first bytes of s.arguments to Options.Trace.
func (s *stream) trace(f function, grid dim, threads, shared int, bytes uintptr) {
	arguments := unsafe.Slice((*byte)(unsafe.Pointer(&s.arguments)), bytes)
	s.device.options.Trace(Launch{f.name, [3]int{grid.x, grid.y, grid.z}, threads, shared, arguments})
}
