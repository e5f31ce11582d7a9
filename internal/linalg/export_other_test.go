//go:build !amd64 || purego

package linalg

import "testing"

// WithEachWidth runs f with each set of kernels that the processor has.
func WithEachWidth(t *testing.T, f func(t *testing.T)) { t.Run("plain", f) }
