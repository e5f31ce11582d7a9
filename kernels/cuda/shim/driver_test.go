package shim

import (
	"errors"
	"os"
	"runtime"
	"sync"
	"testing"
	"unsafe"
)

// tests builds the shim with the kernels of testdata.
var tests = sync.OnceValues(func() (string, error) { return build(os.DirFS("testdata")) })

// A driver calls entry points as a program would, in the context of device 0.
type driver struct {
	*Library
	t                       testing.TB
	context, module, stream uintptr
}

// open returns a driver that is as new, on a thread of its own until the test ends.
func open(t testing.TB) *driver {
	t.Helper()
	return openBuilt(t, tests)
}

// openBuilt is open with a shim of other kernels.
func openBuilt(t testing.TB, build func() (string, error)) *driver {
	t.Helper()
	path, err := build()
	if errors.Is(err, ErrNoCompiler) && os.Getenv("REQUIRE_SHIM") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	l, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	runtime.LockOSThread()
	l.Reset()
	t.Cleanup(func() {
		l.call("cuCtxSetCurrent", 0)
		l.Reset()
		runtime.UnlockOSThread()
	})
	d := &driver{Library: l, t: t}
	d.do("cuInit", 0)
	d.context = d.get("cuDevicePrimaryCtxRetain", 0)
	d.do("cuCtxSetCurrent", d.context)
	d.module = d.get("cuModuleLoadDataEx", 0, 0, 0, 0)
	d.stream = d.get("cuStreamCreate", 1)
	return d
}

// result calls an entry point and returns its CUresult.
//
//go:uintptrescapes
func (d *driver) result(entry string, args ...uintptr) int {
	return int(int32(d.call(entry, args...)))
}

// do calls an entry point that must succeed.
//
//go:uintptrescapes
func (d *driver) do(entry string, args ...uintptr) {
	d.t.Helper()
	if code := d.result(entry, args...); code != 0 {
		d.t.Fatalf("%s returns %d: %s", entry, code, d.Message())
	}
}

// refused calls an entry point that must return code.
//
//go:uintptrescapes
func (d *driver) refused(code int, entry string, args ...uintptr) {
	d.t.Helper()
	if got := d.result(entry, args...); got != code {
		d.t.Errorf("%s returns %d, want %d (%s)", entry, got, code, d.Message())
	}
}

// get calls an entry point that writes what it has made to its first argument.
func (d *driver) get(entry string, args ...uintptr) uintptr {
	d.t.Helper()
	out := fixed(uintptr(0))
	d.do(entry, append([]uintptr{uintptr(unsafe.Pointer(out))}, args...)...)
	return *out
}

// fixed returns a copy of v that does not move, as stacks do.
func fixed[T any](v T) *T {
	p := new(T)
	*p = v
	heap = p
	return p
}

var heap any

// size returns the bytes of s.
func size[T any](s []T) uintptr { return uintptr(len(s)) * unsafe.Sizeof(*new(T)) }

// upload puts s into memory of its own.
func upload[T any](d *driver, s []T) uintptr {
	d.t.Helper()
	at := d.get("cuMemAlloc_v2", size(s))
	d.do("cuMemcpyHtoDAsync_v2", at, uintptr(unsafe.Pointer(unsafe.SliceData(s))), size(s), d.stream)
	return at
}

// download returns n elements.
func download[T any](d *driver, at uintptr, n int) []T {
	d.t.Helper()
	s := make([]T, n)
	d.do("cuMemcpyDtoHAsync_v2", uintptr(unsafe.Pointer(unsafe.SliceData(s))), at, size(s), d.stream)
	return s
}

// function looks a kernel up.
func (d *driver) function(name string) uintptr {
	d.t.Helper()
	text := append([]byte(name), 0)
	out := fixed(uintptr(0))
	d.do("cuModuleGetFunction", uintptr(unsafe.Pointer(out)), d.module, uintptr(unsafe.Pointer(unsafe.SliceData(text))))
	return *out
}

// rows are the arguments of most kernels of testdata.
type rows struct {
	y, x uintptr
	n, k uint32
}

// enqueue launches a kernel with its arguments as one block.
func enqueue[A any](d *driver, f uintptr, blocks, threads, shared int, args A) int {
	p, n := fixed(args), fixed(unsafe.Sizeof(args))
	extra := fixed([5]uintptr{1, uintptr(unsafe.Pointer(p)), 2, uintptr(unsafe.Pointer(n)), 0})
	code := d.result("cuLaunchKernel", f, uintptr(blocks), 1, 1, uintptr(threads), 1, 1, uintptr(shared), d.stream, 0,
		uintptr(unsafe.Pointer(extra)))
	runtime.KeepAlive(p)
	runtime.KeepAlive(n)
	return code
}

// launch launches a kernel, waits for it and returns the result.
func launch[A any](d *driver, name string, blocks, threads, shared int, args A) int {
	d.t.Helper()
	if code := enqueue(d, d.function(name), blocks, threads, shared, args); code != 0 {
		d.t.Fatalf("launch of %s returns %d: %s", name, code, d.Message())
	}
	return d.result("cuStreamSynchronize", d.stream)
}

// right launches a kernel that must end well.
func right[A any](d *driver, name string, blocks, threads, shared int, args A) {
	d.t.Helper()
	if code := launch(d, name, blocks, threads, shared, args); code != 0 {
		d.t.Fatalf("%s returns %d: %s", name, code, d.Message())
	}
}
