package shim

import (
	"runtime"
	"strings"
	"testing"
	"unsafe"
)

// Results that the tests below expect.
const (
	invalidValue       = 1
	outOfMemory        = 2
	notInitialized     = 3
	invalidContext     = 201
	invalidHandle      = 400
	illegalState       = 401
	notFound           = 500
	notReady           = 600
	illegalAddress     = 700
	notSupported       = 801
	captureUnsupported = 900
	captureInvalidated = 901
	capturedEvent      = 907
	captureWrongThread = 908
)

// A context is current in a thread, not in the program.
func TestContexts(t *testing.T) {
	d := open(t)
	var code int
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		code = d.result("cuStreamSynchronize", d.stream)
	}()
	<-done
	if code != invalidContext {
		t.Errorf("a call in a thread without a context returns %d, want %d", code, invalidContext)
	}
	d.do("cuCtxSetCurrent", 0)
	d.refused(invalidContext, "cuCtxSynchronize")
	d.refused(invalidContext, "cuCtxSetCurrent", d.stream)
	d.do("cuCtxSetCurrent", d.context)
	d.do("cuDevicePrimaryCtxRelease_v2", 0)
	d.refused(709, "cuCtxSynchronize")
	d.refused(invalidContext, "cuDevicePrimaryCtxRelease_v2", 0)
	for _, what := range []string{"memory", "streams", "modules", "contexts"} {
		if n := d.Live(what); n != 0 {
			t.Errorf("%d %s are left after the last release", n, what)
		}
	}
	d.Reset()
	n := fixed(int32(0))
	d.refused(notInitialized, "cuDeviceGetCount", uintptr(unsafe.Pointer(n)))
}

// Work is done when someone waits for it, and not before.
func TestStreams(t *testing.T) {
	d := open(t)
	x := upload(d, floats(64))
	y := upload(d, make([]float32, 64))
	host := d.get("cuMemHostAlloc", 256, 0)
	pinned := unsafe.Slice(*(**float32)(unsafe.Pointer(&host)), 64)
	event := d.get("cuEventCreate", 2)
	d.do("cuEventQuery", event) // never recorded

	if code := enqueue(d, d.function("reverse"), 1, 64, 256, rows{y, x, 64, 0}); code != 0 {
		t.Fatal(code, d.Message())
	}
	d.do("cuMemcpyDtoHAsync_v2", host, y, 256, d.stream)
	d.do("cuEventRecord", event, d.stream)
	if pinned[0] != 0 {
		t.Errorf("a copy is done before someone waits: %v", pinned[0])
	}
	d.refused(notReady, "cuEventQuery", event)
	d.do("cuEventQuery", event)
	if pinned[0] != 63 || pinned[63] != 0 {
		t.Errorf("the copy holds %v, %v, want 63, 0", pinned[0], pinned[63])
	}

	// Another stream waits for an event of this one.
	other := d.get("cuStreamCreate", 1)
	enqueue(d, d.function("reverse"), 1, 64, 256, rows{x, y, 64, 0})
	enqueue(d, d.function("reverse"), 1, 64, 256, rows{y, x, 64, 0})
	d.do("cuMemsetD32Async", x, 0x40000000, 64, d.stream)
	d.do("cuEventRecord", event, d.stream)
	d.do("cuStreamWaitEvent", other, event, 0)
	d.do("cuMemcpyDtoHAsync_v2", host, x, 256, other)
	d.do("cuStreamSynchronize", other)
	if pinned[5] != 2 {
		t.Errorf("a stream that waits for another reads %v, want 2", pinned[5])
	}

	d.refused(invalidValue, "cuMemcpyDtoHAsync_v2", host, y+4, 256, d.stream) // past the end
	d.refused(invalidHandle, "cuStreamSynchronize", 4711)
	d.refused(invalidHandle, "cuEventRecord", 4711, d.stream)
	d.do("cuMemFree_v2", y)
	d.refused(invalidValue, "cuMemFree_v2", y)
	d.refused(notSupported, "cuLinkDestroy", 0)
	d.do("cuMemFreeHost", host)
	d.do("cuStreamDestroy_v2", other)
	d.do("cuEventDestroy_v2", event)
}

// A launch is refused where a driver would refuse it.
func TestLaunches(t *testing.T) {
	d := open(t)
	x := upload(d, floats(256))
	f := d.function("reverse")
	args := rows{x, x, 256, 0}
	for _, c := range []struct {
		what                    string
		blocks, threads, shared int
	}{
		{"no blocks", 0, 256, 1024},
		{"more threads than bounds", 1, 512, 1024},
		{"part of a warp", 1, 40, 1024},
		{"more shared memory than allowed", 1, 256, 64 << 10},
	} {
		if code := enqueue(d, f, c.blocks, c.threads, c.shared, args); code != invalidValue {
			t.Errorf("launch with %s returns %d", c.what, code)
		}
	}
	if code := enqueue(d, f, 1, 256, 1024, args.y); code != invalidValue || !strings.Contains(d.Message(), "takes 24 bytes of arguments, and was given 8") {
		t.Errorf("launch with 8 bytes of arguments returns %d: %s", code, d.Message())
	}
	d.refused(invalidValue, "cuFuncSetAttribute", f, 8, 1<<20)
	d.do("cuFuncSetAttribute", f, 8, 100<<10)
	if code := enqueue(d, f, 1, 256, 64<<10, args); code != 0 {
		t.Errorf("launch with shared memory that was asked for returns %d", code)
	}
	name := []byte("nothing of the kind\x00")
	out := fixed(uintptr(0))
	d.refused(notFound, "cuModuleGetFunction", uintptr(unsafe.Pointer(out)), d.module, uintptr(unsafe.Pointer(&name[0])))
	d.Set("memory", 1<<20)
	d.refused(outOfMemory, "cuMemAlloc_v2", uintptr(unsafe.Pointer(out)), 1<<20)

	d.do("cuStreamSynchronize", d.stream)
	for _, c := range d.Counts() {
		if c.Kernel == "reverse" && (c.Launches != 1 || c.Blocks != 1 || c.Read != 1024 || c.Written != 1024) {
			t.Errorf("counts of one launch are %+v", c)
		}
	}
}

