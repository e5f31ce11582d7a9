//go:build (!amd64 && !arm64) || purego

package cpu

// matMulFor returns nothing: plain Go runs.
func matMulFor(ISA, bool) matMulCode { return matMulCode{} }
