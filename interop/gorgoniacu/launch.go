package gorgoniacu

// #include <stdlib.h>
// #include <string.h>
// #include <cuda.h>
//
// // The arguments of our kernels are one block, which cu's own Launch cannot pass: it copies 8 bytes of each argument.
// static CUresult launch(CUfunction f, const unsigned *grid, unsigned threads, unsigned shared, void *arguments, size_t bytes) {
//   void *extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, arguments, CU_LAUNCH_PARAM_BUFFER_SIZE, &bytes, CU_LAUNCH_PARAM_END};
//   return cuLaunchKernel(f, grid[0], grid[1], grid[2], threads, 1, 1, shared, 0, 0, extra);
// }
//
// // Above 48 KiB of shared memory a kernel must ask, which cu does not bind either.
// static CUresult allow(CUfunction f, int shared) {
//   return cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared);
// }
import "C"

import (
	"fmt"
	"unsafe"

	"eckart/kernels/cuda"

	"gorgonia.org/cu"
)

// plainShared is the shared memory in bytes that a block gets without asking.
const plainShared = 48 << 10

// handle returns the driver's handle of f, which is all that a cu.Function holds; its field is not exported.
func handle(f *cu.Function) C.CUfunction { return *(*C.CUfunction)(unsafe.Pointer(f)) }

var _ [unsafe.Sizeof(cu.Function{}) - unsafe.Sizeof(C.CUfunction(nil))]struct{} = [0]struct{}{}

// Launch runs the kernel of l, with its very arguments, and waits for it.
func (d *Driver) Launch(l cuda.Launch) error {
	return d.Do(func() error {
		f, err := d.function(l.Kernel)
		if err != nil {
			return err
		}
		if l.Shared > plainShared {
			if r := C.allow(handle(&f), C.int(l.Shared)); r != C.CUDA_SUCCESS {
				return fmt.Errorf("give kernel %s %d bytes of shared memory: CUDA error %d", l.Kernel, l.Shared, r)
			}
		}
		grid := [3]C.uint{C.uint(l.Grid[0]), C.uint(l.Grid[1]), C.uint(l.Grid[2])}
		arguments := C.CBytes(l.Arguments)
		defer C.free(arguments)
		if r := C.launch(handle(&f), &grid[0], C.uint(l.Threads), C.uint(l.Shared), arguments, C.size_t(len(l.Arguments))); r != C.CUDA_SUCCESS {
			return fmt.Errorf("launch kernel %s: CUDA error %d", l.Kernel, r)
		}
		return cu.Synchronize()
	})
}
