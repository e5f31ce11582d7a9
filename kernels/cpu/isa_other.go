//go:build (!amd64 && !arm64) || purego

package cpu

// vectorISAs returns nothing: there are no kernels for this architecture, or they are left out.
func vectorISAs() []ISA { return nil }
