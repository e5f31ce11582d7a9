package cuda

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unsafe"
)

// ErrNoDevice says that there is no GPU to be had: no driver, no GPU, or none that this program can use. The error that
// wraps it says which.
var ErrNoDevice = errors.New("no CUDA device")

// ErrLost says that a device is beyond use until the program starts anew: a kernel went wrong in a way that ends the
// context, the device fell off the bus, or it does not answer. The error that wraps it says which.
var ErrLost = errors.New("CUDA device is lost")

// result is a CUresult.
type result int32

// The results that are told apart (cuda.h).
const (
	success                result = 0
	errInvalidValue        result = 1
	errOutOfMemory         result = 2
	errNoDevice            result = 100
	errInvalidDevice       result = 101
	errInvalidImage        result = 200
	errNoBinaryForGPU      result = 209
	errInvalidPTX          result = 218
	errJITCompilerMissing  result = 221
	errUnsupportedPTX      result = 222
	errNotFound            result = 500
	errNotReady            result = 600
	errDeviceUnavailable   result = 46
	errECCUncorrectable    result = 214
	errNVLinkUncorrectable result = 220
	errIllegalAddress      result = 700
	errLaunchTimeout       result = 702
	errContextDestroyed    result = 709
	errAssert              result = 710
	errHardwareStack       result = 714
	errIllegalInstruction  result = 715
	errMisalignedAddress   result = 716
	errInvalidAddressSpace result = 717
	errInvalidPC           result = 718
	errLaunchFailed        result = 719
	errUnknown             result = 999
)

// ends reports whether no call succeeds any more in a context that has given r once.
func (r result) ends() bool {
	switch r {
	case errDeviceUnavailable, errECCUncorrectable, errNVLinkUncorrectable, errIllegalAddress, errLaunchTimeout, errContextDestroyed,
		errAssert, errHardwareStack, errIllegalInstruction, errMisalignedAddress, errInvalidAddressSpace, errInvalidPC, errLaunchFailed,
		errUnknown:
		return true
	}
	return false
}

// A driverError is a call of the driver that did not succeed.
type driverError struct {
	call       string // as in "cuMemAlloc_v2"
	code       result
	name, text string // the driver's own, as in "CUDA_ERROR_OUT_OF_MEMORY" and "out of memory"
}

// Error gives the driver's text, its name and the call.
func (e *driverError) Error() string {
	return fmt.Sprintf("%s (%s from %s)", e.text, e.name, e.call)
}

// code returns the driver's result within err, success if there is none.
func code(err error) result {
	var e *driverError
	if errors.As(err, &e) {
		return e.code
	}
	return success
}

// Handles of the driver. Each is a type of its own, so that none is taken for another.
type (
	cuContext   uintptr
	cuModule    uintptr
	cuFunction  uintptr
	cuStream    uintptr
	cuEvent     uintptr
	cuGraph     uintptr
	cuGraphExec uintptr
)

// entry is an entry point of the driver. Its name is that of the symbol, with the version it is known by: what cuda.h
// calls cuMemAlloc is cuMemAlloc_v2 in the library, and cuMemAlloc there is something older.
type entry struct {
	addr uintptr
	name string
}

// driver is a driver's library with its entry points, looked up once. It may be used by any goroutine.
type driver struct {
	version int // 12040 is CUDA 12.4

	init, driverGetVersion                                         entry
	getErrorName, getErrorString                                   entry
	deviceGetCount, deviceGet, deviceGetName, deviceGetAttribute   entry
	deviceTotalMem                                                 entry
	devicePrimaryCtxRetain, devicePrimaryCtxRelease, ctxSetCurrent entry
	moduleLoadDataEx, moduleUnload, moduleGetFunction              entry
	funcSetAttribute, funcGetAttribute                             entry
	memGetInfo, memAlloc, memFree, memHostAlloc, memFreeHost       entry
	memcpyHtoDAsync, memcpyDtoHAsync, memsetD8Async                entry
	streamCreate, streamDestroy, streamSynchronize                 entry
	eventCreate, eventRecord, eventQuery, eventDestroy             entry
	memcpyDtoDAsync                                                entry
	launchKernel                                                   entry
	streamBeginCapture, streamEndCapture                           entry
	graphInstantiate, graphLaunch, graphDestroy, graphExecDestroy  entry

	funcLoad         entry // since CUDA 12.4
	eventElapsedTime entry // for measurements alone
}

