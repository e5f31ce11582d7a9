//go:build !(linux && (amd64 || arm64)) || nocuda

package cuda

import (
	"fmt"
	"runtime"
	"time"
)

func openLibrary(string) (uintptr, error) {
	platform := runtime.GOOS + "/" + runtime.GOARCH
	if platform == "linux/amd64" || platform == "linux/arm64" {
		return 0, fmt.Errorf("%w: this program was built without CUDA, with the tag nocuda", ErrNoDevice)
	}
	return 0, fmt.Errorf("%w: CUDA takes linux/amd64 or linux/arm64, and this program is for %s", ErrNoDevice, platform)
}

// What follows is never reached, because no library opens.

func lookup(uintptr, string) uintptr { return 0 }

func (e *entry) call(...uintptr) result { panic("BUG: call of " + e.name + " without a driver") }

func thread() uint32 { return 0 }

func pause(d time.Duration) { time.Sleep(d) }
