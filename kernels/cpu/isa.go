package cpu

import (
	"fmt"
	"slices"
)

// An ISA names the instructions that kernels may use. Results differ in their last bits between two of them, and are
// the same bits for the same one.
type ISA uint8

// The instruction sets there are kernels for. AVX2 includes FMA and F16C, AVX512 the F, BW, DQ and VL parts. NEON is
// that of every arm64 processor; NEONDotProd adds products of four signed bytes.
const (
	Auto ISA = iota // the best this processor has
	Generic
	AVX2
	AVX512
	NEON
	NEONDotProd
)

// String returns the name as flags spell it: auto, generic, avx2, avx512, neon, neon-dotprod.
func (i ISA) String() string {
	switch i {
	case Auto:
		return "auto"
	case Generic:
		return "generic"
	case AVX2:
		return "avx2"
	case AVX512:
		return "avx512"
	case NEON:
		return "neon"
	case NEONDotProd:
		return "neon-dotprod"
	}
	return fmt.Sprintf("ISA(%d)", uint8(i))
}

// ISAs returns what this processor can run, the best last.
func ISAs() []ISA { return append([]ISA{Generic}, vectorISAs()...) }

// resolve returns the set that i stands for on this processor.
func resolve(i ISA) (ISA, error) {
	all := ISAs()
	if i == Auto {
		return all[len(all)-1], nil
	}
	if !slices.Contains(all, i) {
		return 0, fmt.Errorf("open cpu device: this processor has no %s (it has %v)", i, all)
	}
	return i, nil
}
