package cuda

import (
	"testing"

	"eckart/internal/race"
)

// KernelsAlone skips a test of what kernels compute below the race detector, which does not see it: they are not Go. The Go
// that starts them is that of every verb, on one goroutine; what happens at once has tests of its own (device_test.go,
// faults_test.go, and those of cmd/internal/launch).
func KernelsAlone(t *testing.T) {
	t.Helper()
	if race.Enabled {
		t.Skip("the race detector does not see the kernels")
	}
}
