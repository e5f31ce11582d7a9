// Package cuda runs the verbs of package kernels on an NVIDIA GPU. It speaks to the driver's library alone, which it opens
// at run time, so that one program runs with and without a GPU and no part of NVIDIA's toolkit is needed to build it. The
// kernels are CUDA C++ (src), compiled to PTX that is part of the program (ptx); the driver makes machine code of it.
//
// A context of the driver belongs to a thread. Each call locks its goroutine to its thread and makes the device's context
// current there, unless it is already (enter); a goroutine that stays on one thread pays for that once.
//
// Every wait for the device ends: with the work, or when Options.Timeout has passed.
package cuda

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"eckart/kernels"
)

// Options choose a GPU and how it is used.
type Options struct {
	Ordinal int    // the GPU, in the driver's order, from 0
	Library string // the driver's library; "" looks in the usual places

	// Timeout is how long a wait for the device may take before the device is given up, and a tenth of what its start may
	// take; 0 stands for DefaultTimeout.
	Timeout time.Duration
	// Workspace is the memory in bytes that a stream keeps for partial results; 0 stands for DefaultWorkspace.
	Workspace int64
	// Trace is shown every launch before it is enqueued; nil for none. It must not use the stream.
	Trace func(Launch)
	// Capability bounds the compute capability, as 80, of the kernels that are used: those that older GPUs run are tried so on
	// a newer one. 0 stands for the device's own.
	Capability int
	// Loaded is told of each module of kernels as it is compiled, with what the driver's compiler says of it; nil for none.
	Loaded func(Loaded)
	// Programs is told, at Sync and Await, how long the device took for each run of a recorded program that was waited for; nil
	// for none. Of runs that follow each other without a wait the last two alone are told.
	Programs func(time.Duration)
	// Blocking waits after every launch, so that a fault names the kernel at fault. It is slow.
	Blocking bool
}

// Defaults of Options.
const (
	DefaultTimeout   = time.Minute
	DefaultWorkspace = 16 << 20
)

// Device is a GPU. Its methods may be called from several goroutines.
type Device struct {
	options   Options
	driver    *driver
	info      Info
	dev       int32
	context   cuContext
	id        uint32 // of this Device in the process, for enter
	modules   []cuModule
	functions functions
	service   cuStream // for what belongs to no stream

	lost atomic.Pointer[error] // set once: why the device is beyond use

	mu      sync.Mutex
	arenas  map[*arena]struct{}
	streams map[*stream]struct{}
	closed  bool
}

var _ kernels.Device = (*Device)(nil)

// Open returns a GPU that is ready to run, its kernels compiled. The error wraps ErrNoDevice if there is no driver or no
// GPU that can be used. Close gives everything back.
func Open(o Options) (*Device, error) {
	driver, err := openDriver(o.Library)
	if err != nil {
		return nil, err
	}
	return open(o, driver)
}

