//go:build !(linux && (amd64 || arm64)) || nocuda

package cuda

import (
	"fmt"
	"runtime"
	"time"
)

func openLibrary(string) (uintptr, error) {
	return 0, fmt.Errorf("%w: this program speaks to GPUs on linux/amd64 and linux/arm64, if it is not built with the tag nocuda; it is of %s/%s", ErrNoDevice, runtime.GOOS, runtime.GOARCH)
}

// What follows is never reached, because no library opens.

func lookup(uintptr, string) uintptr { return 0 }

func (e *entry) call(...uintptr) result { panic("BUG: call of " + e.name + " without a driver") }

func thread() uint32 { return 0 }

func pause(d time.Duration) { time.Sleep(d) }
