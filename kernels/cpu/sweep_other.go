//go:build (!amd64 && !arm64) || purego

package cpu

// sweepFor returns nothing: plain Go runs.
func sweepFor(ISA) sweepFunc { return nil }