func open(o Options, driver *driver) (*Device, error) {
	if o.Timeout < 0 || o.Workspace < 0 {
		return nil, fmt.Errorf("open cuda device: timeout is %v, workspace %d bytes", o.Timeout, o.Workspace)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Workspace == 0 {
		o.Workspace = DefaultWorkspace
	}
	count, err := driver.deviceCount()
	if err != nil {
		return nil, fmt.Errorf("%w: count GPUs: %w", ErrNoDevice, err)
	}
	if o.Ordinal < 0 || o.Ordinal >= count {
		return nil, fmt.Errorf("%w: cuda:%d was asked for, and the driver sees %s", ErrNoDevice, o.Ordinal, gpus(count))
	}
	info, err := driver.describeDevice(o.Ordinal)
	if err != nil {
		return nil, fmt.Errorf("%w: describe cuda:%d: %w", ErrNoDevice, o.Ordinal, err)
	}
	if !info.Usable() {
		return nil, fmt.Errorf("%w: cuda:%d: %s has compute capability %d.%d, and %d.0 or later is needed",
			ErrNoDevice, o.Ordinal, info.Product, info.Major, info.Minor, oldestMajor)
	}
	d := &Device{options: o, driver: driver, info: info, arenas: map[*arena]struct{}{}, streams: map[*stream]struct{}{}}
	d.id = devices.Add(1)
	if d.dev, err = driver.device(o.Ordinal); err != nil {
		return nil, fmt.Errorf("%w: get cuda:%d: %w", ErrNoDevice, o.Ordinal, err)
	}
	if err := d.start(); err != nil {
		return nil, err
	}
	return d, nil
}

// start makes the context and loads the kernels.
func (d *Device) start() error {
	what := "start " + d.Name()
	limit := 10 * d.options.Timeout // compiling all kernels takes the driver a while when it does it for the first time
	// The primary context is the one that other libraries in the process use as well.
	err := d.within(limit, what, func() (err error) {
		d.context, err = d.driver.retain(d.dev)
		return err
	})
	if err != nil {
		return err
	}
	err = d.within(limit, what, d.inContext(func() (err error) {
		if d.service, err = d.driver.newStream(); err != nil {
			return err
		}
		return d.loadKernels()
	}))
	if err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}

func gpus(n int) string {
	switch n {
	case 0:
		return "no GPU"
	case 1:
		return "one GPU, cuda:0"
	}
	return fmt.Sprintf("GPUs cuda:0 to cuda:%d", n-1)
}

// label is the GPU's name in messages, as in "cuda:0".
func (d *Device) label() string { return fmt.Sprintf("cuda:%d", d.options.Ordinal) }

// Name says what runs the verbs, as in "cuda:0: NVIDIA H100 80GB HBM3 (sm_90, driver 13.0), 132 SMs".
func (d *Device) Name() string { return d.info.String() }

// Info describes the GPU.
func (d *Device) Info() Info { return d.info }

// Memory returns the bytes of the GPU's memory that can still be had and the bytes there are; 0 free where the device
// does not answer. Where the memory is the host's, what the host keeps of files counts as free, because it gives way; the driver
// does not count it, and there would be no room for a model right after its file has been read.
func (d *Device) Memory() (free, total int64) {
	total = d.info.Memory
	_ = d.do("ask for the free memory of "+d.label(), func() (err error) {
		var all int64
		if free, all, err = d.driver.memory(); err != nil {
			return err
		}
		total = all
		if d.info.Integrated {
			free = max(free, min(total, hostMemory("/proc/meminfo")))
		}
		return nil
	})
	return free, total
}

// Close gives the device back: streams, arenas that are still open, which are reported in the error because someone has
// forgotten them, and the context. Nothing of the device may be used any more.
func (d *Device) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	arenas, streams := d.arenas, d.streams
	d.arenas, d.streams = nil, nil
	d.mu.Unlock()

	var errs []error
	for a := range arenas {
		errs = append(errs, fmt.Errorf("close cuda device: %d arenas are open, one of %d bytes made at %s", len(arenas), a.size, a.opener))
		break
	}
	if d.lost.Load() != nil {
		return errors.Join(errs...) // whoever still calls a lost device may wait forever
	}
	defer func() { // no call reaches a context that is gone
		err := fmt.Errorf("%s is closed", d.label())
		d.lost.CompareAndSwap(nil, &err)
	}()
	errs = append(errs, d.do("close "+d.label(), func() error {
		var errs []error
		for s := range streams {
			errs = append(errs, s.free())
		}
		for a := range arenas {
			errs = append(errs, a.free())
		}
		if d.service != 0 {
			errs = append(errs, d.driver.destroyStream(d.service))
		}
		for _, m := range d.modules {
			errs = append(errs, d.driver.unloadModule(m))
		}
		current.Store(0)
		return errors.Join(append(errs, d.driver.setCurrent(0), d.driver.release(d.dev))...)
	}))
	return errors.Join(errs...)
}

// devices counts the devices that were ever opened, so that each has a number of its own.
var devices atomic.Uint32

// current says which device's context is current on which thread, for the last call of enter in the process: the thread in
// the upper half, the device's id in the lower. If the last call was on this thread and for this device, nothing has
// changed since.
var current atomic.Uint64

// enter locks the goroutine to its thread and makes the device's context current there; leave undoes the former.
func (d *Device) enter() error {
	if lost := d.lost.Load(); lost != nil {
		runtime.LockOSThread()
		return *lost
	}
	runtime.LockOSThread()
	mark := uint64(thread())<<32 | uint64(d.id)
	if current.Load() == mark {
		return nil
	}
	if err := d.driver.setCurrent(d.context); err != nil {
		return d.ended(fmt.Errorf("make the context of %s current: %w", d.label(), err))
	}
	current.Store(mark)
	return nil
}

func (d *Device) leave() { runtime.UnlockOSThread() }

// ended marks the device as lost if err says so, and returns err.
func (d *Device) ended(err error) error {
	if code(err).ends() {
		return d.lose(err)
	}
	return err
}

// lose marks the device as lost and returns why it is: err, or what came first.
func (d *Device) lose(err error) error {
	err = fmt.Errorf("%w: %w", ErrLost, err)
	d.lost.CompareAndSwap(nil, &err)
	return *d.lost.Load()
}

// do runs calls of the driver that may wait for the device, in its context, within Options.Timeout. Errors begin with what
// was to be done.
func (d *Device) do(what string, calls func() error) error {
	return d.within(d.options.Timeout, what, d.inContext(calls))
}

// inContext returns a function that does calls with the device's context current.
func (d *Device) inContext(calls func() error) func() error {
	return func() error {
		defer d.leave()
		if err := d.enter(); err != nil {
			return err
		}
		return calls()
	}
}

// within runs calls within a limit. When it has passed the calls are left to themselves and the device is lost: there is no
// way to end them.
func (d *Device) within(limit time.Duration, what string, calls func() error) error {
	if lost := d.lost.Load(); lost != nil {
		return fmt.Errorf("%s: %w", what, *lost)
	}
	done := make(chan error, 1)
	go func() { done <- calls() }()
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case err := <-done:
		if err == nil {
			return nil
		}
		return d.ended(fmt.Errorf("%s: %w", what, err))
	case <-timer.C:
		return d.lose(d.silent(what, limit))
	}
}

// silent returns the error of a wait that took too long.
func (d *Device) silent(what string, limit time.Duration) error {
	return fmt.Errorf("%s: %s has not answered for %v", what, d.label(), limit)
}

// caller returns the place that called the function that called caller.
func caller() string {
	_, file, line, ok := runtime.Caller(2)
	if !ok {
		return "an unknown place"
	}
	return fmt.Sprintf("%s:%d", filepath.Base(file), line)
}
