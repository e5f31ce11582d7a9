//go:build linux && (amd64 || arm64) && !nocuda

package cuda

import (
	"fmt"
	"syscall"
	"time"

	"github.com/ebitengine/purego"
)

// libraryPlaces are where drivers put their library: on the loader's path, in WSL, on a Jetson.
var libraryPlaces = []string{
	"libcuda.so.1",
	"/usr/lib/wsl/lib/libcuda.so.1",
	"/usr/lib/aarch64-linux-gnu/tegra/libcuda.so.1",
	"/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1",
	"libcuda.so",
}

// openLibrary opens the library at path, or the first of libraryPlaces when path is empty. It is never closed: a driver's
// library keeps threads and state of its own that do not survive that.
func openLibrary(path string) (handle uintptr, err error) {
	if path != "" {
		handle, err = purego.Dlopen(path, purego.RTLD_NOW|purego.RTLD_LOCAL)
		if err != nil {
			return 0, fmt.Errorf("%w: open driver library %s: %w", ErrNoDevice, path, err)
		}
		return handle, nil
	}
	var first error
	for _, place := range libraryPlaces {
		if handle, err = purego.Dlopen(place, purego.RTLD_NOW|purego.RTLD_LOCAL); err == nil {
			return handle, nil
		}
		if first == nil {
			first = err
		}
	}
	return 0, fmt.Errorf("%w: no NVIDIA driver is installed (%w)", ErrNoDevice, first)
}

// lookup returns the address of a symbol, 0 when the library has none of that name.
func lookup(handle uintptr, name string) uintptr {
	addr, err := purego.Dlsym(handle, name)
	if err != nil {
		return 0
	}
	return addr
}

// call calls the entry point. Pointers converted to uintptr in the list of arguments keep their objects alive and in
// place; with a slice of arguments, which allocates nothing, the caller sees to that.
//
//go:uintptrescapes
func (e *entry) call(args ...uintptr) result {
	r, _, _ := purego.SyscallN(e.addr, args...)
	return result(uint32(r))
}

// thread returns the identity of the calling thread. It costs less than the call of the driver that it saves.
func thread() uint32 { return uint32(syscall.Gettid()) }

// pause blocks the calling thread. Sleeping in Go takes a millisecond where the program is idle otherwise, because that
// is the unit of the system call behind it.
func pause(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // waking early is no harm
}
