//go:build linux && (amd64 || arm64)

package cuda

import (
	"os"
	"path/filepath"
	"testing"
)

// TestIntegrated holds that a GPU in the host's memory has what the host can free, at most what there is, and another GPU what
// its driver says.
func TestIntegrated(t *testing.T) {
	const free, total = 4096, 16384 // the host has more
	for integrated, want := range []int64{free, total} {
		d := fakes{
			"cuDeviceGetAttribute": attribute(attributeIntegrated, integrated),
			"cuMemGetInfo_v2":      func(f, t uintptr) uintptr { put(f, uint64(free)); put(t, uint64(total)); return 0 },
		}.open(t, Options{})
		if got := d.Info().Integrated; got != (integrated == 1) {
			t.Errorf("integrated: got %v for %d", got, integrated)
		}
		if got, all := d.Memory(); got != want || all != total {
			t.Errorf("integrated %d: %d of %d bytes are free, want %d of %d", integrated, got, all, want, total)
		}
	}
}

func TestHostMemory(t *testing.T) {
	file := filepath.Join(t.TempDir(), "meminfo")
	if err := os.WriteFile(file, []byte("MemTotal:       1000 kB\nMemFree:          10 kB\nMemAvailable:    400 kB\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := hostMemory(file); got != 400<<10 {
		t.Errorf("got %d bytes", got)
	}
	if got := hostMemory(file + "x"); got != 0 {
		t.Errorf("without a file: got %d bytes", got)
	}
}
