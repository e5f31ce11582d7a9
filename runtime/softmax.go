package runtime

import "math"

// sumBlock is how many logits share a partial sum of their weights.
const sumBlock = 256

// exp32 returns e^x for x <= 0, and 0 below -87. Its relative error is at most 2e-7 + 1e-7·|x|: the unlikelier a token,
// the less it matters. math.Exp takes longer, and a token of a large vocabulary takes a hundred thousand of them.
// The polynomial is that of exp2f in the Cephes library (Moshier).
func exp32(x float32) float32 {
	const round = 3 << 22 // added to a small float32, leaves its integer part in the low bits
	if x < -87 {
		return 0
	}
	t := x * math.Log2E
	z := t + round
	f := t - (z - round) // in [-0.5, 0.5]
	p := 1 + f*(6.931472028550421e-1+f*(2.402264791363012e-1+f*(5.550332471162809e-2+
		f*(9.618437357674640e-3+f*(1.339887440266574e-3+f*1.535336188319500e-4)))))
	return math.Float32frombits((math.Float32bits(z)-0x4b400000+127)<<23) * p
}

// largest returns the place of the largest logit, the first one of equals, or -1 when there is none above -Inf or a
// logit is not a number or infinite.
func largest(logits []float32) int {
	at, top := -1, float32(math.Inf(-1))
	for i, x := range logits {
		if !(x <= top) { // larger, or not a number: one comparison for both
			if x != x {
				return -1
			}
			at, top = i, x
		}
	}
	if top > math.MaxFloat32 {
		return -1
	}
	return at
}

// weights fills sums, one for each sumBlock logits, with the weights e^((x-top)·scale) of the logits that are at least
// low, and returns their sum.
func weights(sums []float64, logits []float32, top, scale, low float32) (total float64) {
	for b := range sums {
		var sum float64
		for _, x := range logits[b*sumBlock : min((b+1)*sumBlock, len(logits))] {
			if x >= low {
				sum += float64(exp32((x - top) * scale))
			}
		}
		sums[b] = sum
		total += sum
	}
	return total
}
