//go:build linux && (amd64 || arm64)

package cuda

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestAwait holds what is known to be pending after a wait in part, for messages; that a fault stays until Sync; and that a
// wait in part ends as well when the device does not answer.
func TestAwait(t *testing.T) {
	var broken, silent atomic.Bool
	launchKernel, eventQuery := original(t, "cuLaunchKernel"), original(t, "cuEventQuery")
	s := fakes{
		"cuLaunchKernel": func(f, x, y, z, bx, by, bz, shared, stream, params, extra uintptr) uintptr {
			if broken.Load() {
				return 1
			}
			return launchKernel(f, x, y, z, bx, by, bz, shared, stream, params, extra)
		},
		"cuEventQuery": func(e uintptr) uintptr {
			if silent.Load() {
				return 600
			}
			return eventQuery(e)
		},
	}.stream(t, Options{})
	m, free := memory(t, s.device, 64)
	defer free()
	work := func() { launch(s, s.f.empty, dim{1, 1, 1}, 32, 0, &emptyArgs{a: 1}) }
	mem := make([]byte, 64)

	work()
	s.Mark()
	s.Upload(m, mem)
	work()
	if err := s.Await(); err != nil {
		t.Fatal(err)
	}
	if got, want := s.pending(), "2 operations (upload to empty)"; got != want {
		t.Errorf("pending are %s, want %s", got, want)
	}
	s.Mark()
	if err := s.Await(); err != nil || s.operations != 0 {
		t.Errorf("after all was waited for: %v, %s", err, s.pending())
	}

	work()
	s.Mark()
	broken.Store(true)
	work()
	broken.Store(false)
	for range 2 {
		expect(t, s.Await(), nil, "launch kernel empty", "CUDA_ERROR_INVALID_VALUE")
		s.Mark()
	}
	expect(t, s.Sync(), nil, "launch kernel empty")
	work()
	s.Mark()
	if err := s.Await(); err != nil {
		t.Errorf("after the fault was told: %v", err)
	}

	work()
	s.Mark()
	s.device.options.Timeout = 300 * time.Millisecond
	silent.Store(true)
	expect(t, s.Await(), ErrLost, "has not answered for 300ms")
	silent.Store(false)
}
