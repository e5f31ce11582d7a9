package divergence_test

import (
	"math/rand/v2"
	"testing"

	"eckart/internal/divergence"
)

// BenchmarkMeter compares rows of a large vocabulary with those of a model that is hardly disturbed.
func BenchmarkMeter(b *testing.B) {
	const rows, vocab = 16, 128256
	random := rand.New(rand.NewPCG(1, 2))
	reference, logits := normal(random, rows*vocab, 3), normal(random, rows*vocab, 0.05)
	for i, v := range reference {
		logits[i] += v
	}
	next := make([]int32, rows)
	var prepared divergence.Reference
	prepared.Set(reference, rows, 1)
	for name, add := range map[string]func(*divergence.Meter) error{
		"rows":     func(m *divergence.Meter) error { return m.AddRows(reference, logits, next, 1) },
		"prepared": func(m *divergence.Meter) error { return m.AddPrepared(&prepared, logits, next, 1) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if err := add(new(divergence.Meter)); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows/vocab, "ns/logit")
		})
	}
}
