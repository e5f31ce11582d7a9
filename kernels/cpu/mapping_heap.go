//go:build !unix

package cpu

import (
	"unsafe"

	"eckart/kernels"
)

// reserve takes the memory from Go's heap.
func reserve(bytes int64) ([]byte, error) {
	n := max(kernels.Align, (bytes+kernels.Align-1)/kernels.Align*kernels.Align)
	mem := make([]byte, n+kernels.Align)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(mem))) % kernels.Align
	return mem[skip:][:n:n], nil
}

func release([]byte) error { return nil }
