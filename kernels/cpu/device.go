// Package cpu runs the verbs of package kernels on the host: plain Go that defines what is correct, and assembly beside
// it that is chosen at run time where the processor has the instructions. It owns the threads that work on a verb and
// the memory that matrices lie in.
//
// A row of a result has the same bits whatever the number of rows in the call, their order, and the number of threads:
// the order of every sum is fixed by the operands' widths and the instruction set.
package cpu

import (
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"eckart/kernels"
)

// Options choose how a device runs.
type Options struct {
	Threads int // threads that work on a verb, the caller's included; at least 1 (DefaultThreads is a good choice)
	ISA     ISA // instructions to use; Auto takes the best there is

	Activations Activations // what products may round activations to
}

// Device is the host's processor and memory. Its methods may be called from several goroutines.
type Device struct {
	isa  ISA
	pool *pool
	code code

	mu     sync.Mutex
	arenas map[*arena]struct{}
	closed bool
}

var _ kernels.Device = (*Device)(nil)

// Open returns the host as a device. Close stops its threads.
func Open(o Options) (*Device, error) {
	if o.Threads < 1 || o.Threads > maxThreads {
		return nil, fmt.Errorf("open cpu device: threads must be from 1 to %d, got %d", maxThreads, o.Threads)
	}
	isa, err := resolve(o.ISA)
	if err != nil {
		return nil, err
	}
	return &Device{isa: isa, code: codeFor(isa, o.Activations), pool: newPool(o.Threads), arenas: map[*arena]struct{}{}}, nil
}

// DefaultThreads returns the processor cores that this process may use: hyperthreads of a core count once where the
// system tells them apart, and neither the process's affinity nor its quota is exceeded.
func DefaultThreads() int {
	// GOMAXPROCS follows affinity and quota, and what the user set.
	return max(1, min(cores(), runtime.GOMAXPROCS(0)))
}

// Name says what runs the verbs, as in "cpu: AMD EPYC (avx512), 2 threads".
func (d *Device) Name() string {
	noun := "threads"
	if d.pool.threads == 1 {
		noun = "thread"
	}
	how := d.isa.String()
	if d.code.matMul.round != nil {
		how += ", bf16 activations"
	}
	return fmt.Sprintf("cpu: %s (%s), %d %s", processor(), how, d.pool.threads, noun)
}

// ISA returns the instruction set in use, never Auto.
func (d *Device) ISA() ISA { return d.isa }

// Threads returns the number of threads that work on a verb.
func (d *Device) Threads() int { return d.pool.threads }

// Memory returns the bytes of main memory that this process can still have, and those it could have had alone: the
// smaller of what the system and what the process's memory limit leave. Both are 0 where the system does not tell.
func (d *Device) Memory() (free, total int64) { return memory() }

// LastLevelCache returns the bytes of the caches that stand before main memory, for the processors that this process may
// use; 0 where the system does not tell.
func LastLevelCache() int64 { return lastLevelCache() }

// NewArena reserves bytes of host memory. Pages take up memory when they are first written.
func (d *Device) NewArena(bytes int64) (kernels.Arena, error) {
	if bytes < 0 {
		panic(fmt.Sprintf("BUG: arena of %d bytes", bytes))
	}
	mem, err := reserve(bytes)
	if err != nil {
		return nil, fmt.Errorf("reserve %d bytes of memory: %w", bytes, err)
	}
	a := &arena{device: d, mem: mem, size: bytes, opener: caller()}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.arenas[a] = struct{}{}
	return a, nil
}

// NewStream returns a stream; streams of one device share its threads and take turns on them, verb by verb.
func (d *Device) NewStream() (kernels.Stream, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("make stream: cpu device is closed")
	}
	return newStream(d), nil
}

// Close stops the threads. No stream may be at work. Arenas that are still open stay usable, and are reported in the
// error, because someone has forgotten them.
func (d *Device) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil
	}
	d.closed = true
	d.pool.close()
	for a := range d.arenas {
		return fmt.Errorf("close cpu device: %d arenas are open, one of %d bytes made at %s", len(d.arenas), a.size, a.opener)
	}
	return nil
}

// caller returns the place that called the function that called caller.
func caller() string {
	_, file, line, ok := runtime.Caller(2)
	if !ok {
		return "an unknown place"
	}
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}
