//go:build !purego

package cpu

import "eckart/kernels"

// matMulFor returns the tiles for isa.
func matMulFor(isa ISA, _ bool) matMulCode {
	var c matMulCode
	switch isa {
	case NEON, NEONDotProd:
		c.tiles[kernels.F32] = tiles{
			wide: []tileFunc{dots8x1F32NEON, dots8x2F32NEON, dots8x3F32NEON},
			by: []tileFunc{
				dots4x1F32NEON, dots4x2F32NEON, dots4x3F32NEON,
				dots4x4F32NEON, dots4x5F32NEON, dots4x6F32NEON,
			},
		}
		c.tiles[kernels.F16] = tiles{
			wide: []tileFunc{dots8x1F16NEON, dots8x2F16NEON, dots8x3F16NEON},
			by: []tileFunc{
				dots4x1F16NEON, dots4x2F16NEON, dots4x3F16NEON,
				dots4x4F16NEON, dots4x5F16NEON, dots4x6F16NEON,
			},
		}
		c.tiles[kernels.BF16] = tiles{
			wide: []tileFunc{dots8x1BF16NEON, dots8x2BF16NEON, dots8x3BF16NEON},
			by: []tileFunc{
				dots4x1BF16NEON, dots4x2BF16NEON, dots4x3BF16NEON,
				dots4x4BF16NEON, dots4x5BF16NEON, dots4x6BF16NEON,
			},
		}
		c.widen[kernels.F16], c.widen[kernels.BF16] = widenF16NEON, widenBF16NEON
	}
	return c
}
