package cpu

import (
	"fmt"
	"sync"

	"eckart/kernels"
)

// arena is one mapping outside Go's heap: the collector neither scans nor counts it, and Close gives it back at once.
type arena struct {
	device *Device
	size   int64
	opener string // where it was made, for the report of Device.Close

	mu   sync.Mutex
	mem  []byte // aligned to kernels.Align, zero; nil when closed
	used int64
}

// Alloc implements kernels.Arena.
func (a *arena) Alloc(rows, cols int, t kernels.DType) (kernels.Mat, error) {
	n := kernels.ArenaBytes(rows, cols, t)
	a.mu.Lock()
	defer a.mu.Unlock()
	if left := int64(len(a.mem)) - a.used; n > left {
		return kernels.Mat{}, fmt.Errorf("allocate %d x %d %s: %d bytes wanted, %d left", rows, cols, t, n, left)
	}
	from := a.used
	a.used += n
	return kernels.Mat{
		Span: kernels.Span{Host: a.mem[from : from+n : from+n]},
		Rows: rows, Cols: cols, Stride: cols, Type: t,
	}, nil
}

// Used implements kernels.Arena.
func (a *arena) Used() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.used
}

// Reset implements kernels.Arena.
func (a *arena) Reset() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.mem[:a.used])
	a.used = 0
	return nil
}

// Close unmaps the memory; matrices that lie in it must not be touched any more. Closing twice is no error.
func (a *arena) Close() error {
	a.mu.Lock()
	mem := a.mem
	a.mem, a.used = nil, 0
	a.mu.Unlock()
	if mem == nil {
		return nil
	}
	a.device.mu.Lock()
	delete(a.device.arenas, a)
	a.device.mu.Unlock()
	if err := release(mem); err != nil {
		return fmt.Errorf("unmap arena of %d bytes: %w", a.size, err)
	}
	return nil
}
