//go:build !purego

package cpu

import "eckart/kernels"

// rowsFor returns the kernels for isa.
func rowsFor(isa ISA) rowsCode {
	switch isa {
	case NEON, NEONDotProd:
		return rowsCode{addNEON, sumSquaresNEON, normalizeNEON, rotateNEON, swiGLUNEON, scatterNEON, scatterAddNEON}
	}
	return rowsCode{}
}

// attentionFor returns the kernels for isa.
func attentionFor(isa ISA) attentionCode {
	var c attentionCode
	switch isa {
	case NEON, NEONDotProd:
		c.scores = [kernels.BF16 + 1][maxQueries + 1]scoresFunc{
			kernels.F32: {
				nil, scores1F32NEON, scores2F32NEON, scores3F32NEON,
				scores4F32NEON, scores5F32NEON, scores6F32NEON,
			},
			kernels.F16: {
				nil, scores1F16NEON, scores2F16NEON, scores3F16NEON,
				scores4F16NEON, scores5F16NEON, scores6F16NEON,
			},
			kernels.BF16: {
				nil, scores1BF16NEON, scores2BF16NEON, scores3BF16NEON,
				scores4BF16NEON, scores5BF16NEON, scores6BF16NEON,
			},
		}
		c.values = [kernels.BF16 + 1][maxQueries + 1]valuesFunc{
			kernels.F32: {
				nil, values1F32NEON, values2F32NEON, values3F32NEON,
				values4F32NEON, values5F32NEON, values6F32NEON,
			},
			kernels.F16: {
				nil, values1F16NEON, values2F16NEON, values3F16NEON,
				values4F16NEON, values5F16NEON, values6F16NEON,
			},
			kernels.BF16: {
				nil, values1BF16NEON, values2BF16NEON, values3BF16NEON,
				values4BF16NEON, values5BF16NEON, values6BF16NEON,
			},
		}
		c.softmax, c.mix, c.scaled = softmaxNEON, mixNEON, scaledNEON
		c.narrow[kernels.F16], c.narrow[kernels.BF16] = narrowF16NEON, narrowBF16NEON
	}
	return c
}
