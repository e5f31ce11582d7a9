//go:build !purego

package cpu

import "eckart/kernels"

// rowsFor returns the kernels for isa.
func rowsFor(isa ISA) rowsCode {
	switch isa {
	case NEON, NEONDotProd:
		return rowsCode{addNEON, sumSquaresNEON, normalizeNEON, rotateNEON, swiGLUNEON}
	}
	return rowsCode{}
}

// attentionFor returns the kernels for isa.
func attentionFor(isa ISA) attentionCode {
	var c attentionCode
	switch isa {
	case NEON, NEONDotProd:
		c.narrow[kernels.F16], c.narrow[kernels.BF16] = narrowF16NEON, narrowBF16NEON
	}
	return c
}
