//go:build !purego

package cpu

// sweepFor returns the routine for isa.
func sweepFor(isa ISA) sweepFunc {
	switch isa {
	case NEON, NEONDotProd:
		return sweepNEON
	}
	return nil
}
