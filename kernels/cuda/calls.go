package cuda

import (
	"bytes"
	"errors"
	"time"
	"unsafe"
)

// The calls of the driver that are made seldom, with types of Go. What runs in every step is called with argument lists
// that a stream owns (launch.go, stream.go).

// Attributes of devices and functions (CUdevice_attribute, CUfunction_attribute).
const (
	attributeMultiprocessors = 16
	attributeIntegrated      = 18 // its memory is the host's
	attributeCache           = 38 // bytes of the second-level cache
	attributeMajor           = 75
	attributeMinor           = 76
	attributeSharedPerBlock  = 97 // bytes of shared memory that a block may ask for

	functionThreads       = 0
	functionLocalBytes    = 3
	functionRegisters     = 4
	functionBinary        = 6
	functionDynamicShared = 8
)

func (d *driver) deviceCount() (int, error) {
	var n int32
	r := d.deviceGetCount.call(uintptr(unsafe.Pointer(&n)))
	return int(n), d.failure(&d.deviceGetCount, r)
}

func (d *driver) device(ordinal int) (int32, error) {
	var dev int32
	r := d.deviceGet.call(uintptr(unsafe.Pointer(&dev)), uintptr(ordinal))
	return dev, d.failure(&d.deviceGet, r)
}

func (d *driver) deviceName(dev int32) (string, error) {
	var name [256]byte
	r := d.deviceGetName.call(uintptr(unsafe.Pointer(&name)), uintptr(len(name)), uintptr(dev))
	text, _, _ := bytes.Cut(name[:], []byte{0})
	return string(text), d.failure(&d.deviceGetName, r)
}

func (d *driver) attribute(dev int32, attribute int) (int, error) {
	var v int32
	r := d.deviceGetAttribute.call(uintptr(unsafe.Pointer(&v)), uintptr(attribute), uintptr(dev))
	return int(v), d.failure(&d.deviceGetAttribute, r)
}

func (d *driver) totalMemory(dev int32) (int64, error) {
	var n uint64
	r := d.deviceTotalMem.call(uintptr(unsafe.Pointer(&n)), uintptr(dev))
	return int64(n), d.failure(&d.deviceTotalMem, r)
}

func (d *driver) retain(dev int32) (cuContext, error) {
	var c cuContext
	r := d.devicePrimaryCtxRetain.call(uintptr(unsafe.Pointer(&c)), uintptr(dev))
	return c, d.failure(&d.devicePrimaryCtxRetain, r)
}

func (d *driver) release(dev int32) error {
	return d.failure(&d.devicePrimaryCtxRelease, d.devicePrimaryCtxRelease.call(uintptr(dev)))
}

func (d *driver) setCurrent(c cuContext) error {
	return d.failure(&d.ctxSetCurrent, d.ctxSetCurrent.call(uintptr(c)))
}

// Options of the driver's compiler (CUjit_option).
const (
	jitInfoLog       = 3
	jitInfoLogBytes  = 4
	jitErrorLog      = 5
	jitErrorLogBytes = 6
	jitLogVerbose    = 12
)

// jit is what the driver's compiler is called with. It refers to itself by addresses, so it must lie on the heap, where
// nothing moves.
type jit struct {
	options [5]uint32
	values  [5]uintptr
	log     [4096]byte
	info    [64 << 10]byte
}

// loadModule compiles PTX, and returns what the driver's compiler has to say if it does not take it; with verbose, also
// what it says of each kernel.
func (d *driver) loadModule(image []byte, verbose bool) (m cuModule, log string, err error) {
	text := append(bytes.Clone(image), 0)
	j := &jit{options: [5]uint32{jitErrorLog, jitErrorLogBytes, jitInfoLog, jitInfoLogBytes, jitLogVerbose}}
	j.values = [5]uintptr{uintptr(unsafe.Pointer(&j.log)), unsafe.Sizeof(j.log), uintptr(unsafe.Pointer(&j.info)), unsafe.Sizeof(j.info), 1}
	options := 2
	if verbose {
		options = len(j.options)
	}
	r := d.moduleLoadDataEx.call(uintptr(unsafe.Pointer(&m)), uintptr(unsafe.Pointer(unsafe.SliceData(text))), uintptr(options),
		uintptr(unsafe.Pointer(&j.options)), uintptr(unsafe.Pointer(&j.values)))
	said, _, _ := bytes.Cut(j.log[:], []byte{0})
	if r == success {
		said, _, _ = bytes.Cut(j.info[:], []byte{0})
	}
	return m, string(bytes.TrimSpace(said)), d.failure(&d.moduleLoadDataEx, r)
}

func (d *driver) unloadModule(m cuModule) error {
	return d.failure(&d.moduleUnload, d.moduleUnload.call(uintptr(m)))
}

func (d *driver) function(m cuModule, name string) (cuFunction, error) {
	var f cuFunction
	text := append([]byte(name), 0)
	r := d.moduleGetFunction.call(uintptr(unsafe.Pointer(&f)), uintptr(m), uintptr(unsafe.Pointer(unsafe.SliceData(text))))
	return f, d.failure(&d.moduleGetFunction, r)
}

// prepare loads a function onto the device, which drivers put off to the first launch, where it may break a recording;
// and allows it bytes of dynamic shared memory.
func (d *driver) prepare(f cuFunction, shared int) error {
	if d.funcLoad.addr != 0 {
		if r := d.funcLoad.call(uintptr(f)); r != success {
			return d.failure(&d.funcLoad, r)
		}
	}
	var local int32 // before cuFuncLoad, asking for this loads the function
	if r := d.funcGetAttribute.call(uintptr(unsafe.Pointer(&local)), functionLocalBytes, uintptr(f)); r != success {
		return d.failure(&d.funcGetAttribute, r)
	}
	return d.failure(&d.funcSetAttribute, d.funcSetAttribute.call(uintptr(f), functionDynamicShared, uintptr(shared)))
}

