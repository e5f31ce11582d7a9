package shim

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"unsafe"

	"github.com/ebitengine/purego"
)

// A Library is a shim that was built, for what a driver has no entry points for. All who open one path share one driver.
type Library struct {
	handle uintptr
	path   string
}

// Open opens the library at path.
func Open(path string) (*Library, error) {
	handle, err := purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
	if err != nil {
		return nil, fmt.Errorf("open shim %s: %w", path, err)
	}
	return &Library{handle, path}, nil
}

// ForTest returns the path of the shim. Where it cannot be built for want of a compiler the test is skipped, or fails if
// REQUIRE_SHIM is set.
func ForTest(t testing.TB) string {
	t.Helper()
	library, err := Build()
	if errors.Is(err, ErrNoCompiler) && os.Getenv("REQUIRE_SHIM") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return library
}

// call calls an exported function of the library.
//
//go:uintptrescapes
func (l *Library) call(name string, args ...uintptr) uintptr {
	addr, err := purego.Dlsym(l.handle, name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	r, _, _ := purego.SyscallN(addr, args...)
	return r
}

// text copies what a pointer of C points to.
func text(addr uintptr) string {
	p := *(**byte)(unsafe.Pointer(&addr))
	if p == nil {
		return ""
	}
	n := 0
	for *(*byte)(unsafe.Add(unsafe.Pointer(p), n)) != 0 {
		n++
	}
	return string(unsafe.Slice(p, n))
}

// Reset makes the driver as new: nothing allocated, no context, no fault, no counts, settings as in the environment. Nobody
// may be using it.
func (l *Library) Reset() { l.call("eckart_shim_reset") }

// Fail makes a call of an entry point, as in "cuMemAlloc_v2", return code (a CUresult): the next one after so many that
// still succeed, or every one if after is -1. A code that ends contexts on a GPU ends them here.
func (l *Library) Fail(entry string, after, code int) {
	name := append([]byte(entry), 0)
	l.call("eckart_shim_fail", uintptr(unsafe.Pointer(unsafe.SliceData(name))), uintptr(after), uintptr(code))
}

// Set changes a setting: capability (80 is 8.0), multiprocessors, memory (bytes), driver (12040 is CUDA 12.4), devices, seed
// (of the order of threads), threads (of the host, that run blocks), verbose (1 prints what is refused), races (1 finds those
// on global memory), traffic (1 counts it). The environment has them as ECKART_SHIM_CAPABILITY and so on, and ECKART_SHIM_FAIL takes entry:after:code, separated by commas.
func (l *Library) Set(name string, value int64) {
	text := append([]byte(name), 0)
	if l.call("eckart_shim_set", uintptr(unsafe.Pointer(unsafe.SliceData(text))), uintptr(value)) != 0 {
		panic(fmt.Sprintf("BUG: the shim has no setting %q", name))
	}
}

// Message returns why a kernel was ended, or else why the last call was refused.
func (l *Library) Message() string { return text(l.call("eckart_shim_message")) }

// Live returns how many objects there are: memory, pinned, streams, events, modules, graphs, programs (of graphs), contexts.
func (l *Library) Live(what string) int {
	name := append([]byte(what), 0)
	return int(l.call("eckart_shim_live", uintptr(unsafe.Pointer(unsafe.SliceData(name)))))
}

// Count is what a kernel has done since the last Reset.
type Count struct {
	Kernel   string
	Launches int
	Blocks   int
	Read     int64 // bytes of global memory, each time they are read
	Written  int64 // bytes of global memory
	MMA      int64 // products of a warp

	// Where traffic is set: accesses to shared memory by 128 bytes, the passes over its banks that they take, bytes of global memory
	// that warps ask for, each once, and the sectors of 32 bytes that they lie in.
	Shared, Passes, Asked, Sectors int64
}

// Counts returns the counts of all kernels, of those that never ran as well.
func (l *Library) Counts() []Count {
	var counts []Count
	if err := json.Unmarshal([]byte(text(l.call("eckart_shim_counts"))), &counts); err != nil {
		panic("BUG: " + err.Error())
	}
	return counts
}
