//go:build !purego

package cpu

import (
	"eckart/kernels"

	"golang.org/x/sys/cpu"
)

// matMulFor returns the tiles for isa. bf16 allows those that take activations in BF16.
func matMulFor(isa ISA, bf16 bool) matMulCode {
	var c matMulCode
	switch isa {
	case AVX512:
		c.tiles[kernels.F32] = tiles{
			wide: []tileFunc{dots8x1F32AVX512, dots8x2F32AVX512, dots8x3F32AVX512},
			by: []tileFunc{
				dots4x1F32AVX512, dots4x2F32AVX512, dots4x3F32AVX512,
				dots4x4F32AVX512, dots4x5F32AVX512, dots4x6F32AVX512,
			},
		}
		c.tiles[kernels.F16] = tiles{
			wide: []tileFunc{dots8x1F16AVX512, dots8x2F16AVX512, dots8x3F16AVX512},
			by: []tileFunc{
				dots4x1F16AVX512, dots4x2F16AVX512, dots4x3F16AVX512,
				dots4x4F16AVX512, dots4x5F16AVX512, dots4x6F16AVX512,
			},
		}
		c.tiles[kernels.BF16] = tiles{
			wide: []tileFunc{dots8x1BF16AVX512, dots8x2BF16AVX512, dots8x3BF16AVX512},
			by: []tileFunc{
				dots4x1BF16AVX512, dots4x2BF16AVX512, dots4x3BF16AVX512,
				dots4x4BF16AVX512, dots4x5BF16AVX512, dots4x6BF16AVX512,
			},
		}
		c.widen[kernels.F16], c.widen[kernels.BF16] = widenF16AVX512, widenBF16AVX512
		if bf16 && cpu.X86.HasAVX512BF16 {
			c.round, c.widen[kernels.BF16] = roundBF16AVX512, nil
			c.tiles[kernels.BF16] = tiles{
				wide: []tileFunc{dots8x1BF16AVX512BF16, dots8x2BF16AVX512BF16, dots8x3BF16AVX512BF16},
				by: []tileFunc{
					dots4x1BF16AVX512BF16, dots4x2BF16AVX512BF16, dots4x3BF16AVX512BF16,
					dots4x4BF16AVX512BF16, dots4x5BF16AVX512BF16, dots4x6BF16AVX512BF16,
				},
			}
		}
	case AVX2:
		c.tiles[kernels.F32] = tiles{
			wide: []tileFunc{dots8x1F32AVX2},
			by: []tileFunc{
				dots4x1F32AVX2, dots4x2F32AVX2, dots4x3F32AVX2,
			},
		}
		c.tiles[kernels.F16] = tiles{
			wide: []tileFunc{dots8x1F16AVX2},
			by: []tileFunc{
				dots4x1F16AVX2, dots4x2F16AVX2, dots4x3F16AVX2,
			},
		}
		c.tiles[kernels.BF16] = tiles{
			wide: []tileFunc{dots8x1BF16AVX2},
			by: []tileFunc{
				dots4x1BF16AVX2, dots4x2BF16AVX2, dots4x3BF16AVX2,
			},
		}
		c.widen[kernels.F16], c.widen[kernels.BF16] = widenF16AVX2, widenBF16AVX2
		c.minCols = 8 // a tail is loaded together with what stands before it in its row
	}
	return c
}
