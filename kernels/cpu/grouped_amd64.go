//go:build !purego

package cpu

// groupedFor returns the code for isa.
func groupedFor(ISA) groupedCode { return groupedGeneric() }
