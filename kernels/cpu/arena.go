package cpu

import (
	"fmt"
	"unsafe"

	"eckart/kernels"
)

type arena struct {
	mem  []byte
	used int64
}

func (a *arena) Alloc(rows, cols int, t kernels.DType) (kernels.Mat, error) {
	n := kernels.ArenaBytes(rows, cols, t)
	start := (kernels.Align - int64(uintptr(unsafe.Pointer(unsafe.SliceData(a.mem)))%kernels.Align)) % kernels.Align
	if left := int64(len(a.mem)) - start - a.used; n > left {
		return kernels.Mat{}, fmt.Errorf("allocate %d x %d %s: %d bytes wanted, %d left", rows, cols, t, n, left)
	}
	from := start + a.used
	a.used += n
	return kernels.Mat{
		Span: kernels.Span{Host: a.mem[from : from+n : from+n]},
		Rows: rows, Cols: cols, Stride: cols, Type: t,
	}, nil
}

func (a *arena) Used() int64 { return a.used }

func (a *arena) Close() error {
	a.mem = nil
	return nil
}
