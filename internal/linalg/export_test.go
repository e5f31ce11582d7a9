//go:build amd64 && !purego

package linalg

import "testing"

// WithEachWidth runs f with each set of kernels that the processor has.
func WithEachWidth(t *testing.T, f func(t *testing.T)) {
	was := vectors
	defer func() { vectors = was }()
	for name, width := range map[string]int{"plain": 1, "avx2": 4, "avx512": 8} {
		if width > was {
			continue
		}
		vectors = width
		t.Run(name, f)
	}
}
