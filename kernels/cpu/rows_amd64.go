//go:build !purego

package cpu

import "eckart/kernels"

// rowsFor returns the kernels for isa.
func rowsFor(isa ISA) rowsCode {
	switch isa {
	case AVX512:
		return rowsCode{addAVX512, sumSquaresAVX512, normalizeAVX512, rotateAVX512, swiGLUAVX512, scatterAVX512, scatterAddAVX512}
	case AVX2:
		return rowsCode{addAVX2, sumSquaresAVX2, normalizeAVX2, rotateAVX2, swiGLUAVX2, scatterAVX2, scatterAddAVX2}
	}
	return rowsCode{}
}

// attentionFor returns the kernels for isa.
func attentionFor(isa ISA) attentionCode {
	var c attentionCode
	switch isa {
	case AVX512:
		c.scores = [kernels.BF16 + 1][maxQueries + 1]scoresFunc{
			kernels.F32: {
				nil, scores1F32AVX512, scores2F32AVX512, scores3F32AVX512,
				scores4F32AVX512, scores5F32AVX512, scores6F32AVX512,
			},
			kernels.F16: {
				nil, scores1F16AVX512, scores2F16AVX512, scores3F16AVX512,
				scores4F16AVX512, scores5F16AVX512, scores6F16AVX512,
			},
			kernels.BF16: {
				nil, scores1BF16AVX512, scores2BF16AVX512, scores3BF16AVX512,
				scores4BF16AVX512, scores5BF16AVX512, scores6BF16AVX512,
			},
		}
		c.values = [kernels.BF16 + 1][maxQueries + 1]valuesFunc{
			kernels.F32: {
				nil, values1F32AVX512, values2F32AVX512, values3F32AVX512,
				values4F32AVX512, values5F32AVX512, values6F32AVX512,
			},
			kernels.F16: {
				nil, values1F16AVX512, values2F16AVX512, values3F16AVX512,
				values4F16AVX512, values5F16AVX512, values6F16AVX512,
			},
			kernels.BF16: {
				nil, values1BF16AVX512, values2BF16AVX512, values3BF16AVX512,
				values4BF16AVX512, values5BF16AVX512, values6BF16AVX512,
			},
		}
		c.softmax, c.mix, c.scaled = softmaxAVX512, mixAVX512, scaledAVX512
		c.narrow[kernels.F16], c.narrow[kernels.BF16] = narrowF16AVX512, narrowBF16AVX512
	case AVX2:
		c.scores = [kernels.BF16 + 1][maxQueries + 1]scoresFunc{
			kernels.F32: {
				nil, scores1F32AVX2, scores2F32AVX2, scores3F32AVX2,
				scores4F32AVX2, scores5F32AVX2, scores6F32AVX2,
			},
			kernels.F16: {
				nil, scores1F16AVX2, scores2F16AVX2, scores3F16AVX2,
				scores4F16AVX2, scores5F16AVX2, scores6F16AVX2,
			},
			kernels.BF16: {
				nil, scores1BF16AVX2, scores2BF16AVX2, scores3BF16AVX2,
				scores4BF16AVX2, scores5BF16AVX2, scores6BF16AVX2,
			},
		}
		c.values = [kernels.BF16 + 1][maxQueries + 1]valuesFunc{
			kernels.F32: {
				nil, values1F32AVX2, values2F32AVX2, values3F32AVX2,
				values4F32AVX2, values5F32AVX2, values6F32AVX2,
			},
			kernels.F16: {
				nil, values1F16AVX2, values2F16AVX2, values3F16AVX2,
				values4F16AVX2, values5F16AVX2, values6F16AVX2,
			},
			kernels.BF16: {
				nil, values1BF16AVX2, values2BF16AVX2, values3BF16AVX2,
				values4BF16AVX2, values5BF16AVX2, values6BF16AVX2,
			},
		}
		c.softmax, c.mix, c.scaled = softmaxAVX2, mixAVX2, scaledAVX2
		c.narrow[kernels.F16], c.narrow[kernels.BF16] = narrowF16AVX2, narrowBF16AVX2
	}
	return c
}
