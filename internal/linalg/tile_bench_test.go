package linalg

import "testing"

// BenchmarkTile is what the inner loop of the product alone does, from the first cache.
func BenchmarkTile(b *testing.B) {
	b.Run("double", func(b *testing.B) { benchmarkTile(b, &doubles) })
	b.Run("single", func(b *testing.B) { benchmarkTile(b, &singles) })
}

func benchmarkTile[T number](b *testing.B, p *packing[T]) {
	rows, cols := p.tileShape()
	const depth = 192
	x, y, c := make([]T, rows*depth), make([]T, cols*depth), make([]float64, rows*cols)
	for b.Loop() {
		p.tile(c, cols, x, y, depth)
	}
	b.ReportMetric(2*float64(depth*rows*cols)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
}
