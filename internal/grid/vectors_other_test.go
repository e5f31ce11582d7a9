//go:build !amd64 || purego

package grid

// withEachVector runs f, a test or a benchmark, with each set of kernels that the processor has.
func withEachVector[T interface{ Run(string, func(T)) bool }](t T, f func(t T)) { t.Run("plain", f) }
