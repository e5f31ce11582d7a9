//go:build !purego

package cpu

// sweepFor returns the routine for isa.
func sweepFor(isa ISA) sweepFunc {
	switch isa {
	case AVX512:
		return sweepAVX512
	case AVX2:
		return sweepAVX2
	}
	return nil
}
