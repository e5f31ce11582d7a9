package linalg

import "testing"

// BenchmarkTile is what the inner loop of the product alone does, from the first cache.
func BenchmarkTile(b *testing.B) {
	rows, cols := tileShape()
	const depth = 192
	x, y, c := make([]float64, rows*depth), make([]float64, cols*depth), make([]float64, rows*cols)
	for b.Loop() {
		tile(c, cols, x, y, depth)
	}
	b.ReportMetric(2*float64(depth*rows*cols)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