// symbols lists the entry points that every driver from CUDA 11.8 on has.
func (d *driver) symbols() map[string]*entry {
	return map[string]*entry{
		"cuInit":                       &d.init,
		"cuDriverGetVersion":           &d.driverGetVersion,
		"cuGetErrorName":               &d.getErrorName,
		"cuGetErrorString":             &d.getErrorString,
		"cuDeviceGetCount":             &d.deviceGetCount,
		"cuDeviceGet":                  &d.deviceGet,
		"cuDeviceGetName":              &d.deviceGetName,
		"cuDeviceGetAttribute":         &d.deviceGetAttribute,
		"cuDeviceTotalMem_v2":          &d.deviceTotalMem,
		"cuDevicePrimaryCtxRetain":     &d.devicePrimaryCtxRetain,
		"cuDevicePrimaryCtxRelease_v2": &d.devicePrimaryCtxRelease,
		"cuCtxSetCurrent":              &d.ctxSetCurrent,
		"cuModuleLoadDataEx":           &d.moduleLoadDataEx,
		"cuModuleUnload":               &d.moduleUnload,
		"cuModuleGetFunction":          &d.moduleGetFunction,
		"cuFuncSetAttribute":           &d.funcSetAttribute,
		"cuFuncGetAttribute":           &d.funcGetAttribute,
		"cuMemGetInfo_v2":              &d.memGetInfo,
		"cuMemAlloc_v2":                &d.memAlloc,
		"cuMemFree_v2":                 &d.memFree,
		"cuMemHostAlloc":               &d.memHostAlloc,
		"cuMemFreeHost":                &d.memFreeHost,
		"cuMemcpyHtoDAsync_v2":         &d.memcpyHtoDAsync,
		"cuMemcpyDtoHAsync_v2":         &d.memcpyDtoHAsync,
		"cuMemcpyDtoDAsync_v2":         &d.memcpyDtoDAsync,
		"cuMemsetD8Async":              &d.memsetD8Async,
		"cuStreamCreate":               &d.streamCreate,
		"cuStreamDestroy_v2":           &d.streamDestroy,
		"cuStreamSynchronize":          &d.streamSynchronize,
		"cuEventCreate":                &d.eventCreate,
		"cuEventRecord":                &d.eventRecord,
		"cuEventQuery":                 &d.eventQuery,
		"cuEventDestroy_v2":            &d.eventDestroy,
		"cuLaunchKernel":               &d.launchKernel,
		"cuStreamBeginCapture_v2":      &d.streamBeginCapture,
		"cuStreamEndCapture":           &d.streamEndCapture,
		"cuGraphInstantiateWithFlags":  &d.graphInstantiate,
		"cuGraphLaunch":                &d.graphLaunch,
		"cuGraphDestroy":               &d.graphDestroy,
		"cuGraphExecDestroy":           &d.graphExecDestroy,
	}
}

// oldest is the oldest driver that is supported, by the version of CUDA it brings.
const oldest = 11080

// openDriver opens the driver's library and initializes it.
func openDriver(path string) (*driver, error) {
	handle, err := openLibrary(path)
	if err != nil {
		return nil, err
	}
	return newDriver(func(name string) uintptr { return lookup(handle, name) })
}

// newDriver initializes the driver whose symbols find knows, with 0 for those there are not.
func newDriver(find func(name string) uintptr) (*driver, error) {
	d := &driver{}
	if err := d.resolve(find); err != nil {
		return nil, err
	}
	if r := d.init.call(0); r == errNoDevice {
		return nil, fmt.Errorf("%w: the NVIDIA driver (CUDA %s) sees no GPU", ErrNoDevice, version(d.version))
	} else if r != success {
		return nil, fmt.Errorf("%w: start the NVIDIA driver (CUDA %s): %w", ErrNoDevice, version(d.version), d.failure(&d.init, r))
	}
	return d, nil
}

// resolve looks all entry points up and checks the driver's version, which comes first: it explains what is missing.
func (d *driver) resolve(find func(name string) uintptr) error {
	var missing []string
	for name, e := range d.symbols() {
		if *e = (entry{find(name), name}); e.addr == 0 {
			missing = append(missing, name)
		}
	}
	d.funcLoad = entry{find("cuFuncLoad"), "cuFuncLoad"}
	d.eventElapsedTime = entry{find("cuEventElapsedTime"), "cuEventElapsedTime"}
	if d.driverGetVersion.addr != 0 {
		var v int32
		d.driverGetVersion.call(uintptr(unsafe.Pointer(&v))) // has no way to go wrong
		if d.version = int(v); d.version < oldest {
			return fmt.Errorf("%w: the NVIDIA driver is for CUDA %s, and %s or later is needed: update the driver",
				ErrNoDevice, version(d.version), version(oldest))
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return fmt.Errorf("%w: the NVIDIA driver's library lacks %s", ErrNoDevice, strings.Join(missing, ", "))
	}
	return nil
}

// version spells a driver's version, as in "12.4".
func version(v int) string { return fmt.Sprintf("%d.%d", v/1000, v%1000/10) }

// failure returns the error for a result that is not success, nil for success.
func (d *driver) failure(e *entry, r result) error {
	if r == success {
		return nil
	}
	return &driverError{
		call: e.name, code: r,
		name: d.describe(&d.getErrorName, r, fmt.Sprintf("CUresult %d", r)),
		text: d.describe(&d.getErrorString, r, "unknown error"),
	}
}

func (d *driver) describe(e *entry, r result, unknown string) string {
	var text *byte
	if e.call(uintptr(r), uintptr(unsafe.Pointer(&text))) != success || text == nil {
		return unknown
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(text), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(text, n))
}
