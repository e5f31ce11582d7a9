//go:build amd64 && !purego

package linalg

import (
	"testing"

	"eckart/internal/race"
)

// WithEachWidth runs f with each set of kernels that the processor has. Below the race detector, which sees no assembly, it is
// plain Go alone: what is cut into pieces for goroutines is cut alike.
func WithEachWidth(t *testing.T, f func(t *testing.T)) {
	was := vectors
	defer func() { vectors = was }()
	for name, width := range map[string]int{"plain": 1, "avx2": 4, "avx512": 8} {
		if width > was || race.Enabled && width > 1 {
			continue
		}
		vectors = width
		t.Run(name, f)
	}
}
