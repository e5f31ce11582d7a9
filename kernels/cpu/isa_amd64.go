//go:build !purego

package cpu

import "golang.org/x/sys/cpu"

// vectorISAs returns the vector instruction sets that the processor and the system support.
func vectorISAs() []ISA {
	var have []ISA
	if cpu.X86.HasAVX2 && cpu.X86.HasFMA && cpu.X86.HasF16C {
		have = append(have, AVX2)
		if cpu.X86.HasAVX512F && cpu.X86.HasAVX512BW && cpu.X86.HasAVX512DQ && cpu.X86.HasAVX512VL {
			have = append(have, AVX512)
		}
	}
	return have
}
