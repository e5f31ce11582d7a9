package shim

import (
	"runtime"
	"testing"
)

// What the engine's parts cost: a thread's turn at a barrier, a product of a warp, a load of matrices by a warp, and a GEMV by
// bytes of weights.
func BenchmarkEngine(b *testing.B) {
	d := open(b)
	const n = 4096
	x := upload(d, make([]float32, n*n/2))
	y := d.get("cuMemAlloc_v2", n*4)
	measure := func(name string, units int, unit string, run func(n int)) {
		b.Run(name, func(b *testing.B) {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			d.do("cuCtxSetCurrent", d.context)
			b.ReportMetric(0, "ns/op")
			b.ResetTimer()
			run(b.N)
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(units), "ns/"+unit)
		})
	}
	measure("barrier", 256, "turn", func(n int) { right(d, "barriers", 1, 256, 0, rows{y, x, 0, uint32(n)}) })
	measure("mma", 4, "mma", func(n int) { right(d, "warp_products", 1, 128, 0, products{y, x, x, y, uint32(n)}) })
	measure("ldmatrix", 4, "load", func(n int) { right(d, "warp_loads", 1, 128, 2048, products{y, x, x, y, uint32(n)}) })
	measure("gemv", n*n*2, "byte", func(runs int) {
		for range runs {
			right(d, "dots", n/8, 256, n*4, rows{y, x, n, n / 8})
		}
	})
}
