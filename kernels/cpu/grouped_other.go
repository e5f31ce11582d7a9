//go:build (!amd64 && !arm64) || purego

package cpu

// groupedFor returns plain Go.
func groupedFor(ISA) groupedCode { return groupedGeneric() }