func (d *driver) functionAttribute(f cuFunction, attribute int) (int, error) {
	var v int32
	r := d.funcGetAttribute.call(uintptr(unsafe.Pointer(&v)), uintptr(attribute), uintptr(f))
	return int(v), d.failure(&d.funcGetAttribute, r)
}

// timeCopy copies n bytes within the device's memory, between two events, and waits for it.
func (d *driver) timeCopy(s cuStream, to, from uint64, n int64, begun, ended cuEvent) error {
	if r := d.eventRecord.call(uintptr(begun), uintptr(s)); r != success {
		return d.failure(&d.eventRecord, r)
	}
	if r := d.memcpyDtoDAsync.call(uintptr(to), uintptr(from), uintptr(n), uintptr(s)); r != success {
		return d.failure(&d.memcpyDtoDAsync, r)
	}
	if r := d.eventRecord.call(uintptr(ended), uintptr(s)); r != success {
		return d.failure(&d.eventRecord, r)
	}
	return d.failure(&d.streamSynchronize, d.streamSynchronize.call(uintptr(s)))
}

func (d *driver) memory() (free, total int64, err error) {
	var f, t uint64
	r := d.memGetInfo.call(uintptr(unsafe.Pointer(&f)), uintptr(unsafe.Pointer(&t)))
	return int64(f), int64(t), d.failure(&d.memGetInfo, r)
}

func (d *driver) alloc(bytes int64) (addr uint64, err error) {
	r := d.memAlloc.call(uintptr(unsafe.Pointer(&addr)), uintptr(bytes))
	return addr, d.failure(&d.memAlloc, r)
}

func (d *driver) free(addr uint64) error {
	return d.failure(&d.memFree, d.memFree.call(uintptr(addr)))
}

// allocHost returns memory of the host that the device reads and writes by itself.
func (d *driver) allocHost(bytes int) ([]byte, error) {
	var p *byte
	r := d.memHostAlloc.call(uintptr(unsafe.Pointer(&p)), uintptr(bytes), 0)
	if r != success {
		return nil, d.failure(&d.memHostAlloc, r)
	}
	return unsafe.Slice(p, bytes), nil
}

func (d *driver) freeHost(mem []byte) error {
	return d.failure(&d.memFreeHost, d.memFreeHost.call(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))))
}

func (d *driver) newStream() (cuStream, error) {
	const nonBlocking = 1 // does not wait for the default stream, nor that for it
	var s cuStream
	r := d.streamCreate.call(uintptr(unsafe.Pointer(&s)), nonBlocking)
	return s, d.failure(&d.streamCreate, r)
}

func (d *driver) destroyStream(s cuStream) error {
	return d.failure(&d.streamDestroy, d.streamDestroy.call(uintptr(s)))
}

// zero fills memory with zeros and waits until it is done.
func (d *driver) zero(s cuStream, addr uint64, bytes int64) error {
	if r := d.memsetD8Async.call(uintptr(addr), 0, uintptr(bytes), uintptr(s)); r != success {
		return d.failure(&d.memsetD8Async, r)
	}
	return d.failure(&d.streamSynchronize, d.streamSynchronize.call(uintptr(s)))
}

func (d *driver) newEvent() (cuEvent, error) {
	const disableTiming = 2
	return d.eventWith(disableTiming)
}

// newClock returns an event that knows when it happened.
func (d *driver) newClock() (cuEvent, error) { return d.eventWith(0) }

func (d *driver) eventWith(flags uintptr) (cuEvent, error) {
	var e cuEvent
	r := d.eventCreate.call(uintptr(unsafe.Pointer(&e)), flags)
	return e, d.failure(&d.eventCreate, r)
}

// elapsed returns the time between two events of newClock that have happened.
func (d *driver) elapsed(from, to cuEvent) (time.Duration, error) {
	if d.eventElapsedTime.addr == 0 {
		return 0, errors.New("the driver has no cuEventElapsedTime")
	}
	var ms float32
	r := d.eventElapsedTime.call(uintptr(unsafe.Pointer(&ms)), uintptr(from), uintptr(to))
	return time.Duration(float64(ms) * float64(time.Millisecond)), d.failure(&d.eventElapsedTime, r)
}

func (d *driver) destroyEvent(e cuEvent) error {
	return d.failure(&d.eventDestroy, d.eventDestroy.call(uintptr(e)))
}

func (d *driver) beginCapture(s cuStream) error {
	const threadLocal = 1 // other threads may allocate meanwhile
	return d.failure(&d.streamBeginCapture, d.streamBeginCapture.call(uintptr(s), threadLocal))
}

func (d *driver) endCapture(s cuStream) (cuGraph, error) {
	var g cuGraph
	r := d.streamEndCapture.call(uintptr(s), uintptr(unsafe.Pointer(&g)))
	return g, d.failure(&d.streamEndCapture, r)
}

func (d *driver) instantiate(g cuGraph) (cuGraphExec, error) {
	var x cuGraphExec
	r := d.graphInstantiate.call(uintptr(unsafe.Pointer(&x)), uintptr(g), 0)
	return x, d.failure(&d.graphInstantiate, r)
}

func (d *driver) destroyGraph(g cuGraph) error {
	return d.failure(&d.graphDestroy, d.graphDestroy.call(uintptr(g)))
}

func (d *driver) destroyGraphExec(x cuGraphExec) error {
	return d.failure(&d.graphExecDestroy, d.graphExecDestroy.call(uintptr(x)))
}
