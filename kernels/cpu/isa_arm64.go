//go:build !purego

package cpu

import (
	"runtime"

	"golang.org/x/sys/cpu"
)

// vectorISAs returns the vector instruction sets that the processor and the system support. Every arm64 processor has
// NEON; every one that macOS runs on has the dot products too, though its older versions do not say so.
func vectorISAs() []ISA {
	if cpu.ARM64.HasASIMDDP || runtime.GOOS == "darwin" {
		return []ISA{NEON, NEONDotProd}
	}
	return []ISA{NEON}
}
