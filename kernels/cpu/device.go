// Package cpu runs the verbs of package kernels on the host: plain Go that defines what is correct, and assembly beside
// it that is chosen at run time where the processor has the instructions.
package cpu

import (
	"fmt"

	"eckart/kernels"
)

// Options choose how a device runs.
type Options struct {
	Threads int // threads that work on a verb; at least 1
}

// Device is the host's processor and memory.
type Device struct {
	threads int
}

var _ kernels.Device = (*Device)(nil)

// Open returns the host as a device.
func Open(o Options) (*Device, error) {
	if o.Threads < 1 {
		return nil, fmt.Errorf("open cpu device: threads must be at least 1, got %d", o.Threads)
	}
	return &Device{threads: o.Threads}, nil
}

// Name says what runs the verbs.
func (d *Device) Name() string { return fmt.Sprintf("cpu, %d threads, generic", d.threads) }

// Memory returns the bytes of main memory that can be had and that there are.
func (d *Device) Memory() (free, total int64) { return 0, 0 }

// NewArena reserves bytes of host memory.
func (d *Device) NewArena(bytes int64) (kernels.Arena, error) {
	return &arena{mem: make([]byte, bytes+kernels.Align)}, nil
}

// NewStream returns a stream; streams of one device share its threads.
func (d *Device) NewStream() (kernels.Stream, error) { return &Stream{d: d}, nil }

// Close stops the threads.
func (d *Device) Close() error { return nil }