// A capture holds what is enqueued, with the arguments of that time, and forbids what must not be done meanwhile.
func TestCapture(t *testing.T) {
	d := open(t)
	x, y := upload(d, floats(64)), upload(d, make([]float32, 64))
	f := d.function("reverse")
	out := fixed(uintptr(0))
	at := uintptr(unsafe.Pointer(out))

	d.do("cuStreamBeginCapture_v2", d.stream, 1)
	if code := enqueue(d, f, 1, 64, 256, rows{y, x, 64, 0}); code != captureUnsupported {
		t.Errorf("the first launch of a kernel in a capture returns %d", code)
	}
	d.refused(captureInvalidated, "cuStreamEndCapture", d.stream, at)
	d.do("cuFuncLoad", f)

	d.refused(illegalState, "cuStreamEndCapture", d.stream, at)
	d.refused(captureUnsupported, "cuStreamBeginCapture_v2", 0, 1)
	d.do("cuStreamBeginCapture_v2", d.stream, 1)
	d.refused(illegalState, "cuStreamBeginCapture_v2", d.stream, 1)
	args := rows{y, x, 64, 0}
	if code := enqueue(d, f, 1, 64, 256, args); code != 0 {
		t.Fatal(code, d.Message())
	}
	args.y = 0 // the driver has its own copy
	var code int
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		d.result("cuCtxSetCurrent", d.context)
		code = d.result("cuStreamEndCapture", d.stream, at)
	}()
	<-done
	if code != captureWrongThread {
		t.Errorf("the end of a capture in another thread returns %d", code)
	}
	d.do("cuStreamEndCapture", d.stream, at)
	graph := *out
	if v := download[float32](d, y, 1)[0]; v != 0 {
		t.Errorf("a captured kernel has run: %v", v)
	}
	program := d.get("cuGraphInstantiateWithFlags", graph, 0)
	d.do("cuGraphDestroy", graph)
	for i := range 3 {
		d.do("cuMemsetD8Async", y, 0, 256, d.stream)
		d.do("cuGraphLaunch", program, d.stream)
		if v := download[float32](d, y, 1)[0]; v != 63 {
			t.Errorf("run %d leaves %v, want 63", i, v)
		}
	}
	d.do("cuGraphExecDestroy", program)
	d.refused(invalidHandle, "cuGraphLaunch", program, d.stream)

	event := d.get("cuEventCreate", 2)
	for what, forbidden := range map[string]func() int{
		"cuMemAlloc":          func() int { return d.result("cuMemAlloc_v2", at, 64) },
		"cuStreamSynchronize": func() int { return d.result("cuStreamSynchronize", d.stream) },
		"cuCtxSynchronize":    func() int { return d.result("cuCtxSynchronize") },
		"a pageable copy":     func() int { return d.result("cuMemcpyDtoHAsync_v2", at, y, 8, d.stream) },
	} {
		d.do("cuStreamBeginCapture_v2", d.stream, 1)
		if code := forbidden(); code != captureUnsupported {
			t.Errorf("%s in a capture returns %d", what, code)
		}
		d.refused(captureInvalidated, "cuStreamEndCapture", d.stream, at)
	}
	d.do("cuStreamBeginCapture_v2", d.stream, 1)
	d.do("cuEventRecord", event, d.stream)
	d.refused(capturedEvent, "cuEventQuery", event)
	d.do("cuStreamEndCapture", d.stream, at)
}

// Faults come when a test asks for them, and those that end a context stay.
func TestFail(t *testing.T) {
	d := open(t)
	out := fixed(uintptr(0))
	at := uintptr(unsafe.Pointer(out))
	d.Fail("cuMemAlloc_v2", 1, outOfMemory)
	d.do("cuMemAlloc_v2", at, 64)
	d.refused(outOfMemory, "cuMemAlloc_v2", at, 64)
	d.do("cuMemAlloc_v2", at, 64)
	d.Fail("cuStreamQuery", -1, notReady)
	d.refused(notReady, "cuStreamQuery", d.stream)
	d.refused(notReady, "cuStreamQuery", d.stream)
	d.Fail("cuStreamSynchronize", 0, illegalAddress)
	d.refused(illegalAddress, "cuStreamSynchronize", d.stream)
	d.refused(illegalAddress, "cuMemAlloc_v2", at, 64)
	d.do("cuGetErrorString", illegalAddress, at)
	if s := text(*out); !strings.HasPrefix(s, "an illegal memory access was encountered: ") {
		t.Errorf("the error's text is %q", s)
	}
}
