package cuda

import (
	"fmt"
	"sync"

	"eckart/kernels"
)

// arena is one allocation of the GPU's memory.
type arena struct {
	device *Device
	size   int64
	opener string // where it was made, for the report of Device.Close

	mu   sync.Mutex
	addr uint64 // 0 when closed or empty
	used int64  // bytes
	left int64
}

// NewArena allocates bytes of the GPU's memory and fills them with zeros.
func (d *Device) NewArena(bytes int64) (kernels.Arena, error) {
	if bytes < 0 {
		panic(fmt.Sprintf("BUG: arena of %d bytes", bytes))
	}
	a := &arena{device: d, size: bytes, left: bytes, opener: caller()}
	if bytes > 0 {
		addr, err := d.allocate(bytes)
		if err != nil {
			return nil, err
		}
		a.addr = addr
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("make arena: %s is closed", d.Name())
	}
	d.arenas[a] = struct{}{}
	return a, nil
}

// allocate returns the address of zeroed memory, aligned as the driver does it: to 256 bytes.
func (d *Device) allocate(bytes int64) (addr uint64, err error) {
	err = d.do(fmt.Sprintf("allocate %d bytes of %s's memory", bytes, d.label()), func() (err error) {
		if addr, err = d.driver.alloc(bytes); code(err) == errOutOfMemory {
			free, total, _ := d.driver.memory()
			return fmt.Errorf("%d of %d bytes are free: %w", free, total, err)
		} else if err != nil {
			return err
		}
		return d.driver.zero(d.service, addr, bytes)
	})
	return addr, err
}

// Alloc implements kernels.Arena.
func (a *arena) Alloc(rows, cols int, t kernels.DType) (kernels.Mat, error) {
	n := kernels.ArenaBytes(rows, cols, t)
	a.mu.Lock()
	defer a.mu.Unlock()
	if n > a.left {
		return kernels.Mat{}, fmt.Errorf("allocate %d x %d %s: %d bytes wanted, %d left", rows, cols, t, n, a.left)
	}
	m := kernels.Mat{Rows: rows, Cols: cols, Stride: cols, Type: t}
	if n > 0 {
		m.Addr = a.addr + uint64(a.used)
	}
	a.used, a.left = a.used+n, a.left-n
	return m, nil
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
	if a.used == 0 {
		return nil
	}
	d := a.device
	err := d.do("clear an arena of "+d.label()+"'s memory", func() error { return d.driver.zero(d.service, a.addr, a.used) })
	if err == nil {
		a.used, a.left = 0, a.size
	}
	return err
}

// Close gives the memory back when the device has finished what was asked of it; matrices that lie in it must not be used
// any more. Closing twice is no error.
func (a *arena) Close() error {
	d := a.device
	d.mu.Lock()
	_, open := d.arenas[a]
	delete(d.arenas, a)
	d.mu.Unlock()
	if !open || d.lost.Load() != nil {
		return nil
	}
	return d.do(fmt.Sprintf("free %d bytes of %s's memory", a.size, d.label()), a.free)
}

// free gives the memory back, in the device's context.
func (a *arena) free() error {
	a.mu.Lock()
	addr := a.addr
	a.addr, a.used, a.left = 0, 0, 0
	a.mu.Unlock()
	if addr == 0 {
		return nil
	}
	return a.device.driver.free(addr)
}
