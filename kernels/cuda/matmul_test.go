package cuda

import (
	"fmt"
	"testing"
)

// TestPlanSkinny holds that every cut of a product is one that the kernels can run: slices that a warp can add up, and
// activations that find room.
func TestPlanSkinny(t *testing.T) {
	for _, in := range []int{0, 1, 40, 576, 1024, 3000, 4096, 14336, 28672, 53248, skinnyCols} {
		for _, out := range []int{1, 16, 400, 1024, 4096, 14336, 151936} {
			for _, gpu := range []struct{ multiprocessors, shared int }{{1, 99 << 10}, {16, 163 << 10}, {82, 99 << 10}, {132, 227 << 10}} {
				for tokens := 1; tokens <= skinnyTokens; tokens++ {
					for _, odd := range []bool{false, true} {
						p := planSkinny(tokens, out, in, gpu.multiprocessors, gpu.shared, odd)
						name := fmt.Sprintf("%d tokens, %d x %d, %+v, odd %t: %+v", tokens, out, in, gpu, odd, p)
						v := skinnyVariants[p.variant]
						switch own := 1 << p.logSlices / warps / p.splits; {
						case odd && p.variant != oddVariant, p.tokens < 1, p.tokens > min(tokens, v.tokens):
							t.Fatalf("%s: wrong variant or tokens", name)
						case own < 1 || own*warps*p.splits != 1<<p.logSlices || own > 1<<v.levels:
							t.Fatalf("%s: %d slices of a warp", name, own)
						case 1<<p.logSlices*sliceSteps < ceil(in, stepCols):
							t.Fatalf("%s: slices are too long", name)
						case p.splits > mostSplits || p.pitch%128 != 64 || p.blocks < 1 || p.blocks > ceil(out, tileRows):
							t.Fatalf("%s: wrong splits, pitch or blocks", name)
						case p.shared > gpu.shared || p.shared < v.shared()+p.tokens*p.pitch:
							t.Fatalf("%s: wrong shared memory", name)
						}
						// The steps of every split fit a token's pitch.
						steps, slices := ceil(in, stepCols), 1<<p.logSlices/p.splits
						for s := range p.splits {
							if n := ((s+1)*slices*steps>>p.logSlices - s*slices*steps>>p.logSlices) * stepCols * 2; n > p.pitch {
								t.Fatalf("%s: split %d has %d bytes of a token", name, s, n)
							}
						}
					}
				}
			}
		}
	}
}
