package cuda

import (
	"fmt"
	"unsafe"
)

// dim is the extent of a grid in blocks.
type dim struct{ x, y, z int }

// mat is a matrix among the arguments of a kernel: struct { T* p; u32 rows, cols, stride; } there.
type mat struct {
	addr               uint64
	rows, cols, stride uint32
	_                  uint32
}

// argumentBytes is the most that a kernel's arguments may take; drivers allow 4096.
const argumentBytes = 512

// launch enqueues f with one block of arguments, unless the stream is at fault or the grid is empty. A holds no pointers
// of Go: addresses are uint64, sizes uint32 or int32, scalars float32, and it equals the kernel's Args field by field.
// Nothing is allocated, and args may be changed when launch has returned.
func launch[A any](s *stream, f function, grid dim, threads, shared int, args *A) {
	n := unsafe.Sizeof(*args)
	if n > argumentBytes {
		panic(fmt.Sprintf("BUG: %d bytes of arguments of kernel %s", n, f.name))
	}
	*(*A)(unsafe.Pointer(&s.arguments)) = *args
	s.launch(f, grid, threads, shared, n)
}

// Keys of the list that cuLaunchKernel takes as extra (cuda.h).
const (
	paramEnd           = 0
	paramBufferPointer = 1
	paramBufferSize    = 2
)

// launch enqueues f with the first bytes of s.arguments.
func (s *stream) launch(f function, grid dim, threads, shared int, bytes uintptr) {
	if s.err != nil || grid.x == 0 || grid.y == 0 || grid.z == 0 {
		return
	}
	if f.handle == 0 || grid.x < 0 || grid.x > 1<<31-1 || grid.y < 0 || grid.y > 65535 || grid.z < 0 || grid.z > 65535 || threads < 1 || threads > 1024 {
		panic(fmt.Sprintf("BUG: launch of kernel %q on %+v blocks of %d threads", f.name, grid, threads))
	}
	if s.device.options.Trace != nil {
		s.trace(f, grid, threads, shared, bytes)
	}
	if !s.enter() {
		return
	}
	defer s.device.leave()
	if !s.enqueue(f.name) {
		return
	}
	s.argumentSize = bytes
	s.call[0] = uintptr(f.handle)
	s.call[1], s.call[2], s.call[3] = uintptr(grid.x), uintptr(grid.y), uintptr(grid.z)
	s.call[4], s.call[5], s.call[6] = uintptr(threads), 1, 1
	s.call[7] = uintptr(shared)
	s.call[8] = uintptr(s.handle)
	s.call[9] = 0
	s.call[10] = uintptr(unsafe.Pointer(&s.extra))
	if r := s.driver.launchKernel.call(s.call[:11]...); r != success {
		s.fail(fmt.Errorf("launch kernel %s on %d x %d x %d blocks of %d threads with %d bytes of shared memory: %w",
			f.name, grid.x, grid.y, grid.z, threads, shared, s.driver.failure(&s.driver.launchKernel, r)))
		return
	}
	if s.device.options.Blocking && !s.recording {
		s.wait()
	}
}
