package bench

import (
	"cmp"
	"fmt"
	"time"

	"eckart/kernels"
	"eckart/kernels/cpu"
)

// A meter measures how fast the machine reads memory: a sweep over four times the last-level cache, so that little of
// it is still in the cache when its turn comes again, with the device's threads. A nil meter is that of a device that
// cannot tell: it measures 0.
type meter struct {
	device sweeper
	arena  kernels.Arena
	mem    kernels.Mat
}

// A sweeper is a device that can read memory for the sake of reading it.
type sweeper interface {
	Sweep(m kernels.Mat) uint64
}

const (
	unknownCache = 64 << 20 // bytes that are assumed of a last-level cache that the system does not tell of
	sweeps       = 4        // in one measurement
	cacheFactor  = 4
)

// newMeter takes the memory to sweep over. Where bytes are 0 it decides how much: less than four times the cache only
// where an eighth of free memory is less.
func newMeter(d kernels.Device, bytes int64) (*meter, error) {
	s, ok := d.(sweeper)
	if !ok {
		return nil, nil
	}
	if bytes == 0 {
		bytes = cacheFactor * cmp.Or(cpu.LastLevelCache(), unknownCache)
		if free, _ := d.Memory(); free > 0 {
			bytes = min(bytes, free/8)
		}
	}
	const row = 64 << 10
	a, err := d.NewArena(bytes + row)
	if err != nil {
		return nil, err
	}
	m := &meter{device: s, arena: a}
	if m.mem, err = a.Alloc(int(bytes/row)+1, row/4, kernels.F32); err != nil {
		return nil, fmt.Errorf("measure the read rate: %w", err)
	}
	// Pages that were never written are all the same one. None are smaller than this.
	const page = 4096
	for i := 0; i < len(m.mem.Host); i += page {
		m.mem.Host[i] = 1
	}
	return m, nil
}

// bytes returns what a sweep reads.
func (m *meter) bytes() int64 {
	if m == nil {
		return 0
	}
	return m.mem.Bytes()
}

// rate returns bytes a second.
func (m *meter) rate() float64 {
	if m == nil {
		return 0
	}
	start := time.Now()
	for range sweeps {
		m.device.Sweep(m.mem)
	}
	return sweeps * float64(m.bytes()) / time.Since(start).Seconds()
}

func (m *meter) close() error {
	if m == nil {
		return nil
	}
	return m.arena.Close()
}
